//! Sorted pairs in a file without a name.
//!
//! *Crash*: the file goes with the process.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use mendb_model::{RowBlock, RowBlockBuilder};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::Result;
use crate::kernel::fault::Faults;

/// Pairs are written and read in blocks of this size.
pub(super) const BLOCK_BYTES: usize = 64 << 10;
const HEAD_BYTES: usize = 12;
/// What it is called in errors.
const LABEL: &str = "a file that rows are sorted in";

/// Sorted pairs in a file.
pub(super) struct Piece {
    file: File,
    bytes: u64,
    /// How often its pairs were merged.
    pub(super) level: u32,
}

/// Writes a piece.
pub(super) struct PieceWriter<'a> {
    faults: &'a Faults,
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
}

impl<'a> PieceWriter<'a> {
    pub(super) fn new(faults: &'a Faults) -> Result<Self> {
        static NAMES: AtomicU64 = AtomicU64::new(0);
        // No other file of this process has that name. No other process writes the store meanwhile.
        let name = NAMES.fetch_add(1, Ordering::Relaxed);
        let path = faults.dir().join(format!("sort-{name}"));
        let fault = |error| faults.file(&path, error);
        let mut options = File::options();
        // A process that died may have left one of that name.
        let options = options.create(true).truncate(true);
        let file = options.read(true).write(true).open(&path);
        let file = file.map_err(fault)?;
        // Nobody needs its name, and without one it goes with the process.
        std::fs::remove_file(&path).map_err(fault)?;
        Ok(Self {
            faults,
            path,
            file: BufWriter::with_capacity(BLOCK_BYTES, file),
            bytes: 0,
        })
    }

    /// Adds pairs behind those before.
    pub(super) fn push(&mut self, block: &RowBlock) -> Result<()> {
        let block = block.as_bytes();
        let length = u32::try_from(block.len()).expect("a row block stays below 4 GiB");
        let check = xxh3_64(block).to_be_bytes();
        let head = self.file.write_all(&length.to_be_bytes());
        let head = head.and_then(|()| self.file.write_all(&check));
        let written = head.and_then(|()| self.file.write_all(block));
        written.map_err(|error| self.faults.file(&self.path, error))?;
        self.bytes += (HEAD_BYTES + block.len()) as u64;
        Ok(())
    }

    pub(super) fn finish(self, level: u32) -> Result<Piece> {
        let file = self.file.into_inner();
        let file = file.map_err(|error| self.faults.file(&self.path, error.into_error()))?;
        Ok(Piece {
            file,
            bytes: self.bytes,
            level,
        })
    }
}

/// Reads a piece.
pub(super) struct PieceReader {
    faults: Faults,
    piece: Piece,
    read: u64,
}

impl PieceReader {
    pub(super) fn new(piece: Piece, faults: &Faults) -> Self {
        Self {
            faults: faults.clone(),
            piece,
            read: 0,
        }
    }

    /// The next block; an empty one at the end.
    pub(super) fn next(&mut self) -> Result<RowBlock> {
        if self.read == self.piece.bytes {
            return Ok(RowBlockBuilder::new().finish());
        }
        let file = &self.piece.file;
        let fault = |error| self.faults.file(&self.faults.dir().join(LABEL), error);
        let mut head = [0; HEAD_BYTES];
        file.read_exact_at(&mut head, self.read).map_err(fault)?;
        let (length, check) = head.split_first_chunk().expect("a head has a length");
        let mut bytes = vec![0; u32::from_be_bytes(*length) as usize];
        let start = self.read + HEAD_BYTES as u64;
        file.read_exact_at(&mut bytes, start).map_err(fault)?;
        self.read = start + bytes.len() as u64;
        if xxh3_64(&bytes).to_be_bytes() != *check {
            let detail = "a block does not have its checksum".to_owned();
            return Err(self.faults.damaged(LABEL, detail));
        }
        RowBlock::from_bytes(bytes).map_err(|error| self.faults.damaged(LABEL, error.detail))
    }
}
