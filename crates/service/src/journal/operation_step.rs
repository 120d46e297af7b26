//! Record `operation_step`: one step of an operation's plan.

use mendb_model::operation::{Operation, State};
use rusqlite::{Transaction, params};

use super::int;

pub(super) const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS operation_step (
    operation_id    TEXT NOT NULL,
    step            INTEGER NOT NULL,
    kind            TEXT NOT NULL,
    incremental_idx INTEGER,
    state           TEXT NOT NULL,            -- planned, running, done
    bytes_total     INTEGER NOT NULL,
    PRIMARY KEY (operation_id, step)
) STRICT, WITHOUT ROWID;";

/// Writes the steps that an event changed; all of them for a new operation.
pub(super) fn put(
    tx: &Transaction<'_>,
    before: Option<&Operation>,
    after: &Operation,
) -> rusqlite::Result<()> {
    let moved = before.is_none_or(|before| {
        before.steps != after.steps
            || before.current_step != after.current_step
            || before.state.is_terminal() != after.state.is_terminal()
    });
    if !moved {
        return Ok(());
    }
    let id = after.operation_id.as_str();
    tx.execute(
        "DELETE FROM operation_step WHERE operation_id = ?1 AND step >= ?2",
        params![id, int(after.steps.len() as u64)],
    )?;
    let finished = matches!(after.state, State::Done | State::Cancelled);
    for (step, planned) in after.steps.iter().enumerate() {
        let state = match step.cmp(&(after.current_step as usize)) {
            std::cmp::Ordering::Less => "done",
            std::cmp::Ordering::Equal if finished => "done",
            std::cmp::Ordering::Equal => "running",
            std::cmp::Ordering::Greater => "planned",
        };
        tx.execute(
            "INSERT OR REPLACE INTO operation_step (operation_id, step, kind, incremental_idx, state, bytes_total)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![id, int(step as u64), planned.kind.name(), planned.incremental_idx, state, int(planned.bytes_total)],
        )?;
    }
    Ok(())
}
