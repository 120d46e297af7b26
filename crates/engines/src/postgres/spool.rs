//! Sorts more pairs of keys and values than fit into memory, in a file without a name beside this process.
//!
//! Pairs belong to sections, of which each is read by itself, as often as is wanted. *Memory*: [`PIECE_BYTES`] of pairs;
//! while it is read, a buffer and a pair for each piece that is on disk. *Crash*: the file goes with the process.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::FileExt;

use super::error::damaged;
use crate::error::{EngineError, Remedy, Result};

/// So many bytes are sorted in memory.
const PIECE_BYTES: usize = 16 << 20;
/// Buffers of all pieces that are read at once have so many bytes together …
const BUFFERS_BYTES: usize = 16 << 20;
/// … and each so many at least and at most.
const BUFFER_BYTES: Range<usize> = (4 << 10)..(256 << 10);

/// Takes pairs; it stops the reading by breaking.
pub(super) type PairSink<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>;

/// Pairs in memory.
#[derive(Default)]
struct Pairs {
    bytes: Vec<u8>,
    /// Of each its section, where its key begins, where its value does, and where it ends.
    places: Vec<(u32, usize, usize, usize)>,
}

impl Pairs {
    fn push(&mut self, section: u32, key: &[u8], value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        let end = self.bytes.len();
        self.places.push((section, start, start + key.len(), end));
    }

    fn size(&self) -> usize {
        self.bytes.len() + self.places.len() * size_of::<(u32, usize, usize, usize)>()
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.places.sort_by(|one, other| {
            let of = |place: &(u32, usize, usize, usize)| (place.0, &bytes[place.1..place.2]);
            of(one).cmp(&of(other))
        });
    }

    /// The pairs of a section, of sorted ones.
    fn of_section(&self, section: u32) -> impl Iterator<Item = (&[u8], &[u8])> {
        let from = self.places.partition_point(|place| place.0 < section);
        let to = self.places.partition_point(|place| place.0 <= section);
        let places = self.places[from..to].iter();
        places.map(|(_, key, value, end)| (&self.bytes[*key..*value], &self.bytes[*value..*end]))
    }
}

/// Takes the pairs.
#[derive(Default)]
pub(super) struct Spooler {
    pairs: Pairs,
    file: Option<File>,
    pieces: Vec<Piece>,
}

/// Sorted pairs in the file.
struct Piece {
    /// Where each section is.
    sections: Vec<(u32, Range<u64>)>,
}

/// All pairs, sorted.
pub(super) struct Spooled {
    pairs: Pairs,
    file: Option<File>,
    pieces: Vec<Piece>,
}

impl Spooler {
    /// Adds a pair.
    ///
    /// # Errors
    /// It cannot be written to disk.
    pub(super) fn push(&mut self, section: u32, key: &[u8], value: &[u8]) -> Result<()> {
        self.pairs.push(section, key, value);
        match self.pairs.size() < PIECE_BYTES {
            true => Ok(()),
            false => self.spill(),
        }
    }

    /// Sorts them.
    pub(super) fn finish(mut self) -> Spooled {
        self.pairs.sort();
        Spooled {
            pairs: self.pairs,
            file: self.file,
            pieces: self.pieces,
        }
    }

    /// Writes what is in memory.
    fn spill(&mut self) -> Result<()> {
        let mut pairs = std::mem::take(&mut self.pairs);
        pairs.sort();
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile().map_err(|error| unkept(&error))?),
        };
        let piece = write(file, &pairs).map_err(|error| unkept(&error))?;
        self.pieces.push(piece);
        pairs.bytes.clear();
        pairs.places.clear();
        self.pairs = pairs;
        Ok(())
    }
}

/// Writes sorted pairs behind what the file has.
fn write(file: &mut File, pairs: &Pairs) -> io::Result<Piece> {
    let mut at = file.seek(io::SeekFrom::End(0))?;
    let mut out = BufWriter::with_capacity(BUFFER_BYTES.end, file);
    let mut sections: Vec<(u32, Range<u64>)> = Vec::new();
    for (section, key, value, end) in &pairs.places {
        let start = at;
        for length in [value - key, end - value] {
            let length = u32::try_from(length)
                .map_err(|_| io::Error::other("a row of four gigabytes or more"))?;
            out.write_all(&length.to_be_bytes())?;
        }
        out.write_all(&pairs.bytes[*key..*end])?;
        at += 8 + (end - key) as u64;
        match sections.last_mut().filter(|(last, _)| last == section) {
            Some((_, range)) => range.end = at,
            None => sections.push((*section, start..at)),
        }
    }
    out.flush()?;
    Ok(Piece { sections })
}

impl Spooled {
    /// Gives the pairs of a section in the order of their keys.
    ///
    /// # Errors
    /// The file cannot be read, or the sink fails.
    pub(super) fn read(&self, section: u32, sink: PairSink<'_>) -> Result<()> {
        let mut sources: Vec<Source<'_>> = Vec::new();
        if let Some(file) = &self.file {
            let of_piece = |piece: &Piece| {
                let mut sections = piece.sections.iter();
                let found = sections.find(|(of, _)| *of == section);
                found.map(|(_, range)| range.clone())
            };
            let ranges: Vec<_> = self.pieces.iter().filter_map(of_piece).collect();
            let buffer = BUFFERS_BYTES / ranges.len().max(1);
            let buffer = buffer.clamp(BUFFER_BYTES.start, BUFFER_BYTES.end);
            sources.extend(ranges.into_iter().map(|range| {
                Source::File(BufReader::with_capacity(buffer, Stretch { file, range }))
            }));
        }
        sources.push(Source::Memory(Box::new(self.pairs.of_section(section))));
        let mut heap = BinaryHeap::with_capacity(sources.len());
        for (at, source) in sources.iter_mut().enumerate() {
            if let Some((key, value)) = source.next()? {
                heap.push(Reverse((key, at, value)));
            }
        }
        while let Some(Reverse((key, at, value))) = heap.pop() {
            if sink(&key, &value)?.is_break() {
                break;
            }
            if let Some((key, value)) = sources[at].next()? {
                heap.push(Reverse((key, at, value)));
            }
        }
        Ok(())
    }
}

/// Where pairs come from, in the order of their keys.
enum Source<'a> {
    File(BufReader<Stretch<'a>>),
    Memory(Box<dyn Iterator<Item = (&'a [u8], &'a [u8])> + 'a>),
}

/// Bytes of a file.
struct Stretch<'a> {
    file: &'a File,
    range: Range<u64>,
}

impl Read for Stretch<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let left = self.range.end - self.range.start;
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(to.len());
        let read = self.file.read_at(&mut to[..most], self.range.start)?;
        self.range.start += read as u64;
        Ok(read)
    }
}

impl Source<'_> {
    fn next(&mut self) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        let reader = match self {
            Self::Memory(pairs) => {
                let next = pairs.next();
                return Ok(next.map(|(key, value)| (key.to_vec(), value.to_vec())));
            }
            Self::File(reader) => reader,
        };
        let is_over = reader.buffer().is_empty() && reader.get_ref().range.is_empty();
        if is_over {
            return Ok(None);
        }
        let read = read_pair(reader);
        read.map(Some).map_err(|error| {
            damaged(format!(
                "changes that were put aside on this machine cannot be read again: {error}"
            ))
        })
    }
}

fn read_pair(reader: &mut impl Read) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut lengths = [0; 8];
    reader.read_exact(&mut lengths)?;
    let [key, value] = [&lengths[..4], &lengths[4..]].map(|length| {
        let length: [u8; 4] = length.try_into().unwrap_or_default();
        vec![0; u32::from_be_bytes(length) as usize]
    });
    let mut pair = (key, value);
    reader.read_exact(&mut pair.0)?;
    reader.read_exact(&mut pair.1)?;
    Ok(pair)
}

/// Nothing is wrong with the server: it is tried again.
fn unkept(error: &io::Error) -> EngineError {
    let message = format!(
        "changes cannot be put aside on this machine, in {}: {error}; TMPDIR names another directory",
        std::env::temp_dir().display()
    );
    EngineError::new(Remedy::Retry, message)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_section_gives_its_pairs_in_order_as_often_as_is_wanted(
            pairs in proptest::collection::btree_map(
                (0..3_u32, proptest::collection::vec(any::<u8>(), 0..6)),
                proptest::collection::vec(any::<u8>(), 0..40),
                0..200,
            ),
            order in any::<u64>(), spill_every in 1..60_usize,
        ) {
            let mut shuffled: Vec<_> = pairs.iter().collect();
            shuffled.sort_by_key(|((section, key), _)| {
                let bytes = [&section.to_be_bytes()[..], key, &order.to_be_bytes()].concat();
                blake3::hash(&bytes).as_bytes().to_vec()
            });
            let mut spooler = Spooler::default();
            for (at, ((section, key), value)) in shuffled.into_iter().enumerate() {
                spooler.push(*section, key, value).unwrap();
                if at % spill_every == 0 {
                    spooler.spill().unwrap();
                }
            }
            let spooled = spooler.finish();
            for section in [0, 1, 2, 1, 3] {
                let mut found = Vec::new();
                spooled
                    .read(section, &mut |key, value| {
                        found.push((key.to_vec(), value.to_vec()));
                        Ok(ControlFlow::Continue(()))
                    })
                    .unwrap();
                let expected: BTreeMap<_, _> = pairs
                    .iter()
                    .filter(|((of, _), _)| *of == section)
                    .map(|((_, key), value)| (key.clone(), value.clone()))
                    .collect();
                prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
            }
        }
    }
}
