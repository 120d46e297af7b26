//! What stands on a backup, and would be lost with it.

use mendb_model::BackupId;
use mendb_model::name::BackupKind;

use crate::error::{Error, Result};
use crate::repository::Repository;

/// The backups that need another one, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dependants {
    /// Those that stand on it, directly or not.
    pub certain: Vec<BackupId>,
    /// Newer increments whose manifest is damaged or missing, so that it cannot be told what they stand on.
    /// One without a manifest counts where another backup stands on it: else it was never finished.
    pub possible: Vec<BackupId>,
}

impl Repository {
    /// What stands on a backup, whether or not that has a manifest.
    ///
    /// # Errors
    /// The collection cannot be listed, or the store does not give a manifest.
    pub async fn dependants(&self, collection: &str, root: &BackupId) -> Result<Dependants> {
        let listed = self.list(collection).await?;
        let mut found = Dependants::default();
        let mut parents = Vec::new();
        for (id, stored) in &listed {
            match stored {
                Ok(stored) => {
                    let parent = stored.manifest.parent.as_ref();
                    let Some(parent) = parent.map(|parent| &parent.backup_id) else {
                        continue;
                    };
                    parents.push(parent.clone());
                    if parent == root || found.certain.contains(parent) {
                        found.certain.push(id.clone());
                    }
                }
                Err(error) if error.is_damage() => {
                    if id > root && id.kind() == BackupKind::Incremental {
                        found.possible.push(id.clone());
                    }
                }
                // Asked alone, the store says what is wrong.
                Err(_) => drop(self.manifest(collection, id).await?),
            }
        }
        let is_there = |id: &BackupId| listed.iter().any(|(there, _)| there == id);
        let lost = parents.into_iter().filter(|parent| {
            parent > root && parent.kind() == BackupKind::Incremental && !is_there(parent)
        });
        found.possible.extend(lost);
        found.possible.sort();
        found.possible.dedup();
        Ok(found)
    }

    /// Refuses to remove what a backup is made of while others stand on it.
    pub(crate) async fn check_nothing_stands_on(
        &self,
        collection: &str,
        id: &BackupId,
    ) -> Result<()> {
        let found = self.dependants(collection, id).await?;
        match found.certain.is_empty() {
            true => Ok(()),
            false => Err(Error::StoodOn {
                repository: self.url().to_owned(),
                collection: collection.to_owned(),
                backup: id.clone(),
                by: found.certain,
            }),
        }
    }
}
