//! Writing a part into a directory, and the proof that it is whole.
//!
//! Every file is hashed while it is written. At the end the part's own `checksums.txt` must list what
//! came, byte for byte, and its hash must be the one that was promised. Files that `checksums.txt` does
//! not list (`columns.txt`, `metadata_version.txt` and others: each server version has its own) cannot be
//! proved; those without which no server takes a part must be there.
//!
//! **Crashes.** A file is never written over: one of the same name, left by an attempt that was cut off,
//! is unlinked before, so that whatever else is linked to it stays as it is. Files that the part does not
//! have are an error at the end, since they would become part of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use mendb_model::part::checksums::MAX_BYTES;
use mendb_model::part::{Checksums, FileChecksum, FileHasher, Hash128};

use super::crc64::crc64;

pub(super) const CHECKSUMS: &str = "checksums.txt";
pub(super) const COUNT: &str = "count.txt";
const COLUMNS: &str = "columns.txt";
/// The largest `checksums.txt` that is read. A packed one is not much smaller than unpacked: most of it
/// is hashes.
pub(super) const CHECKSUMS_MAX_BYTES: u64 = MAX_BYTES as u64;
/// A number of rows takes 20 digits at most.
pub(super) const COUNT_MAX_BYTES: u64 = 32;
const BUFFER_BYTES: usize = 256 << 10;

/// What was promised of a part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Promise {
    pub(super) hash: Hash128,
    /// CRC64 of its `checksums.txt`.
    pub(super) crc64: Option<u64>,
}

/// A part that is written.
#[derive(Debug)]
pub(super) struct ReceivedPart {
    into: PathBuf,
    files: BTreeMap<String, FileChecksum>,
    /// Every `checksums.txt`, by its path inside the part.
    lists: BTreeMap<String, Vec<u8>>,
    rows: Option<u64>,
}

/// Why a file was not written.
#[derive(Debug)]
pub(super) enum WriteFailure {
    /// Its bytes did not come.
    Read(io::Error),
    /// The system refuses to write it.
    Write(PathBuf, io::Error),
    /// It is not whole, for this reason.
    Damaged(String),
}

/// Why a part was not taken.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The directory cannot be read, or has what is no file of the part.
    Directory(PathBuf, io::Error),
    /// It is not whole, for this reason.
    Damaged(String),
    /// It is whole, but another part of this hash.
    Other(Hash128),
}

/// A part that was written and proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    /// Bytes of its files.
    pub(super) bytes: u64,
    /// Its rows, where its files tell.
    pub(super) rows: Option<u64>,
}

impl ReceivedPart {
    pub(super) fn new(into: &Path) -> Self {
        Self {
            into: into.to_owned(),
            files: BTreeMap::new(),
            lists: BTreeMap::new(),
            rows: None,
        }
    }

    /// Writes a file of so many bytes. Its path was found to lead into the part.
    pub(super) fn write(
        &mut self,
        file: &str,
        bytes: u64,
        from: &mut dyn Read,
    ) -> Result<(), WriteFailure> {
        if self.files.contains_key(file) {
            return Err(WriteFailure::Damaged(format!("{file} is there twice")));
        }
        let path = self.into.join(file);
        let failed = |error| WriteFailure::Write(path.clone(), error);
        let mut to = create(&path).map_err(failed)?;
        let (kept_bytes, what) = match file.rsplit('/').next().unwrap_or(file) {
            CHECKSUMS => (CHECKSUMS_MAX_BYTES, "list of files"),
            _ if file == COUNT => (COUNT_MAX_BYTES, "number of rows"),
            _ => (0, ""),
        };
        let keeps = kept_bytes > 0;
        if keeps && bytes > kept_bytes {
            return Err(WriteFailure::Damaged(format!(
                "{file} is larger than a {what} can be"
            )));
        }
        let mut kept = Vec::new();
        let mut hasher = FileHasher::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut from = from.take(bytes);
        let mut came = 0;
        loop {
            let length = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(WriteFailure::Read(error)),
            };
            to.write_all(&buffer[..length]).map_err(failed)?;
            hasher.update(&buffer[..length]);
            came += length as u64;
            if keeps {
                kept.extend_from_slice(&buffer[..length]);
            }
        }
        if came != bytes {
            let detail = format!("{file} ends after {came} of {bytes} bytes");
            return Err(WriteFailure::Damaged(detail));
        }
        let checksum = FileChecksum {
            bytes,
            hash: hasher.finish(),
        };
        self.add(file, checksum, kept);
        Ok(())
    }

    fn add(&mut self, file: &str, checksum: FileChecksum, kept: Vec<u8>) {
        if file == COUNT {
            self.rows = parse_rows(&kept);
        } else if !kept.is_empty() {
            self.lists.insert(file.to_owned(), kept);
        }
        self.files.insert(file.to_owned(), checksum);
    }

    /// Takes what another writer wrote of the same part.
    pub(super) fn merge(&mut self, other: Self) {
        self.files.extend(other.files);
        self.lists.extend(other.lists);
        self.rows = self.rows.or(other.rows);
    }

    /// Proves that what was written is the part that was promised.
    pub(super) fn finish(self, promise: Promise) -> Result<Written, Refusal> {
        let hash = self.prove(promise)?;
        if hash != promise.hash {
            return Err(Refusal::Other(hash));
        }
        self.no_others(&self.into, "")?;
        Ok(Written {
            bytes: self.files.values().map(|file| file.bytes).sum(),
            rows: self.rows,
        })
    }

    /// The hash of the part, when all that its lists name is there.
    fn prove(&self, promise: Promise) -> Result<Hash128, Refusal> {
        let checksums = self.prove_directory("")?;
        for (projection, entry) in checksums.projections() {
            let listed = self.prove_directory(&format!("{projection}/"))?;
            if listed.part_hash() != entry.hash {
                return Err(Refusal::Damaged(format!(
                    "projection {projection} is {}, {CHECKSUMS} says {}",
                    listed.part_hash(),
                    entry.hash
                )));
            }
        }
        let stray = self.files.keys().find(|file| {
            let directory = file.split_once('/').map(|(directory, _)| directory);
            directory.is_some_and(|directory| checksums.get(directory).is_none())
        });
        if let Some(file) = stray {
            let detail = format!("{file} belongs to a projection that {CHECKSUMS} does not list");
            return Err(Refusal::Damaged(detail));
        }
        let list = self.lists.get(CHECKSUMS).map(|list| crc64(list));
        if let (Some(promised), Some(found)) = (promise.crc64, list)
            && promised != found
        {
            return Err(Refusal::Damaged(format!(
                "its {CHECKSUMS} has CRC64 {found:016x}, the backup says {promised:016x}: it is another part of the same name"
            )));
        }
        Ok(checksums.part_hash())
    }

    /// The list of a directory (`""` or `p.proj/`), when all the files that it names are there.
    fn prove_directory(&self, directory: &str) -> Result<Checksums, Refusal> {
        let list = format!("{directory}{CHECKSUMS}");
        let bytes = self.lists.get(&list);
        let bytes = bytes.ok_or_else(|| Refusal::Damaged(format!("{list} is missing")))?;
        let checksums = Checksums::parse(bytes).map_err(|error| {
            Refusal::Damaged(format!("{list}: {}", mendb_model::describe_error(&error)))
        })?;
        for (name, entry) in checksums.files() {
            let file = format!("{directory}{name}");
            let (wanted, found) = (entry.identity(), self.files.get(&file));
            let problem = match found {
                None => "is missing".to_owned(),
                Some(found) if found.bytes != wanted.bytes => {
                    format!("has {} bytes instead of {}", found.bytes, wanted.bytes)
                }
                Some(found) if found.hash != wanted.hash => "has other content".to_owned(),
                Some(_) => continue,
            };
            let detail = format!("{file}, which {CHECKSUMS} lists, {problem}");
            return Err(Refusal::Damaged(detail));
        }
        let columns = format!("{directory}{COLUMNS}");
        if self.files.contains_key(&columns) {
            Ok(checksums)
        } else {
            Err(Refusal::Damaged(format!("{columns} is missing")))
        }
    }

    /// Fails when a directory that was written into has a file that was not written.
    fn no_others(&self, directory: &Path, prefix: &str) -> Result<(), Refusal> {
        let failed = |error| Refusal::Directory(directory.to_owned(), error);
        for entry in fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let file = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type().map_err(failed)?.is_dir() {
                self.no_others(&entry.path(), &format!("{file}/"))?;
            } else if !self.files.contains_key(&file) {
                let other = io::Error::other("it is no file of the part: remove it");
                return Err(Refusal::Directory(entry.path(), other));
            }
        }
        Ok(())
    }
}

/// Creates a file and its directory. One that is there is unlinked, not written over: it may be linked
/// to what is live.
fn create(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::create_new(path)
}

/// The rows that a `count.txt` tells.
pub(super) fn parse_rows(bytes: &[u8]) -> Option<u64> {
    str::from_utf8(bytes).ok()?.trim_end().parse().ok()
}
