//! Record `witness`: the parts of a table when a mend had proved it, and which parts of the backup
//! each stands for. Later merges of those parts can be told from other changes by it.

use mendb_model::part::TableName;
use mendb_model::part::Witness;
use rusqlite::{OptionalExtension, params};

use super::Journal;
use super::to_json;
use crate::error::Result;

pub(super) const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS witness (
    database_name TEXT NOT NULL,
    table_name    TEXT NOT NULL,
    witness       TEXT NOT NULL,              -- JSON
    PRIMARY KEY (database_name, table_name)
) STRICT, WITHOUT ROWID;";

impl Journal {
    /// Keeps the newest witness of a table.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn put_witness(&self, table: &TableName, witness: &Witness) -> Result<()> {
        self.write("write a witness", |tx| {
            tx.execute(
                "INSERT OR REPLACE INTO witness (database_name, table_name, witness) VALUES (?1, ?2, ?3)",
                params![table.database, table.table, to_json(witness)?],
            )
        })?;
        Ok(())
    }

    /// The newest witness of a table. One that this version cannot read proves nothing: it is none.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn witness(&self, table: &TableName) -> Result<Option<Witness>> {
        let found: Option<String> = self.read("read a witness", |connection| {
            connection
                .query_row(
                    "SELECT witness FROM witness WHERE database_name = ?1 AND table_name = ?2",
                    params![table.database, table.table],
                    |row| row.get(0),
                )
                .optional()
        })?;
        Ok(found.and_then(|text| serde_json::from_str(&text).ok()))
    }
}
