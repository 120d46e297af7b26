//! Record `task_segment`: one segment that an unfinished task has written. The segments of a finished task are in the
//! draft.

use mendb_model::manifest::Segment;
use mendb_model::name::OperationId;
use rusqlite::{Connection, Transaction, params};

use super::{from_json, int, to_json};

pub(super) const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS task_segment (
    operation_id TEXT NOT NULL,
    step         INTEGER NOT NULL,
    shard_idx    INTEGER NOT NULL,
    segment      INTEGER NOT NULL,
    record       TEXT NOT NULL,               -- JSON: the segment
    PRIMARY KEY (operation_id, step, shard_idx, segment)
) STRICT, WITHOUT ROWID;";

/// The operation, the step and the place of a task.
pub(super) type Of<'a> = (&'a OperationId, u32, u32);

/// Writes the segments of a task behind those that were known; none where it has none any more.
pub(super) fn put(
    tx: &Transaction<'_>,
    (id, step, shard_idx): Of<'_>,
    known: usize,
    segments: &[Segment],
) -> rusqlite::Result<()> {
    if segments.is_empty() && known > 0 {
        tx.prepare_cached(
            "DELETE FROM task_segment WHERE operation_id = ?1 AND step = ?2 AND shard_idx = ?3",
        )?
        .execute(params![id.as_str(), step, shard_idx])?;
    }
    for (at, segment) in segments.iter().enumerate().skip(known) {
        tx.prepare_cached(
            "INSERT OR REPLACE INTO task_segment (operation_id, step, shard_idx, segment, record)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            id.as_str(),
            step,
            shard_idx,
            int(at as u64),
            to_json(segment)?
        ])?;
    }
    Ok(())
}

/// The segments of the tasks of a step, each with the place of its task, in order.
pub(super) fn read(
    connection: &Connection,
    id: &OperationId,
    step: u32,
) -> rusqlite::Result<Vec<(usize, Segment)>> {
    connection
        .prepare_cached(
            "SELECT shard_idx, record FROM task_segment WHERE operation_id = ?1 AND step = ?2
             ORDER BY shard_idx, segment",
        )?
        .query_map(params![id.as_str(), step], |row| {
            let task: u32 = row.get(0)?;
            Ok((task as usize, from_json(row, 1)?))
        })?
        .collect()
}
