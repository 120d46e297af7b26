//! Sorts more pairs of keys and values than fit into memory.
//!
//! Pairs are sorted in pieces of [`PIECE_BYTES`]; all but the last are written to a file without a name, and
//! the pieces are merged as they are read. Pairs of one key keep their order.
//!
//! *Memory*: one piece, and a block for each piece that is merged, of which there are at most
//! [`MERGED_PIECES`] a level. *Crash*: the file goes with the process.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering as Atomic};

use mendb_model::{RowBlock, RowBlockBuilder};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::Result;
use crate::kernel::fault::Faults;

/// So many bytes of pairs are sorted in memory.
pub(crate) const PIECE_BYTES: usize = 32 << 20;
/// So many pieces of a level are merged into one of the next.
const MERGED_PIECES: usize = 64;
/// Pieces are written and read in blocks of this size.
const BLOCK_BYTES: usize = 64 << 10;
/// What is compared of a key without looking it up.
const PREFIX_BYTES: usize = 16;
const HEAD_BYTES: usize = 12;

/// Takes the pairs.
pub(crate) struct Sorter {
    faults: Faults,
    piece_bytes: usize,
    memory: Memory,
    pieces: Vec<Piece>,
}

/// A sorted piece in a file.
struct Piece {
    file: Arc<File>,
    bytes: u64,
    level: u32,
}

/// Pairs in memory.
#[derive(Default)]
struct Memory {
    bytes: Vec<u8>,
    pairs: Vec<Pair>,
}

#[derive(Clone, Copy)]
struct Pair {
    prefix: u128,
    start: u32,
    key_bytes: u32,
    value_bytes: u32,
}

impl Memory {
    fn push(&mut self, key: &[u8], value: &[u8]) {
        let length = |of: &[u8]| u32::try_from(of.len()).expect("a key or row is below 4 GiB");
        let mut prefix = [0; PREFIX_BYTES];
        let known = key.len().min(PREFIX_BYTES);
        prefix[..known].copy_from_slice(&key[..known]);
        let start = u32::try_from(self.bytes.len()).expect("a piece is below 4 GiB");
        self.pairs.push(Pair {
            prefix: u128::from_be_bytes(prefix),
            start,
            key_bytes: length(key),
            value_bytes: length(value),
        });
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        let key = |pair: &Pair| &bytes[pair.start as usize..][..pair.key_bytes as usize];
        self.pairs.sort_by(|one, other| {
            let prefixes = one.prefix.cmp(&other.prefix);
            prefixes.then_with(|| key(one).cmp(key(other)))
        });
    }

    fn get(&self, at: usize) -> Option<(&[u8], &[u8])> {
        let pair = self.pairs.get(at)?;
        let start = pair.start as usize;
        let value_start = start + pair.key_bytes as usize;
        let value_end = value_start + pair.value_bytes as usize;
        let key = &self.bytes[start..value_start];
        Some((key, &self.bytes[value_start..value_end]))
    }

    fn size(&self) -> usize {
        self.bytes.len() + self.pairs.len() * size_of::<Pair>()
    }
}

impl Sorter {
    pub(super) fn new(faults: Faults, piece_bytes: usize) -> Self {
        Self {
            faults,
            piece_bytes,
            memory: Memory::default(),
            pieces: Vec::new(),
        }
    }

    /// Adds a pair.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.memory.push(key, value);
        if self.memory.size() < self.piece_bytes {
            return Ok(());
        }
        self.memory.sort();
        let mut memory = std::mem::take(&mut self.memory);
        let mut sources = Merged::of(vec![Source::memory(memory)])?;
        self.write(&mut sources, 0)?;
        // The next piece needs as much again.
        if let Some(Source::Memory { pairs, .. }) = sources.sources.pop() {
            memory = pairs;
            memory.bytes.clear();
            memory.pairs.clear();
            self.memory = memory;
        }
        loop {
            let level = self.pieces.last().map_or(0, |piece| piece.level);
            let of_level = self.pieces.iter().rev();
            let of_level = of_level.take_while(|piece| piece.level == level).count();
            if of_level < MERGED_PIECES {
                return Ok(());
            }
            let pieces = self.pieces.split_off(self.pieces.len() - of_level);
            let sources = pieces
                .into_iter()
                .map(|piece| Source::piece(piece, &self.faults));
            let sources: Result<Vec<_>> = sources.collect();
            self.write(&mut Merged::of(sources?)?, level + 1)?;
        }
    }

    /// Writes a piece.
    fn write(&mut self, sorted: &mut Merged, level: u32) -> Result<()> {
        let path = self.path();
        let fault = |error| self.faults.file(&path, error);
        let mut options = File::options();
        // A process that died may have left one of that name.
        let options = options.create(true).truncate(true);
        let file = options.read(true).write(true).open(&path);
        let file = Arc::new(file.map_err(fault)?);
        // Nobody needs its name, and without one it goes with the process.
        std::fs::remove_file(&path).map_err(fault)?;
        let mut writer = BufWriter::with_capacity(BLOCK_BYTES, &*file);
        let mut builder = RowBlockBuilder::new();
        let mut bytes = 0;
        loop {
            if let Some((key, value)) = sorted.peek() {
                builder.push(key, value);
                sorted.take()?;
            }
            let is_end = sorted.peek().is_none();
            if builder.size_bytes() >= BLOCK_BYTES || (is_end && !builder.is_empty()) {
                let block = builder.finish().into_bytes();
                let length = u32::try_from(block.len()).expect("a row block stays below 4 GiB");
                let check = xxh3_64(&block).to_be_bytes();
                let head = [&length.to_be_bytes(), check.as_slice()].concat();
                writer.write_all(&head).map_err(fault)?;
                writer.write_all(&block).map_err(fault)?;
                bytes += (HEAD_BYTES + block.len()) as u64;
            }
            if is_end {
                break;
            }
        }
        writer.flush().map_err(fault)?;
        drop(writer);
        self.pieces.push(Piece { file, bytes, level });
        Ok(())
    }

    /// A name that no other file of this process has. No other process writes the store meanwhile.
    fn path(&self) -> PathBuf {
        static NAMES: AtomicU64 = AtomicU64::new(0);
        let name = NAMES.fetch_add(1, Atomic::Relaxed);
        self.faults.dir().join(format!("sort-{name}"))
    }

    /// All pairs in the order of their keys.
    pub(crate) fn finish(mut self) -> Result<Merged> {
        self.memory.sort();
        let faults = self.faults;
        let pieces = self.pieces.into_iter();
        let mut sources: Vec<Source> = pieces
            .map(|piece| Source::piece(piece, &faults))
            .collect::<Result<_>>()?;
        sources.push(Source::memory(self.memory));
        Merged::of(sources)
    }
}

/// Sorted pairs.
enum Source {
    Memory {
        pairs: Memory,
        at: usize,
    },
    File {
        faults: Faults,
        piece: Piece,
        read: u64,
        block: RowBlock,
        at: usize,
    },
}

impl Source {
    fn memory(pairs: Memory) -> Self {
        Self::Memory { pairs, at: 0 }
    }

    fn piece(piece: Piece, faults: &Faults) -> Result<Self> {
        let mut source = Self::File {
            faults: faults.clone(),
            piece,
            read: 0,
            block: RowBlockBuilder::new().finish(),
            at: 0,
        };
        source.fill()?;
        Ok(source)
    }

    fn peek(&self) -> Option<(&[u8], &[u8])> {
        match self {
            Self::Memory { pairs, at } => pairs.get(*at),
            Self::File { block, at, .. } => {
                (*at < block.len()).then(|| (block.key(*at), block.value(*at)))
            }
        }
    }

    fn take(&mut self) -> Result<()> {
        match self {
            Self::Memory { at, .. } | Self::File { at, .. } => *at += 1,
        }
        self.fill()
    }

    /// Reads the next block of a piece when this one is left.
    fn fill(&mut self) -> Result<()> {
        let Self::File {
            faults,
            piece,
            read,
            block,
            at,
        } = self
        else {
            return Ok(());
        };
        if *at < block.len() || *read == piece.bytes {
            return Ok(());
        }
        let path = faults.dir().join("a file that rows are sorted in");
        let mut head = [0; HEAD_BYTES];
        let fault = |error| faults.file(&path, error);
        piece.file.read_exact_at(&mut head, *read).map_err(fault)?;
        let (length, check) = head.split_first_chunk().expect("a head has a length");
        let mut bytes = vec![0; u32::from_be_bytes(*length) as usize];
        let start = *read + HEAD_BYTES as u64;
        piece.file.read_exact_at(&mut bytes, start).map_err(fault)?;
        *read = start + bytes.len() as u64;
        if xxh3_64(&bytes).to_be_bytes() != *check {
            let detail = "a block does not have its checksum".to_owned();
            return Err(faults.damaged("a file that rows are sorted in", detail));
        }
        let damaged = |error: mendb_model::Malformed| {
            faults.damaged("a file that rows are sorted in", error.detail)
        };
        *block = RowBlock::from_bytes(bytes).map_err(damaged)?;
        *at = 0;
        Ok(())
    }
}

/// The pairs of several sources, as one.
pub(crate) struct Merged {
    sources: Vec<Source>,
    /// A heap of the sources that have pairs left, that with the first pair first.
    heap: Vec<usize>,
}

impl Merged {
    fn of(sources: Vec<Source>) -> Result<Self> {
        let with_pairs = sources.iter().enumerate();
        let with_pairs = with_pairs.filter(|(_, source)| source.peek().is_some());
        let mut heap: Vec<usize> = with_pairs.map(|(at, _)| at).collect();
        heap.sort_by(|one, other| compare(&sources, *one, *other));
        Ok(Self { sources, heap })
    }

    /// The next pair, which [`Self::take`] takes.
    pub(crate) fn peek(&self) -> Option<(&[u8], &[u8])> {
        self.sources[*self.heap.first()?].peek()
    }

    /// Goes on behind the next pair.
    pub(crate) fn take(&mut self) -> Result<()> {
        let Some(first) = self.heap.first().copied() else {
            return Ok(());
        };
        self.sources[first].take()?;
        if self.sources[first].peek().is_none() {
            self.heap.swap_remove(0);
        }
        let mut at = 0;
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let mut least = at;
            for child in [left, right] {
                if child < self.heap.len()
                    && compare(&self.sources, self.heap[child], self.heap[least]).is_lt()
                {
                    least = child;
                }
            }
            if least == at {
                return Ok(());
            }
            self.heap.swap(at, least);
            at = least;
        }
    }
}

/// Of pairs with one key those of the earlier source come first.
fn compare(sources: &[Source], one: usize, other: usize) -> Ordering {
    let key = |at: usize| sources[at].peek().map(|(key, _)| key);
    key(one).cmp(&key(other)).then(one.cmp(&other))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn pairs_come_out_in_the_order_of_keys_and_those_of_a_key_as_they_went_in(
            keys in proptest::collection::vec(
                proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(255)], 0..24),
                0..400,
            ),
            piece_bytes in 1..6_000_usize,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut sorter = Sorter::new(Faults::new(dir.path()), piece_bytes);
            let mut expected = Vec::new();
            for (order, key) in keys.into_iter().enumerate() {
                let value = vec![7; order % 300].into_iter().chain(order.to_be_bytes());
                let value: Vec<u8> = value.collect();
                sorter.push(&key, &value).unwrap();
                expected.push((key, value));
            }
            expected.sort_by(|(one, _), (other, _)| one.cmp(other));
            let mut merged = sorter.finish().unwrap();
            let mut sorted = Vec::new();
            while let Some((key, value)) = merged.peek() {
                sorted.push((key.to_vec(), value.to_vec()));
                merged.take().unwrap();
            }
            prop_assert_eq!(sorted, expected);
            prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }
}
