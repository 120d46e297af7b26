//! Reads sorted rows in packed blocks: those of the base of a shard, or of one of its runs.

use std::sync::Arc;

use mendb_model::Malformed;
use mendb_model::key::KeyRange;

use crate::error::{Error, Result};
use crate::kernel::{BlockRecord, Cursor, Direction};
use crate::shard::pack::{self, Block};
use crate::shard::stored::Stored;
use crate::shard::view::View;

impl Stored {
    /// The block that holds `key` if any does.
    fn block_of(&self, view: &View, key: &[u8]) -> Result<Option<Block>> {
        let range = KeyRange {
            start: key.to_vec(),
            end: None,
        };
        let mut places = Cursor::new(&view.reader, &self.section, &range, Direction::Ascending);
        match places.next().transpose()? {
            Some((last, record)) => self.read(view, &last, &record).map(Some),
            None => Ok(None),
        }
    }

    /// Reads the block of a record.
    fn read(&self, view: &View, last: &[u8], record: &[u8]) -> Result<Block> {
        let damaged = |error| Error::damaged(format!("the rows of shard {}", self.shard), error);
        let block = match BlockRecord::decode(record).map_err(damaged)? {
            BlockRecord::InFile(place) => view.files.read(self.shard, place)?,
            BlockRecord::Here(block) => block,
        };
        let block = pack::decode(block).map_err(damaged)?;
        if block.last_key() == Some(last) {
            return Ok(block);
        }
        Err(damaged(Malformed {
            what: "row block",
            detail: "it does not end at its key".to_owned(),
        }))
    }
}

/// The blocks that may hold rows of a range, in the order asked for.
pub(crate) struct StoredBlocks {
    stored: Option<(Stored, Cursor)>,
}

impl StoredBlocks {
    /// Blocks are keyed by their last key, so what is asked of the engine begins at the start of the rows
    /// and ends with the first block at or after their end.
    pub(crate) fn new(
        view: &View,
        stored: Option<Stored>,
        range: &KeyRange,
        direction: Direction,
    ) -> Result<Self> {
        let Some(stored) = stored.filter(|_| !range.is_empty()) else {
            return Ok(Self { stored: None });
        };
        let places = |range: &KeyRange, direction| {
            Cursor::new(&view.reader, &stored.section, range, direction)
        };
        let mut last = stored.last_key.clone();
        if let Some(end) = range.end.as_ref().filter(|end| **end < last) {
            let from = KeyRange {
                start: end.clone(),
                end: None,
            };
            if let Some(first) = places(&from, Direction::Ascending).next() {
                last = first?.0;
            }
        }
        if last < range.start {
            return Ok(Self { stored: None });
        }
        last.push(0);
        let range = KeyRange {
            start: range.start.clone(),
            end: Some(last),
        };
        let places = places(&range, direction);
        Ok(Self {
            stored: Some((stored, places)),
        })
    }

    /// The next block.
    pub(crate) fn next(&mut self, view: &View) -> Result<Option<Block>> {
        let Some((stored, places)) = &mut self.stored else {
            return Ok(None);
        };
        match places.next().transpose()? {
            Some((last, record)) => stored.read(view, &last, &record).map(Some),
            None => {
                self.stored = None;
                Ok(None)
            }
        }
    }
}

/// Walks the rows of a range. *Memory*: one block.
pub(crate) struct StoredRows {
    view: Arc<View>,
    blocks: StoredBlocks,
    range: KeyRange,
    direction: Direction,
    block: Option<Block>,
    /// The rows of `block` still to come.
    left: std::ops::Range<usize>,
}

impl StoredRows {
    pub(crate) fn new(
        view: &Arc<View>,
        stored: Option<Stored>,
        range: &KeyRange,
        direction: Direction,
    ) -> Result<Self> {
        let mut rows = Self {
            blocks: StoredBlocks::new(view, stored, range, direction)?,
            view: view.clone(),
            range: range.clone(),
            direction,
            block: None,
            left: 0..0,
        };
        rows.fill()?;
        Ok(rows)
    }

    /// The next row, which [`Self::take`] takes.
    pub(crate) fn peek(&self) -> Option<(&[u8], &[u8])> {
        let at = match self.direction {
            Direction::Ascending => self.left.start,
            Direction::Descending => self.left.end.checked_sub(1)?,
        };
        let block = self.block.as_ref().filter(|_| !self.left.is_empty())?;
        Some((block.key(at), block.value(at)))
    }

    /// Goes on behind the next row.
    pub(crate) fn take(&mut self) -> Result<()> {
        if !self.left.is_empty() {
            match self.direction {
                Direction::Ascending => self.left.start += 1,
                Direction::Descending => self.left.end -= 1,
            }
        }
        self.fill()
    }

    /// Loads blocks until one has rows left.
    fn fill(&mut self) -> Result<()> {
        while self.left.is_empty() {
            let Some(block) = self.blocks.next(&self.view)? else {
                self.block = None;
                return Ok(());
            };
            self.left = within(&block, &self.range);
            self.block = Some(block);
        }
        Ok(())
    }
}

/// Which rows of a block are in a range.
pub(crate) fn within(block: &Block, range: &KeyRange) -> std::ops::Range<usize> {
    let start = block.lower_bound(&range.start);
    let end = match &range.end {
        Some(end) => block.lower_bound(end),
        None => block.len(),
    };
    start..end.max(start)
}

/// Looks up single rows, remembering the last block: keys that come in order cost one block load a block.
pub(crate) struct StoredLookup {
    stored: Stored,
    found: Option<Found>,
}

/// The block that was found for a key: whatever lies between the two would be in it.
struct Found {
    sought: Vec<u8>,
    block: Block,
    /// The row that was found last, or the first one behind what was sought.
    at: usize,
}

/// So many rows are passed over before one is searched.
const PASSED_OVER: usize = 8;

impl Found {
    /// Whether a row of `key` could only be in the block.
    fn spans(&self, key: &[u8]) -> bool {
        let first = self.block.iter().next().map_or(key, |(first, _)| first);
        let from = first.min(&self.sought);
        from <= key && self.block.last_key().is_some_and(|last| key <= last)
    }

    /// The value of a key.
    fn value(&mut self, key: &[u8]) -> Option<&[u8]> {
        let rows = self.block.len();
        let from = self.at;
        let is_ahead = from < rows && self.block.key(from) <= key;
        let near = (from..rows.min(from + PASSED_OVER)).find(|at| self.block.key(*at) >= key);
        self.at = match near {
            Some(at) if is_ahead => at,
            _ => self.block.lower_bound(key),
        };
        let is_there = self.at < rows && self.block.key(self.at) == key;
        is_there.then(|| self.block.value(self.at))
    }
}

impl StoredLookup {
    pub(crate) fn new(stored: Stored) -> Self {
        Self {
            stored,
            found: None,
        }
    }

    /// The value of a key.
    pub(crate) fn get(&mut self, view: &View, key: &[u8]) -> Result<Option<&[u8]>> {
        if key > self.stored.last_key.as_slice() {
            return Ok(None);
        }
        if !self.found.as_ref().is_some_and(|found| found.spans(key)) {
            let block = self.stored.block_of(view, key)?;
            self.found = block.map(|block| Found {
                sought: key.to_vec(),
                block,
                at: 0,
            });
        }
        Ok(self.found.as_mut().and_then(|found| found.value(key)))
    }
}
