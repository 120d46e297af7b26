//! What lies over the base: rows and tombstones of the runs and of the delta.
//!
//! Runs lie over each other by their numbers. An entry of the delta bears the number that the next run had
//! when it was written: it lies over the runs below that, and beneath the others.

use std::cmp::Ordering;
use std::sync::Arc;

use mendb_model::key::KeyRange;

use crate::catalogue::Shard;
use crate::error::Result;
use crate::kernel::{Cursor, Direction, Entry, Section, Tree};
use crate::shard::entry::{NUMBER_BYTES, split_delta_value};
use crate::shard::stats::ShardStats;
use crate::shard::stored_rows::StoredRows;
use crate::shard::view::View;

/// The entries of the delta of a range, with the next one at hand.
struct DeltaRows {
    shard: Arc<Shard>,
    entries: Cursor,
    next: Option<(u64, Entry)>,
}

impl DeltaRows {
    fn take(&mut self) -> Result<()> {
        self.next = match self.entries.next().transpose()? {
            Some((key, mut value)) => {
                let (number, _) = split_delta_value(&self.shard, &value)?;
                value.drain(..NUMBER_BYTES);
                Some((number, (key, value)))
            }
            None => None,
        };
        Ok(())
    }
}

/// The entries over the base within a range, one a key.
pub(crate) struct Overlay {
    delta: Option<DeltaRows>,
    /// With their numbers.
    runs: Vec<(u64, StoredRows)>,
    direction: Direction,
}

impl Overlay {
    /// Those that readers of the view see.
    pub(crate) fn new(
        view: &Arc<View>,
        shard: &Arc<Shard>,
        stats: &ShardStats,
        range: &KeyRange,
        direction: Direction,
    ) -> Result<Self> {
        let runs = stats.runs_seen(view.sees_staged(shard));
        let runs = runs.map(|run| {
            let stored = Some(run.stored(shard.id));
            Ok((run.number, StoredRows::new(view, stored, range, direction)?))
        });
        let runs = runs.collect::<Result<_>>()?;
        let delta = (stats.delta_bytes > 0).then(|| {
            let section = Section::of_shard(Tree::Delta, shard.id);
            let mut delta = DeltaRows {
                shard: shard.clone(),
                entries: Cursor::new(&view.reader, &section, range, direction),
                next: None,
            };
            delta.take().map(|()| delta)
        });
        Ok(Self {
            delta: delta.transpose()?,
            runs,
            direction,
        })
    }

    /// Only what is staged.
    pub(crate) fn staged(
        view: &Arc<View>,
        shard: &Arc<Shard>,
        stats: &ShardStats,
        range: &KeyRange,
    ) -> Result<Self> {
        let direction = Direction::Ascending;
        let runs = stats.runs.iter().filter(|run| run.is_staged);
        let runs = runs.map(|run| {
            let stored = Some(run.stored(shard.id));
            Ok((run.number, StoredRows::new(view, stored, range, direction)?))
        });
        Ok(Self {
            delta: None,
            runs: runs.collect::<Result<_>>()?,
            direction,
        })
    }

    /// The next key that has an entry, with its uppermost value.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        let (mut key, mut value) = Entry::default();
        let is_there = self.next_into(&mut key, &mut value)?;
        Ok(is_there.then_some((key, value)))
    }

    /// The next entry in the memory of another one; `false` at the end.
    pub(crate) fn next_into(&mut self, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Result<bool> {
        let delta = self.delta.as_ref().and_then(|delta| delta.next.as_ref());
        // The uppermost entry of the first key so far: of which run, or the delta.
        let mut first: Option<(&[u8], u64, Option<usize>)> =
            delta.map(|(number, (key, _))| (key.as_slice(), *number, None));
        for (at, (number, rows)) in self.runs.iter().enumerate() {
            let Some((key, _)) = rows.peek() else {
                continue;
            };
            let order = first.map_or(Ordering::Less, |(first, _, _)| match self.direction {
                Direction::Ascending => key.cmp(first),
                Direction::Descending => first.cmp(key),
            });
            // An entry of the delta has the number of the first run that lies over it.
            let is_over = first.is_none_or(|(_, over, _)| *number >= over);
            if order.is_lt() || (order.is_eq() && is_over) {
                first = Some((key, *number, Some(at)));
            }
        }
        let Some((first_key, _, uppermost)) = first else {
            return Ok(false);
        };
        let uppermost = match uppermost {
            Some(at) => self.runs[at].1.peek().map(|(_, value)| value),
            None => delta.map(|(_, (_, value))| value.as_slice()),
        };
        key.clear();
        key.extend_from_slice(first_key);
        value.clear();
        value.extend_from_slice(uppermost.unwrap_or_default());
        if let Some(delta) = &mut self.delta
            && delta
                .next
                .as_ref()
                .is_some_and(|(_, (next, _))| next == key)
        {
            delta.take()?;
        }
        for (_, rows) in &mut self.runs {
            if rows.peek().is_some_and(|(next, _)| next == key) {
                rows.take()?;
            }
        }
        Ok(true)
    }
}
