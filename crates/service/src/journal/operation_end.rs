//! Record `operation_end`: that an operation came to an end, in the order in which they did. Who tells others of it
//! reads on from the last one told, also after a crash.
//!
//! The record is written in the transaction in which the operation ends; one that is resumed ends again.

use mendb_model::name::OperationId;
use mendb_model::operation::OperationHead;
use rusqlite::{Connection, Transaction, params};

use super::{Journal, int};
use crate::error::Result;

pub(super) const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS operation_end (
    end_id       INTEGER PRIMARY KEY AUTOINCREMENT,
    operation_id TEXT NOT NULL,
    state        TEXT NOT NULL,       -- done, failed or cancelled
    at_ms        INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS operation_end_by_operation ON operation_end (operation_id);";

/// An end of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationEnd {
    /// Grows with each end.
    pub end_id: i64,
    /// The operation.
    pub operation_id: OperationId,
    /// The name of the state in which it ended.
    pub state: String,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
}

/// Makes the table where a journal of before has none.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'operation_end')";
    if connection.query_row(sql, [], |row| row.get(0))? {
        return Ok(());
    }
    connection.execute_batch(LAYOUT)
}

pub(super) fn put(tx: &Transaction<'_>, operation: &OperationHead) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO operation_end (operation_id, state, at_ms) VALUES (?1, ?2, ?3)",
        params![
            operation.operation_id.as_str(),
            operation.state.name(),
            int(operation.updated_at_ms)
        ],
    )?;
    Ok(())
}

impl Journal {
    /// The first ends after one, in their order, at most so many.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn ends_after(&self, end_id: i64, most: u32) -> Result<Vec<OperationEnd>> {
        let rows: Vec<(i64, String, String, i64)> =
            self.read("read ends of operations", |connection| {
                connection
                    .prepare_cached(
                        "SELECT end_id, operation_id, state, at_ms FROM operation_end WHERE end_id > ?1
                         ORDER BY end_id LIMIT ?2",
                    )?
                    .query_map(params![end_id, most], |row| {
                        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                    })?
                    .collect()
            })?;
        let end = |(end_id, id, state, at_ms): (i64, String, String, i64)| {
            Ok(OperationEnd {
                end_id,
                operation_id: id.parse()?,
                state,
                at_ms: at_ms.unsigned_abs(),
            })
        };
        rows.into_iter().map(end).collect()
    }

    /// The last end before a time in milliseconds since 1970; 0 where there is none.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn last_end_before(&self, at_ms: u64) -> Result<i64> {
        self.read("read ends of operations", |connection| {
            connection.query_row(
                "SELECT coalesce(max(end_id), 0) FROM operation_end WHERE at_ms < ?1",
                [int(at_ms)],
                |row| row.get(0),
            )
        })
    }
}
