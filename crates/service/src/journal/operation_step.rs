//! Record `operation_step`: one step of an operation's plan.

use mendb_model::name::OperationId;
use mendb_model::operation::{OperationHead, PlannedStep, State, Touched};
use rusqlite::{Connection, Transaction, params};

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

/// Writes the steps of a new operation.
pub(super) fn put_all(tx: &Transaction<'_>, operation: &OperationHead) -> rusqlite::Result<()> {
    (0..operation.steps.len()).try_for_each(|step| put(tx, operation, step))
}

/// Writes the steps that an event changed.
pub(super) fn put_touched(
    tx: &Transaction<'_>,
    operation: &OperationHead,
    touched: &Touched,
) -> rusqlite::Result<()> {
    if touched.left.is_some() {
        // A cancelled operation has others to come.
        tx.prepare_cached("DELETE FROM operation_step WHERE operation_id = ?1 AND step >= ?2")?
            .execute(params![
                operation.operation_id.as_str(),
                int(operation.steps.len() as u64)
            ])?;
    }
    let mut steps = touched.steps.iter();
    steps.try_for_each(|step| put(tx, operation, *step as usize))
}

fn put(tx: &Transaction<'_>, operation: &OperationHead, step: usize) -> rusqlite::Result<()> {
    let Some(planned) = operation.steps.get(step) else {
        return Ok(());
    };
    let finished = matches!(operation.state, State::Done | State::Cancelled);
    let state = match step.cmp(&(operation.current_step as usize)) {
        std::cmp::Ordering::Less => "done",
        std::cmp::Ordering::Equal if finished => "done",
        std::cmp::Ordering::Equal => "running",
        std::cmp::Ordering::Greater => "planned",
    };
    tx.prepare_cached(
        "INSERT OR REPLACE INTO operation_step (operation_id, step, kind, incremental_idx, state, bytes_total)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        operation.operation_id.as_str(),
        int(step as u64),
        planned.kind.name(),
        planned.incremental_idx,
        state,
        int(planned.bytes_total)
    ])?;
    Ok(())
}

/// The plan of an operation.
pub(super) fn read(
    connection: &Connection,
    id: &OperationId,
) -> rusqlite::Result<Vec<PlannedStep>> {
    connection
        .prepare_cached(
            "SELECT kind, incremental_idx, bytes_total FROM operation_step WHERE operation_id = ?1 ORDER BY step",
        )?
        .query_map([id.as_str()], |row| {
            let kind: String = row.get(0)?;
            let kind = serde_json::from_value(kind.into()).map_err(super::not_json)?;
            Ok(PlannedStep {
                kind,
                incremental_idx: row.get(1)?,
                bytes_total: row.get::<_, i64>(2)?.unsigned_abs(),
            })
        })?
        .collect()
}
