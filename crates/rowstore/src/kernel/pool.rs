//! Connections to the database.

use std::sync::Mutex;

use rusqlite::{Connection, OpenFlags};

use crate::error::Result;
use crate::kernel::NOT_POISONED;
use crate::kernel::fault::{DATABASE, Faults};

/// Readers have this part of the memory for pages each.
const READERS_PART: u64 = 4;
/// Connections that are kept for the next reader, with the pages that they have read.
const WARM_CONNECTIONS: usize = 2;
/// Connections that are kept, those without their pages too: opening one takes longer than a small read.
const IDLE_CONNECTIONS: usize = 16;

/// Connections that nobody reads with.
pub(super) struct Pool {
    faults: Faults,
    cache_bytes: u64,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    pub(super) fn new(faults: &Faults, cache_bytes: u64) -> Self {
        Self {
            faults: faults.clone(),
            cache_bytes: cache_bytes / READERS_PART,
            idle: Mutex::default(),
        }
    }

    pub(super) fn take(&self) -> Result<Connection> {
        let idle = self.idle.lock().expect(NOT_POISONED).pop();
        if let Some(connection) = idle {
            return Ok(connection);
        }
        let connection = connect(&self.faults, self.cache_bytes)?;
        let read_only = connection.pragma_update(None, "query_only", true);
        read_only.map_err(|error| self.faults.engine(error))?;
        Ok(connection)
    }

    pub(super) fn put(&self, connection: Connection) {
        let is_warm = self.idle.lock().expect(NOT_POISONED).len() < WARM_CONNECTIONS;
        if !is_warm && let Err(error) = connection.release_memory() {
            tracing::debug!(%error, "close a connection that does not release its pages");
            return;
        }
        let mut idle = self.idle.lock().expect(NOT_POISONED);
        if idle.len() < IDLE_CONNECTIONS {
            // The last is taken first.
            let at = if is_warm { idle.len() } else { 0 };
            idle.insert(at, connection);
        }
    }
}

/// Opens the database as this crate uses it.
pub(super) fn connect(faults: &Faults, cache_bytes: u64) -> Result<Connection> {
    let connect = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(faults.dir().join(DATABASE), flags)?;
        // The WAL is synced by `Store::sync`, the rest by checkpoints.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        let kib = i64::try_from(cache_bytes >> 10).unwrap_or(i64::MAX);
        connection.pragma_update(None, "cache_size", -kib.max(1))?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(connection)
    };
    connect().map_err(|error| faults.engine(error))
}
