//! `mendb delete`: remove a backup.

use clap::Args;
use mendb_model::manifest::Manifest;
use mendb_model::operation::{Request, State};
use serde::Serialize;

use crate::backup_name;
use crate::context::Context;
use crate::failure::{Failure, Verdict};

/// Remove a backup. One that increments stand on is only removed together with them.
#[derive(Debug, Args)]
pub struct DeleteCommand {
    /// The backup: its id, its label, or collection/id
    backup: String,
    /// Also remove the increments that stand on it
    #[arg(long)]
    cascade: bool,
}

#[derive(Serialize)]
struct Deleted {
    deleted: Vec<String>,
}

impl DeleteCommand {
    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        let runtime = context.runtime()?;
        let repository = context.open_repository(&runtime)?;
        let stored = backup_name::find(&repository, runtime.handle(), &self.backup)?;
        let collection = &stored.manifest.collection;
        let backups = runtime.block_on(repository.backups(collection))?;
        let manifests: Vec<&Manifest> = backups.iter().map(|stored| &stored.manifest).collect();
        let mut doomed = vec![&stored.manifest];
        doomed.extend(descendants(&stored.manifest, &manifests));
        if doomed.len() > 1 && !self.cascade {
            let others: Vec<_> = doomed[1..]
                .iter()
                .map(|m| m.backup_id.to_string())
                .collect();
            return Err(Failure::input(format!(
                "backup {} cannot be deleted: {} {} on it",
                stored.manifest.backup_id,
                others.join(", "),
                if others.len() == 1 { "stands" } else { "stand" },
            ))
            .hint("--cascade deletes them together"));
        }
        refuse_if_in_use(context, &doomed)?;
        let mut deleted = Vec::new();
        for manifest in doomed.iter().rev() {
            runtime.block_on(repository.delete_backup(collection, &manifest.backup_id))?;
            deleted.push(manifest.backup_id.to_string());
        }
        context.output.report(&Deleted { deleted }, |record| {
            format!("deleted {}\n", record.deleted.join(", "))
        })?;
        Ok(Verdict::Done)
    }
}

/// The backups that stand on another, directly or not, oldest first. `all` is in order of time.
fn descendants<'a>(root: &Manifest, all: &[&'a Manifest]) -> Vec<&'a Manifest> {
    let mut ids = vec![&root.backup_id];
    let mut found = Vec::new();
    for manifest in all {
        if manifest
            .parent
            .as_ref()
            .is_some_and(|parent| ids.contains(&&parent.backup_id))
        {
            ids.push(&manifest.backup_id);
            found.push(*manifest);
        }
    }
    found
}

/// Refuses to take a backup away from an operation of this target that needs it.
fn refuse_if_in_use(context: &Context, doomed: &[&Manifest]) -> Result<(), Failure> {
    let Some(journal) = context.open_journal()? else {
        return Ok(());
    };
    for operation in journal.operations()? {
        if matches!(operation.state, State::Done | State::Cancelled) {
            continue;
        }
        let needs = |manifest: &&&Manifest| match &operation.request {
            Request::Restore(restore) => {
                restore.collection == manifest.collection
                    && restore
                        .chain
                        .iter()
                        .any(|link| link.backup_id == manifest.backup_id)
            }
            Request::Backup(backup) => {
                backup.collection == manifest.collection
                    && backup
                        .parent
                        .as_ref()
                        .is_some_and(|link| link.backup_id == manifest.backup_id)
            }
        };
        if let Some(manifest) = doomed.iter().find(needs) {
            let id = &operation.operation_id;
            return Err(Failure::input(format!(
                "backup {} is needed by operation {id}",
                manifest.backup_id
            ))
            .hint(format!(
                "mendb operation watch {id} finishes it, mendb operation cancel {id} gives it up"
            )));
        }
    }
    Ok(())
}
