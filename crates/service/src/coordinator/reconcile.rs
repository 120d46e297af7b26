//! Sets right what a crash left between the journal and the target.

use mendb_engines::{Data, LockKind};
use mendb_model::operation::State;

use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::worker::Tools;

/// Starts merges again that a process which died had stopped: its operation may be paused or failed, and
/// nobody may ever go on with it.
pub(super) fn start_forgotten_merges(tools: &Tools) -> Result<()> {
    match tools.engine.data() {
        Data::Parts(parts) => Ok(parts.start_forgotten_merges()?),
        Data::Rows(_) => Ok(()),
    }
}

/// Releases the locks of operations that are over: a crash between the end of an operation's last step
/// and its record leaves such locks.
///
/// The lock of a failed operation stays: it can be resumed, or cancelled. So does the lock of an
/// operation that the journal does not know, as when the journal was lost: what it locks may be all
/// that is left of a table.
pub(super) fn release_orphaned_locks(journal: &Journal, tools: &Tools) -> Result<()> {
    for lock in tools.engine.locks() {
        let (table, operation) = (&lock.table, &lock.operation);
        let owner = operation.parse().map_err(Error::from);
        let state = match owner.and_then(|id| journal.operation(&id)) {
            Ok(operation) => operation.state,
            Err(Error::UnknownOperation(_) | Error::BadName(_)) => {
                tracing::warn!(
                    table,
                    operation,
                    "locked by an operation that is not in the journal"
                );
                continue;
            }
            Err(error) => return Err(error),
        };
        match (lock.kind, state) {
            (LockKind::Backup, State::Done | State::Cancelled) => tools.engine.thaw(operation)?,
            (LockKind::Restore | LockKind::Mend, State::Done) => tools.engine.commit(operation)?,
            (LockKind::Restore | LockKind::Mend, State::Cancelled) => {
                tools.engine.undo(operation)?;
            }
            _ => continue,
        }
        tracing::warn!(
            table,
            operation,
            "released the lock of an operation that is over"
        );
    }
    Ok(())
}
