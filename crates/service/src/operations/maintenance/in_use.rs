//! Backups that an unfinished operation needs: maintenance neither removes nor replaces them.

use mendb_model::BackupId;
use mendb_model::operation::MaintenanceRequest;

use crate::error::Error;
use crate::front::is_moving;
use crate::journal::needed::Needed;
use crate::ways_on::ways_on;

/// The backups of a request that may be needed.
pub(super) fn doomed(request: &MaintenanceRequest) -> Vec<BackupId> {
    request.backups().into_iter().cloned().collect()
}

/// What is in the way, in a sentence.
pub(super) fn sentence(needed: &Needed) -> String {
    let Needed { backup_id, by } = needed;
    format!(
        "backup {backup_id} is needed by operation {}",
        by.operation_id
    )
}

/// That nothing is begun while it is so.
pub(super) fn refusal(needed: &Needed) -> Error {
    Error::InTheWay {
        message: sentence(needed),
        hint: ways_on(&needed.by),
        is_moving: is_moving(&needed.by),
    }
}
