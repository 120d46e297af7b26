//! Record `made`: what a mend created on a server, or was about to create, because it was not there. A cancelled mend
//! removes that again, and nothing else.

use mendb_model::name::OperationId;
use mendb_model::part::TableName;
use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::Journal;
use crate::error::Result;

pub(super) const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS made (
    operation_id  TEXT NOT NULL,
    database_name TEXT NOT NULL,
    table_name    TEXT NOT NULL,              -- empty for the database itself
    PRIMARY KEY (operation_id, database_name, table_name)
) STRICT, WITHOUT ROWID;";

/// What a mend has created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Made {
    /// A database.
    Database(String),
    /// A table, view or dictionary.
    Table(TableName),
}

impl Made {
    fn names(&self) -> (&str, &str) {
        match self {
            Self::Database(name) => (name, ""),
            Self::Table(name) => (&name.database, &name.table),
        }
    }
}

impl Journal {
    /// Notes that a mend is about to create something that is not there. Doing it again changes nothing.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn put_made(&self, id: &OperationId, made: &Made) -> Result<()> {
        let (database, table) = made.names();
        self.write("write what a mend creates", |tx| {
            tx.execute(
                "INSERT OR IGNORE INTO made (operation_id, database_name, table_name) VALUES (?1, ?2, ?3)",
                params![id.as_str(), database, table],
            )
        })?;
        Ok(())
    }

    /// What a mend has created, or was about to, by name.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn made(&self, id: &OperationId) -> Result<Vec<Made>> {
        self.read("read what a mend has created", |connection| {
            connection
                .prepare(
                    "SELECT database_name, table_name FROM made WHERE operation_id = ?1
                     ORDER BY database_name, table_name",
                )?
                .query_map([id.as_str()], |row| {
                    let (database, table): (String, String) = (row.get(0)?, row.get(1)?);
                    Ok(match table.as_str() {
                        "" => Made::Database(database),
                        _ => Made::Table(TableName::new(database, table)),
                    })
                })?
                .collect()
        })
    }
}
