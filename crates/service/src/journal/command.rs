//! Record `command`: what users asked of an operation that another process drives.

use mendb_model::name::OperationId;
use mendb_model::operation::Event;
use mendb_model::part::OnConcurrentInsert;
use rusqlite::{Transaction, params};

use super::Journal;
use crate::error::Result;

pub(super) const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS command (
    command_id   INTEGER PRIMARY KEY AUTOINCREMENT,
    operation_id TEXT NOT NULL,
    command      TEXT NOT NULL        -- pause, resume or cancel, with what becomes of late parts
) STRICT;";

/// What a user can ask of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Send no more requests.
    Pause,
    /// Go on after a pause or failure; of a mend, with this done to parts that came meanwhile.
    Resume(Option<OnConcurrentInsert>),
    /// Give up and roll back; of a mend of a cluster, with this done to parts that came meanwhile.
    Cancel(Option<OnConcurrentInsert>),
}

impl Command {
    const ALL: [Self; 9] = [
        Self::Pause,
        Self::Resume(None),
        Self::Resume(Some(OnConcurrentInsert::Fail)),
        Self::Resume(Some(OnConcurrentInsert::Remove)),
        Self::Resume(Some(OnConcurrentInsert::Keep)),
        Self::Cancel(None),
        Self::Cancel(Some(OnConcurrentInsert::Fail)),
        Self::Cancel(Some(OnConcurrentInsert::Remove)),
        Self::Cancel(Some(OnConcurrentInsert::Keep)),
    ];

    /// The name in the journal and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume(None) => "resume",
            Self::Resume(Some(OnConcurrentInsert::Fail)) => "resume, fail",
            Self::Resume(Some(OnConcurrentInsert::Remove)) => "resume, remove",
            Self::Resume(Some(OnConcurrentInsert::Keep)) => "resume, keep",
            Self::Cancel(None) => "cancel",
            Self::Cancel(Some(OnConcurrentInsert::Fail)) => "cancel, fail",
            Self::Cancel(Some(OnConcurrentInsert::Remove)) => "cancel, remove",
            Self::Cancel(Some(OnConcurrentInsert::Keep)) => "cancel, keep",
        }
    }

    pub(crate) fn event(self) -> Event {
        match self {
            Self::Pause => Event::Pause,
            Self::Resume(on_concurrent_insert) => Event::Resume {
                on_concurrent_insert,
            },
            Self::Cancel(on_concurrent_insert) => Event::Cancel {
                on_concurrent_insert,
            },
        }
    }
}

impl Journal {
    /// Leaves a command for the process that drives, and returns the id of its record.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn insert_command(&self, operation: &OperationId, command: Command) -> Result<i64> {
        let command_id = self.write("insert command", |tx| {
            tx.execute(
                "INSERT INTO command (operation_id, command) VALUES (?1, ?2)",
                params![operation.as_str(), command.name()],
            )?;
            Ok(tx.last_insert_rowid())
        })?;
        self.note_news();
        Ok(command_id)
    }

    /// Whether a command waits to be taken.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn has_command(&self, command_id: i64) -> Result<bool> {
        self.read("look for a command", |connection| {
            connection.query_row(
                "SELECT EXISTS (SELECT 1 FROM command WHERE command_id = ?1)",
                [command_id],
                |row| row.get(0),
            )
        })
    }

    /// The commands that wait, in order, with the ids of their records.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn commands(&self) -> Result<Vec<(i64, OperationId, Command)>> {
        let rows: Vec<(i64, String, String)> = self.read("read commands", |connection| {
            connection
                .prepare(
                    "SELECT command_id, operation_id, command FROM command ORDER BY command_id",
                )?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect()
        })?;
        let read = |(id, operation, name): (i64, String, String)| {
            let command = Command::ALL
                .into_iter()
                .find(|command| command.name() == name);
            let command = command.ok_or_else(|| self.unreadable(format!("command {name:?}")))?;
            Ok((id, operation.parse()?, command))
        };
        rows.into_iter().map(read).collect()
    }

    /// Removes a command that is not to happen any more, or has nothing to happen to. Returns whether it
    /// still waited: one that was taken happens.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn delete_command(&self, command_id: i64) -> Result<bool> {
        self.write("delete command", |tx| delete(tx, command_id))
    }
}

pub(super) fn delete(tx: &Transaction<'_>, command_id: i64) -> rusqlite::Result<bool> {
    let deleted = tx.execute("DELETE FROM command WHERE command_id = ?1", [command_id])?;
    Ok(deleted > 0)
}
