//! The rows that some keys have at the end of a chain.
//!
//! Keys are looked up from the newest level to the oldest, and each level is asked only for those that
//! no newer one has settled: a reset or an erase leaves nothing to look for further back. Of each level
//! only the row groups are fetched that can hold one of its keys.
//!
//! Keys ascend, also from call to call, so that the group that held the last of them is the only one
//! that the next call can need again. It stays in memory, and no group is fetched twice.

use std::sync::Arc;

use mendb_model::key::KeyRange;
use mendb_model::manifest::Manifest;
use mendb_model::name::TablePath;
use mendb_model::{Change, ColumnType, Fold, Malformed, TableSchema};

use super::level::{Level, Levels, ReadCounts, ReadEstimate};
use super::stream::{DecodedGroup, GroupStream, Opened, Position};
use crate::arrow::Content;
use crate::error::Result;
use crate::repository::Repository;

/// One request is for at most this much, or one group.
const MOST_REQUEST_BYTES: u64 = 4 << 20;
/// Requests under way: keys that are far from each other wait for the store together. They hold at most
/// 32 MiB.
const MOST_REQUESTS_AT_ONCE: usize = 8;

/// Looks up keys in a chain of backups.
#[derive(Debug)]
pub struct ChainLookup {
    schema: TableSchema,
    types: Vec<ColumnType>,
    /// Oldest first.
    levels: Vec<LookupLevel>,
    requests_at_once: usize,
    last_key: Option<Vec<u8>>,
}

#[derive(Debug)]
struct LookupLevel {
    level: Arc<Level>,
    opened: Option<Opened>,
    /// The unit that was read last.
    last: Option<(usize, DecodedGroup)>,
    counts: ReadCounts,
}

impl Repository {
    /// Looks up keys of a range of a table in a chain of backups, oldest first, which begins with a full one.
    /// Of rows nothing is fetched yet. Keys outside of the range are not found.
    ///
    /// # Errors
    /// As [`Repository::read_chain`].
    ///
    /// # Panics
    /// The chain is empty, or another backup than its first is a full one, or none.
    pub async fn look_up_chain(
        &self,
        chain: &[Arc<Manifest>],
        path: &TablePath,
        range: &KeyRange,
    ) -> Result<ChainLookup> {
        let levels = Levels::new(self, chain, path, range).await?;
        assert_eq!(levels.content, Content::Rows, "rows need a full backup");
        let list = levels.list.into_iter().map(|level| LookupLevel {
            opened: None,
            last: None,
            counts: level.counts(),
            level,
        });
        Ok(ChainLookup {
            types: levels.schema.value_types(),
            schema: levels.schema,
            levels: list.collect(),
            requests_at_once: (self.options().transfers_at_once()).min(MOST_REQUESTS_AT_ONCE),
            last_key: None,
        })
    }
}

impl ChainLookup {
    /// The schema of the table in the last backup of the chain, which that of the rows is.
    pub fn schema(&self) -> &TableSchema {
        &self.schema
    }

    /// What was read so far, for each backup that has the table, oldest first.
    pub fn counts(&self) -> impl Iterator<Item = &ReadCounts> {
        self.levels.iter().map(|level| &level.counts)
    }

    /// What [`Self::look_up`] of ascending keys, in batches of `batch`, reads of a chain of which nothing
    /// was read, going by the manifests alone. It is exactly that when no newer change settles a key.
    /// Where one does, fewer groups are read, and what lies between others may come along or not.
    ///
    /// # Panics
    /// The keys do not ascend.
    pub fn estimate<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k [u8]>,
        batch: usize,
    ) -> ReadEstimate {
        let mut estimate = ReadEstimate::default();
        let mut seen: Vec<_> = self.levels.iter().map(|_| Seen::default()).collect();
        let mut last: Option<&[u8]> = None;
        for (number, key) in keys.into_iter().enumerate() {
            assert!(last < Some(key), "keys ascend");
            last = Some(key);
            for (level, seen) in self.levels.iter().zip(&mut seen) {
                if number.is_multiple_of(batch.max(1)) {
                    seen.count(&level.level, &mut estimate);
                }
                let unit = level.level.unit_with(key, &mut seen.begun);
                seen.add(unit);
            }
        }
        for (level, seen) in self.levels.iter().zip(&mut seen) {
            seen.count(&level.level, &mut estimate);
        }
        estimate
    }

    /// The rows of ascending keys, in their order; `None` for one that is absent. Keys ascend from call
    /// to call too. Holds the rows of all keys given, and a row group of each level.
    ///
    /// After an error, or when the future was dropped, the look-up is of no more use.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] and [`crate::Error::Damaged`] name the segment; or the store fails.
    ///
    /// # Panics
    /// The keys do not ascend.
    pub async fn look_up(&mut self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        let mut last = self.last_key.as_deref();
        for key in keys {
            assert!(last < Some(key), "keys ascend");
            last = Some(key);
        }
        self.last_key = last.map(<[u8]>::to_vec);
        let mut folds: Vec<_> = keys.iter().map(|_| Fold::default()).collect();
        let mut rows: Vec<Option<Vec<u8>>> = keys.iter().map(|_| None).collect();
        let mut in_full = vec![false; keys.len()];
        for level in self.levels.iter_mut().rev() {
            let content = level.level.content;
            let wanted = (0..keys.len()).filter(|at| !folds[*at].is_settled());
            let mut begun = 0;
            let wanted = wanted
                .filter_map(|at| Some((level.level.unit_with(keys[at], &mut begun)?, at)))
                .collect::<Vec<_>>();
            let found = |at: usize, value: &[u8]| match content {
                Content::Changes => folds[at].push_older(Change::decode(value)?, &self.types),
                Content::Rows => {
                    in_full[at] = true;
                    rows[at] = std::mem::take(&mut folds[at]).over(Some(value), &self.types)?;
                    Ok(())
                }
            };
            level
                .find(keys, &wanted, self.requests_at_once, found)
                .await?;
        }
        for ((fold, row), in_full) in folds.into_iter().zip(&mut rows).zip(in_full) {
            if !in_full {
                let made = fold.over(None, &self.types);
                *row = made.expect("a change of an absent row brings its own");
            }
        }
        Ok(rows)
    }
}

impl LookupLevel {
    /// Gives `found` the values of keys, named by their place, where the units that can hold them do.
    /// Units and keys ascend.
    async fn find(
        &mut self,
        keys: &[&[u8]],
        mut wanted: &[(usize, usize)],
        at_once: usize,
        mut found: impl FnMut(usize, &[u8]) -> Result<(), Malformed>,
    ) -> Result<()> {
        let mut units: Vec<_> = wanted.iter().map(|(unit, _)| *unit).collect();
        units.dedup();
        if let Some((last, group)) = &self.last
            && units.first() == Some(last)
        {
            units.remove(0);
            wanted = search(&self.level, *last, group, keys, wanted, &mut found)?;
        }
        if units.is_empty() {
            return Ok(());
        }
        let opened = self.opened.take();
        let level = Arc::clone(&self.level);
        let mut stream = GroupStream::new(level, &units, opened, MOST_REQUEST_BYTES, at_once);
        for unit in units {
            let Some((_, group)) = stream.next().await? else {
                break;
            };
            wanted = search(&self.level, unit, &group, keys, wanted, &mut found)?;
            self.last = Some((unit, group));
        }
        self.counts.add(stream.counts());
        self.opened = stream.opened();
        Ok(())
    }
}

/// Looks the first of the wanted keys, those of a unit, up in it, and returns the others.
fn search<'w>(
    level: &Level,
    unit: usize,
    group: &DecodedGroup,
    keys: &[&[u8]],
    wanted: &'w [(usize, usize)],
    found: &mut impl FnMut(usize, &[u8]) -> Result<(), Malformed>,
) -> Result<&'w [(usize, usize)]> {
    let (here, others) = wanted.split_at(wanted.partition_point(|(of, _)| *of <= unit));
    let mut position = Position::default();
    for (_, at) in here {
        if let Some(value) = group.find(keys[*at], &mut position) {
            let segment = &level.segments[level.units[unit].segment];
            found(*at, value).map_err(|error| segment.damaged(error))?;
        }
    }
    Ok(others)
}

/// What a look-up has planned to read of a level.
#[derive(Debug, Default)]
struct Seen {
    /// Of the batch under way.
    units: Vec<usize>,
    last: Option<usize>,
    opened: Option<usize>,
    /// As [`Level::unit_with`] has it.
    begun: usize,
}

impl Seen {
    fn add(&mut self, unit: Option<usize>) {
        if unit.is_some() && unit != self.last {
            self.last = unit;
            self.units.extend(unit);
        }
    }

    /// Counts what the batch reads.
    fn count(&mut self, level: &Level, estimate: &mut ReadEstimate) {
        let Some(last) = self.units.last() else {
            return;
        };
        let segment = level.units[*last].segment;
        level.estimate(&self.units, self.opened, MOST_REQUEST_BYTES, estimate);
        self.opened = Some(segment);
        self.units.clear();
    }
}
