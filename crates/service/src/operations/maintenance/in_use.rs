//! Backups that an unfinished operation needs: maintenance neither removes nor replaces them.

use mendb_model::BackupId;
use mendb_model::operation::{MaintenanceRequest, OperationHead, State};

use crate::attempt::Tools;
use crate::error::{Error, Result};
use crate::ways_on::ways_on;

/// An operation that needs a backup which is to go, or writes it.
pub(crate) struct InUse {
    backup_id: BackupId,
    pub(crate) by: OperationHead,
}

impl InUse {
    /// The first that is found among the operations of the target that is known here. Operations of other targets
    /// cannot be seen.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub(crate) fn find(tools: &Tools, request: &MaintenanceRequest) -> Result<Option<Self>> {
        let Some(journal) = &tools.beside else {
            return Ok(None);
        };
        let doomed = request.backups();
        for by in journal.operations()? {
            let is_over = matches!(by.state, State::Done | State::Cancelled);
            if is_over || by.request.collection() != request.collection {
                continue;
            }
            let needed = by.request.backups();
            if let Some(backup_id) = doomed.iter().find(|id| needed.contains(id)) {
                let backup_id = (*backup_id).clone();
                return Ok(Some(Self { backup_id, by }));
            }
        }
        Ok(None)
    }

    /// What is in the way, in a sentence.
    pub(crate) fn sentence(&self) -> String {
        let Self { backup_id, by } = self;
        format!(
            "backup {backup_id} is needed by operation {}",
            by.operation_id
        )
    }

    /// That nothing is begun while it is so.
    pub(crate) fn refusal(&self) -> Error {
        Error::refused(self.sentence(), ways_on(&self.by))
    }
}
