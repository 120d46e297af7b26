//! Backups that an unfinished operation of the target needs. Operations of other targets cannot be seen.

use mendb_model::BackupId;
use mendb_model::operation::State;
use mendb_service::ways_on;

use crate::context::Context;
use crate::failure::Failure;

/// Refuses to take a backup away, or to put another in its place, while an operation of this target
/// needs it or writes it.
///
/// # Errors
/// There is such an operation, or the journal cannot be read.
pub fn refuse_if_in_use(
    context: &Context,
    collection: &str,
    doomed: &[BackupId],
) -> Result<(), Failure> {
    let Some(journal) = context.open_journal()? else {
        return Ok(());
    };
    for operation in journal.operations()? {
        if matches!(operation.state, State::Done | State::Cancelled) {
            continue;
        }
        let request = &operation.request;
        let needed = request.backups();
        let in_use = doomed.iter().find(|id| needed.contains(id));
        if let Some(backup) = in_use.filter(|_| request.collection() == collection) {
            let id = &operation.operation_id;
            return Err(
                Failure::input(format!("backup {backup} is needed by operation {id}"))
                    .hint(ways_on(&operation)),
            );
        }
    }
    Ok(())
}
