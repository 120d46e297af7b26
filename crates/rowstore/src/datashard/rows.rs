//! The rows of one shard, one after the other, in either direction.

use std::sync::Arc;

use mendb_model::key::KeyRange;

use crate::datashard::overlay::Overlay;
use crate::datashard::pack::Block;
use crate::datashard::point::{decode_over, read_block};
use crate::datashard::{Shard, ShardId};
use crate::error::Result;
use crate::kernel::{Cursor, Direction, Entry, Section, Tree};
use crate::view::View;

/// Base blocks that may hold rows of a range, in the order asked for.
pub(crate) struct BaseBlocks {
    shard: ShardId,
    places: Option<Cursor>,
}

impl BaseBlocks {
    /// Blocks are keyed by their last key, so what is asked of the engine begins at the start of the rows
    /// and ends with the first block at or after their end.
    pub(crate) fn new(
        view: &View,
        shard: &Shard,
        range: &KeyRange,
        direction: Direction,
    ) -> Result<Self> {
        let mut blocks = Self {
            shard: shard.id,
            places: None,
        };
        let base_end = view.stats(shard.id)?.base_end;
        let Some(mut last) = base_end.filter(|_| !range.is_empty()) else {
            return Ok(blocks);
        };
        let section = Section::of_shard(Tree::Blocks, shard.id);
        let places =
            |range: &KeyRange, direction| Cursor::new(&view.reader, &section, range, direction);
        if let Some(end) = range.end.as_ref().filter(|end| **end < last) {
            let from = KeyRange {
                start: end.clone(),
                end: None,
            };
            if let Some(first) = places(&from, Direction::Ascending).next() {
                last = first?.0;
            }
        }
        if last >= range.start {
            last.push(0);
            let range = KeyRange {
                start: range.start.clone(),
                end: Some(last),
            };
            blocks.places = Some(places(&range, direction));
        }
        Ok(blocks)
    }

    /// The next block.
    pub(crate) fn next(&mut self, view: &View) -> Result<Option<Block>> {
        match self.places.as_mut().and_then(Iterator::next).transpose()? {
            Some((last, place)) => read_block(view, self.shard, &last, &place).map(Some),
            None => {
                self.places = None;
                Ok(None)
            }
        }
    }
}

/// The base rows of a range.
struct BaseRows {
    blocks: BaseBlocks,
    block: Option<Block>,
    /// The rows of `block` still to come.
    left: std::ops::Range<usize>,
}

/// Where the current row is.
enum Current {
    None,
    Base(usize),
    Over(Entry),
}

/// Walks the rows of a shard within a range, what lies over the base over it.
pub(crate) struct RowCursor {
    view: Arc<View>,
    shard: Arc<Shard>,
    range: KeyRange,
    direction: Direction,
    base: BaseRows,
    over: Overlay,
    over_next: Option<Entry>,
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
        let blocks = BaseBlocks::new(&view, &shard, &range, direction)?;
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
                    self.current = Current::Over((key, value));
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
            Current::Over((key, _)) => key,
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
            (Current::Over((_, value)), _) => &value[1..],
            _ => panic!("a row was asked for before the first or after the last"),
        }
    }

    fn base_key(&self, at: usize) -> &[u8] {
        let block = self.base.block.as_ref();
        block.expect("a row of a block that is loaded").key(at)
    }

    fn pull_over(&mut self) -> Result<()> {
        self.over_next = self.over.next()?;
        Ok(())
    }

    /// Loads blocks until one has rows left. The current row lies in the block before: this is called
    /// only when it is left.
    fn fill_base(&mut self) -> Result<()> {
        while self.base.left.is_empty() {
            let Some(block) = self.base.blocks.next(&self.view)? else {
                return Ok(());
            };
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
