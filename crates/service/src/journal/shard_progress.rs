//! Record `shard_progress`: one task of a step. The rows of earlier steps stay until the operation
//! is forgotten.

use mendb_model::key::to_hex;
use mendb_model::name::OperationId;
use mendb_model::operation::{Operation, Task, TaskOutput, TaskStatus, Tasks, Touched};
use rusqlite::{Connection, Transaction, params};

use super::{Journal, from_json, int, task_segment, to_json};
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
    spec         TEXT NOT NULL,               -- JSON: what to do, while its step is the current one
    standing     TEXT NOT NULL,               -- JSON: how far it is, likewise
    PRIMARY KEY (operation_id, step, shard_idx)
) STRICT, WITHOUT ROWID;";

/// Writes the tasks that an event changed.
pub(super) fn put_touched(
    tx: &Transaction<'_>,
    operation: &Operation,
    touched: &Touched,
) -> rusqlite::Result<()> {
    let (id, step) = (&operation.operation_id, operation.current_step);
    if let Some(left) = touched.left {
        // What the tasks of earlier steps brought about is in the operation; their counts stay.
        tx.prepare_cached(
            "UPDATE shard_progress SET spec = '', standing = '' WHERE operation_id = ?1 AND step = ?2",
        )?
        .execute(params![id.as_str(), left])?;
        for table in ["shard_progress", "task_segment"] {
            tx.execute(
                &format!("DELETE FROM {table} WHERE operation_id = ?1 AND step >= ?2"),
                params![id.as_str(), step],
            )?;
        }
        tx.prepare_cached("DELETE FROM task_segment WHERE operation_id = ?1 AND step = ?2")?
            .execute(params![id.as_str(), left])?;
    }
    if touched.allocated {
        return put_all(tx, operation);
    }
    for (at, known) in &touched.tasks {
        if let Some(task) = operation.tasks.get(*at as usize) {
            update(tx, (id, step, *at), task)?;
            task_segment::put(tx, (id, step, *at), *known, task.segments())?;
        }
    }
    Ok(())
}

/// Writes all tasks of the step.
pub(super) fn put_all(tx: &Transaction<'_>, operation: &Operation) -> rusqlite::Result<()> {
    let (id, step) = (&operation.operation_id, operation.current_step);
    for (at, task) in (0u32..).zip(operation.tasks.iter()) {
        tx.prepare_cached(
            "INSERT OR REPLACE INTO shard_progress (operation_id, step, shard_idx, path, status, attempt, last_key,
                 rows, bytes, bytes_total, error, spec, standing)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            id.as_str(),
            step,
            at,
            task.spec.table(),
            name(task.status),
            task.attempt,
            task.last_key.as_deref().map(to_hex),
            int(task.rows),
            int(task.bytes),
            int(task.bytes_total),
            task.error,
            to_json(&task.spec)?,
            to_json(task)?,
        ])?;
        task_segment::put(tx, (id, step, at), 0, task.segments())?;
    }
    Ok(())
}

fn update(
    tx: &Transaction<'_>,
    (id, step, at): task_segment::Of<'_>,
    task: &Task,
) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "UPDATE shard_progress SET status = ?4, attempt = ?5, last_key = ?6, rows = ?7, bytes = ?8,
             bytes_total = ?9, error = ?10, standing = ?11
         WHERE operation_id = ?1 AND step = ?2 AND shard_idx = ?3",
    )?
    .execute(params![
        id.as_str(),
        step,
        at,
        name(task.status),
        task.attempt,
        task.last_key.as_deref().map(to_hex),
        int(task.rows),
        int(task.bytes),
        int(task.bytes_total),
        task.error,
        to_json(task)?,
    ])?;
    Ok(())
}

fn name(status: TaskStatus) -> &'static str {
    match status {
        TaskStatus::Pending => "pending",
        TaskStatus::Running => "running",
        TaskStatus::Done => "done",
        TaskStatus::Failed => "failed",
    }
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

/// The tasks of the step that an operation is in.
pub(super) fn read(
    connection: &Connection,
    id: &OperationId,
    step: u32,
) -> rusqlite::Result<Tasks> {
    let mut tasks: Vec<Task> = connection
        .prepare_cached(
            "SELECT spec, standing FROM shard_progress WHERE operation_id = ?1 AND step = ?2 ORDER BY shard_idx",
        )?
        .query_map(params![id.as_str(), step], |row| {
            let mut task: Task = from_json(row, 1)?;
            task.spec = from_json(row, 0)?;
            Ok(task)
        })?
        .collect::<rusqlite::Result<_>>()?;
    for (at, segment) in task_segment::read(connection, id, step)? {
        match tasks.get_mut(at).map(|task| &mut task.output) {
            Some(TaskOutput::Segments(segments)) => segments.push(segment),
            Some(output) => *output = TaskOutput::Segments(vec![segment]),
            None => {}
        }
    }
    Ok(tasks.into_iter().collect())
}
