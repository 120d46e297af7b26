//! `mendb delete`: remove a backup.

use clap::Args;
use mendb_model::BackupId;
use mendb_repo::Repository;
use serde::Serialize;
use tokio::runtime::Handle;

use crate::backup_name;
use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::in_use::refuse_if_in_use;

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
        let mut doomed = self.doomed(repository, runtime, collection, id)?;
        refuse_if_in_use(context, collection, &doomed)?;
        doomed.reverse();
        runtime.block_on(repository.delete_backups(collection, &doomed))?;
        Ok(doomed)
    }

    /// Removes what is left of a backup without a manifest: one that was never finished, or that has lost it.
    fn discard(
        &self,
        context: &Context,
        repository: &Repository,
        runtime: &Handle,
    ) -> Result<Vec<BackupId>, Failure> {
        let found = backup_name::search_unfinished(repository, runtime, &self.backup)?;
        let (collection, id) =
            found.ok_or_else(|| backup_name::unknown(repository, &self.backup))?;
        let mut doomed = self.doomed(repository, runtime, &collection, id.clone())?;
        refuse_if_in_use(context, &collection, &doomed)?;
        doomed.reverse();
        let others = doomed.iter().filter(|doomed| **doomed != id);
        let others: Vec<_> = others.cloned().collect();
        if !others.is_empty() {
            runtime.block_on(repository.delete_backups(&collection, &others))?;
        }
        runtime.block_on(repository.discard(&collection, &id))?;
        Ok(doomed)
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
