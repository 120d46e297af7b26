//! Reading records, as of one commit.

use std::sync::{Arc, Mutex, MutexGuard};

use rusqlite::{Connection, OptionalExtension as _};

use crate::error::Result;
use crate::kernel::fault::Faults;
use crate::kernel::pool::Pool;
use crate::kernel::section::{Section, Tree};
use crate::kernel::{NOT_POISONED, record};

/// A connection that reads one commit, until it is dropped; or the writer's, which reads the last one.
///
/// Threads that share it take turns.
pub(crate) struct Reader {
    /// `None` only while it is dropped.
    connection: Option<Mutex<Connection>>,
    faults: Faults,
    /// Where the connection goes when the reader is dropped.
    pool: Option<Arc<Pool>>,
}

/// The same text with the name of each tree.
macro_rules! for_tree {
    ($tree:expr, $before:literal, $after:literal) => {
        match $tree {
            Tree::Catalogue => concat!($before, "catalogue", $after),
            Tree::Meta => concat!($before, "meta", $after),
            Tree::Blocks => concat!($before, "blocks", $after),
            Tree::Delta => concat!($before, "delta", $after),
            Tree::Runs => concat!($before, "runs", $after),
            Tree::Log => concat!($before, "log", $after),
        }
    };
}
pub(super) use for_tree;

impl Reader {
    /// Reads the commit that the connection has begun to read.
    pub(super) fn pinned(connection: Connection, faults: Faults, pool: Arc<Pool>) -> Self {
        Self {
            connection: Some(Mutex::new(connection)),
            faults,
            pool: Some(pool),
        }
    }

    pub(super) fn writer(connection: Connection, faults: Faults) -> Self {
        Self {
            connection: Some(Mutex::new(connection)),
            faults,
            pool: None,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Connection> {
        let connection = self.connection.as_ref();
        let connection = connection.expect("a reader has its connection until it is dropped");
        connection.lock().expect(NOT_POISONED)
    }

    pub(super) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The value of a key.
    pub(crate) fn get(&self, section: &Section, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let key = section.key(key);
        let connection = self.lock();
        let get = || {
            let select = for_tree!(section.tree, "SELECT v FROM ", " WHERE k = ?1");
            let mut select = connection.prepare_cached(select)?;
            let row = select.query_row([&key], |row| {
                let opened = record::open(section.tree, &key, row.get_ref(0)?.as_blob()?);
                Ok(opened.map(<[u8]>::to_vec))
            });
            row.optional()
        };
        get()
            .map_err(|error| self.faults.engine(error))?
            .transpose()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let connection = self.connection.take().map(Mutex::into_inner);
        if let (Some(Ok(connection)), Some(pool)) = (connection, self.pool.take())
            && connection.execute_batch("COMMIT").is_ok()
        {
            pool.put(connection);
        }
    }
}
