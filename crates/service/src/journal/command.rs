//! Record `command`: what users asked of an operation that another process drives.

use mendb_model::name::OperationId;
use mendb_model::operation::{Event, ShardAgent};
use mendb_model::part::OnConcurrentInsert;
use rusqlite::{Transaction, params};

use super::Journal;
use crate::error::Result;

pub(super) const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS command (
    command_id   INTEGER PRIMARY KEY AUTOINCREMENT,
    operation_id TEXT NOT NULL,
    command      TEXT NOT NULL        -- pause, resume or cancel, with what becomes of late parts; take over, with who
) STRICT;";

/// What a user can ask of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Send no more requests.
    Pause,
    /// Go on after a pause or failure; of a mend, with this done to parts that came meanwhile.
    Resume(Option<OnConcurrentInsert>),
    /// Have this replica do the part of its shard of a cluster, and go on.
    TakeOver(ShardAgent),
    /// Give up and roll back; of a mend of a cluster, with this done to parts that came meanwhile.
    Cancel(Option<OnConcurrentInsert>),
}

/// What the text of a command that another replica takes over begins with; the replica follows, as JSON.
const TAKE_OVER: &str = "take over, ";

impl Command {
    /// Those that say nothing of their own.
    const PLAIN: [Self; 9] = [
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

    /// The text in the journal.
    fn text(self) -> String {
        let (word, policy) = match self {
            Self::Pause => ("pause", None),
            Self::Resume(policy) => ("resume", policy),
            Self::Cancel(policy) => ("cancel", policy),
            Self::TakeOver(by) => {
                return format!("{TAKE_OVER}{}", serde_json::json!(by));
            }
        };
        match policy {
            None => word.to_owned(),
            Some(policy) => format!("{word}, {}", policy.name()),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix(TAKE_OVER) {
            Some(by) => serde_json::from_str(by).ok().map(Self::TakeOver),
            None => Self::PLAIN
                .into_iter()
                .find(|command| command.clone().text() == text),
        }
    }

    pub(crate) fn event(self) -> Event {
        match self {
            Self::Pause => Event::Pause,
            Self::Resume(on_concurrent_insert) => Event::Resume {
                on_concurrent_insert,
            },
            Self::TakeOver(by) => Event::TakeOver { by },
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
        let text = command.text();
        let command_id = self.write("insert command", |tx| {
            tx.execute(
                "INSERT INTO command (operation_id, command) VALUES (?1, ?2)",
                params![operation.as_str(), text],
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
            let command = Command::parse(&name);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_is_read_as_it_was_written() {
        let by = ShardAgent {
            shard: "one".to_owned(),
            replica: "r2, the second".to_owned(),
            agent: "https://db2:7443".to_owned(),
            server: "db2:/var/lib/clickhouse".to_owned(),
        };
        let all = Command::PLAIN.into_iter().chain([Command::TakeOver(by)]);
        for command in all {
            assert_eq!(Command::parse(&command.clone().text()), Some(command));
        }
        for wrong in ["", "resume, nothing", "take over, ", "take over, {}"] {
            assert_eq!(Command::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Command::Resume(None).text(), "resume");
        let policy = Some(OnConcurrentInsert::Remove);
        assert_eq!(Command::Cancel(policy).text(), "cancel, remove");
    }
}
