//! The packed blocks of each shard, of its base and of its runs, one file a shard, one block after the other.
//!
//! The files are written from their end on only. Where each block lies, how long it is and its checksum
//! is a record of [`Tree::Blocks`](super::Tree::Blocks) or [`Tree::Runs`](super::Tree::Runs), keyed by the last
//! key of the block: what no record names does not exist.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use mendb_model::Malformed;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::Result;
use crate::kernel::fault::Faults;
use crate::kernel::{NOT_POISONED, ShardId};

const DIRECTORY: &str = "shards";
const READERS: &str = "readers";
/// Open files that are kept at hand; far below the usual limit of 1,024 a process.
const OPEN_FILES: usize = 128;
/// Blocks are written to the file in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;

/// Where a block is: what its record says, under the last key of the block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BlockRecord {
    /// In the file of its shard. As bytes: 0, offset (8), length (4) and the XXH3-64 of the block (8),
    /// big-endian.
    InFile(BlockPlace),
    /// In the record itself, as small runs have it. As bytes: 1, the block.
    Here(Vec<u8>),
}

/// The place of a block in the file of its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockPlace {
    offset: u64,
    bytes: u32,
    check: u64,
}

const IN_FILE: u8 = 0;
const HERE: u8 = 1;

impl BlockRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::InFile(place) => {
                let mut record = Vec::with_capacity(21);
                record.push(IN_FILE);
                record.extend_from_slice(&place.offset.to_be_bytes());
                record.extend_from_slice(&place.bytes.to_be_bytes());
                record.extend_from_slice(&place.check.to_be_bytes());
                record
            }
            Self::Here(block) => [&[HERE], block.as_slice()].concat(),
        }
    }

    pub(crate) fn decode(record: &[u8]) -> std::result::Result<Self, Malformed> {
        let parse = || {
            let (tag, rest) = record.split_first()?;
            match *tag {
                HERE => return Some(Self::Here(rest.to_vec())),
                IN_FILE => {}
                _ => return None,
            }
            let (offset, rest) = rest.split_first_chunk()?;
            let (bytes, rest) = rest.split_first_chunk()?;
            let check = rest.try_into().ok()?;
            Some(Self::InFile(BlockPlace {
                offset: u64::from_be_bytes(*offset),
                bytes: u32::from_be_bytes(*bytes),
                check: u64::from_be_bytes(check),
            }))
        };
        parse().ok_or_else(|| Malformed {
            what: "place of a row block",
            detail: format!("it has {} bytes", record.len()),
        })
    }
}

/// The files of the shards of a store.
pub(crate) struct ShardFiles {
    faults: Faults,
    directory: PathBuf,
    open: Mutex<OpenFiles>,
    /// Locked, together, by processes that only read.
    readers: File,
    /// Files that could not be removed, because one of them may read them.
    kept: Mutex<Vec<ShardId>>,
}

/// The files that were read last.
#[derive(Default)]
struct OpenFiles {
    files: HashMap<ShardId, (Arc<File>, u64)>,
    uses: u64,
}

impl ShardFiles {
    /// Those of the process that has the store open.
    pub(super) fn open(faults: &Faults) -> Result<Self> {
        let directory = faults.dir().join(DIRECTORY);
        std::fs::create_dir_all(&directory).map_err(|error| faults.file(&directory, error))?;
        let path = faults.dir().join(READERS);
        let mut options = File::options();
        let readers = options.create(true).truncate(false).write(true).open(&path);
        Ok(Self {
            readers: readers.map_err(|error| faults.file(&path, error))?,
            faults: faults.clone(),
            directory,
            open: Mutex::default(),
            kept: Mutex::default(),
        })
    }

    /// Those of a process that only reads: none is removed until it drops them, or ends.
    pub(super) fn hold(faults: &Faults) -> Result<Self> {
        let files = Self::open(faults)?;
        let held = files.readers.lock_shared();
        held.map_err(|error| faults.file(&faults.dir().join(READERS), error))?;
        Ok(files)
    }

    fn path(&self, shard: ShardId) -> PathBuf {
        self.directory.join(shard.to_string())
    }

    /// Reads a block.
    ///
    /// # Errors
    /// The file is gone or too short, or the block is not the one that was written.
    pub(crate) fn read(&self, shard: ShardId, place: BlockPlace) -> Result<Vec<u8>> {
        let path = self.path(shard);
        let fault = |error| self.faults.file(&path, error);
        let file = self.file(shard, &path).map_err(fault)?;
        let mut block = vec![0; place.bytes as usize];
        file.read_exact_at(&mut block, place.offset)
            .map_err(fault)?;
        if xxh3_64(&block) == place.check {
            return Ok(block);
        }
        let detail = format!(
            "the block at byte {} does not have its checksum",
            place.offset
        );
        Err(self.faults.damaged(&format!("{DIRECTORY}/{shard}"), detail))
    }

    fn file(&self, shard: ShardId, path: &Path) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().expect(NOT_POISONED);
        open.uses += 1;
        let now = open.uses;
        if let Some((file, used)) = open.files.get_mut(&shard) {
            *used = now;
            return Ok(file.clone());
        }
        let file = Arc::new(File::open(path)?);
        if open.files.len() >= OPEN_FILES {
            let oldest = open.files.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(shard, _)| *shard) {
                open.files.remove(&oldest);
            }
        }
        open.files.insert(shard, (file.clone(), now));
        Ok(file)
    }

    /// Writes blocks behind the first `end` bytes of the file of a shard, over what a load that was cut off
    /// left there.
    ///
    /// # Errors
    /// The file is gone or shorter than that, or cannot be written.
    pub(crate) fn append(&self, shard: ShardId, end: u64) -> Result<ShardWriter<'_>> {
        let path = self.path(shard);
        let open = || {
            let mut options = File::options();
            let mut file = options
                .write(true)
                .create(end == 0)
                .truncate(false)
                .open(&path)?;
            if file.metadata()?.len() < end {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            file.set_len(end)?;
            file.seek(SeekFrom::Start(end))?;
            Ok(file)
        };
        let file = open().map_err(|error| self.faults.file(&path, error))?;
        Ok(ShardWriter {
            files: self,
            file: BufWriter::with_capacity(PIECE_BYTES, file),
            path,
            is_new: end == 0,
            end,
        })
    }

    /// Gives back what lies behind the first `end` bytes of the file of a shard.
    ///
    /// # Errors
    /// The file cannot be cut.
    pub(crate) fn cut_off(&self, shard: ShardId, end: u64) -> Result<()> {
        let path = self.path(shard);
        let cut = || {
            let file = File::options().write(true).open(&path)?;
            match file.metadata()?.len() > end {
                true => file.set_len(end),
                false => Ok(()),
            }
        };
        match cut() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.faults.file(&path, error))
            }
            _ => Ok(()),
        }
    }

    /// Removes the file of a shard, if there is one. As long as another process reads, it is left to a later
    /// call; failing leaves it to the next open.
    pub(crate) fn remove(&self, shard: ShardId) {
        self.open.lock().expect(NOT_POISONED).files.remove(&shard);
        let mut kept = self.kept.lock().expect(NOT_POISONED);
        kept.push(shard);
        if self.readers.try_lock().is_err() {
            return;
        }
        for shard in kept.drain(..) {
            match std::fs::remove_file(self.path(shard)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%shard, %error, "leave the file of a shard for the next open");
                }
                _ => {}
            }
        }
        if let Err(error) = self.readers.unlock() {
            tracing::warn!(%error, "keep readers out until the end of the process");
        }
    }

    /// The shards that have a file.
    pub(crate) fn shards(&self) -> Result<Vec<ShardId>> {
        let list = || -> io::Result<Vec<ShardId>> {
            let mut shards = Vec::new();
            for entry in std::fs::read_dir(&self.directory)? {
                let name = entry?.file_name();
                shards.extend(
                    name.to_str()
                        .and_then(|name| name.parse().ok())
                        .map(ShardId),
                );
            }
            Ok(shards)
        };
        list().map_err(|error| self.faults.file(&self.directory, error))
    }
}

/// Appends blocks to the file of a shard.
pub(crate) struct ShardWriter<'a> {
    files: &'a ShardFiles,
    file: BufWriter<File>,
    path: PathBuf,
    is_new: bool,
    end: u64,
}

impl ShardWriter<'_> {
    /// Writes a block, and tells where.
    pub(crate) fn push(&mut self, block: &[u8]) -> Result<BlockPlace> {
        let bytes = u32::try_from(block.len()).map_err(|_| {
            let detail = format!("a block of {} bytes does not fit", block.len());
            self.files.faults.damaged(DIRECTORY, detail)
        })?;
        let place = BlockPlace {
            offset: self.end,
            bytes,
            check: xxh3_64(block),
        };
        let written = self.file.write_all(block);
        written.map_err(|error| self.files.faults.file(&self.path, error))?;
        self.end += u64::from(bytes);
        Ok(place)
    }

    /// Returns when all blocks are on disk: records may name them then.
    pub(crate) fn finish(mut self) -> Result<()> {
        let mut finish = || {
            self.file.flush()?;
            self.file.get_ref().sync_data()?;
            if self.is_new {
                File::open(&self.files.directory)?.sync_all()?;
            }
            Ok(())
        };
        finish().map_err(|error| self.files.faults.file(&self.path, error))
    }
}
