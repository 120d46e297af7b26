//! The coordinator's local database: what every operation is, and how far.
//!
//! A SQLite file beside the target, which anyone may look into. One file here per record.
//!
//! *Consistency*: an operation and all its rows change in one transaction, which may be that of several events
//! ([`batch`]). *Cost*: an event writes only what it touched, and no record grows with the number of shards.
//! *Crash*: a transaction is on disk when it returns (WAL, synchronous = FULL), and so is the way to the file.
//! *Sharing*: other processes may read at any time, and leave [`command`]s for the one that drives. A journal that is a
//! file of a [`crate::replica`] is of one process alone: its commits are in the log of that when they return.

pub mod batch;
pub mod collection;
pub mod command;
mod database;
mod draft_shard;
mod identity;
mod layout_5;
mod left_partition;
pub(crate) mod made;
pub mod mend_plan;
mod mended_shard;
pub mod needed;
pub mod operation;
pub mod operation_end;
pub mod operation_event;
pub mod operation_key;
mod operation_step;
pub mod proof;
pub mod shard_progress;
mod task_segment;
pub mod used_repository;
mod witness;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::error::{Error, Result};
use crate::replica::{Replica, ReplicaFile};

/// The file in its directory.
const FILE: &str = "journal.sqlite";

/// The layout this version reads and writes.
const LAYOUT_VERSION: i64 = 6;

/// Statements that stay prepared: about as many as there are in an event and in reading an operation.
const PREPARED: usize = 64;

/// How long to wait for another process that is writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// The journal of one target. Clones share the connection.
#[derive(Clone)]
pub struct Journal {
    path: PathBuf,
    connection: Arc<Mutex<Connection>>,
    /// Of a file whose commits are in a log.
    replica: Option<Arc<ReplicaFile>>,
    /// Whether this process has left an operation or a command for the one that drives.
    has_news: Arc<AtomicBool>,
    /// The orders that threads are about to make operations for.
    keys: Arc<Mutex<Vec<(ThreadId, operation_key::OrderKey)>>>,
    /// Of the journal of a repository alone, those of the target and of the clusters of this machine.
    beside: Vec<Self>,
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
        let path = directory.join(FILE);
        if !Self::exists(directory) {
            make_last(directory).map_err(|source| Error::Io {
                action: format!("sync what leads to {}", directory.display()),
                source,
            })?;
        }
        let connection = Connection::open(&path).map_err(|source| failed(&path, "open", source))?;
        connection
            .busy_timeout(BUSY_TIMEOUT)
            .and_then(|()| {
                connection.execute_batch(
                    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;",
                )
            })
            .map_err(|source| failed(&path, "prepare", source))?;
        Self::on(path, connection, None)
    }

    /// Opens the journal in a directory of a replica, and creates it if it is absent. It is opened once; clones share it.
    ///
    /// # Errors
    /// As [`Self::open`], or another process leads.
    pub fn open_replicated(replica: &Arc<Replica>, directory: &Path) -> Result<Self> {
        let path = directory.join(FILE);
        let (connection, file) = replica.open(&path)?;
        Self::on(path, connection, Some(Arc::new(file)))
    }

    fn on(
        path: PathBuf,
        connection: Connection,
        replica: Option<Arc<ReplicaFile>>,
    ) -> Result<Self> {
        let journal = Self {
            path,
            connection: Arc::new(Mutex::new(connection)),
            replica,
            has_news: Arc::new(AtomicBool::new(true)),
            keys: Arc::default(),
            beside: Vec::new(),
        };
        journal.prepare()?;
        Ok(journal)
    }

    /// Whether a directory holds a journal. One that cannot be looked into seems to hold none.
    pub fn exists(directory: &Path) -> bool {
        directory.join(FILE).exists()
    }

    /// The same journal, of a repository alone, beside those of a target and of clusters: operations there need backups
    /// that those here may remove.
    #[must_use]
    pub fn beside(mut self, others: Vec<Self>) -> Self {
        self.beside = others;
        self
    }

    fn prepare(&self) -> Result<()> {
        let connection = self.connection();
        let failed = |source| failed(&self.path, "prepare", source);
        connection.set_prepared_statement_cache_capacity(PREPARED);
        if self.layout(&connection)? < LAYOUT_VERSION {
            drop(connection);
            self.raise()?;
            return Ok(());
        }
        operation_key::prepare(&connection).map_err(failed)?;
        operation_end::prepare(&connection).map_err(failed)?;
        proof::prepare(&connection).map_err(failed)?;
        self.keep(&connection)
    }

    /// Makes sure that what is here is the journal.
    fn check(&self) -> Result<()> {
        self.replica.as_ref().map_or(Ok(()), |file| file.check())
    }

    /// Makes what was committed last.
    fn keep(&self, connection: &Connection) -> Result<()> {
        let replica = self.replica.as_ref();
        replica.map_or(Ok(()), |file| file.keep(connection))
    }

    /// The layout of the file; 0 of one that has none yet.
    fn layout(&self, connection: &Connection) -> Result<i64> {
        let layout: i64 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(|source| failed(&self.path, "prepare", source))?;
        if layout > LAYOUT_VERSION {
            return Err(self.unreadable(format!(
                "its layout is version {layout}, this mendb knows {LAYOUT_VERSION}"
            )));
        }
        Ok(layout)
    }

    /// Makes what is missing, and brings what an older version wrote to the layout of this one.
    fn raise(&self) -> Result<()> {
        self.write("prepare", |tx| {
            // Another process may have been faster.
            let layout: i64 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
            if layout >= LAYOUT_VERSION {
                return Ok(());
            }
            tx.execute_batch(used_repository::LAYOUT)?;
            if (1..5).contains(&layout) {
                tx.execute_batch(used_repository::FROM_OPERATIONS)?;
            }
            if layout > 0 {
                tx.execute_batch(layout_5::COLUMNS)?;
            }
            let layouts = [
                collection::LAYOUT,
                command::LAYOUT,
                operation::LAYOUT,
                operation_step::LAYOUT,
                shard_progress::LAYOUT,
                task_segment::LAYOUT,
                draft_shard::LAYOUT,
                mended_shard::LAYOUT,
                operation_event::LAYOUT,
                operation_end::LAYOUT,
                operation_key::LAYOUT,
                proof::LAYOUT,
                mend_plan::LAYOUT,
                left_partition::LAYOUT,
                made::LAYOUT,
                witness::LAYOUT,
                &identity::layout(),
            ];
            tx.execute_batch(&layouts.join("\n"))?;
            if layout > 0 {
                layout_5::raise(tx)?;
            }
            tx.pragma_update(None, "user_version", LAYOUT_VERSION)
        })
    }

    /// Notes that there is something for the one that drives.
    fn note_news(&self) {
        self.has_news.store(true, Ordering::SeqCst);
    }

    /// Whether this process has left something for the one that drives since this was asked last. Of what other
    /// processes leave, nothing is known.
    pub(crate) fn take_news(&self) -> bool {
        self.has_news.swap(false, Ordering::SeqCst)
    }

    fn keys(&self) -> MutexGuard<'_, Vec<(ThreadId, operation_key::OrderKey)>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.check()?;
        let failed = |source| failed(&self.path, action, source);
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let value = work(&transaction).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        self.keep(&connection)?;
        Ok(value)
    }

    /// Runs `work` on the journal as it is at one moment.
    fn read<T>(
        &self,
        action: &str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut connection = self.connection();
        self.check()?;
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

/// Makes the entries of a directory and of those above it last, also where another process made them: a power loss would take what is
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

/// A record as JSON, with SQLite's error for a value that JSON cannot hold.
fn to_json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// A record of JSON in a column of a row, with SQLite's error for one that is damaged.
fn from_json<T: serde::de::DeserializeOwned>(
    row: &rusqlite::Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(not_json)
}

fn not_json(error: serde_json::Error) -> rusqlite::Error {
    let text = rusqlite::types::Type::Text;
    rusqlite::Error::FromSqlConversionFailure(0, text, error.into())
}

/// A number of ours as SQLite stores it; beyond 2^63 it is cut off there.
fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
