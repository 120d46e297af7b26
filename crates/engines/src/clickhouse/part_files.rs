//! The files of a part, as they lie in its directory.
//!
//! *Consistency*: what `checksums.txt` lists is there in the size that it says, and nothing is read of a
//! file's content except `checksums.txt` and `count.txt`. *Errors*: a directory that is no whole part is
//! damage (remedy: repair), named by its path; one that went away meanwhile is told apart.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mendb_model::part::{Checksums, Hash128, Part};

use super::packed::{self, Packed};
use super::stage::told_file_name;
use crate::contract::parts::{FoundFile, PartContent};
use crate::error::{EngineError, Remedy, Result};

/// What lists the files of a part.
pub(super) const CHECKSUMS: &str = "checksums.txt";
const COUNT: &str = "count.txt";
const COLUMNS: &str = "columns.txt";
/// A value of the type `Date`.
const BYTES_A_DAY: u64 = 2;
/// Lists of checksums that are larger are no lists of checksums.
const MAX_LIST_BYTES: u64 = 64 << 20;

/// Why a directory cannot be read as a part.
#[derive(Debug, thiserror::Error)]
pub(super) enum PartError {
    /// Something in it cannot be read, or is not there.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no whole part.
    #[error("{}: {why}", path.display())]
    Damaged {
        /// What is wrong.
        path: PathBuf,
        /// In which way.
        why: String,
    },
}

impl PartError {
    /// Whether it is not there: a part that a merge replaced goes away by itself.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    fn damaged(path: &Path, why: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            why: why.into(),
        }
    }
}

impl From<PartError> for EngineError {
    fn from(error: PartError) -> Self {
        let advice = match &error {
            PartError::Unreadable { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                "run mendb as a user who may read the server's files"
            }
            _ => "the part is damaged or not whole",
        };
        Self::new(Remedy::Repair, format!("{error}; {advice}"))
    }
}

pub(super) type PartResult<T> = std::result::Result<T, PartError>;

/// A directory of a part or of one of its projections, whose files are in it or in one file.
pub(super) struct Directory {
    path: PathBuf,
    packed: Option<Packed>,
}

impl Directory {
    pub(super) fn open(path: &Path) -> PartResult<Self> {
        let file = path.join(packed::NAME);
        let packed = match Packed::open(&file) {
            Ok(packed) => Some(packed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(PartError::damaged(&file, error.to_string()));
            }
            Err(source) => return Err(PartError::Unreadable { path: file, source }),
        };
        Ok(Self {
            path: path.to_owned(),
            packed,
        })
    }

    fn read(&mut self, name: &str) -> PartResult<Vec<u8>> {
        let path = self.path.join(name);
        let content = match &mut self.packed {
            Some(packed) => packed.read(name),
            None => read_small(&path),
        };
        content.map_err(|source| PartError::Unreadable { path, source })
    }

    pub(super) fn checksums(&mut self) -> PartResult<Checksums> {
        let bytes = self.read(CHECKSUMS)?;
        Checksums::parse(&bytes)
            .map_err(|error| PartError::damaged(&self.path.join(CHECKSUMS), error.to_string()))
    }

    fn rows(&mut self, checksums: &Checksums) -> PartResult<u64> {
        let text = match self.read(COUNT) {
            Err(error) if error.is_gone() && checksums.get(COUNT).is_none() => {
                return self.rows_of_days(checksums)?.ok_or(error);
            }
            text => text?,
        };
        let text = String::from_utf8_lossy(&text);
        text.trim().parse().map_err(|_| {
            PartError::damaged(
                &self.path.join(COUNT),
                format!("{text:?} is no number of rows"),
            )
        })
    }

    /// The file in which a file of the part lies.
    pub(super) fn file_of(&self, name: &str) -> PathBuf {
        let name = if self.packed.is_some() {
            packed::NAME
        } else {
            name
        };
        self.path.join(name)
    }

    /// Where a file of the part begins in the one in which it lies with others, and that alone for one
    /// that is a file of its own. `None` where it is not among those others.
    pub(super) fn offset_of(&self, name: &str) -> Option<Option<u64>> {
        match &self.packed {
            Some(packed) => packed.offset_of(name).map(Some),
            None => Some(None),
        }
    }

    /// The rows of a part without a count, which old servers write for tables of the deprecated syntax:
    /// these have a column of days, two bytes each.
    fn rows_of_days(&mut self, checksums: &Checksums) -> PartResult<Option<u64>> {
        let columns = self.read(COLUMNS)?;
        let columns = String::from_utf8_lossy(&columns);
        let day = |line: &str| {
            let name = line.strip_prefix('`')?.strip_suffix("` Date")?;
            let file = format!("{}.bin", told_file_name(name));
            Some(checksums.get(&file)?.uncompressed?.bytes / BYTES_A_DAY)
        };
        Ok(columns.lines().find_map(day))
    }

    /// The size of a file that `checksums.txt` lists.
    fn bytes_of(&self, name: &str) -> PartResult<u64> {
        if let Some(packed) = &self.packed {
            let missing = || {
                PartError::damaged(
                    &self.path.join(packed::NAME),
                    format!("{name} is not in it"),
                )
            };
            return packed.bytes_of(name).ok_or_else(missing);
        }
        let path = self.path.join(name);
        match fs::symlink_metadata(&path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(source) => Err(PartError::Unreadable { path, source }),
        }
    }
}

fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = fs::metadata(path)?.len();
    if bytes > MAX_LIST_BYTES {
        let why = format!("it has {bytes} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    fs::read(path)
}

/// The checksums of a part, from its files.
pub(super) fn checksums_of(directory: &Path) -> PartResult<Checksums> {
    Directory::open(directory)?.checksums()
}

/// The identity of a part, from its files.
pub(super) fn hash_of(directory: &Path) -> PartResult<Hash128> {
    checksums_of(directory).map(|checksums| checksums.part_hash())
}

/// The identity of a live part of a server that does not tell it. One whose list of files is damaged has
/// one that no part has: it is none of those that a backup holds.
pub(super) fn hash_of_live(directory: &Path) -> PartResult<Hash128> {
    match hash_of(directory) {
        Err(PartError::Damaged { path, why }) => {
            tracing::warn!(file = %path.display(), why, "is damaged: its part is taken for another");
            Ok(Hash128([0; 16]))
        }
        hash => hash,
    }
}

/// A part in a directory with its files.
pub(super) fn read(directory: &Path, name: &str, disk: &str) -> Result<PartContent> {
    let mut files = Vec::new();
    let mut part = Directory::open(directory)?;
    let checksums = part.checksums()?;
    collect(&part, &checksums, "", &mut files)?;
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let bytes = files.iter().map(|file| file.bytes).sum();
    let part = Part::new(
        name,
        part.rows(&checksums)?,
        bytes,
        checksums.part_hash(),
        disk,
    )
    .map_err(|error| PartError::damaged(directory, error.to_string()))?;
    Ok(PartContent { part, files })
}

/// Files of a directory, with `prefix` before their names, and those of its projections.
fn collect(
    directory: &Directory,
    checksums: &Checksums,
    prefix: &str,
    files: &mut Vec<FoundFile>,
) -> PartResult<()> {
    for (name, listed) in checksums.files() {
        let bytes = directory.bytes_of(name)?;
        if bytes != listed.bytes {
            let why = format!("it has {bytes} bytes and should have {}", listed.bytes);
            return Err(PartError::damaged(&directory.path.join(name), why));
        }
    }
    for (name, listed) in checksums.projections() {
        let hash = hash_of(&directory.path.join(name))?;
        if hash != listed.hash {
            let why = "its checksums.txt is not the one that the part was written with";
            return Err(PartError::damaged(&directory.path.join(name), why));
        }
    }
    let unreadable = |source| PartError::Unreadable {
        path: directory.path.clone(),
        source,
    };
    for entry in fs::read_dir(&directory.path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path();
        let metadata = entry.metadata().map_err(unreadable)?;
        let name = entry
            .file_name()
            .into_string()
            .map_err(|_| PartError::damaged(&path, "its name is not UTF-8"))?;
        if metadata.is_dir() {
            let mut below = Directory::open(&path)?;
            let listed = below.checksums()?;
            collect(&below, &listed, &format!("{prefix}{name}/"), files)?;
        } else if metadata.is_file() {
            files.push(FoundFile {
                checksum: checksums.get(&name).map(|listed| listed.hash),
                name: format!("{prefix}{name}"),
                bytes: metadata.len(),
            });
        } else {
            return Err(PartError::damaged(
                &path,
                "it is neither file nor directory",
            ));
        }
    }
    Ok(())
}
