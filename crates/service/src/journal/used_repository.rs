//! Record `used_repository`: the repositories that the collections of a target were backed up into. It
//! outlives the operations that did it.

use mendb_model::operation::{Operation, Request};
use rusqlite::{Transaction, params};
use serde::Serialize;

use super::{Journal, int};
use crate::error::Result;

pub(super) const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS used_repository (
    collection    TEXT NOT NULL,
    repository_id TEXT NOT NULL,
    url           TEXT NOT NULL,              -- where it was when it was used last
    backup_id     TEXT NOT NULL,              -- the last backup that was asked for
    used_at_ms    INTEGER NOT NULL,
    PRIMARY KEY (collection, repository_id)
) STRICT, WITHOUT ROWID;";

/// What the operations of a journal from before there was this record tell.
pub(super) const FROM_OPERATIONS: &str = "
INSERT OR REPLACE INTO used_repository (collection, repository_id, url, backup_id, used_at_ms)
SELECT collection, record ->> '$.repository_id', record ->> '$.repository_url',
       coalesce(record ->> '$.request.backup_id', record ->> '$.request.before.backup_id'), created_at_ms
FROM operation
WHERE coalesce(record ->> '$.request.backup_id', record ->> '$.request.before.backup_id') IS NOT NULL
  AND record ->> '$.repository_id' IS NOT NULL AND record ->> '$.repository_url' IS NOT NULL
ORDER BY created_at_ms;";

/// A repository that a collection was backed up into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UsedRepository {
    /// The collection.
    pub collection: String,
    /// The repository.
    pub repository_id: String,
    /// Where it was when it was used last.
    pub url: String,
    /// The last backup that was asked for there.
    pub backup_id: String,
    /// When, in milliseconds since 1970.
    pub used_at_ms: u64,
}

/// Remembers the repository of an operation that takes a backup.
pub(super) fn put(tx: &Transaction<'_>, operation: &Operation) -> rusqlite::Result<()> {
    let backup_id = match &operation.request {
        Request::Backup(request) => &request.backup_id,
        Request::PartBackup(request) => &request.backup_id,
        Request::MendRows(request) => &request.before.backup_id,
        Request::Restore(_) | Request::Mend(_) => return Ok(()),
    };
    tx.execute(
        "INSERT OR REPLACE INTO used_repository (collection, repository_id, url, backup_id, used_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            operation.request.collection(),
            operation.repository_id,
            operation.repository_url,
            backup_id.as_str(),
            int(operation.created_at_ms),
        ],
    )?;
    Ok(())
}

impl Journal {
    /// The repositories that the target was backed up into, those of a collection together.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn used_repositories(&self) -> Result<Vec<UsedRepository>> {
        self.read("read which repositories were used", |connection| {
            connection
                .prepare(
                    "SELECT collection, repository_id, url, backup_id, used_at_ms FROM used_repository
                     ORDER BY collection, used_at_ms",
                )?
                .query_map([], |row| {
                    Ok(UsedRepository {
                        collection: row.get(0)?,
                        repository_id: row.get(1)?,
                        url: row.get(2)?,
                        backup_id: row.get(3)?,
                        used_at_ms: row.get::<_, i64>(4)?.unsigned_abs(),
                    })
                })?
                .collect()
        })
    }

    /// Forgets that a collection was backed up into a repository.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn forget_repository(&self, collection: &str, repository_id: &str) -> Result<()> {
        self.write("forget a repository", |tx| {
            tx.execute(
                "DELETE FROM used_repository WHERE collection = ?1 AND repository_id = ?2",
                [collection, repository_id],
            )
        })?;
        Ok(())
    }
}
