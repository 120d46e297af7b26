//! Errors of SQLite and of files, in the words of the users of the store.

use std::io;
use std::path::{Path, PathBuf};

use mendb_model::Malformed;
use rusqlite::ErrorCode;

use crate::error::{Error, Result};

/// The file of the database in the directory of its store.
pub(super) const DATABASE: &str = "store.db";

/// Words errors with the directory of their store.
#[derive(Debug, Clone)]
pub(crate) struct Faults {
    dir: PathBuf,
}

impl Faults {
    pub(super) fn new(dir: &Path) -> Self {
        let dir = dir.to_owned();
        Self { dir }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// An error of SQLite.
    pub(super) fn engine(&self, error: rusqlite::Error) -> Error {
        let hint = match error.sqlite_error_code() {
            // Without a code, a column is not of its type; of code 1, a tree is not there.
            None
            | Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown) => {
                return self.damaged(DATABASE, error.to_string());
            }
            Some(ErrorCode::DiskFull) => FREE_SPACE,
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => CHECK_OWNER,
            Some(ErrorCode::CannotOpen) => {
                "check that its files are there, and their owner and mode, that the disk has space for more files, and how many \
                 the process may open"
            }
            Some(ErrorCode::SystemIoFailure) => {
                "check that the disk has space left, and the system log"
            }
            _ => CHECK_DISK,
        };
        Error::Storage {
            dir: self.dir.clone(),
            hint,
            source: Box::new(error),
        }
    }

    /// An error of the file system with one of its files.
    pub(super) fn file(&self, path: &Path, error: io::Error) -> Error {
        let name = || {
            path.strip_prefix(&self.dir)
                .unwrap_or(path)
                .display()
                .to_string()
        };
        let hint = match error.kind() {
            io::ErrorKind::NotFound => return self.damaged(&name(), "it is gone".to_owned()),
            io::ErrorKind::UnexpectedEof => {
                return self.damaged(&name(), "it is shorter than it was".to_owned());
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FREE_SPACE,
            io::ErrorKind::PermissionDenied => CHECK_OWNER,
            _ => CHECK_DISK,
        };
        Error::Storage {
            dir: self.dir.clone(),
            hint,
            source: Box::new(error),
        }
    }

    /// A file of the store that is not what it was.
    pub(super) fn damaged(&self, file: &str, detail: String) -> Error {
        Error::damaged(
            format!("{} of the row store", self.dir.join(file).display()),
            Malformed {
                what: "file",
                detail,
            },
        )
    }

    /// The row store does not take writes any more.
    pub(super) fn stopped<T>(&self) -> Result<T> {
        let dir = self.dir.clone();
        Err(Error::Stopped { dir })
    }
}

const FREE_SPACE: &str = "free disk space, then try again";
const CHECK_OWNER: &str = "check the owner and mode of its files";
const CHECK_DISK: &str = "check the disk and the system log";
