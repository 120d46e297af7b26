//! Backups that unfinished operations need.

use mendb_model::name::BackupId;
use mendb_model::operation::{OperationHead, State};
use serde::{Deserialize, Serialize};

use super::Journal;
use crate::error::Result;

/// A backup, and the operation that needs or writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needed {
    /// The backup.
    pub backup_id: BackupId,
    /// The operation.
    pub by: OperationHead,
}

impl Journal {
    /// The first of some backups that an unfinished operation needs or writes, of those in the journals that this one
    /// stands beside. Without such a journal there is none to be seen.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn needed_beside(&self, collection: &str, backups: &[BackupId]) -> Result<Option<Needed>> {
        for journal in &self.beside {
            for by in journal.operations()? {
                let is_over = matches!(by.state, State::Done | State::Cancelled);
                if is_over || by.request.collection() != collection {
                    continue;
                }
                let needed = by.request.backups();
                if let Some(backup_id) = backups.iter().find(|id| needed.contains(id)) {
                    let backup_id = backup_id.clone();
                    return Ok(Some(Needed { backup_id, by }));
                }
            }
        }
        Ok(None)
    }
}
