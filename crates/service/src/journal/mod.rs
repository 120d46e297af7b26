//! The coordinator's local database: what every operation is, and how far.
//!
//! A SQLite file beside the target, which anyone may look into. One file here per record.
//!
//! *Consistency*: an operation and all its rows change in one transaction.
//! *Crash*: a transaction is on disk when it returns (WAL, synchronous = FULL), and so is the way to the file.
//! *Sharing*: other processes may read at any time, and leave [`command`]s for the one that drives.

pub mod collection;
pub mod command;
mod identity;
mod left_partition;
pub(crate) mod made;
pub mod mend_plan;
pub mod operation;
pub mod operation_event;
mod operation_step;
pub mod shard_progress;
pub mod used_repository;
mod witness;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::error::{Error, Result};

/// The layout this version reads and writes.
const LAYOUT_VERSION: i64 = 5;

/// How long to wait for another process that is writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// The journal of one target.
pub struct Journal {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl Journal {
    /// Opens the journal in a directory, and creates both if they are absent.
    ///
    /// # Errors
    /// The file cannot be opened, or is of a newer layout.
    pub fn open(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory).map_err(|source| Error::Io {
            action: format!("create directory {}", directory.display()),
            source,
        })?;
        let path = directory.join("journal.sqlite");
        if !Self::exists(directory) {
            make_last(directory).map_err(|source| Error::Io {
                action: format!("sync what leads to {}", directory.display()),
                source,
            })?;
        }
        let connection = Connection::open(&path).map_err(|source| failed(&path, "open", source))?;
        let journal = Self {
            path,
            connection: Mutex::new(connection),
        };
        journal.prepare()?;
        Ok(journal)
    }

    /// Whether a directory holds a journal. One that cannot be looked into seems to hold none.
    pub fn exists(directory: &Path) -> bool {
        directory.join("journal.sqlite").exists()
    }

    fn prepare(&self) -> Result<()> {
        let connection = self.connection();
        let failed = |source| failed(&self.path, "prepare", source);
        connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;",
            )
            .map_err(failed)?;
        let layout: i64 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(failed)?;
        if layout > LAYOUT_VERSION {
            return Err(self.unreadable(format!(
                "its layout is version {layout}, this mendb knows {LAYOUT_VERSION}"
            )));
        }
        // Every record is created if absent, so an older layout only lacks the newer ones.
        if layout < LAYOUT_VERSION {
            let layout = [
                "BEGIN IMMEDIATE;",
                collection::LAYOUT,
                command::LAYOUT,
                operation::LAYOUT,
                operation_step::LAYOUT,
                shard_progress::LAYOUT,
                operation_event::LAYOUT,
                mend_plan::LAYOUT,
                left_partition::LAYOUT,
                made::LAYOUT,
                witness::LAYOUT,
                used_repository::LAYOUT,
                used_repository::FROM_OPERATIONS,
                &identity::layout(),
                &format!("PRAGMA user_version = {LAYOUT_VERSION}; COMMIT;"),
            ];
            connection
                .execute_batch(&layout.join("\n"))
                .map_err(failed)?;
        }
        Ok(())
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` in one transaction.
    fn write<T>(
        &self,
        action: &str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut connection = self.connection();
        let failed = |source| failed(&self.path, action, source);
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let value = work(&transaction).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Ok(value)
    }

    /// Runs `work` on the journal as it is at one moment.
    fn read<T>(
        &self,
        action: &str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut connection = self.connection();
        let read = connection
            .transaction()
            .and_then(|snapshot| work(&snapshot));
        read.map_err(|source| failed(&self.path, action, source))
    }

    fn unreadable(&self, detail: impl Into<String>) -> Error {
        Error::JournalRecord {
            path: self.path.display().to_string(),
            detail: detail.into(),
        }
    }
}

/// Makes the entries of a directory and of those above it last, whoever made them: a power loss would take what is
/// in it with them. SQLite syncs only the directory itself. Those that are not ours to open are not ours to sync,
/// and some file systems have directories that cannot be synced.
fn make_last(directory: &Path) -> io::Result<()> {
    for above in std::path::absolute(directory)?.ancestors().skip(1) {
        match File::open(above).and_then(|above| above.sync_all()) {
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied
                        | io::ErrorKind::InvalidInput
                        | io::ErrorKind::Unsupported
                ) =>
            {
                return Err(error);
            }
            _ => {}
        }
    }
    Ok(())
}

fn failed(path: &Path, action: &str, source: rusqlite::Error) -> Error {
    Error::Journal {
        path: path.display().to_string(),
        action: action.to_owned(),
        source,
    }
}

/// A number of ours as SQLite stores it; beyond 2^63 it is cut off there.
fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
