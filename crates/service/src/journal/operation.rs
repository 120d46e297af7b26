//! Record `operation`: a long-running request and how far it is.
//!
//! The columns are for people; what is read back is `record` and `draft`, with the tasks of the
//! current step from `shard_progress`.

use std::sync::Arc;

use mendb_model::name::OperationId;
use mendb_model::operation::{Event, Operation};
use rusqlite::{OptionalExtension, Transaction, params};

use super::{
    Journal, command, int, operation_event, operation_step, shard_progress, used_repository,
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
    record                TEXT NOT NULL,      -- JSON: request, plan, limits, state
    draft                 TEXT                -- JSON: the manifest in the making, while it is
) STRICT;";

impl Journal {
    /// Adds a new operation.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn insert_operation(&self, operation: &Operation) -> Result<()> {
        self.write("insert operation", |tx| {
            put(tx, operation)?;
            put_draft(tx, operation)?;
            operation_step::put(tx, None, operation)?;
            used_repository::put(tx, operation)?;
            operation_event::put(tx, operation, "created")
        })
    }

    /// Saves what an event made of an operation. When the event is a user's command, its record goes
    /// in the same transaction: a crash neither loses a command nor lets it happen twice. Returns whether the
    /// event happened: not that of a command which was withdrawn meanwhile.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn update_operation(
        &self,
        before: &Operation,
        after: &Operation,
        event: &Event,
        command_id: Option<i64>,
    ) -> Result<bool> {
        self.write("update operation", |tx| {
            if let Some(command_id) = command_id
                && !command::delete(tx, command_id)?
            {
                return Ok(false);
            }
            put(tx, after)?;
            if before.draft != after.draft {
                put_draft(tx, after)?;
            }
            operation_step::put(tx, Some(before), after)?;
            shard_progress::put(tx, before, after)?;
            if let Some(text) = operation_event::describe(before, after, event) {
                operation_event::put(tx, after, &text)?;
            }
            Ok(true)
        })
    }

    /// The operations that may still stand in the way of others: neither done nor cancelled.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn open_operations(&self) -> Result<Vec<Operation>> {
        self.operations_where("state NOT IN ('done', 'cancelled')")
    }

    /// Every operation, oldest first.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn operations(&self) -> Result<Vec<Operation>> {
        self.operations_where("TRUE")
    }

    fn operations_where(&self, condition: &str) -> Result<Vec<Operation>> {
        let ids = self.ids_where(condition)?;
        ids.iter().map(|id| self.operation(id)).collect()
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
                .prepare(&sql)?
                .query_map([], |row| row.get(0))?
                .collect()
        })?;
        ids.into_iter().map(|id| Ok(id.parse()?)).collect()
    }

    /// One operation.
    ///
    /// # Errors
    /// There is none of this id, or the journal cannot be read.
    pub fn operation(&self, id: &OperationId) -> Result<Operation> {
        // At one moment: another process may be driving it from step to step.
        let row = self.read("read operation", |connection| {
            let row: Option<(String, Option<String>, u32)> = connection
                .query_row(
                    "SELECT record, draft, current_step FROM operation WHERE operation_id = ?1",
                    [id.as_str()],
                    |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
                )
                .optional()?;
            row.map(|(record, draft, step)| {
                let tasks = shard_progress::records(connection, id, step)?;
                Ok((record, draft, tasks))
            })
            .transpose()
        })?;
        let (record, draft, tasks) = row.ok_or_else(|| Error::unknown_operation(id))?;
        let damaged =
            |error: serde_json::Error| self.unreadable(format!("operation {id}: {error}"));
        let mut operation: Operation = serde_json::from_str(&record).map_err(damaged)?;
        operation.draft = draft
            .map(|draft| serde_json::from_str(&draft).map(Arc::new))
            .transpose()
            .map_err(damaged)?;
        let task = |record: &String| serde_json::from_str(record).map(Arc::new).map_err(damaged);
        operation.tasks = tasks.iter().map(task).collect::<Result<_>>()?;
        Ok(operation)
    }

    /// Removes all trace of an operation.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn delete_operation(&self, id: &OperationId) -> Result<()> {
        self.write("delete operation", |tx| {
            for table in [
                "command",
                "left_partition",
                "made",
                "mend_plan",
                "operation_event",
                "shard_progress",
                "operation_step",
                "operation",
            ] {
                tx.execute(
                    &format!("DELETE FROM {table} WHERE operation_id = ?1"),
                    [id.as_str()],
                )?;
            }
            Ok(())
        })
    }
}

fn put(tx: &Transaction<'_>, operation: &Operation) -> rusqlite::Result<()> {
    let attempt = operation
        .tasks
        .iter()
        .map(|task| task.attempt)
        .fold(operation.attempt_floor, u32::max);
    tx.execute(
        "INSERT INTO operation (operation_id, kind, collection, state, current_step, attempt, percent, error,
             created_at_ms, updated_at_ms, step_deadline_ms, operation_deadline_ms, record)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
         ON CONFLICT (operation_id) DO UPDATE SET state = ?4, current_step = ?5, attempt = ?6, percent = ?7,
             error = ?8, updated_at_ms = ?10, step_deadline_ms = ?11, operation_deadline_ms = ?12, record = ?13",
        params![
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
            to_json(operation)?,
        ],
    )?;
    Ok(())
}

fn put_draft(tx: &Transaction<'_>, operation: &Operation) -> rusqlite::Result<()> {
    let draft = operation.draft.as_deref().map(to_json).transpose()?;
    tx.execute(
        "UPDATE operation SET draft = ?2 WHERE operation_id = ?1",
        params![operation.operation_id.as_str(), draft],
    )?;
    Ok(())
}

/// A record as JSON, with SQLite's error for a value that JSON cannot hold.
pub(super) fn to_json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
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
            operation.step(context, allocated.clone()).unwrap();
            (operation, allocated)
        };
        let ((first, event), (second, _)) = (at(1), at(2));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let reader = Journal::open(directory.path()).unwrap();
                while !done.load(Ordering::Acquire) {
                    reader.operation(&id).unwrap();
                }
            });
            for _ in 0..200 {
                journal
                    .update_operation(&second, &first, &event, None)
                    .unwrap();
                journal
                    .update_operation(&first, &second, &event, None)
                    .unwrap();
            }
            done.store(true, Ordering::Release);
        });
    }
}
