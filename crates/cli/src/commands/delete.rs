//! `mendb delete`: remove a backup.

use clap::Args;
use mendb_model::BackupId;
use mendb_model::operation::{MaintenanceRequest, MaintenanceWork, Removal};
use mendb_repo::Repository;
use serde::Serialize;
use tokio::runtime::Handle;

use crate::backup_name;
use crate::context::Context;
use crate::failure::{Failure, Verdict};

/// Remove a backup. One that increments stand on is only removed together with them.
///
/// A backup with a damaged manifest is removed by its id, and so is what is left of one that was never
/// finished: operations of this target that still write it are looked for, and another that does is refused
/// at its end. No backup goes while another target is just taking an increment on it. Of one that has lost its manifest nothing is removed while increments stand on it: it is
/// whole again when the manifest is brought back from a copy.
///
/// Files of ClickHouse parts go when no backup needs them any more: they are noted at once, and go with the
/// first deletion, or mendb repository tidy, a day later, as another target may be taking a backup that needs
/// them.
#[derive(Debug, Args)]
pub struct DeleteCommand {
    /// The backup: its id, its label, or collection/id
    backup: String,
    /// Also remove the increments that stand on it
    #[arg(long)]
    cascade: bool,
    /// Say which backups would go, and remove none
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Deleted {
    /// Those first that stood on others.
    deleted: Vec<BackupId>,
    dry_run: bool,
}

impl Deleted {
    fn sentence(&self) -> String {
        let ids: Vec<_> = self.deleted.iter().map(BackupId::as_str).collect();
        let ids = ids.join(", ");
        match self.dry_run {
            true => format!("would delete {ids}\n"),
            false => format!("deleted {ids}\n"),
        }
    }
}

impl DeleteCommand {
    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        let runtime = context.runtime()?;
        let repository = context.open_repository(&runtime)?;
        let (collection, id, is_leftover) = self.find(&repository, runtime.handle())?;
        let doomed = self.doomed(&repository, runtime.handle(), &collection, id.clone())?;
        // Those first that stand on others.
        let removals = doomed.iter().rev().map(|backup_id| Removal {
            backup_id: backup_id.clone(),
            is_leftover: is_leftover && *backup_id == id,
        });
        let request = MaintenanceRequest {
            work: MaintenanceWork::Delete,
            collection,
            folds: Vec::new(),
            removals: removals.collect(),
            keeps: Vec::new(),
            order: format!("{id}{}", if self.cascade { " --cascade" } else { "" }),
            tidies: true,
        };
        let request = if self.dry_run {
            context.tell_maintenance(&repository, &runtime)?;
            request
        } else {
            context.maintain(&repository, &runtime, request)?.1
        };
        let deleted = request.removals.into_iter();
        let deleted = deleted.map(|removal| removal.backup_id).collect();
        let record = Deleted {
            deleted,
            dry_run: self.dry_run,
        };
        context.output.report(&record, Deleted::sentence)?;
        Ok(Verdict::Done)
    }

    /// The collection and the id of the backup, and whether there is only what is left of one: it was never
    /// finished, or has lost its manifest.
    fn find(
        &self,
        repository: &Repository,
        runtime: &Handle,
    ) -> Result<(String, BackupId, bool), Failure> {
        if let Some((collection, id)) = backup_name::search(repository, runtime, &self.backup)? {
            return Ok((collection, id, false));
        }
        let found = backup_name::search_unfinished(repository, runtime, &self.backup)?;
        let (collection, id) =
            found.ok_or_else(|| backup_name::unknown(repository, &self.backup))?;
        Ok((collection, id, true))
    }

    /// A backup and those that stand on it, directly or not, oldest first.
    ///
    /// # Errors
    /// There are some and they are not to go with it; or it cannot be told which there are.
    fn doomed(
        &self,
        repository: &Repository,
        runtime: &Handle,
        collection: &str,
        id: BackupId,
    ) -> Result<Vec<BackupId>, Failure> {
        let dependants = runtime.block_on(repository.dependants(collection, &id))?;
        if let Some(possible) = dependants
            .possible
            .iter()
            .find(|possible| !dependants.certain.contains(possible))
        {
            return Err(Failure::input(format!(
                "backup {id} cannot be deleted: the manifest of {possible} is damaged or missing, so it cannot be \
                 told whether that stands on it"
            ))
            .hint(format!(
                "bring collections/{collection}/{possible}/manifest.json back from a copy of the repository; or, if \
                 {possible} is not needed either: mendb delete {collection}/{possible} --cascade"
            )));
        }
        let others = dependants.certain;
        if !others.is_empty() && !self.cascade {
            let ids: Vec<_> = others.iter().map(BackupId::as_str).collect();
            return Err(Failure::input(format!(
                "backup {id} cannot be deleted: {} {} on it",
                ids.join(", "),
                if others.len() == 1 { "stands" } else { "stand" },
            ))
            .hint("--cascade deletes them together"));
        }
        Ok(std::iter::once(id).chain(others).collect())
    }
}
