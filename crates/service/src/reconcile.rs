//! Sets right what a crash left between the journal and the target.

use std::collections::HashSet;

use mendb_engines::{Data, LockKind};
use mendb_model::operation::State;

use crate::attempt::Tools;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::journal::command::Command;

/// Starts merges again that a process which died had stopped: its operation may be paused or failed, and
/// nobody may ever go on with it. Those of an operation that is driven now stay stopped: it begins by looking
/// at what they would change.
pub(crate) fn start_forgotten_merges(
    journal: &Journal,
    tools: &Tools,
    repository_id: Option<&str>,
) -> Result<()> {
    let Data::Parts(parts) = tools.engine.data() else {
        return Ok(());
    };
    let mut go_on = HashSet::new();
    for id in journal.unfinished_operations()? {
        let operation = journal.operation_head(&id)?;
        let commands = journal.commands()?;
        let mut of_it = commands.iter().filter(|(_, of, _)| *of == id);
        let is_paused = of_it.any(|(.., command)| *command == Command::Pause);
        let is_ours = operation.works_with(repository_id);
        if is_ours && !is_paused && !operation.awaits_user() {
            go_on.insert(id.to_string());
        }
    }
    Ok(parts.start_forgotten_merges(&go_on)?)
}

/// Releases the locks of operations that are over: a crash between the end of an operation's last step
/// and its record leaves such locks.
///
/// The lock of a failed operation stays: it can be resumed, or cancelled. So does the lock of an
/// operation that the journal does not know, as when the journal was lost: what it locks may be all
/// that is left of a table.
pub(crate) fn release_orphaned_locks(journal: &Journal, tools: &Tools) -> Result<()> {
    for lock in tools.engine.locks()? {
        let (table, operation) = (&lock.table, &lock.operation);
        let owner = operation.parse().map_err(Error::from);
        let state = match owner.and_then(|id| journal.operation_head(&id)) {
            Ok(operation) => operation.state,
            Err(Error::UnknownOperation(_) | Error::BadName(_)) => {
                tracing::warn!(
                    table,
                    operation_id = operation,
                    "locked by an operation that is not in the journal"
                );
                continue;
            }
            Err(error) => return Err(error),
        };
        match (lock.kind, state) {
            (LockKind::Backup, State::Done | State::Cancelled) => tools.engine.thaw(operation)?,
            (LockKind::Restore | LockKind::Mend, State::Done) => {
                tools.engine.make_live(operation)?;
            }
            (LockKind::Restore | LockKind::Mend, State::Cancelled) => {
                tools.engine.drop_staged(operation)?;
            }
            _ => continue,
        }
        tracing::warn!(
            table,
            operation_id = operation,
            "released the lock of an operation that is over"
        );
    }
    Ok(())
}
