//! Record `command`: what users asked of an operation that another process drives.

use mendb_model::name::OperationId;
use mendb_model::operation::Event;
use rusqlite::params;

use super::Journal;
use crate::error::Result;

pub(super) const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS command (
    command_id   INTEGER PRIMARY KEY AUTOINCREMENT,
    operation_id TEXT NOT NULL,
    command      TEXT NOT NULL        -- pause, resume or cancel
) STRICT;";

/// What a user can ask of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Send no more requests.
    Pause,
    /// Go on after a pause or failure.
    Resume,
    /// Give up and roll back.
    Cancel,
}

impl Command {
    const ALL: [Self; 3] = [Self::Pause, Self::Resume, Self::Cancel];

    /// The name in the journal and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
        }
    }

    pub(crate) fn event(self) -> Event {
        match self {
            Self::Pause => Event::Pause,
            Self::Resume => Event::Resume,
            Self::Cancel => Event::Cancel,
        }
    }
}

impl Journal {
    /// Leaves a command for the process that drives.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn insert_command(&self, operation: &OperationId, command: Command) -> Result<()> {
        self.write("insert command", |tx| {
            tx.execute(
                "INSERT INTO command (operation_id, command) VALUES (?1, ?2)",
                params![operation.as_str(), command.name()],
            )?;
            Ok(())
        })
    }

    /// Whether a command for an operation waits to be taken.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn has_commands(&self, operation: &OperationId) -> Result<bool> {
        self.read("look for commands", |connection| {
            connection.query_row(
                "SELECT EXISTS (SELECT 1 FROM command WHERE operation_id = ?1)",
                [operation.as_str()],
                |row| row.get(0),
            )
        })
    }

    /// Takes the commands that were left, in order.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn take_commands(&self) -> Result<Vec<(OperationId, Command)>> {
        let any = self.read("look for commands", |connection| {
            connection.query_row("SELECT EXISTS (SELECT 1 FROM command)", [], |row| {
                row.get::<_, bool>(0)
            })
        })?;
        if !any {
            return Ok(Vec::new());
        }
        let rows = self.write("take commands", |tx| {
            let mut rows: Vec<(i64, String, String)> = tx
                .prepare("DELETE FROM command RETURNING command_id, operation_id, command")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<rusqlite::Result<_>>()?;
            rows.sort();
            Ok(rows)
        })?;
        let read = |(_, operation, name): (i64, String, String)| {
            let command = Command::ALL
                .into_iter()
                .find(|command| command.name() == name);
            let command = command.ok_or_else(|| self.unreadable(format!("command {name:?}")))?;
            Ok((operation.parse()?, command))
        };
        rows.into_iter().map(read).collect()
    }
}
