//! What mendb remembers of a freeze, in its own directory.
//!
//! ```text
//! <state directory>/freezes/<name>/freeze.json    its tables and where they are: written last
//!                                  <place>.json   the parts of one table
//! ```
//!
//! *Crash*: without `freeze.json` there is no freeze. Files are written whole under another name, made
//! durable and renamed. Memory is that of one table's parts.

use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use mendb_model::part::{Part, TableName};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::contract::parts::Disk;
use crate::error::{EngineError, Remedy, Result};

const DIRECTORY: &str = "freezes";
const RECORD: &str = "freeze.json";
/// What the names of mendb's freezes begin with, also on the server's disks.
const PREFIX: &str = "mendb_";

/// A freeze that is whole.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FreezeRecord {
    /// Its name, as it was asked for.
    pub(super) freeze: String,
    pub(super) tables: Vec<FrozenPlace>,
}

/// Where the parts of a table are in a freeze.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FrozenPlace {
    pub(super) name: TableName,
    pub(super) directories: Vec<FrozenDirectory>,
}

/// A directory with parts of a table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FrozenDirectory {
    pub(super) disk: String,
    /// Its path below that of the disk, which may be seen elsewhere later.
    pub(super) below: PathBuf,
}

/// A table in a freeze.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TableRecord {
    pub(super) name: TableName,
    pub(super) directories: Vec<FrozenDirectory>,
    pub(super) parts: Vec<PartInFreeze>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PartInFreeze {
    pub(super) name: String,
    pub(super) disk: String,
    pub(super) bytes: u64,
}

/// What a freeze is called on the server and in the file system.
pub(super) fn freeze_name(freeze: &str) -> String {
    let name = freeze.strip_prefix(PREFIX).unwrap_or(freeze);
    let safe = name.chars().map(|c| match c {
        c if c.is_ascii_alphanumeric() => c,
        _ => '_',
    });
    PREFIX.chars().chain(safe).collect()
}

impl FrozenDirectory {
    /// Where it is.
    pub(super) fn path(&self, disks: &[Disk]) -> Result<PathBuf> {
        let disk = disks.iter().find(|disk| disk.name == self.disk);
        let disk = disk.ok_or_else(|| {
            let message = format!(
                "the server has no disk {} any more, on which parts were frozen",
                self.disk
            );
            EngineError::new(Remedy::Refreeze, message)
        })?;
        Ok(disk.path.join(&self.below))
    }
}

impl TableRecord {
    pub(super) fn new(name: TableName, directories: Vec<FrozenDirectory>, parts: &[Part]) -> Self {
        let parts = parts.iter().map(|part| PartInFreeze {
            name: part.name.clone(),
            disk: part.disk.clone(),
            bytes: part.bytes,
        });
        Self {
            name,
            directories,
            parts: parts.collect(),
        }
    }

    /// The table at a place of the record.
    pub(super) fn read(state: &Path, freeze: &str, place: usize) -> Result<Self> {
        let path = directory(state, freeze).join(format!("{place}.json"));
        read_json(&path)?.ok_or_else(|| {
            let message = format!("the freeze {freeze} has lost {}", path.display());
            EngineError::new(Remedy::Refreeze, message)
        })
    }
}

impl FreezeRecord {
    /// Makes a freeze count.
    pub(super) fn write(state: &Path, freeze: &str, tables: &[TableRecord]) -> Result<()> {
        let directory = directory(state, freeze);
        fs::create_dir_all(&directory).map_err(|error| unwritable(&directory, &error))?;
        for (place, table) in tables.iter().enumerate() {
            write_json(&directory, &format!("{place}.json"), table)?;
        }
        let record = Self {
            freeze: freeze.to_owned(),
            tables: tables
                .iter()
                .map(|table| FrozenPlace {
                    name: table.name.clone(),
                    directories: table.directories.clone(),
                })
                .collect(),
        };
        write_json(&directory, RECORD, &record)
    }

    /// A freeze, if it is whole.
    pub(super) fn read(state: &Path, freeze: &str) -> Result<Option<Self>> {
        read_json(&directory(state, freeze).join(RECORD))
    }

    /// All freezes that are whole.
    pub(super) fn all(state: &Path) -> Result<Vec<Self>> {
        let root = state.join(DIRECTORY);
        let entries = match fs::read_dir(&root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| unreadable(&root, &error))?,
        };
        let mut records = Vec::new();
        for entry in entries {
            let directory = entry.map_err(|error| unreadable(&root, &error))?.path();
            records.extend(read_json(&directory.join(RECORD))?);
        }
        Ok(records)
    }

    /// Forgets a freeze; its record first, so that half of one never counts.
    pub(super) fn remove(state: &Path, freeze: &str) -> Result<()> {
        let directory = directory(state, freeze);
        let removed = match fs::remove_file(directory.join(RECORD)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => fs::remove_dir_all(&directory),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(unwritable(&directory, &error))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn place_of(&self, name: &TableName) -> Option<usize> {
        self.tables.iter().position(|table| table.name == *name)
    }

    /// Whether it was made so that a mend can be undone.
    pub(super) fn is_for_undo(&self) -> bool {
        freeze_name(&self.freeze).starts_with("mendb_undo_")
    }
}

fn directory(state: &Path, freeze: &str) -> PathBuf {
    state.join(DIRECTORY).join(freeze_name(freeze))
}

fn write_json(directory: &Path, name: &str, value: &impl Serialize) -> Result<()> {
    let path = directory.join(name);
    let written = directory.join(format!("{name}.tmp"));
    let bytes = serde_json::to_vec(value).expect("names and numbers are always JSON");
    let write = || {
        let mut file = File::create(&written)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&written, &path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|error| unwritable(&path, &error))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| unreadable(path, &error))?,
    };
    serde_json::from_reader(BufReader::new(file))
        .map(Some)
        .map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> EngineError {
    let message = format!(
        "{} cannot be read: {error}; remove it if it is damaged, and the operation freezes again",
        path.display()
    );
    EngineError::new(Remedy::Repair, message)
}

fn unwritable(path: &Path, error: &io::Error) -> EngineError {
    let message = format!("{} cannot be written: {error}", path.display());
    EngineError::new(Remedy::Repair, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freeze_has_one_name_however_it_is_asked_for() {
        assert_eq!(
            freeze_name("backup-20261121-3fa9c1"),
            "mendb_backup_20261121_3fa9c1"
        );
        assert_eq!(
            freeze_name("mendb_backup_20261121_3fa9c1"),
            "mendb_backup_20261121_3fa9c1"
        );
        assert_eq!(freeze_name("undo-../x"), "mendb_undo____x");
    }

    #[test]
    fn a_record_counts_when_it_is_whole_and_is_gone_when_removed() {
        let state = tempfile::tempdir().unwrap();
        let table = TableRecord {
            name: TableName::new("d", "t"),
            directories: Vec::new(),
            parts: Vec::new(),
        };
        assert!(FreezeRecord::read(state.path(), "b").unwrap().is_none());
        FreezeRecord::write(state.path(), "b", std::slice::from_ref(&table)).unwrap();
        assert_eq!(FreezeRecord::all(state.path()).unwrap().len(), 1);
        let record = FreezeRecord::read(state.path(), "b").unwrap().unwrap();
        assert_eq!(record.place_of(&table.name), Some(0));
        fs::remove_file(state.path().join("freezes/mendb_b/0.json")).unwrap();
        let error = TableRecord::read(state.path(), "b", 0).unwrap_err();
        assert_eq!(error.remedy, Remedy::Refreeze);
        FreezeRecord::remove(state.path(), "b").unwrap();
        FreezeRecord::remove(state.path(), "b").unwrap();
        assert!(FreezeRecord::read(state.path(), "b").unwrap().is_none());
    }
}
