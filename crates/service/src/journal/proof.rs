//! Record `proof`: that a backup was restored in part, or all of it, and proved, by a drill.
//!
//! The record is written in the transaction in which the drill is done, and stays when that is forgotten. One for each
//! backup, of its last drill.

use mendb_model::name::BackupId;
use mendb_model::operation::{OperationHead, State};
use rusqlite::{Connection, Params, Transaction, params};
use serde::Serialize;

use super::{Journal, int};
use crate::error::Result;

pub(super) const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS proof (
    repository_id TEXT NOT NULL,
    collection    TEXT NOT NULL,
    backup_id     TEXT NOT NULL,
    operation_id  TEXT NOT NULL,
    percent       INTEGER NOT NULL,   -- of the key ranges or parts of each table that was chosen
    at_ms         INTEGER NOT NULL,
    PRIMARY KEY (repository_id, collection, backup_id)
) STRICT, WITHOUT ROWID;";

/// That a backup was proved restorable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// The collection.
    pub collection: String,
    /// The backup.
    pub backup_id: BackupId,
    /// How many of a hundred key ranges, or parts, of each table were restored.
    pub percent: u8,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
}

/// Makes the table where a journal of before has none.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'proof')";
    if connection.query_row(sql, [], |row| row.get(0))? {
        return Ok(());
    }
    connection.execute_batch(LAYOUT)
}

/// Notes what an operation has proved, if it is a drill that is done.
pub(super) fn put(tx: &Transaction<'_>, operation: &OperationHead) -> rusqlite::Result<()> {
    let request = &operation.request;
    let (Some(drill), State::Done) = (request.drill(), operation.state) else {
        return Ok(());
    };
    let Some(backup_id) = request.backups().last().copied() else {
        return Ok(());
    };
    tx.execute(
        "INSERT OR REPLACE INTO proof (repository_id, collection, backup_id, operation_id, percent, at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            operation.repository_id,
            request.collection(),
            backup_id.as_str(),
            operation.operation_id.as_str(),
            drill.percent,
            int(operation.updated_at_ms),
        ],
    )?;
    Ok(())
}

impl Journal {
    /// What was proved of backups in a repository, the newest proof first.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn proofs(&self, repository_id: &str) -> Result<Vec<Proof>> {
        self.proofs_by(
            "SELECT collection, backup_id, percent, at_ms FROM proof WHERE repository_id = ?1
             ORDER BY at_ms DESC, backup_id DESC",
            params![repository_id],
        )
    }

    /// The newest proof of each collection, in whichever repository its backup is.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn last_proofs(&self) -> Result<Vec<Proof>> {
        // Of a group with one maximum, SQLite takes the other columns from its row.
        self.proofs_by(
            "SELECT collection, backup_id, percent, MAX(at_ms) FROM proof GROUP BY collection
             ORDER BY collection",
            params![],
        )
    }

    fn proofs_by(&self, sql: &str, of: impl Params) -> Result<Vec<Proof>> {
        let rows: Vec<(String, String, u8, i64)> = self.read("read proofs", |connection| {
            connection
                .prepare_cached(sql)?
                .query_map(of, |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                })?
                .collect()
        })?;
        let proof = |(collection, backup_id, percent, at_ms): (String, String, u8, i64)| {
            let backup_id = backup_id
                .parse()
                .map_err(|error| self.unreadable(format!("a proof of a backup: {error}")))?;
            Ok(Proof {
                collection,
                backup_id,
                percent,
                at_ms: at_ms.unsigned_abs(),
            })
        };
        rows.into_iter().map(proof).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_of_before_gets_the_tables_that_it_lacks() {
        let directory = tempfile::tempdir().unwrap();
        drop(Journal::open(directory.path()).unwrap());
        let raw = Connection::open(directory.path().join("journal.sqlite")).unwrap();
        raw.execute_batch("DROP TABLE proof; DROP TABLE operation_end;")
            .unwrap();
        drop(raw);
        let journal = Journal::open(directory.path()).unwrap();
        assert_eq!(journal.proofs("id").unwrap(), []);
        assert_eq!(journal.ends_after(0, 1).unwrap(), []);
    }

    #[test]
    fn of_each_collection_the_newest_proof_in_any_repository_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path()).unwrap();
        let raw = Connection::open(directory.path().join("journal.sqlite")).unwrap();
        for (repository, collection, backup, at_ms) in [
            ("near", "shop", "20260101000000Z_full", 5),
            ("near", "shop", "20260102000000Z_full", 3),
            ("far", "shop", "20260103000000Z_full", 9),
            ("near", "world", "20260104000000Z_full", 1),
        ] {
            raw.execute(
                "INSERT INTO proof VALUES (?1, ?2, ?3, 'drill-1', 10, ?4)",
                params![repository, collection, backup, at_ms],
            )
            .unwrap();
        }
        let last = journal.last_proofs().unwrap();
        let last: Vec<_> = last
            .iter()
            .map(|proof| {
                (
                    proof.collection.as_str(),
                    proof.backup_id.as_str(),
                    proof.at_ms,
                )
            })
            .collect();
        assert_eq!(
            last,
            [
                ("shop", "20260103000000Z_full", 9),
                ("world", "20260104000000Z_full", 1)
            ]
        );
    }
}
