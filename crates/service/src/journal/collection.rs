//! Record `collection`: a named set of tables that are backed up together.

use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::{Journal, int};
use crate::error::Result;

pub(super) const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS collection (
    collection    TEXT PRIMARY KEY,
    tables        TEXT NOT NULL,       -- JSON array of names
    created_at_ms INTEGER NOT NULL
) STRICT;";

/// A named set of tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    /// Its name.
    pub collection: String,
    /// Its tables.
    pub tables: Vec<String>,
    /// When it was created, in milliseconds since 1970.
    pub created_at_ms: u64,
}

impl Journal {
    /// Adds a collection. `false` when one of that name exists.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn insert_collection(&self, collection: &Collection) -> Result<bool> {
        let tables = serde_json::json!(collection.tables).to_string();
        self.write("insert collection", |tx| {
            let inserted = tx.execute(
                "INSERT OR IGNORE INTO collection (collection, tables, created_at_ms) VALUES (?1, ?2, ?3)",
                params![collection.collection, tables, int(collection.created_at_ms)],
            )?;
            Ok(inserted == 1)
        })
    }

    /// Removes a collection. `false` when there is none of that name.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn delete_collection(&self, name: &str) -> Result<bool> {
        self.write("delete collection", |tx| {
            Ok(tx.execute("DELETE FROM collection WHERE collection = ?1", [name])? == 1)
        })
    }

    /// The collection of a name.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn collection(&self, name: &str) -> Result<Option<Collection>> {
        let row = self.read("read collection", |connection| {
            connection
                .query_row(
                    "SELECT collection, tables, created_at_ms FROM collection WHERE collection = ?1",
                    [name],
                    read_row,
                )
                .optional()
        })?;
        row.map(|row| self.to_collection(row)).transpose()
    }

    /// All collections, by name.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn collections(&self) -> Result<Vec<Collection>> {
        let rows = self.read("read collections", |connection| {
            connection
                .prepare(
                    "SELECT collection, tables, created_at_ms FROM collection ORDER BY collection",
                )?
                .query_map([], read_row)?
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        rows.into_iter()
            .map(|row| self.to_collection(row))
            .collect()
    }

    fn to_collection(&self, (collection, tables, created_at_ms): Row) -> Result<Collection> {
        let tables = serde_json::from_str(&tables)
            .map_err(|error| self.unreadable(format!("collection {collection}: {error}")))?;
        Ok(Collection {
            collection,
            tables,
            created_at_ms: u64::try_from(created_at_ms).unwrap_or(0),
        })
    }
}

type Row = (String, String, i64);

fn read_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}
