//! What a server has of a journal that it shares with others: it leads, and all its records are in the log of that.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mendb_server::Store;
use mendb_service::SharedJournals;
use mendb_service::journal::Journal;
use mendb_service::replica::Replica;

use crate::failure::Failure;

/// The journals and the store of a process that leads.
pub struct Shared {
    journals: SharedJournals,
    store: Arc<Store>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("url", &self.url())
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Those of a replica.
    ///
    /// # Errors
    /// The store cannot be opened, or another process leads.
    pub fn new(replica: Arc<Replica>) -> Result<Self, Failure> {
        let store = Store::open_replicated(&replica, replica.directory())?;
        Ok(Self {
            journals: SharedJournals::new(replica),
            store: Arc::new(store),
        })
    }

    /// What its records are in the log by.
    pub fn replica(&self) -> &Arc<Replica> {
        self.journals.replica()
    }

    /// The directory of the journal of the target.
    pub fn directory(&self) -> &Path {
        self.replica().directory()
    }

    /// Where the journals of work on repositories alone are.
    pub fn repositories(&self) -> PathBuf {
        self.directory().join("repositories")
    }

    /// The URL of the log.
    pub fn url(&self) -> &str {
        self.replica().url()
    }

    /// Tokens, the audit, schedules.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The journal in one of its directories.
    ///
    /// # Errors
    /// It cannot be opened, or another process leads.
    pub fn journal(&self, directory: &Path) -> mendb_service::Result<Journal> {
        self.journals.open(directory)
    }
}
