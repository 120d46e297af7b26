//! Record `operation`: a long-running request and how far it is, without what grows with the number of shards.
//!
//! The columns are for people. mendb reads back `request` and `standing`, with the records of steps, tasks, segments,
//! shards of the draft and mended ranges.

use std::sync::Arc;

use mendb_model::name::OperationId;
use mendb_model::operation::{Operation, OperationHead};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{
    Journal, draft_shard, from_json, int, mended_shard, operation_event, operation_key,
    operation_step, proof, shard_progress, to_json, used_repository,
};
use crate::error::{Error, Result};

pub(super) const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS operation (
    operation_id          TEXT PRIMARY KEY,
    kind                  TEXT NOT NULL,
    collection            TEXT NOT NULL,
    state                 TEXT NOT NULL,
    current_step          INTEGER NOT NULL,
    attempt               INTEGER NOT NULL,   -- the highest of any shard
    percent               REAL NOT NULL,
    error                 TEXT,
    created_at_ms         INTEGER NOT NULL,
    updated_at_ms         INTEGER NOT NULL,
    step_deadline_ms      INTEGER NOT NULL,
    operation_deadline_ms INTEGER NOT NULL,
    request               TEXT NOT NULL DEFAULT '',   -- JSON
    standing              TEXT NOT NULL,      -- JSON: limits, state, counts
    draft                 TEXT                -- JSON: the manifest in the making, while it is, without its shards
) STRICT;";

/// The tables that have records of an operation.
const TABLES: [&str; 12] = [
    "command",
    "draft_shard",
    "left_partition",
    "made",
    "mend_plan",
    "mended_shard",
    "operation_end",
    "operation_event",
    "task_segment",
    "shard_progress",
    "operation_step",
    "operation",
];

impl Journal {
    /// Adds a new operation.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn insert_operation(&self, operation: &Operation) -> Result<()> {
        let order = self.take_key();
        self.write("insert operation", |tx| {
            put_all(tx, operation)?;
            if let Some(order) = &order {
                operation_key::put(tx, operation, order)?;
            }
            used_repository::put(tx, operation)?;
            operation_event::put(tx, operation, "created")
        })?;
        self.note_news();
        Ok(())
    }

    /// The operations that may still stand in the way of others: neither done nor cancelled.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn open_operations(&self) -> Result<Vec<OperationHead>> {
        self.heads_where("state NOT IN ('done', 'cancelled')")
    }

    /// Every operation, oldest first.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn operations(&self) -> Result<Vec<OperationHead>> {
        self.heads_where("TRUE")
    }

    fn heads_where(&self, condition: &str) -> Result<Vec<OperationHead>> {
        let ids = self.ids_where(condition)?;
        ids.iter().map(|id| self.operation_head(id)).collect()
    }

    /// The operations that are neither done, failed nor cancelled.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn unfinished_operations(&self) -> Result<Vec<OperationId>> {
        self.ids_where("state NOT IN ('done', 'failed', 'cancelled')")
    }

    fn ids_where(&self, condition: &str) -> Result<Vec<OperationId>> {
        let sql = format!(
            "SELECT operation_id FROM operation WHERE {condition} ORDER BY created_at_ms, operation_id"
        );
        let ids: Vec<String> = self.read("list operations", |connection| {
            connection
                .prepare_cached(&sql)?
                .query_map([], |row| row.get(0))?
                .collect()
        })?;
        ids.into_iter().map(|id| Ok(id.parse()?)).collect()
    }

    /// What is known of one operation without its tasks.
    ///
    /// # Errors
    /// There is none of this id, or the journal cannot be read.
    pub fn operation_head(&self, id: &OperationId) -> Result<OperationHead> {
        let read = self.read("read operation", |connection| head(connection, id));
        self.found(id, read)
    }

    /// Whether there is an operation of this id.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn knows(&self, id: &OperationId) -> Result<bool> {
        match self.operation_head(id) {
            Ok(_) => Ok(true),
            Err(Error::UnknownOperation(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// One operation.
    ///
    /// # Errors
    /// There is none of this id, or the journal cannot be read.
    pub fn operation(&self, id: &OperationId) -> Result<Operation> {
        // At one moment: another process may be driving it from step to step.
        let read = self.read("read operation", |connection| {
            let Some(head) = head(connection, id)? else {
                return Ok(None);
            };
            let tasks = shard_progress::read(connection, id, head.current_step)?;
            let draft = draft_shard::read(connection, id)?.map(Arc::new);
            let mended = mended_shard::read(connection, id)?;
            Ok(Some(Operation::assembled(head, tasks, draft, mended)))
        });
        self.found(id, read)
    }

    fn found<T>(&self, id: &OperationId, read: Result<Option<T>>) -> Result<T> {
        match read {
            Ok(found) => found.ok_or_else(|| Error::unknown_operation(id)),
            Err(Error::Journal {
                source: rusqlite::Error::FromSqlConversionFailure(_, _, error),
                ..
            }) => Err(self.unreadable(format!("operation {id}: {error}"))),
            Err(error) => Err(error),
        }
    }

    /// Removes all trace of an operation.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn delete_operation(&self, id: &OperationId) -> Result<()> {
        self.write("delete operation", |tx| {
            for table in TABLES {
                tx.execute(
                    &format!("DELETE FROM {table} WHERE operation_id = ?1"),
                    [id.as_str()],
                )?;
            }
            Ok(())
        })
    }
}

/// Writes all records that are read back of an operation.
pub(super) fn put_all(tx: &Transaction<'_>, operation: &Operation) -> rusqlite::Result<()> {
    let id = &operation.operation_id;
    put(tx, operation)?;
    put_request(tx, operation)?;
    operation_step::put_all(tx, operation)?;
    shard_progress::put_all(tx, operation)?;
    draft_shard::put_all(tx, id, operation.draft.as_deref())?;
    mended_shard::put(tx, id, &operation.mended, 0)
}

/// Writes where an operation stands.
pub(super) fn put(tx: &Transaction<'_>, operation: &Operation) -> rusqlite::Result<()> {
    let attempt = operation
        .attempt_floor
        .max(operation.tasks.highest_attempt());
    tx.prepare_cached(
        "INSERT INTO operation (operation_id, kind, collection, state, current_step, attempt, percent, error,
             created_at_ms, updated_at_ms, step_deadline_ms, operation_deadline_ms, standing)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
         ON CONFLICT (operation_id) DO UPDATE SET state = ?4, current_step = ?5, attempt = ?6, percent = ?7,
             error = ?8, updated_at_ms = ?10, step_deadline_ms = ?11, operation_deadline_ms = ?12, standing = ?13",
    )?
    .execute(params![
        operation.operation_id.as_str(),
        operation.request.kind(),
        operation.request.collection(),
        operation.state.name(),
        operation.current_step,
        attempt,
        operation.progress().percent,
        operation.error,
        int(operation.created_at_ms),
        int(operation.updated_at_ms),
        int(operation.step_deadline_ms),
        int(operation.operation_deadline_ms),
        to_json(&operation.head)?,
    ])?;
    proof::put(tx, operation)
}

/// Writes the request of an operation.
pub(super) fn put_request(tx: &Transaction<'_>, operation: &OperationHead) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE operation SET request = ?2 WHERE operation_id = ?1")?
        .execute(params![
            operation.operation_id.as_str(),
            to_json(&operation.request)?
        ])?;
    Ok(())
}

fn head(connection: &Connection, id: &OperationId) -> rusqlite::Result<Option<OperationHead>> {
    let head = connection
        .prepare_cached("SELECT request, standing FROM operation WHERE operation_id = ?1")?
        .query_row([id.as_str()], |row| {
            let request: serde_json::Value = from_json(row, 0)?;
            let mut record: serde_json::Map<String, serde_json::Value> = from_json(row, 1)?;
            record.insert("request".to_owned(), request);
            serde_json::from_value::<OperationHead>(record.into()).map_err(super::not_json)
        })
        .optional()?;
    head.map(|mut head| {
        head.steps = operation_step::read(connection, id)?;
        Ok(head)
    })
    .transpose()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use mendb_model::name::{BackupId, BackupKind};
    use mendb_model::operation::{BackupRequest, Limits, NewTask, Request, TaskSpec, plan};
    use mendb_model::operation::{Context, Event};

    use super::*;

    #[test]
    fn an_operation_that_another_process_drives_is_read_as_of_one_moment() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path()).unwrap();
        let request = Request::Backup(BackupRequest {
            collection: "shop".into(),
            backup_id: BackupId::new(0, BackupKind::Full).unwrap(),
            label: None,
            tables: vec!["orders".into()],
            parent: None,
            stream: "shop/1".into(),
            since_version: None,
            old_streams: Vec::new(),
            keeps_changes: false,
            found: None,
        });
        let steps = plan(&request, &[]).unwrap();
        let repository = ("id".to_owned(), "memory:".to_owned());
        let id: OperationId = "backup-1".parse().unwrap();
        let new = Operation::new(id.clone(), request, steps, repository, Limits::default(), 0);
        journal.insert_operation(&new).unwrap();
        let at = |step: u32| {
            let mut operation = new.clone();
            operation.current_step = step;
            let context = Context {
                now_ms: 0,
                jitter: 0.0,
            };
            let spec = TaskSpec::Whole;
            let task = NewTask {
                spec,
                bytes_total: 1,
            };
            let tasks = vec![task; 20];
            let allocated = Event::Allocated { step, tasks };
            operation.step(context, allocated).unwrap();
            operation
        };
        let both = [at(1), at(2)];
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let reader = Journal::open(directory.path()).unwrap();
                while !done.load(Ordering::Acquire) {
                    reader.operation(&id).unwrap();
                }
            });
            for _ in 0..200 {
                for operation in &both {
                    let put = |tx: &Transaction<'_>| {
                        tx.execute("DELETE FROM shard_progress", [])?;
                        put_all(tx, operation)
                    };
                    journal.write("put", put).unwrap();
                }
            }
            done.store(true, Ordering::Release);
        });
    }
}
