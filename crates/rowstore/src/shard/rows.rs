//! The rows of one shard, one after the other, in either direction.

use std::sync::Arc;

use mendb_model::key::KeyRange;

use crate::catalogue::Shard;
use crate::error::Result;
use crate::kernel::{Direction, Entry};
use crate::shard::entry::decode_over;
use crate::shard::overlay::Overlay;
use crate::shard::pack::Block;
use crate::shard::stored_rows::{StoredBlocks, within};
use crate::shard::view::View;

/// The base rows of a range.
struct BaseRows {
    blocks: StoredBlocks,
    block: Option<Block>,
    /// The rows of `block` still to come.
    left: std::ops::Range<usize>,
}

/// Where the current row is.
enum Current {
    None,
    Base(usize),
    /// An entry of the overlay, whose row begins there.
    Over {
        key: Vec<u8>,
        entry: Vec<u8>,
        row_at: usize,
    },
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
    /// Memory of an entry that is done with.
    spare: Entry,
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
        let stats = view.stats(shard.id)?;
        let blocks = StoredBlocks::new(&view, stats.base(shard.id), &range, direction)?;
        let mut cursor = Self {
            over: Overlay::new(&view, &shard, &stats, &range, direction)?,
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
            spare: Entry::default(),
            current: Current::None,
        };
        cursor.pull_over()?;
        Ok(cursor)
    }

    /// Goes to the next row; `false` at the end.
    pub(crate) fn advance(&mut self) -> Result<bool> {
        if let Current::Over { key, entry, .. } =
            std::mem::replace(&mut self.current, Current::None)
        {
            self.spare = (key, entry);
        }
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
                if let Some(row) = decode_over(&self.shard, &value)? {
                    let row_at = value.len() - row.len();
                    self.current = Current::Over {
                        key,
                        entry: value,
                        row_at,
                    };
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
            Current::Over { key, .. } => key,
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
            (Current::Over { entry, row_at, .. }, _) => &entry[*row_at..],
            _ => panic!("a row was asked for before the first or after the last"),
        }
    }

    fn base_key(&self, at: usize) -> &[u8] {
        let block = self.base.block.as_ref();
        block.expect("a row of a block that is loaded").key(at)
    }

    fn pull_over(&mut self) -> Result<()> {
        let (mut key, mut value) = std::mem::take(&mut self.spare);
        let is_there = self.over.next_into(&mut key, &mut value)?;
        self.over_next = is_there.then_some((key, value));
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
