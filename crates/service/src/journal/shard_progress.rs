//! Record `shard_progress`: one task of a step. The rows of earlier steps stay until the operation
//! is forgotten.

use mendb_model::key::to_hex;
use mendb_model::name::OperationId;
use mendb_model::operation::{Operation, Task, TaskStatus};
use rusqlite::{Transaction, params};

use super::operation::to_json;
use super::{Journal, int};
use crate::error::Result;

pub(super) const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS shard_progress (
    operation_id TEXT NOT NULL,
    step         INTEGER NOT NULL,
    shard_idx    INTEGER NOT NULL,
    status       TEXT NOT NULL,               -- pending, running, done
    attempt      INTEGER NOT NULL,
    last_key     TEXT,                        -- hex
    rows         INTEGER NOT NULL,
    bytes        INTEGER NOT NULL,
    bytes_total  INTEGER NOT NULL,
    error        TEXT,
    record       TEXT NOT NULL,               -- JSON: the task
    PRIMARY KEY (operation_id, step, shard_idx)
) STRICT, WITHOUT ROWID;";

/// Writes the tasks that an event changed.
pub(super) fn put(
    tx: &Transaction<'_>,
    before: &Operation,
    after: &Operation,
) -> rusqlite::Result<()> {
    let id = after.operation_id.as_str();
    let entered = before.current_step != after.current_step || before.allocated != after.allocated;
    if entered {
        tx.execute(
            "DELETE FROM shard_progress WHERE operation_id = ?1 AND step >= ?2",
            params![id, after.current_step],
        )?;
    }
    for (shard_idx, task) in after.tasks.iter().enumerate() {
        if !entered && before.tasks.get(shard_idx) == Some(task) {
            continue;
        }
        let status = match task.status {
            TaskStatus::Pending => "pending",
            TaskStatus::Running => "running",
            TaskStatus::Done => "done",
        };
        tx.execute(
            "INSERT OR REPLACE INTO shard_progress (operation_id, step, shard_idx, status, attempt, last_key,
                 rows, bytes, bytes_total, error, record)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                id,
                after.current_step,
                int(shard_idx as u64),
                status,
                task.attempt,
                task.last_key.as_deref().map(to_hex),
                int(task.rows),
                int(task.bytes),
                int(task.bytes_total),
                task.error,
                to_json(task)?,
            ],
        )?;
    }
    Ok(())
}

impl Journal {
    /// The tasks of one step of an operation.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn tasks(&self, id: &OperationId, step: u32) -> Result<Vec<Task>> {
        let records: Vec<String> = self.read("read shard progress", |connection| {
            connection
                .prepare(
                    "SELECT record FROM shard_progress WHERE operation_id = ?1 AND step = ?2 ORDER BY shard_idx",
                )?
                .query_map(params![id.as_str(), step], |row| row.get(0))?
                .collect()
        })?;
        let read = |record: String| {
            serde_json::from_str(&record)
                .map_err(|error| self.unreadable(format!("shard progress of {id}: {error}")))
        };
        records.into_iter().map(read).collect()
    }
}
