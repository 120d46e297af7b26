//! Backups that an unfinished operation needs: nobody takes them away, nor puts others in their place.

use mendb_model::BackupId;
use mendb_model::operation::{MaintenanceRequest, State};

use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::ways_on::ways_on;
use crate::worker::Tools;

/// Refuses to touch backups while an operation of the target that is known here needs them or writes them.
/// Operations of other targets cannot be seen.
///
/// # Errors
/// There is such an operation, or the journal cannot be read.
pub(crate) fn check(tools: &Tools, request: &MaintenanceRequest) -> Result<()> {
    match &tools.beside {
        Some(journal) => check_in(journal, &request.collection, &request.backups()),
        None => Ok(()),
    }
}

fn check_in(journal: &Journal, collection: &str, doomed: &[&BackupId]) -> Result<()> {
    for operation in journal.operations()? {
        if matches!(operation.state, State::Done | State::Cancelled) {
            continue;
        }
        let request = &operation.request;
        let needed = request.backups();
        let in_use = doomed.iter().find(|id| needed.contains(id));
        if let Some(backup) = in_use.filter(|_| request.collection() == collection) {
            let id = &operation.operation_id;
            return Err(Error::refused(
                format!("backup {backup} is needed by operation {id}"),
                ways_on(&operation),
            ));
        }
    }
    Ok(())
}
