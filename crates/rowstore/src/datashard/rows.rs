//! The rows of one shard, one after the other, in either direction.

use std::ops::Bound;
use std::sync::Arc;

use fjall::{Iter, Readable, Slice};
use mendb_model::key::KeyRange;

use crate::datashard::Shard;
use crate::datashard::overlay::Overlay;
use crate::datashard::pack::Block;
use crate::datashard::point::{decode_block, decode_over};
use crate::error::Result;
use crate::view::View;

/// In which order to scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the least key to the greatest.
    Ascending,
    /// From the greatest key to the least.
    Descending,
}

/// The bounds of a range, as the engine takes them.
pub(crate) fn bounds(range: &KeyRange) -> (Bound<&[u8]>, Bound<&[u8]>) {
    let end = match &range.end {
        Some(end) => Bound::Excluded(end.as_slice()),
        None => Bound::Unbounded,
    };
    (Bound::Included(&range.start), end)
}

/// Base blocks that may hold rows of a range, in the order asked for.
///
/// Blocks are keyed by their last key, so the range that is asked of the engine begins at the start of
/// the rows and ends with the first block at or after their end.
pub(crate) fn base_blocks(view: &View, shard: &Shard, range: &KeyRange) -> Result<Option<Iter>> {
    let stats = view.stats(shard.id)?;
    let (Some(base), Some(base_end)) = (shard.files.base(), stats.base_end) else {
        return Ok(None);
    };
    let start: Bound<&[u8]> = Bound::Included(&range.start);
    let mut last = base_end;
    if let Some(end) = range.end.as_deref().filter(|end| *end < last.as_slice()) {
        let from = (Bound::Included(end), Bound::Unbounded);
        if let Some(entry) = view.snapshot.range::<&[u8], _>(base, from).next() {
            last = entry.key().map_err(|e| view.store.fault(e))?.to_vec();
        }
    }
    if last < range.start {
        return Ok(None);
    }
    let until: Bound<&[u8]> = Bound::Included(&last);
    Ok(Some(view.snapshot.range::<&[u8], _>(base, (start, until))))
}

/// The base rows of a range.
struct BaseRows {
    blocks: Option<Iter>,
    block: Option<Block>,
    /// The rows of `block` still to come.
    left: std::ops::Range<usize>,
}

/// Where the current row is.
enum Current {
    None,
    Base(usize),
    Over(Slice, Slice),
}

/// Walks the rows of a shard within a range, what lies over the base over it.
pub(crate) struct RowCursor {
    view: Arc<View>,
    shard: Arc<Shard>,
    range: KeyRange,
    direction: Direction,
    base: BaseRows,
    over: Overlay,
    over_next: Option<(Slice, Slice)>,
    current: Current,
}

impl RowCursor {
    pub(crate) fn new(
        view: Arc<View>,
        shard: Arc<Shard>,
        range: &KeyRange,
        direction: Direction,
    ) -> Result<Self> {
        let range = range.intersect(&shard.range);
        let empty = range.is_empty();
        let blocks = if empty {
            None
        } else {
            base_blocks(&view, &shard, &range)?
        };
        let mut cursor = Self {
            over: Overlay::new(&view, &shard, &range, direction)?,
            view,
            shard,
            range,
            direction,
            base: BaseRows {
                blocks,
                block: None,
                left: 0..0,
            },
            over_next: None,
            current: Current::None,
        };
        cursor.pull_over()?;
        Ok(cursor)
    }

    /// Goes to the next row; `false` at the end.
    pub(crate) fn advance(&mut self) -> Result<bool> {
        loop {
            self.fill_base()?;
            let base_next = match self.direction {
                Direction::Ascending => Some(self.base.left.start),
                Direction::Descending => self.base.left.end.checked_sub(1),
            }
            .filter(|_| !self.base.left.is_empty());
            let order = match (base_next, &self.over_next) {
                (None, None) => return Ok(false),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(at), Some((over_key, _))) => {
                    let order = self.base_key(at).cmp(over_key);
                    match self.direction {
                        Direction::Ascending => order,
                        Direction::Descending => order.reverse(),
                    }
                }
            };
            if order.is_le() {
                match self.direction {
                    Direction::Ascending => self.base.left.start += 1,
                    Direction::Descending => self.base.left.end -= 1,
                }
            }
            if order.is_lt() {
                self.current = base_next.map_or(Current::None, Current::Base);
                return Ok(true);
            }
            if let Some((key, value)) = self.over_next.take() {
                self.pull_over()?;
                if decode_over(&self.shard, &value)?.is_some() {
                    self.current = Current::Over(key, value);
                    return Ok(true);
                }
            }
        }
    }

    /// The key of the current row.
    ///
    /// # Panics
    /// [`Self::advance`] has not returned `true`.
    pub(crate) fn key(&self) -> &[u8] {
        match &self.current {
            Current::Base(at) => self.base_key(*at),
            Current::Over(key, _) => key,
            Current::None => panic!("a row was asked for before the first or after the last"),
        }
    }

    /// The value of the current row.
    ///
    /// # Panics
    /// As [`Self::key`].
    pub(crate) fn value(&self) -> &[u8] {
        match (&self.current, &self.base.block) {
            (Current::Base(at), Some(block)) => block.value(*at),
            (Current::Over(_, value), _) => &value[1..],
            _ => panic!("a row was asked for before the first or after the last"),
        }
    }

    fn base_key(&self, at: usize) -> &[u8] {
        let block = self.base.block.as_ref();
        block.expect("a row of a block that is loaded").key(at)
    }

    fn pull_over(&mut self) -> Result<()> {
        self.over_next = self.over.next(&self.view)?;
        Ok(())
    }

    /// Loads blocks until one has rows left. The current row lies in the block before: this is called
    /// only when it is left.
    fn fill_base(&mut self) -> Result<()> {
        while self.base.left.is_empty() {
            let Some(blocks) = &mut self.base.blocks else {
                return Ok(());
            };
            let entry = match self.direction {
                Direction::Ascending => blocks.next(),
                Direction::Descending => blocks.next_back(),
            };
            let Some(entry) = entry else {
                self.base.blocks = None;
                return Ok(());
            };
            let (key, value) = entry
                .into_inner()
                .map_err(|error| self.view.store.fault(error))?;
            let block = decode_block(&self.shard, &key, value)?;
            self.base.left = within(&block, &self.range);
            self.base.block = Some(block);
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
