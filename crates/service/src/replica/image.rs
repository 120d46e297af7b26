//! The files as a log has them: what each entry says is written over what was there.
//!
//! A process that leads keeps one beside the files that SQLite works on, so that a snapshot is exactly what who takes
//! over would make of the entries, and needs no moment in which nobody writes.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use mendb_repo::log::{End, Log, Piece};

use super::pages::{self, FilePages, Pages};
use crate::error::{Error, Result};

/// What was read of a log.
pub struct ReadLog {
    /// How far.
    pub end: End,
    /// Entries behind the last snapshot.
    pub entries: u64,
    /// Bytes in them.
    pub bytes: u64,
}

/// The files of a log in a directory of their own.
pub struct Image {
    directory: PathBuf,
    /// Bytes of a page and pages of each file.
    files: BTreeMap<String, (u32, u32)>,
}

impl Image {
    /// One without files, in a directory that is made when there are some. What is there goes.
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            files: BTreeMap::new(),
        }
    }

    /// Makes the files of what a log has now.
    ///
    /// # Errors
    /// The log is damaged, the store fails, or the files cannot be written.
    pub async fn read(&mut self, log: &Log) -> Result<ReadLog> {
        let mut failed = None;
        let (mut entries, mut read_bytes) = (0, 0);
        let mut take = |piece: Piece<'_>| {
            let bytes = match piece {
                Piece::Start(bytes) => {
                    failed = self.clear().err();
                    (entries, read_bytes) = (0, 0);
                    bytes
                }
                Piece::Entry(bytes) => {
                    entries += 1;
                    read_bytes += bytes.len() as u64;
                    Some(bytes).filter(|bytes| !bytes.is_empty())
                }
            };
            let files = bytes.map(pages::decode).transpose()?;
            for file in files.iter().flatten() {
                if failed.is_none() {
                    failed = self.apply(file).err();
                }
            }
            Ok(())
        };
        let read = log.read(&mut take).await;
        match failed {
            Some(error) => Err(error),
            None => Ok(ReadLog {
                end: read?,
                entries,
                bytes: read_bytes,
            }),
        }
    }

    fn clear(&mut self) -> Result<()> {
        self.files.clear();
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &self.directory)(error))
            }
            _ => make_private(&self.directory),
        }
    }

    /// Whether there is a file of a name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        let sizes = self.files.values();
        sizes
            .map(|(page, pages)| u64::from(*page) * u64::from(*pages))
            .sum()
    }

    /// Writes what a commit left.
    pub(super) fn apply(&mut self, commit: &FilePages) -> Result<()> {
        let path = self.directory.join(&commit.name);
        if let Some(above) = path.parent() {
            make_private(above)?;
        }
        let Pages {
            page_bytes,
            file_pages,
            written,
        } = &commit.pages;
        let write = || {
            let mut options = File::options();
            let file = options.write(true).create(true).truncate(false).mode(0o600);
            let file = file.open(&path)?;
            let page_bytes = u64::from(*page_bytes);
            for (number, page) in written {
                file.write_all_at(page, u64::from(number - 1) * page_bytes)?;
            }
            file.set_len(u64::from(*file_pages) * page_bytes)
        };
        write().map_err(failed("write", &path))?;
        let size = (*page_bytes, *file_pages);
        self.files.insert(commit.name.clone(), size);
        Ok(())
    }

    /// All pages of all files.
    pub(super) fn read_all(&self) -> Result<Vec<FilePages>> {
        let names = self.files.keys();
        names
            .map(|name| FilePages::of_file(name, &self.directory.join(name)))
            .collect()
    }

    /// Copies the files, to be worked on.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn copy_to(&self, directory: &Path) -> Result<()> {
        make_private(directory)?;
        for name in self.files.keys() {
            let (from, to) = (self.directory.join(name), directory.join(name));
            if let Some(above) = to.parent() {
                make_private(above)?;
            }
            fs::copy(&from, &to).map_err(failed("write", &to))?;
        }
        Ok(())
    }
}

/// Makes a directory that only its owner may enter, and those above it.
pub(super) fn make_private(directory: &Path) -> Result<()> {
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    made.map_err(failed("create", directory))
}

fn failed(action: &str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let action = format!("{action} {}", path.display());
    |source| Error::Io { action, source }
}
