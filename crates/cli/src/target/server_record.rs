//! Which server a journal works on that is not in the server's data directory: `server.json` beside it.
//!
//! It keeps one directory from being the journal of two servers: what is unfinished on one would be
//! driven on the other.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mendb_service::journal::Journal;
use serde::{Deserialize, Serialize};

use super::journal_record::JournalRecord;
use super::paths::{is_absent, is_same_place, replace_file};
use crate::failure::{Failure, FailureKind};

const FILE: &str = "server.json";

/// The server that a journal works on which is not in its data directory.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRecord {
    data_directory: PathBuf,
}

impl ServerRecord {
    fn read(state: &Path) -> Result<Option<Self>, Failure> {
        let path = state.join(FILE);
        match fs::read(&path) {
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(Failure::io(
                format!("cannot read {}", path.display()),
                &error,
            )),
            // One that was cut short says nothing; the next process writes it again.
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        }
    }

    /// Remembers the server.
    ///
    /// # Errors
    /// The directory of the journal cannot be written.
    pub fn keep(data: &Path, state: &Path) -> Result<(), Failure> {
        let record = Self {
            data_directory: data.to_owned(),
        };
        if Self::read(state)?.as_ref() == Some(&record) {
            return Ok(());
        }
        replace_file(state, FILE, &record)
            .map_err(|error| Failure::io(format!("cannot write to {}", state.display()), &error))
    }

    /// Refuses the journal to a server when it works on another one.
    ///
    /// # Errors
    /// It does, or that cannot be found out.
    pub fn check(data: &Path, state: &Path) -> Result<(), Failure> {
        let Some(Self { data_directory }) = Self::read(state)? else {
            return Ok(());
        };
        if is_same_place(&data_directory, data) || is_same_file(&data_directory, data) {
            return Ok(());
        }
        let Ok(Some(record)) = JournalRecord::read(&data_directory) else {
            return Ok(());
        };
        let works_there = is_same_place(&record.directory(&data_directory), state)
            && Journal::exists(state)
            && Journal::open(state)?.id()? == record.journal_id;
        if !works_there {
            return Ok(());
        }
        Err(Failure::new(
            FailureKind::FixCommand,
            format!(
                "the journal in {} is that of another server, whose data is in {}",
                state.display(),
                data_directory.display()
            ),
        )
        .hint("leave --state out (and clickhouse.state, MENDB_CLICKHOUSE_STATE), or name a directory of its own for each server"))
    }
}

/// Whether two data directories have the same record, as one that is seen in two places has.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |data: &Path| {
        let metadata = fs::metadata(JournalRecord::path(data)).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    identity(one).is_some_and(|identity_of_one| Some(identity_of_one) == identity(other))
}
