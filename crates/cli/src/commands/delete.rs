//! `mendb delete`: remove a backup.

use clap::Args;
use mendb_model::BackupId;
use mendb_repo::{Repository, StoredManifest};
use serde::Serialize;
use tokio::runtime::Handle;

use crate::backup_name;
use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::in_use::refuse_if_in_use;

/// Remove a backup. One that increments stand on is only removed together with them.
///
/// A backup with a damaged manifest is removed by its id, and so is what is left of one that was never
/// finished. Nobody may be writing that: operations of this target are looked for, those of others
/// cannot be.
///
/// Files of ClickHouse parts go when no backup needs them any more. Young ones wait for the next removal
/// after their first day: another target may be taking a backup that needs them.
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
    deleted: Vec<BackupId>,
}

impl DeleteCommand {
    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        let runtime = context.runtime()?;
        let repository = context.open_repository(&runtime)?;
        let runtime = runtime.handle();
        let deleted = match backup_name::search(&repository, runtime, &self.backup)? {
            Some((collection, id)) => {
                self.delete(context, &repository, runtime, &collection, id)?
            }
            None => self.discard(context, &repository, runtime)?,
        };
        context.output.report(&Deleted { deleted }, |record| {
            let ids: Vec<_> = record.deleted.iter().map(BackupId::as_str).collect();
            format!("deleted {}\n", ids.join(", "))
        })?;
        Ok(Verdict::Done)
    }

    /// Deletes a backup and what stands on it, the newest first.
    fn delete(
        &self,
        context: &Context,
        repository: &Repository,
        runtime: &Handle,
        collection: &str,
        id: BackupId,
    ) -> Result<Vec<BackupId>, Failure> {
        let listed = runtime.block_on(repository.list(collection))?;
        let readable: Vec<_> = listed
            .into_iter()
            .filter_map(|(_, stored)| stored.ok())
            .collect();
        let mut doomed = with_descendants(id, &readable);
        if let [id, others @ ..] = doomed.as_slice()
            && !others.is_empty()
            && !self.cascade
        {
            let ids: Vec<_> = others.iter().map(BackupId::as_str).collect();
            return Err(Failure::input(format!(
                "backup {id} cannot be deleted: {} {} on it",
                ids.join(", "),
                if others.len() == 1 { "stands" } else { "stand" },
            ))
            .hint("--cascade deletes them together"));
        }
        refuse_if_in_use(context, collection, &doomed)?;
        doomed.reverse();
        for id in &doomed {
            runtime.block_on(repository.delete_backup(collection, id))?;
        }
        Ok(doomed)
    }

    /// Removes what is left of a backup that was never finished.
    fn discard(
        &self,
        context: &Context,
        repository: &Repository,
        runtime: &Handle,
    ) -> Result<Vec<BackupId>, Failure> {
        let found = backup_name::search_unfinished(repository, runtime, &self.backup)?;
        let (collection, id) =
            found.ok_or_else(|| backup_name::unknown(repository, &self.backup))?;
        let leftovers = [id];
        refuse_if_in_use(context, &collection, &leftovers)?;
        runtime.block_on(repository.discard(&collection, &leftovers[0]))?;
        Ok(leftovers.into())
    }
}

/// A backup and those that stand on it, directly or not, oldest first. `all` is in order of time.
fn with_descendants(root: BackupId, all: &[StoredManifest]) -> Vec<BackupId> {
    let mut ids = vec![root];
    for StoredManifest { manifest, .. } in all {
        let parent = manifest.parent.as_ref();
        if parent.is_some_and(|parent| ids.contains(&parent.backup_id)) {
            ids.push(manifest.backup_id.clone());
        }
    }
    ids
}
