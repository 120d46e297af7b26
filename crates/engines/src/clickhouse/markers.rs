//! What a mend has done that must be undone whatever happens to it: a file each, in mendb's own
//! directory.
//!
//! ```text
//! <state directory>/mends/<operation>/<table>.<what>      the table's name as JSON
//!                                             .look       what a last look saw ([`super::unseen`])
//! ```
//!
//! *Crash*: a marker is durable before what it names begins, and goes after that has been undone. So
//! one that is found may tell of what never began, and undoing that must be harmless. *Errors*: a
//! directory that cannot be read or written (remedy: repair), named by its path.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use mendb_model::part::TableName;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{EngineError, Remedy, Result};

const DIRECTORY: &str = "mends";
/// Names that would be longer are cut and told apart by a hash: file systems take 255 bytes.
const NAME_BYTES_MAX: usize = 180;

static WRITES: AtomicU64 = AtomicU64::new(0);

/// What was done to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    /// Directories and a staging table were made for it.
    Stage,
    /// Its merges were stopped.
    Merges,
}

impl Marker {
    const ALL: [Self; 2] = [Self::Stage, Self::Merges];

    fn extension(self) -> &'static str {
        match self {
            Self::Stage => "stage",
            Self::Merges => "merges",
        }
    }
}

/// The markers of all operations on a server.
pub(super) struct Markers {
    root: PathBuf,
}

/// A marker that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) operation: String,
    pub(super) table: TableName,
    pub(super) marker: Marker,
}

impl Markers {
    pub(super) fn new(state_directory: &Path) -> Self {
        Self {
            root: state_directory.join(DIRECTORY),
        }
    }

    /// Sets one; nothing happens if it is set.
    pub(super) fn set(&self, operation: &str, table: &TableName, marker: Marker) -> Result<()> {
        if self.is_set(operation, table, marker) {
            return Ok(());
        }
        self.write(operation, &marker_name(table, marker), &(operation, table))
    }

    /// Writes a file of an operation anew, durably.
    pub(super) fn write(
        &self,
        operation: &str,
        name: &str,
        content: &impl Serialize,
    ) -> Result<()> {
        let directory = self.root.join(file_name(operation));
        let path = directory.join(name);
        let write = || {
            fs::create_dir_all(&directory)?;
            // Threads may write the same file at once.
            let number = WRITES.fetch_add(1, Ordering::Relaxed);
            let written = directory.join(format!("{}-{number}.tmp", std::process::id()));
            let mut file = File::create(&written)?;
            serde_json::to_writer(&mut file, content)?;
            file.sync_all()?;
            fs::rename(&written, &path)?;
            sync(&directory)?;
            sync(&self.root)
        };
        write().map_err(|error: io::Error| unusable(&path, &error))
    }

    /// Reads such a file; `None` if there is none.
    pub(super) fn read<T: DeserializeOwned>(
        &self,
        operation: &str,
        name: &str,
    ) -> Result<Option<T>> {
        let path = self.root.join(file_name(operation)).join(name);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| unusable(&path, &error))?,
        };
        let content = serde_json::from_slice(&text);
        content
            .map(Some)
            .map_err(|error| unusable(&path, &error.into()))
    }

    /// Removes such a file, durably; nothing happens if there is none.
    pub(super) fn remove(&self, operation: &str, name: &str) -> Result<()> {
        let directory = self.root.join(file_name(operation));
        let path = directory.join(name);
        let removed = match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            removed => removed.and_then(|()| sync(&directory)),
        };
        removed.map_err(|error| unusable(&path, &error))
    }

    /// Whether one is set.
    pub(super) fn is_set(&self, operation: &str, table: &TableName, marker: Marker) -> bool {
        let directory = self.root.join(file_name(operation));
        directory.join(marker_name(table, marker)).exists()
    }

    /// Takes one away; nothing happens if it is not set.
    pub(super) fn unset(&self, operation: &str, table: &TableName, marker: Marker) -> Result<()> {
        let directory = self.root.join(file_name(operation));
        let path = directory.join(marker_name(table, marker));
        ignore_missing(fs::remove_file(&path)).map_err(|error| unusable(&path, &error))
    }

    /// Takes all of an operation away.
    pub(super) fn forget(&self, operation: &str) -> Result<()> {
        let directory = self.root.join(file_name(operation));
        ignore_missing(fs::remove_dir_all(&directory)).map_err(|error| unusable(&directory, &error))
    }

    /// Those of an operation, or of all.
    pub(super) fn find(&self, operation: Option<&str>) -> Result<Vec<Found>> {
        let directories = match operation {
            Some(operation) => vec![self.root.join(file_name(operation))],
            None => entries(&self.root)?,
        };
        let mut found = Vec::new();
        for directory in directories {
            for path in entries(&directory)? {
                let is =
                    |marker: &Marker| path.extension().is_some_and(|e| e == marker.extension());
                if let Some(marker) = Marker::ALL.into_iter().find(is) {
                    let text = fs::read(&path).map_err(|error| unusable(&path, &error))?;
                    let (operation, table) = serde_json::from_slice(&text)
                        .map_err(|error| unusable(&path, &error.into()))?;
                    found.push(Found {
                        operation,
                        table,
                        marker,
                    });
                }
            }
        }
        Ok(found)
    }
}

/// A name as one of a file: other characters than letters, digits, `-` and `_` as `%` and hex digits.
pub(super) fn file_name(name: &str) -> String {
    shortened(escaped(name))
}

/// The name of a table as one of a file.
pub(super) fn table_directory(table: &TableName) -> String {
    let TableName { database, table } = table;
    shortened(format!("{}.{}", escaped(database), escaped(table)))
}

fn escaped(name: &str) -> String {
    let mut escaped = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

fn shortened(mut escaped: String) -> String {
    if escaped.len() > NAME_BYTES_MAX {
        let hash = blake3::hash(escaped.as_bytes()).to_hex();
        escaped.truncate(NAME_BYTES_MAX - hash.len() - 1);
        escaped.push('%');
        escaped.push_str(&hash);
    }
    escaped
}

fn marker_name(table: &TableName, marker: Marker) -> String {
    format!("{}.{}", table_directory(table), marker.extension())
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries,
    };
    let paths = entries.and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut paths: Vec<PathBuf> = paths.map_err(|error| unusable(directory, &error))?;
    paths.sort();
    Ok(paths)
}

/// Makes what is listed in a directory durable.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// What is not there needs no removing.
pub(super) fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// An error about a path that mendb has to read or write.
pub(super) fn unusable(path: &Path, error: &io::Error) -> EngineError {
    let message = format!(
        "{}: {error}; see that mendb may read and write there and that the disk has room",
        path.display()
    );
    EngineError::new(Remedy::Repair, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_marker_is_found_until_it_is_taken_away() {
        let state = tempfile::tempdir().unwrap();
        let markers = Markers::new(state.path());
        let table = TableName::new("d", "odd.name/é");
        let found = |operation: &str, marker| Found {
            operation: operation.to_owned(),
            table: table.clone(),
            marker,
        };
        assert_eq!(markers.find(None).unwrap(), []);
        for _ in 0..2 {
            markers.set("restore-1-a", &table, Marker::Merges).unwrap();
        }
        markers.set("restore-1-a", &table, Marker::Stage).unwrap();
        markers.set("restore-2-b", &table, Marker::Stage).unwrap();
        let one = [
            found("restore-1-a", Marker::Merges),
            found("restore-1-a", Marker::Stage),
        ];
        assert_eq!(markers.find(Some("restore-1-a")).unwrap(), one);
        assert_eq!(markers.find(None).unwrap().len(), 3);
        for _ in 0..2 {
            markers
                .unset("restore-1-a", &table, Marker::Merges)
                .unwrap();
            markers.unset("restore-1-a", &table, Marker::Stage).unwrap();
        }
        markers.forget("restore-1-a").unwrap();
        let other = [found("restore-2-b", Marker::Stage)];
        assert_eq!(markers.find(None).unwrap(), other);
        assert!(markers.is_set("restore-2-b", &table, Marker::Stage));
        assert!(!markers.is_set("restore-2-b", &table, Marker::Merges));
    }

    #[test]
    fn a_marker_that_was_not_finished_counts_for_nothing() {
        let state = tempfile::tempdir().unwrap();
        let directory = state.path().join("mends/restore-1-a");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("1-0.tmp"), "[\"resto").unwrap();
        assert_eq!(Markers::new(state.path()).find(None).unwrap(), []);
        fs::write(directory.join("d.t.stage"), "[\"resto").unwrap();
        let error = Markers::new(state.path()).find(None).unwrap_err();
        assert!(error.to_string().contains("d.t.stage"), "{error}");
    }

    #[test]
    fn long_names_stay_apart_and_fit() {
        let long = |end: &str| table_directory(&TableName::new("d", "é".repeat(90) + end));
        assert_ne!(long("1"), long("2"));
        assert!(long("1").len() <= NAME_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn two_tables_never_share_a_name_of_a_file(
            a in "[a.%é/]{1,4}", b in "[a.%é/]{1,4}", c in "[a.%é/]{1,4}", d in "[a.%é/]{1,4}",
        ) {
            let (one, two) = (TableName::new(a, b), TableName::new(c, d));
            let (x, y) = (table_directory(&one), table_directory(&two));
            prop_assert_eq!(one == two, x == y);
            prop_assert!(!x.contains('/') && !x.starts_with('.'));
        }
    }
}
