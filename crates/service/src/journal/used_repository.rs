//! Record `used_repository`: the repositories that the collections of a target were backed up into. It
//! outlives the operations that did it.

use mendb_model::operation::OperationHead;
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
pub(super) fn put(tx: &Transaction<'_>, operation: &OperationHead) -> rusqlite::Result<()> {
    let Some(backup_id) = operation.request.made_backup() else {
        return Ok(());
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

#[cfg(test)]
mod tests {
    use mendb_model::name::{BackupId, BackupKind};
    use mendb_model::operation::{BackupRequest, Limits, Operation, Request, plan};

    use super::*;

    fn backup(at: i64, repository: &str) -> Operation {
        let request = Request::Backup(BackupRequest {
            collection: "shop".into(),
            backup_id: BackupId::new(at, BackupKind::Full).unwrap(),
            label: None,
            tables: vec!["orders".into()],
            parent: None,
            stream: "shop/1".into(),
            since_version: None,
            old_streams: Vec::new(),
            keeps_changes: false,
            found: None,
        });
        let steps = plan(&request, &[]).unwrap();
        let repository = (repository.to_owned(), format!("file:///{repository}"));
        let id = format!("backup-{at}").parse().unwrap();
        let now_ms = at.unsigned_abs() * 1000;
        Operation::new(id, request, steps, repository, Limits::default(), now_ms)
    }

    #[test]
    fn the_repositories_of_a_journal_of_before_are_known_by_its_operations() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path()).unwrap();
        for (at, repository) in [(1, "one"), (2, "two"), (3, "one")] {
            journal.insert_operation(&backup(at, repository)).unwrap();
        }
        let known = journal.used_repositories().unwrap();
        let told: Vec<_> = (known.iter())
            .map(|used| {
                (
                    used.repository_id.as_str(),
                    used.url.as_str(),
                    used.used_at_ms,
                )
            })
            .collect();
        assert_eq!(
            told,
            [("two", "file:///two", 2000), ("one", "file:///one", 3000)]
        );
        assert_eq!(known[1].backup_id, "19700101000003Z_full");
        journal
            .write("go back to the layout of before", |tx| {
                tx.execute_batch(
                    "UPDATE operation SET standing = json_set(standing, '$.request', json(request));
                     ALTER TABLE operation RENAME COLUMN standing TO record;
                     ALTER TABLE operation DROP COLUMN request;
                     ALTER TABLE shard_progress RENAME COLUMN standing TO record;
                     ALTER TABLE shard_progress DROP COLUMN spec;
                     DROP TABLE used_repository; PRAGMA user_version = 3;",
                )
            })
            .unwrap();
        drop(journal);
        let journal = Journal::open(directory.path()).unwrap();
        assert_eq!(journal.used_repositories().unwrap(), known);
        journal.forget_repository("shop", "one").unwrap();
        drop(journal);
        let journal = Journal::open(directory.path()).unwrap();
        assert_eq!(
            journal.used_repositories().unwrap().len(),
            1,
            "what is forgotten stays so"
        );
    }
}
