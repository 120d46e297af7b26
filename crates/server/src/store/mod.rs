//! What the server keeps beside the journal: a SQLite file, one file here per record.
//!
//! *Crash*: a change is on disk when it returns. *Sharing*: commands make tokens and schedules while a server runs; it
//! sees them with its next look. A store that is a file of a [`Replica`] is of one process alone: its changes are in the
//! log of that when they return.

pub mod audit;
pub mod coordinator;
pub mod hook;
pub mod plan;
pub mod schedule;
pub mod token;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mendb_service::replica::{Replica, ReplicaFile};
use mendb_service::{Error, Result};
use rusqlite::{Connection, TransactionBehavior};

/// The layout this version reads and writes.
const LAYOUT_VERSION: i64 = 4;
/// How long to wait for another process that is writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// The file in its directory.
const FILE: &str = "server.sqlite";

/// The store of one server.
pub struct Store {
    path: PathBuf,
    connection: Mutex<Connection>,
    /// Of a file whose commits are in a log.
    replica: Option<ReplicaFile>,
}

impl Store {
    /// Opens the store in a directory, and creates both if they are absent. Nobody else may read it.
    ///
    /// # Errors
    /// It cannot be opened, or is of a newer layout.
    pub fn open(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory).map_err(|source| Error::Io {
            action: format!("cannot create the directory {}", directory.display()),
            source,
        })?;
        let path = directory.join(FILE);
        keep_private(&path)?;
        let failed = |action: &str, source| failed(&path, action, source);
        let connection = Connection::open(&path).map_err(|source| failed("open", source))?;
        connection
            .busy_timeout(BUSY_TIMEOUT)
            .and_then(|()| {
                connection.execute_batch(
                    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;",
                )
            })
            .map_err(|source| failed("prepare", source))?;
        Self::on(path, connection, None)
    }

    /// Opens the store in a directory of a replica, and creates it if it is absent. It is opened once.
    ///
    /// # Errors
    /// As [`Self::open`], or another process leads.
    pub fn open_replicated(replica: &Arc<Replica>, directory: &Path) -> Result<Self> {
        let path = directory.join(FILE);
        let (connection, file) = replica.open(&path)?;
        Self::on(path, connection, Some(file))
    }

    fn on(path: PathBuf, mut connection: Connection, replica: Option<ReplicaFile>) -> Result<Self> {
        let failed = |action: &str, source| failed(&path, action, source);
        let layout: i64 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(|source| failed("prepare", source))?;
        if layout > LAYOUT_VERSION {
            return Err(Error::JournalRecord {
                path: path.display().to_string(),
                detail: format!(
                    "its layout is version {layout}, this mendb knows {LAYOUT_VERSION}"
                ),
            });
        }
        if layout < LAYOUT_VERSION {
            let made = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .and_then(|tx| {
                    // Another process may have been faster.
                    let layout: i64 =
                        tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
                    if layout >= LAYOUT_VERSION {
                        return Ok(());
                    }
                    if layout == 1 {
                        tx.execute_batch(schedule::FROM_1)?;
                    }
                    let layouts = [
                        token::LAYOUT,
                        audit::LAYOUT,
                        schedule::LAYOUT,
                        plan::LAYOUT,
                        hook::LAYOUT,
                        coordinator::LAYOUT,
                    ];
                    tx.execute_batch(&layouts.join("\n"))?;
                    tx.pragma_update(None, "user_version", LAYOUT_VERSION)?;
                    tx.commit()
                });
            made.map_err(|source| failed("prepare", source))?;
        }
        let store = Self {
            path,
            connection: Mutex::new(connection),
            replica,
        };
        store.keep(&store.connection())?;
        Ok(store)
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a directory holds a store.
    pub fn exists(directory: &Path) -> bool {
        directory.join(FILE).exists()
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self,
        action: &str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let connection = self.connection();
        if let Some(file) = &self.replica {
            file.check()?;
        }
        let done = work(&connection);
        self.keep(&connection)?;
        done.map_err(|source| failed(&self.path, action, source))
    }

    /// Makes what was committed last.
    fn keep(&self, connection: &Connection) -> Result<()> {
        let replica = self.replica.as_ref();
        replica.map_or(Ok(()), |file| file.keep(connection))
    }

    fn unreadable(&self, detail: impl Into<String>) -> Error {
        Error::JournalRecord {
            path: self.path.display().to_string(),
            detail: detail.into(),
        }
    }
}

/// Makes a file that only its owner may read, if there is none.
fn keep_private(path: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let made = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        match made {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Error::Io {
                    action: format!("cannot create {}", path.display()),
                    source: error,
                });
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

/// A number of ours as SQLite stores it.
fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables of schedules as layout 1 has them, with a schedule and a run of it.
    const LAYOUT_1: &str = "
CREATE TABLE schedule (name TEXT PRIMARY KEY, work TEXT NOT NULL, collection TEXT NOT NULL, cron TEXT NOT NULL,
    time_zone TEXT NOT NULL, arguments TEXT NOT NULL, created_at_ms INTEGER NOT NULL, decided_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE schedule_run (run_id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, due_ms INTEGER NOT NULL,
    begun_ms INTEGER NOT NULL, missed INTEGER NOT NULL, outcome TEXT, operation_id TEXT, UNIQUE (name, due_ms)
) STRICT;
INSERT INTO schedule VALUES ('nightly', 'full', 'world', '0 3 * * *', 'UTC', '{}', 1, 2);
INSERT INTO schedule_run (name, due_ms, begun_ms, missed) VALUES ('nightly', 2, 3, 0);
PRAGMA user_version = 1;";

    #[test]
    fn a_store_of_layout_1_is_raised_and_a_newer_one_refused() {
        let directory = tempfile::tempdir().unwrap();
        let raw = Connection::open(directory.path().join(FILE)).unwrap();
        raw.execute_batch(LAYOUT_1).unwrap();
        let store = Store::open(directory.path()).unwrap();
        let schedule = store.schedules().unwrap().remove(0);
        assert_eq!((schedule.jitter_s, schedule.paused_at_ms), (0, None));
        assert_eq!(store.open_runs().unwrap()[0].1.waits, None);
        drop(store);
        raw.pragma_update(None, "user_version", LAYOUT_VERSION + 1)
            .unwrap();
        assert!(Store::open(directory.path()).is_err());
    }
}
