//! Single rows by key.

use std::sync::Arc;

use mendb_model::key::KeyRange;

use crate::catalogue::Shard;
use crate::error::Result;
use crate::kernel::{Cursor, Direction, Entry, Section, Tree};
use crate::shard::entry::{decode_over, split_delta_value};
use crate::shard::stats::ShardStats;
use crate::shard::stored_rows::StoredLookup;
use crate::shard::view::View;

/// Reads rows of one shard as readers of a view see them: keys that ascend cost least.
pub(crate) struct PointReader {
    view: Arc<View>,
    shard: Arc<Shard>,
    base: Option<StoredLookup>,
    /// By number, with their first keys.
    runs: Vec<(u64, Vec<u8>, StoredLookup)>,
    delta: Option<DeltaLookup>,
}

impl PointReader {
    /// `stats` are those of the view.
    pub(crate) fn new(view: Arc<View>, shard: Arc<Shard>, stats: &ShardStats) -> Self {
        let sees_staged = view.sees_staged(&shard);
        Self::seeing(view, shard, stats, sees_staged)
    }

    /// One that sees what is staged too, or does not.
    pub(crate) fn seeing(
        view: Arc<View>,
        shard: Arc<Shard>,
        stats: &ShardStats,
        sees_staged: bool,
    ) -> Self {
        let runs = stats.runs_seen(sees_staged);
        let runs = runs.map(|run| {
            let lookup = StoredLookup::new(run.stored(shard.id));
            (run.number, run.first_key.clone(), lookup)
        });
        Self {
            base: stats.base(shard.id).map(StoredLookup::new),
            runs: runs.collect(),
            delta: (stats.delta_bytes > 0).then(DeltaLookup::default),
            view,
            shard,
        }
    }

    /// The row of `key`, copied.
    pub(crate) fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.look_up(key)?.map(<[u8]>::to_vec))
    }

    /// The row of `key`.
    pub(crate) fn look_up(&mut self, key: &[u8]) -> Result<Option<&[u8]>> {
        let (view, shard) = (&self.view, &self.shard);
        let delta = match &mut self.delta {
            Some(delta) => delta.get(view, shard, key)?,
            None => None,
        };
        let delta = delta
            .map(|value| split_delta_value(shard, value))
            .transpose()?;
        let above = delta.map_or(0, |(next_run, _)| next_run);
        for (number, first_key, run) in self.runs.iter_mut().rev() {
            if *number < above {
                break;
            }
            if key < first_key.as_slice() {
                continue;
            }
            if let Some(value) = run.get(view, key)? {
                return decode_over(shard, value);
            }
        }
        if let Some((_, value)) = delta {
            return decode_over(shard, value);
        }
        match &mut self.base {
            Some(base) => base.get(view, key),
            None => Ok(None),
        }
    }
}

/// So many entries are passed over before the delta is asked anew.
const PASSED_OVER: usize = 32;

/// Looks up entries of the delta: it reads on from the last one where keys ascend.
#[derive(Default)]
struct DeltaLookup {
    ahead: Option<Ahead>,
}

struct Ahead {
    /// There is no entry from here to the next one.
    sought: Vec<u8>,
    entries: Cursor,
    next: Option<Entry>,
}

impl DeltaLookup {
    fn get(&mut self, view: &View, shard: &Shard, key: &[u8]) -> Result<Option<&[u8]>> {
        let is_ahead = match &mut self.ahead {
            Some(ahead) if ahead.sought.as_slice() <= key => ahead.reaches(key)?,
            _ => false,
        };
        if !is_ahead {
            let range = KeyRange {
                start: key.to_vec(),
                end: None,
            };
            let delta = Section::of_shard(Tree::Delta, shard.id);
            let mut entries = Cursor::new(&view.reader, &delta, &range, Direction::Ascending);
            self.ahead = Some(Ahead {
                sought: key.to_vec(),
                next: entries.next().transpose()?,
                entries,
            });
        }
        let next = self.ahead.as_ref().and_then(|ahead| ahead.next.as_ref());
        Ok(next.and_then(|(next, value)| (next == key).then_some(value.as_slice())))
    }
}

impl Ahead {
    /// Goes on to the first entry that is not before `key`, if it is near.
    fn reaches(&mut self, key: &[u8]) -> Result<bool> {
        for _ in 0..PASSED_OVER {
            match &self.next {
                Some((next, _)) if next.as_slice() < key => {
                    self.next = self.entries.next().transpose()?;
                }
                _ => {
                    self.sought.clear();
                    self.sought.extend_from_slice(key);
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}
