//! The journals of a process that leads: each is opened once, and all who use it share that.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;
use crate::journal::Journal;
use crate::replica::Replica;

/// The journals that are files of one replica.
pub struct SharedJournals {
    replica: Arc<Replica>,
    open: Mutex<BTreeMap<PathBuf, Journal>>,
}

impl SharedJournals {
    /// Those of a replica, none of which is open yet.
    pub fn new(replica: Arc<Replica>) -> Self {
        Self {
            replica,
            open: Mutex::default(),
        }
    }

    /// The replica.
    pub fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// The journal in a directory of the replica, which is made if it is absent.
    ///
    /// # Errors
    /// It cannot be opened, or another process leads.
    pub fn open(&self, directory: &Path) -> Result<Journal> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(journal) = open.get(directory) {
            return Ok(journal.clone());
        }
        let journal = Journal::open_replicated(&self.replica, directory)?;
        open.insert(directory.to_owned(), journal.clone());
        Ok(journal)
    }
}
