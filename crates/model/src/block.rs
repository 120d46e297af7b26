//! Rows packed into one piece of memory, in key order: the unit in which rows are stored in bulk,
//! travel between an engine and the repository, and are scanned without an allocation per row.
//!
//! Layout, all integers little-endian `u32`:
//!
//! ```text
//! key value key value … | key_end value_end key_end value_end … | rows
//! ```
//!
//! The ends are offsets from the start; the entries of a row follow those of the row before.

use std::ops::Range;

use crate::Malformed;

/// Bytes of one entry in the directory of a block.
const ENTRY: usize = 8;
/// Bytes of the row count that ends a block.
const TAIL: usize = 4;

/// A finished block over bytes of any owner. What it holds has been checked: reading cannot fail.
#[derive(Debug, Clone)]
pub struct RowBlock<B = Vec<u8>> {
    bytes: B,
    rows: usize,
}

impl<B: AsRef<[u8]>> RowBlock<B> {
    /// Checks that `bytes` are a block.
    ///
    /// # Errors
    /// The bytes are cut off or their directory points outside.
    pub fn from_bytes(bytes: B) -> Result<Self, Malformed> {
        let all = bytes.as_ref();
        let broken = |detail: &str| Malformed::new("row block", detail);
        let tail = all
            .len()
            .checked_sub(TAIL)
            .ok_or_else(|| broken("shorter than its tail"))?;
        let rows = read_u32(all, tail) as usize;
        let directory = rows
            .checked_mul(ENTRY)
            .and_then(|size| tail.checked_sub(size))
            .ok_or_else(|| broken("more rows than bytes"))?;
        let mut end = 0;
        for slot in 0..rows * 2 {
            let next = read_u32(all, directory + slot * 4) as usize;
            if next < end {
                return Err(broken("directory not ascending"));
            }
            end = next;
        }
        if end != directory {
            return Err(broken("directory does not cover the rows"));
        }
        Ok(Self { bytes, rows })
    }

    /// The same block, borrowed.
    pub fn view(&self) -> RowBlock<&[u8]> {
        RowBlock {
            bytes: self.bytes.as_ref(),
            rows: self.rows,
        }
    }

    /// How many rows.
    #[inline]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The whole block as bytes, as [`Self::from_bytes`] takes them.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// The bytes of the block and their owner.
    pub fn into_bytes(self) -> B {
        self.bytes
    }

    /// The key of a row.
    ///
    /// # Panics
    /// `row` is not below [`Self::len`].
    #[inline]
    pub fn key(&self, row: usize) -> &[u8] {
        let (start, key_end, _) = self.bounds(row);
        &self.bytes.as_ref()[start..key_end]
    }

    /// The value of a row.
    ///
    /// # Panics
    /// `row` is not below [`Self::len`].
    #[inline]
    pub fn value(&self, row: usize) -> &[u8] {
        let (_, key_end, value_end) = self.bounds(row);
        &self.bytes.as_ref()[key_end..value_end]
    }

    /// Key and value of every row, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> + ExactSizeIterator {
        (0..self.rows).map(|row| (self.key(row), self.value(row)))
    }

    /// The first row whose key is not below `key`; [`Self::len`] when all are.
    pub fn lower_bound(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.rows);
        while low < high {
            let middle = low.midpoint(high);
            if self.key(middle) < key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The last key; `None` when empty.
    #[inline]
    pub fn last_key(&self) -> Option<&[u8]> {
        self.rows.checked_sub(1).map(|row| self.key(row))
    }

    #[inline]
    fn bounds(&self, row: usize) -> (usize, usize, usize) {
        assert!(row < self.rows, "row {row} of a block of {}", self.rows);
        let all = self.bytes.as_ref();
        let directory = all.len() - TAIL - self.rows * ENTRY;
        let entry = directory + row * ENTRY;
        let start = if row == 0 {
            0
        } else {
            read_u32(all, entry - 4) as usize
        };
        (
            start,
            read_u32(all, entry) as usize,
            read_u32(all, entry + 4) as usize,
        )
    }
}

#[inline]
fn read_u32(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

/// An offset as it is stored.
#[inline]
fn end(at: usize) -> u32 {
    u32::try_from(at).expect("a row block stays below 4 GiB")
}

/// Collects rows into a [`RowBlock`].
#[derive(Debug, Default)]
pub struct RowBlockBuilder {
    data: Vec<u8>,
    ends: Vec<u32>,
}

impl RowBlockBuilder {
    /// An empty builder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a row. The caller keeps keys ascending.
    ///
    /// # Panics
    /// The block would pass 4 GiB: callers finish a block long before.
    #[inline]
    pub fn push(&mut self, key: &[u8], value: &[u8]) {
        self.push_with(key, |out| out.extend_from_slice(value));
    }

    /// Adds a row whose value `write` appends to the bytes it is given.
    ///
    /// # Panics
    /// As [`Self::push`].
    #[inline]
    pub fn push_with(&mut self, key: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        self.data.extend_from_slice(key);
        let key_end = self.data.len();
        write(&mut self.data);
        self.ends.push(end(key_end));
        self.ends.push(end(self.data.len()));
    }

    /// Adds all rows of a block.
    ///
    /// # Panics
    /// As [`Self::push`].
    pub fn extend<B: AsRef<[u8]>>(&mut self, block: &RowBlock<B>) {
        self.extend_rows(block, 0..block.len());
    }

    /// Adds some neighbouring rows of a block, in one go.
    ///
    /// # Panics
    /// The block does not have all these rows; or as [`Self::push`].
    pub fn extend_rows<B: AsRef<[u8]>>(&mut self, block: &RowBlock<B>, rows: Range<usize>) {
        if rows.is_empty() {
            return;
        }
        let all = block.as_bytes();
        let (first, _, _) = block.bounds(rows.start);
        let (_, _, last) = block.bounds(rows.end - 1);
        let offset = self.data.len();
        self.data.extend_from_slice(&all[first..last]);
        end(self.data.len());
        let directory = all.len() - TAIL - block.len() * ENTRY;
        let entries = directory + rows.start * ENTRY..directory + rows.end * ENTRY;
        let ends = entries.step_by(4).map(|at| read_u32(all, at) as usize);
        self.ends.extend(ends.map(|at| end(at - first + offset)));
    }

    /// How many rows were added.
    pub fn len(&self) -> usize {
        self.ends.len() / 2
    }

    /// Whether no row was added.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes the finished block will have.
    #[inline]
    pub fn size_bytes(&self) -> usize {
        self.data.len() + self.ends.len() * 4 + TAIL
    }

    /// The finished block; the builder is empty again and keeps no memory.
    pub fn finish(&mut self) -> RowBlock {
        let mut bytes = std::mem::take(&mut self.data);
        let ends = std::mem::take(&mut self.ends);
        let rows = ends.len() / 2;
        bytes.reserve_exact(ends.len() * 4 + TAIL);
        for end in &ends {
            bytes.extend_from_slice(&end.to_le_bytes());
        }
        bytes.extend_from_slice(&u32::try_from(rows).unwrap_or(u32::MAX).to_le_bytes());
        RowBlock { bytes, rows }
    }
}

/// A block that knows where its rows are before it holds them, so that they can be written in any
/// order. What is not written is zeros.
#[derive(Debug)]
pub struct BlankBlock {
    bytes: Vec<u8>,
    directory: usize,
    rows: usize,
}

impl BlankBlock {
    /// A block of rows of these lengths: the key's and the value's.
    ///
    /// # Panics
    /// The block would pass 4 GiB.
    pub fn new(lengths: impl ExactSizeIterator<Item = (usize, usize)> + Clone) -> Self {
        let rows = lengths.len();
        let sizes = lengths.clone().map(|(key, value)| key + value);
        let directory = sizes.sum::<usize>();
        end(directory);
        let mut bytes = vec![0; directory + rows * ENTRY + TAIL];
        let mut at = 0;
        for (entry, (key, value)) in bytes[directory..].chunks_exact_mut(ENTRY).zip(lengths) {
            let key_end = at + key;
            at = key_end + value;
            // Neither passes the end of them all, which was checked.
            entry[..4].copy_from_slice(&(key_end as u32).to_le_bytes());
            entry[4..].copy_from_slice(&(at as u32).to_le_bytes());
        }
        let tail = bytes.len() - TAIL;
        bytes[tail..].copy_from_slice(&u32::try_from(rows).unwrap_or(u32::MAX).to_le_bytes());
        Self {
            bytes,
            directory,
            rows,
        }
    }

    /// Keys and values, each directly behind the one before.
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.directory]
    }

    /// The block.
    pub fn finish(self) -> RowBlock {
        RowBlock {
            bytes: self.bytes,
            rows: self.rows,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn holds_what_was_pushed(rows: BTreeMap<Vec<u8>, Vec<u8>>, probe: Vec<u8>) {
            let mut builder = RowBlockBuilder::new();
            for (key, value) in &rows {
                builder.push(key, value);
            }
            let size = builder.size_bytes();
            let built = builder.finish();
            prop_assert_eq!(built.as_bytes().len(), size);
            let block = RowBlock::from_bytes(built.as_bytes()).unwrap();
            let read: Vec<_> = block.iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
            let expected = rows.keys().take_while(|key| **key < probe).count();
            prop_assert_eq!(block.lower_bound(&probe), expected);
            prop_assert_eq!(read, rows.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn blocks_join_to_one(first: BTreeMap<Vec<u8>, Vec<u8>>, second: BTreeMap<Vec<u8>, Vec<u8>>) {
            let push = |builder: &mut RowBlockBuilder, rows: &BTreeMap<Vec<u8>, Vec<u8>>| {
                rows.iter().for_each(|(key, value)| builder.push(key, value));
            };
            let [mut joined, mut tail, mut all] = std::array::from_fn(|_| RowBlockBuilder::new());
            push(&mut joined, &first);
            push(&mut tail, &second);
            joined.extend(&tail.finish());
            push(&mut all, &first);
            push(&mut all, &second);
            let (joined, all) = (joined.finish(), all.finish());
            prop_assert_eq!(joined.as_bytes(), all.as_bytes());
        }

        #[test]
        fn neighbouring_rows_come_over_in_one_go(
            before: BTreeMap<Vec<u8>, Vec<u8>>,
            rows: BTreeMap<Vec<u8>, Vec<u8>>,
            cut: (prop::sample::Index, prop::sample::Index),
        ) {
            let rows: Vec<_> = rows.into_iter().collect();
            let (from, to) = (cut.0.index(rows.len() + 1), cut.1.index(rows.len() + 1));
            let range = from.min(to)..from.max(to);
            let [mut some, mut source, mut one_by_one] = std::array::from_fn(|_| RowBlockBuilder::new());
            for (key, value) in &before {
                some.push(key, value);
                one_by_one.push(key, value);
            }
            rows.iter().for_each(|(key, value)| source.push(key, value));
            some.extend_rows(&source.finish(), range.clone());
            rows[range].iter().for_each(|(key, value)| one_by_one.push(key, value));
            let (some, one_by_one) = (some.finish(), one_by_one.finish());
            prop_assert_eq!(some.as_bytes(), one_by_one.as_bytes());
        }

        #[test]
        fn a_blank_block_takes_its_rows_in_one_piece(rows: BTreeMap<Vec<u8>, Vec<u8>>) {
            let lengths = rows.iter().map(|(key, value)| (key.len(), value.len()));
            let mut blank = BlankBlock::new(lengths);
            let data: Vec<u8> = rows.iter().flat_map(|(key, value)| [key, value]).flatten().copied().collect();
            blank.data_mut().copy_from_slice(&data);
            let mut builder = RowBlockBuilder::new();
            rows.iter().for_each(|(key, value)| builder.push(key, value));
            let (written, built) = (blank.finish(), builder.finish());
            prop_assert_eq!(written.as_bytes(), built.as_bytes());
        }

        #[test]
        fn damaged_bytes_are_an_error_or_readable(bytes: Vec<u8>) {
            if let Ok(block) = RowBlock::from_bytes(bytes) {
                for (key, value) in block.iter() {
                    prop_assert!(key.len() + value.len() <= block.as_bytes().len());
                }
            }
        }
    }
}
