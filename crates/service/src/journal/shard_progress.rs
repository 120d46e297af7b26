//! Record `shard_progress`: one task of a step. The rows of earlier steps stay until the operation
//! is forgotten.

use mendb_model::key::to_hex;
use mendb_model::name::OperationId;
use mendb_model::operation::{Operation, TaskStatus};
use rusqlite::{Connection, Transaction, params};

use super::operation::to_json;
use super::{Journal, int};
use crate::error::Result;

pub(super) const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS shard_progress (
    operation_id TEXT NOT NULL,
    step         INTEGER NOT NULL,
    shard_idx    INTEGER NOT NULL,
    path         TEXT,                        -- the sharded table it works on
    status       TEXT NOT NULL,               -- pending, running, done, failed
    attempt      INTEGER NOT NULL,
    last_key     TEXT,                        -- hex
    rows         INTEGER NOT NULL,
    bytes        INTEGER NOT NULL,
    bytes_total  INTEGER NOT NULL,
    error        TEXT,
    record       TEXT NOT NULL,               -- JSON: the task, while its step is the current one
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
        // What the tasks of earlier steps brought about is in the operation; their counts stay.
        tx.execute(
            "UPDATE shard_progress SET record = '' WHERE operation_id = ?1 AND step < ?2 AND record != ''",
            params![id, after.current_step],
        )?;
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
            TaskStatus::Failed => "failed",
        };
        tx.execute(
            "INSERT OR REPLACE INTO shard_progress (operation_id, step, shard_idx, path, status, attempt,
                 last_key, rows, bytes, bytes_total, error, record)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            params![
                id,
                after.current_step,
                int(shard_idx as u64),
                task.spec.table(),
                status,
                task.attempt,
                task.last_key.as_deref().map(to_hex),
                int(task.rows),
                int(task.bytes),
                int(task.bytes_total),
                task.error,
                to_json(&**task)?,
            ],
        )?;
    }
    Ok(())
}

/// How far one shard is or was in a step, as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardProgress {
    /// The step.
    pub step: u32,
    /// Its place in the step.
    pub shard_idx: u32,
    /// The sharded table it works on; `None` where a step is one piece of work.
    pub path: Option<String>,
    /// `pending`, `running`, `done` or `failed`.
    pub status: String,
    /// The newest attempt.
    pub attempt: u32,
    /// All up to this key is done; hex digits.
    pub last_key: Option<String>,
    /// Rows done.
    pub rows: u64,
    /// Bytes done.
    pub bytes: u64,
    /// Bytes to do, as far as known.
    pub bytes_total: u64,
    /// The last error, kept until there is progress.
    pub error: Option<String>,
}

impl Journal {
    /// The shards of every step that an operation has begun, in the order of the plan.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn shard_progress(&self, id: &OperationId) -> Result<Vec<ShardProgress>> {
        self.read("read shard progress", |connection| {
            connection
                .prepare(
                    "SELECT step, shard_idx, path, status, attempt, last_key, rows, bytes, bytes_total, error
                     FROM shard_progress WHERE operation_id = ?1 ORDER BY step, shard_idx",
                )?
                .query_map([id.as_str()], |row| {
                    let count = |at| row.get::<_, i64>(at).map(i64::unsigned_abs);
                    Ok(ShardProgress {
                        step: row.get(0)?,
                        shard_idx: row.get(1)?,
                        path: row.get(2)?,
                        status: row.get(3)?,
                        attempt: row.get(4)?,
                        last_key: row.get(5)?,
                        rows: count(6)?,
                        bytes: count(7)?,
                        bytes_total: count(8)?,
                        error: row.get(9)?,
                    })
                })?
                .collect()
        })
    }
}

/// The tasks of a step of an operation, as they were written. Those of steps before the current one are
/// empty.
pub(super) fn records(
    connection: &Connection,
    id: &OperationId,
    step: u32,
) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare(
            "SELECT record FROM shard_progress WHERE operation_id = ?1 AND step = ?2 ORDER BY shard_idx",
        )?
        .query_map(params![id.as_str(), step], |row| row.get(0))?
        .collect()
}
