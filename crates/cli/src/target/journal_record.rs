//! Which journal works on a server: a record in the server's data directory.
//!
//! `mendb/journal.json` there names one journal by its id and its directory, so that every process finds
//! it from wherever it is started. [`super::claim`] says who writes it and who is refused because of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mendb_service::journal::Journal;
use serde::{Deserialize, Serialize};

use super::paths::{is_absent, quoted, replace_file};
use crate::failure::{Failure, FailureKind};

/// The directory in that of the server's data. Mends stage there too.
const DIRECTORY: &str = "mendb";
const FILE: &str = "journal.json";

/// The directory of mendb in that of a server's data: the journal is there unless it was put elsewhere.
pub fn directory_in(data: &Path) -> PathBuf {
    data.join(DIRECTORY)
}

/// The journal that works on a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalRecord {
    pub(super) journal_id: String,
    /// Where it is; `None` for where the record is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) directory: Option<PathBuf>,
}

impl JournalRecord {
    /// The file of the record.
    pub fn path(data: &Path) -> PathBuf {
        directory_in(data).join(FILE)
    }

    /// The record of a server, by its data directory.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn read(data: &Path) -> Result<Option<Self>, Failure> {
        let path = Self::path(data);
        let text = match fs::read(&path) {
            Err(error) if is_absent(&error) => return Ok(None),
            text => text.map_err(|error| {
                let doing = format!("cannot read {}, which names the journal", path.display());
                Failure::io(doing, &error).hint(
                    "run mendb as a user who may read the server's files; --state DIRECTORY names the \
                     journal to commands that only look",
                )
            })?,
        };
        let record = serde_json::from_slice(&text).map_err(|error| {
            let message = format!("{} does not name a journal", path.display());
            Failure::of(FailureKind::FixEnvironment, &error)
                .context(message)
                .hint(format!(
                    "the next mendb writes it again when it is gone: rm {}; name the journal with --state \
                     if it is not in {}",
                    quoted(&path),
                    directory_in(data).display()
                ))
        })?;
        Ok(Some(record))
    }

    /// Where the journal is, by the record of a data directory.
    pub fn directory(&self, data: &Path) -> PathBuf {
        let elsewhere = self.directory.clone();
        elsewhere.unwrap_or_else(|| directory_in(data))
    }

    /// Where the journal is, if it is there.
    ///
    /// # Errors
    /// It is not.
    pub fn find(&self, data: &Path) -> Result<PathBuf, Failure> {
        let directory = self.directory(data);
        if Journal::exists(&directory) {
            return Ok(directory);
        }
        Err(lost(data, &directory))
    }

    /// Makes a journal the one that works on a server.
    pub(super) fn write(&self, data: &Path) -> io::Result<()> {
        replace_file(&directory_in(data), FILE, self)
    }
}

/// The journal that the record names is not where it was.
pub(super) fn lost(data: &Path, directory: &Path) -> Failure {
    let record = JournalRecord::path(data);
    Failure::new(
        FailureKind::FixEnvironment,
        format!(
            "the journal of this server should be in {}, and it is not there",
            directory.display()
        ),
    )
    .hint(format!(
        "bring that directory back; if it was moved, name where it is now with --state. If it is lost, so is \
         what it knew of unfinished operations and of freezes to undo them by; mendb operation list then shows what \
         they hold, and mendb operation abandon takes it. A new journal is begun after: rm {}",
        quoted(&record)
    ))
}
