//! Sorted pairs of several sources as one, in blocks.

use std::cmp::Ordering;

use mendb_model::{RowBlock, RowBlockBuilder};

use crate::error::Result;
use crate::kernel::fault::Faults;
use crate::kernel::pairs::{Pairs, prefix_of};
use crate::kernel::piece::{BLOCK_BYTES, Piece, PieceReader};

/// Sorted pairs.
pub(super) enum SortedPairs {
    Memory {
        pairs: Pairs,
        at: usize,
    },
    File {
        reader: PieceReader,
        block: RowBlock,
        at: usize,
    },
}

impl SortedPairs {
    pub(super) fn memory(pairs: Pairs) -> Self {
        Self::Memory { pairs, at: 0 }
    }

    pub(super) fn piece(piece: Piece, faults: &Faults) -> Result<Self> {
        let mut reader = PieceReader::new(piece, faults);
        let block = reader.next()?;
        Ok(Self::File {
            reader,
            block,
            at: 0,
        })
    }

    #[inline]
    fn peek(&self) -> Option<(&[u8], &[u8])> {
        match self {
            Self::Memory { pairs, at } => pairs.get(*at),
            Self::File { block, at, .. } => {
                (*at < block.len()).then(|| (block.key(*at), block.value(*at)))
            }
        }
    }

    #[inline]
    fn take(&mut self) -> Result<()> {
        match self {
            Self::Memory { at, .. } => *at += 1,
            Self::File { reader, block, at } => {
                *at += 1;
                if *at == block.len() {
                    *block = reader.next()?;
                    *at = 0;
                }
            }
        }
        Ok(())
    }

    /// The last key of a block that is next and of which nothing was taken.
    fn last_of_whole(&self) -> Option<&[u8]> {
        match self {
            Self::File { block, at: 0, .. } => block.last_key(),
            _ => None,
        }
    }

    /// Takes such a block.
    fn take_whole(&mut self) -> Result<Option<RowBlock>> {
        match self {
            Self::File { reader, block, .. } => {
                let next = reader.next()?;
                Ok(Some(std::mem::replace(block, next)))
            }
            Self::Memory { .. } => Ok(None),
        }
    }
}

/// The pairs of several sources in the order of their keys. Of those with one key those of the earlier source
/// come first.
pub(super) struct Merge {
    sources: Vec<SortedPairs>,
    /// A heap of the sources that have pairs left, that with the first pair first.
    heap: Vec<Head>,
    builder: RowBlockBuilder,
}

/// The next pair of a source.
#[derive(Clone, Copy)]
struct Head {
    prefix: u128,
    source: usize,
}

impl Merge {
    pub(super) fn new(sources: Vec<SortedPairs>) -> Self {
        let mut merge = Self {
            heap: Vec::with_capacity(sources.len()),
            sources,
            builder: RowBlockBuilder::new(),
        };
        let heads = (0..merge.sources.len()).filter_map(|source| merge.head(source));
        let mut heap: Vec<Head> = heads.collect();
        heap.sort_by(|one, other| merge.compare(*one, *other));
        merge.heap = heap;
        merge
    }

    /// The next pairs, about [`BLOCK_BYTES`] of them; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<RowBlock>> {
        while let Some(first) = self.heap.first().copied() {
            // A block before all that others have need not be taken apart.
            if self.is_whole(first) {
                if !self.builder.is_empty() {
                    break;
                }
                let block = self.sources[first.source].take_whole()?;
                self.settle_first();
                if block.is_some() {
                    return Ok(block);
                }
                continue;
            }
            if let Some((key, value)) = self.sources[first.source].peek() {
                self.builder.push(key, value);
            }
            self.sources[first.source].take()?;
            self.settle_first();
            if self.builder.size_bytes() >= BLOCK_BYTES {
                break;
            }
        }
        Ok((!self.builder.is_empty()).then(|| self.builder.finish()))
    }

    fn is_whole(&self, first: Head) -> bool {
        let Some(last) = self.sources[first.source].last_of_whole() else {
            return false;
        };
        let others = self.heap.iter().skip(1).take(2);
        let mut others = others.filter_map(|other| self.sources[other.source].peek());
        others.all(|(key, _)| last < key)
    }

    #[inline]
    fn head(&self, source: usize) -> Option<Head> {
        let (key, _) = self.sources[source].peek()?;
        let prefix = prefix_of(key);
        Some(Head { prefix, source })
    }

    /// Puts the first source where its next pair belongs.
    fn settle_first(&mut self) {
        let Some(first) = self.heap.first() else {
            return;
        };
        match self.head(first.source) {
            Some(head) => self.heap[0] = head,
            None => {
                self.heap.swap_remove(0);
            }
        }
        let mut at = 0;
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let mut least = at;
            for child in [left, right] {
                if child < self.heap.len()
                    && self.compare(self.heap[child], self.heap[least]).is_lt()
                {
                    least = child;
                }
            }
            if least == at {
                return;
            }
            self.heap.swap(at, least);
            at = least;
        }
    }

    #[inline]
    fn compare(&self, one: Head, other: Head) -> Ordering {
        let key = |head: Head| self.sources[head.source].peek().map(|(key, _)| key);
        let prefixes = one.prefix.cmp(&other.prefix);
        prefixes
            .then_with(|| key(one).cmp(&key(other)))
            .then(one.source.cmp(&other.source))
    }
}
