//! The rows of a shard as packed blocks, in key order.
//!
//! A base block into which no row over it falls and that lies in the range as a whole is passed on as it
//! is: this is the fast path of backup, compaction and splits.

use std::collections::VecDeque;
use std::sync::Arc;

use mendb_model::key::KeyRange;

use crate::catalogue::{self, Shard};
use crate::error::Result;
use crate::kernel::{Direction, Entry};
use crate::shard::entry::decode_over;
use crate::shard::overlay::Overlay;
use crate::shard::pack::{Block, Packer};
use crate::shard::stored_rows::{StoredBlocks, within};
use crate::shard::view::View;

/// Blocks of one shard within a range.
struct ShardBlocks {
    view: Arc<View>,
    shard: Arc<Shard>,
    range: KeyRange,
    base: Option<StoredBlocks>,
    over: Overlay,
    over_next: Option<Entry>,
    /// Memory of an entry that is done with.
    spare: Entry,
    packer: Packer,
    ready: VecDeque<Block>,
}

impl ShardBlocks {
    fn new(view: Arc<View>, shard: Arc<Shard>, range: &KeyRange) -> Result<Self> {
        let range = range.intersect(&shard.range);
        let stats = view.stats(shard.id)?;
        let ascending = Direction::Ascending;
        let base = StoredBlocks::new(&view, stats.base(shard.id), &range, ascending)?;
        let mut blocks = Self {
            base: Some(base),
            over: Overlay::new(&view, &shard, &stats, &range, ascending)?,
            view,
            shard,
            range,
            over_next: None,
            spare: Entry::default(),
            packer: Packer::default(),
            ready: VecDeque::new(),
        };
        blocks.pull_over()?;
        Ok(blocks)
    }

    fn next(&mut self) -> Result<Option<Block>> {
        loop {
            if let Some(block) = self.ready.pop_front() {
                return Ok(Some(block));
            }
            if self.base.is_none() && self.over_next.is_none() {
                return Ok(self.packer.finish());
            }
            self.step()?;
        }
    }

    /// Takes the next base block, or when there is none the next row over them.
    fn step(&mut self) -> Result<()> {
        let block = match &mut self.base {
            Some(base) => base.next(&self.view)?,
            None => None,
        };
        let Some(block) = block else {
            self.base = None;
            return self.take_over();
        };
        let rows = within(&block, &self.range);
        while self.over_before(block.key(0)) {
            self.take_over()?;
        }
        let untouched = self
            .over_next
            .as_ref()
            .is_none_or(|(over_key, _)| block.last_key() < Some(over_key.as_slice()));
        if untouched && rows == (0..block.len()) {
            self.ready.extend(self.packer.finish());
            self.ready.push_back(block);
            return Ok(());
        }
        for row in rows {
            let key = block.key(row);
            while self.over_before(key) {
                self.take_over()?;
            }
            if self.over_next.as_ref().is_some_and(|(k, _)| k == key) {
                self.take_over()?;
            } else {
                self.push(key, block.value(row));
            }
        }
        Ok(())
    }

    fn over_before(&self, key: &[u8]) -> bool {
        self.over_next
            .as_ref()
            .is_some_and(|(k, _)| k.as_slice() < key)
    }

    fn take_over(&mut self) -> Result<()> {
        if let Some((key, value)) = self.over_next.take() {
            if let Some(row) = decode_over(&self.shard, &value)? {
                self.push(&key, row);
            }
            self.spare = (key, value);
            self.pull_over()?;
        }
        Ok(())
    }

    fn push(&mut self, key: &[u8], value: &[u8]) {
        self.packer.push(key, value);
        if self.packer.is_full() {
            self.ready.extend(self.packer.finish());
        }
    }

    fn pull_over(&mut self) -> Result<()> {
        let (mut key, mut value) = std::mem::take(&mut self.spare);
        let is_there = self.over.next_into(&mut key, &mut value)?;
        self.over_next = is_there.then_some((key, value));
        Ok(())
    }
}

/// Blocks of adjacent shards within a range, in key order; ends after the first error.
pub(crate) struct RangeBlocks {
    view: Arc<View>,
    shards: VecDeque<Arc<Shard>>,
    range: KeyRange,
    current: Option<ShardBlocks>,
}

impl RangeBlocks {
    /// `shards` are in key order; those outside the range are skipped.
    pub(crate) fn new(view: Arc<View>, shards: &[Arc<Shard>], range: KeyRange) -> Self {
        let shards = catalogue::within(shards, &range);
        let shards = shards.iter().cloned().collect();
        Self {
            view,
            shards,
            range,
            current: None,
        }
    }

    fn pull(&mut self) -> Result<Option<Block>> {
        loop {
            if let Some(current) = &mut self.current
                && let Some(block) = current.next()?
            {
                return Ok(Some(block));
            }
            let Some(shard) = self.shards.pop_front() else {
                self.current = None;
                return Ok(None);
            };
            self.current = Some(ShardBlocks::new(self.view.clone(), shard, &self.range)?);
        }
    }
}

impl Iterator for RangeBlocks {
    type Item = Result<Block>;

    fn next(&mut self) -> Option<Self::Item> {
        let pulled = self.pull();
        if pulled.is_err() {
            self.shards.clear();
            self.current = None;
        }
        pulled.transpose()
    }
}
