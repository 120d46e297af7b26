//! Files on this machine. Everything here blocks.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use blake3::{Hash, Hasher};
use bytes::Bytes;

use super::FileOnDisk;
use crate::error::{Error, Result};
use crate::throttle::Throttle;

/// Files are read by this much: it fits into the cache of a core together with its copy, so that what
/// was read is hashed and written from there.
const BUFFER_BYTES: usize = 256 << 10;

/// A file of a part that is read.
#[derive(Debug, Clone)]
pub(super) struct FileToRead {
    pub(super) path: PathBuf,
    /// The size that it must have.
    pub(super) bytes: u64,
}

impl FileToRead {
    pub(super) fn new(directory: &Path, file: &FileOnDisk) -> Self {
        Self {
            path: directory.join(&file.name),
            bytes: file.bytes,
        }
    }

    pub(super) fn open(&self) -> Result<File> {
        File::open(&self.path).map_err(|error| Error::file("read", &self.path, error))
    }

    /// Reads a small file whole.
    pub(super) fn read(&self) -> Result<Bytes> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.bytes).unwrap_or_default() + 1);
        let file = self.open()?;
        // What is longer need not be read to the end to be refused.
        let read = file.take(self.bytes + 1).read_to_end(&mut bytes);
        read.map_err(|error| Error::file("read", &self.path, error))?;
        self.check_size(bytes.len() as u64)?;
        Ok(bytes.into())
    }

    /// Reads it, and returns its BLAKE3.
    pub(super) fn hash(&self) -> Result<Hash> {
        let copied = copy(&mut self.open()?, &mut io::sink(), &Throttle::new(None))
            .map_err(|failure| self.failed(failure))?;
        self.check_size(copied.bytes)?;
        Ok(copied.blake3)
    }

    /// The error for a copy of it whose destination cannot fail.
    fn failed(&self, failure: CopyFailure) -> Error {
        let (CopyFailure::Read(error) | CopyFailure::Write(error)) = failure;
        Error::file("read", &self.path, error)
    }

    pub(super) fn check_size(&self, bytes: u64) -> Result<()> {
        if bytes == self.bytes {
            return Ok(());
        }
        let detail = format!("it has {bytes} bytes instead of {}", self.bytes);
        Err(self.changed(detail))
    }

    pub(super) fn changed(&self, detail: impl Into<String>) -> Error {
        Error::Changed {
            path: self.path.clone(),
            detail: detail.into(),
        }
    }
}

/// What was copied.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) bytes: u64,
    pub(super) blake3: Hash,
}

/// Which side of a copy failed.
#[derive(Debug)]
pub(super) enum CopyFailure {
    Read(io::Error),
    Write(io::Error),
}

/// Copies all there is to read, as fast as the limit allows.
pub(super) fn copy(
    from: &mut impl Read,
    to: &mut impl Write,
    throttle: &Throttle,
) -> Result<Copied, CopyFailure> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut hasher = Hasher::new();
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyFailure::Read(error)),
        };
        let piece = &buffer[..read];
        throttle.take_blocking(read as u64);
        hasher.update(piece);
        to.write_all(piece).map_err(CopyFailure::Write)?;
    }
    Ok(Copied {
        bytes: hasher.count(),
        blake3: hasher.finalize(),
    })
}

/// A file that is gone again unless it is kept.
#[derive(Debug)]
pub(super) struct NewFile {
    pub(super) file: File,
    path: PathBuf,
    kept: bool,
}

impl NewFile {
    /// Creates a file that is not there yet.
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        let file = File::create_new(&path)?;
        Ok(Self {
            file,
            path,
            kept: false,
        })
    }

    /// Keeps it where it is.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }

    /// Keeps it under another name, with its content on disk.
    pub(super) fn keep_as(mut self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, path)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept {
            // The caller gets the error that came first; a file that stays is found by its name.
            drop(fs::remove_file(&self.path));
        }
    }
}
