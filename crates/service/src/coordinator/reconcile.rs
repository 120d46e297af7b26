//! Sets right what a crash left between the journal and the target.

use mendb_engines::LockKind;
use mendb_model::operation::State;

use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::worker::Tools;

/// Releases the locks of operations that are over or that the journal does not know: a crash between
/// the end of an operation's last step and its record, or a forgotten operation, leaves such locks.
///
/// The lock of a failed operation stays: it can be resumed, or cancelled.
pub(super) fn release_orphaned_locks(journal: &Journal, tools: &Tools) -> Result<()> {
    for lock in tools.engine.locks() {
        let owner = lock
            .operation
            .parse()
            .map_err(Error::from)
            .and_then(|id| journal.operation(&id));
        let state = match owner {
            Ok(operation) => operation.state,
            Err(Error::UnknownOperation(_) | Error::BadName(_)) => State::Cancelled,
            Err(error) => return Err(error),
        };
        let operation = &lock.operation;
        match (lock.kind, state) {
            (LockKind::Backup, State::Done | State::Cancelled) => tools.engine.thaw(operation)?,
            (LockKind::Restore, State::Done) => tools.engine.commit(operation)?,
            (LockKind::Restore, State::Cancelled) => tools.engine.undo(operation)?,
            _ => continue,
        }
        tracing::warn!(
            table = lock.table,
            operation = lock.operation,
            "released an orphaned lock"
        );
    }
    Ok(())
}
