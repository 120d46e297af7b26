//! The turn to change records: one writer at a time.

use std::sync::MutexGuard;

use crate::error::Result;
use crate::kernel::NOT_POISONED;
use crate::kernel::batch::{Batch, Change};
use crate::kernel::reader::{Reader, for_tree};
use crate::kernel::section::Tree;
use crate::kernel::store::Store;

/// As long as it is held nobody else commits, and [`Store::read_last`] reads the commit before. Dropped
/// without a commit, it has changed nothing.
pub(crate) struct Turn<'a> {
    store: &'a Store,
    _only: MutexGuard<'a, ()>,
}

impl Store {
    /// Waits for the turn.
    pub(crate) fn begin(&self) -> Turn<'_> {
        let only = self.turn.lock().expect(NOT_POISONED);
        // One transaction for all that is read spares taking the locks of the database for each of it. If it
        // does not begin, that is all that is lost, and the commit says why.
        if let Err(error) = self.writer.lock().execute_batch("BEGIN") {
            tracing::debug!(%error, "read without a transaction");
        }
        Turn {
            store: self,
            _only: only,
        }
    }

    /// Waits for the turn and commits a batch.
    ///
    /// # Errors
    /// As [`Turn::commit`].
    pub(crate) fn commit(&self, batch: Batch) -> Result<()> {
        self.begin().commit(batch)
    }
}

impl Turn<'_> {
    /// Commits a batch: it is there as a whole, or, on an error, not at all.
    ///
    /// # Errors
    /// [`Error::Stopped`](crate::Error::Stopped) once the disk has failed to keep a commit.
    pub(crate) fn commit(self, mut batch: Batch) -> Result<()> {
        self.store.check_running()?;
        // In the order of the trees. It is stable: the last change of a key stays the last.
        batch
            .changes
            .sort_by(|one, other| (one.tree, &one.key).cmp(&(other.tree, &other.key)));
        let writer: &Reader = &self.store.writer;
        let committed = commit(writer, &batch.changes);
        committed.map_err(|error| self.store.faults.engine(error))?;
        self.store.checkpoint(&writer.lock());
        Ok(())
    }
}

fn commit(writer: &Reader, changes: &[Change]) -> rusqlite::Result<()> {
    let connection = writer.lock();
    if connection.is_autocommit() {
        connection.execute_batch("BEGIN IMMEDIATE")?;
    }
    for change in changes {
        let key = &change.key;
        match &change.record {
            Some(record) => {
                let insert = for_tree!(
                    change.tree,
                    "INSERT INTO ",
                    " VALUES (?1, ?2) ON CONFLICT (k) DO UPDATE SET v = excluded.v"
                );
                connection.prepare_cached(insert)?.execute([key, record])?;
            }
            None => {
                let delete = for_tree!(change.tree, "DELETE FROM ", " WHERE k = ?1");
                connection.prepare_cached(delete)?.execute([key])?;
            }
        }
    }
    connection.execute_batch("COMMIT")
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let connection = self.store.writer.lock();
        if !connection.is_autocommit()
            && let Err(error) = connection.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, "a transaction is not rolled back");
        }
    }
}
