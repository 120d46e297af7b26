//! Which key ranges of a table are mended, each by itself, and by which method: row by row, or as a new shard.
//!
//! The increments or the digests say how many keys may differ before any row is read. [`ChosenMethod::choose`] decides
//! by these numbers, which this module collects. A plan and the mend itself ask the same, so the mend does what was
//! planned.
//!
//! All shards of an index have one method: its rows follow from the rows of its table, wherever those are, or all of
//! them come from the backup.

use std::ops::ControlFlow;
use std::sync::Arc;

use mendb_engines::{LiveShard, LiveTable};
use mendb_model::key::KeyRange;
use mendb_model::manifest::{Manifest, ShardBackup, TableBackup};
use mendb_model::name::TablePath;
use mendb_model::operation::{ChosenMethod, RowTableMend, ShardOutlook};
use mendb_model::{Digest, IndexSchema, Version};

use crate::attempt::Tools;
use crate::error::Result;
use crate::sizes::{Sizes, add_within, segment_bytes};

/// A range that is mended.
pub(super) struct MendedRange {
    /// The table, or an index that is rebuilt.
    pub(super) path: TablePath,
    pub(super) range: KeyRange,
    pub(super) method: ChosenMethod,
    /// Bytes of segments that are read for it, about.
    pub(super) bytes: u64,
}

/// What tells which keys may differ.
pub(super) enum ChangedKeys<'a> {
    /// These increments changed them, and what changed on the target since the last of them, after this commit.
    Changes {
        increments: &'a [Arc<Manifest>],
        live_since: Option<Version>,
    },
    /// The digests of the wanted backup.
    Digests,
}

/// Finds the ranges of tables that are there.
pub(super) struct MendedRanges<'a> {
    pub(super) tools: &'a Tools,
    /// The backups up to the wanted one, oldest first.
    pub(super) chain: &'a [Arc<Manifest>],
    pub(super) changed_keys: ChangedKeys<'a>,
    /// Whether shards may be rebuilt: not where writers go on.
    pub(super) rebuilds: bool,
}

impl MendedRanges<'_> {
    /// The ranges of a table, in key order, and those of its indexes that are rebuilt.
    ///
    /// # Errors
    /// The target, or what backups say of their shards, cannot be read.
    pub(super) fn of_table(
        &self,
        table: &RowTableMend,
        backup: &TableBackup,
    ) -> Result<Vec<MendedRange>> {
        let path = TablePath::table(&table.table);
        if !self.rebuilds {
            return self.wanted_ranges(&path, table);
        }
        let mut ranges = match self.changed_keys {
            ChangedKeys::Changes { .. } => self.live_ranges(&path, table)?,
            ChangedKeys::Digests => self.ranges_by_digests(&path, table)?,
        };
        if is_whole(table) {
            let live = self.tools.engine.rows()?.inspect(&table.table)?;
            for index in live.iter().flat_map(|live| of_both(live, backup)) {
                ranges.extend(self.of_index(&TablePath::index(&table.table, index))?);
            }
        }
        Ok(ranges)
    }

    /// The shards of the backup, row by row.
    fn wanted_ranges(&self, path: &TablePath, table: &RowTableMend) -> Result<Vec<MendedRange>> {
        let shards = self.wanted_shards(path)?.into_iter();
        let ranges = shards.filter_map(|wanted| {
            Some(MendedRange {
                path: path.clone(),
                range: table.part_of(&wanted.range)?,
                method: ChosenMethod::choose(ShardOutlook {
                    keys: wanted.digest.rows,
                    live_rows: wanted.digest.rows,
                    wanted_rows: wanted.digest.rows,
                    is_whole: false,
                }),
                bytes: segment_bytes(&wanted),
            })
        });
        Ok(ranges.collect())
    }

    /// The live shards of a table, as far as they are mended.
    fn live_ranges(&self, path: &TablePath, table: &RowTableMend) -> Result<Vec<MendedRange>> {
        let shards = self.looked_at(path)?;
        let ranges = shards.into_iter().filter_map(|shard| {
            let range = table.part_of(&shard.live.range)?;
            let method = shard.method(is_whole(table));
            Some(MendedRange {
                path: path.clone(),
                bytes: match method.is_rebuild() {
                    true => shard.chain_bytes,
                    // Where nothing changed that is known: 0 would say that it is not.
                    false => shard.changed_bytes.max(1),
                },
                range,
                method,
            })
        });
        Ok(ranges.collect())
    }

    /// The live shards that are rebuilt; of the others, the shards of the backup, whose digests are known.
    fn ranges_by_digests(
        &self,
        path: &TablePath,
        table: &RowTableMend,
    ) -> Result<Vec<MendedRange>> {
        let (mut rebuilt, mut others) = (Vec::new(), Vec::new());
        for shard in self.looked_at(path)? {
            let method = shard.method(is_whole(table));
            match method.is_rebuild() {
                true => rebuilt.push(MendedRange {
                    path: path.clone(),
                    range: shard.live.range,
                    method,
                    bytes: shard.chain_bytes,
                }),
                false => others.push(shard),
            }
        }
        let mut ranges = Vec::new();
        for wanted in self.wanted_shards(path)? {
            let is_apart = |one: &MendedRange| one.range.intersect(&wanted.range).is_empty();
            let pieces = match rebuilt.iter().all(is_apart) {
                true => vec![wanted.range.clone()],
                false => {
                    let pieces = others.iter();
                    let pieces = pieces.map(|other| other.live.range.intersect(&wanted.range));
                    pieces.filter(|piece| !piece.is_empty()).collect()
                }
            };
            let mut same = others
                .iter()
                .filter(|other| other.live.range == wanted.range);
            let method = match same.next() {
                Some(shard) => shard.method(is_whole(table)),
                None => ChosenMethod::choose(ShardOutlook {
                    keys: wanted.digest.rows,
                    live_rows: wanted.digest.rows,
                    wanted_rows: wanted.digest.rows,
                    is_whole: false,
                }),
            };
            let pieces = pieces.into_iter().filter_map(|piece| table.part_of(&piece));
            ranges.extend(pieces.map(|range| MendedRange {
                path: path.clone(),
                range,
                method,
                bytes: segment_bytes(&wanted),
            }));
        }
        ranges.append(&mut rebuilt);
        ranges.sort_by(|one, other| one.range.start.cmp(&other.range.start));
        Ok(ranges)
    }

    /// The shards of an index, if it is rebuilt.
    fn of_index(&self, path: &TablePath) -> Result<Vec<MendedRange>> {
        let shards = self.looked_at(path)?;
        let sum = |of: fn(&ShardLook) -> u64| shards.iter().map(of).fold(0, u64::saturating_add);
        let method = ChosenMethod::choose(ShardOutlook {
            keys: sum(|shard| shard.keys),
            live_rows: sum(|shard| shard.live.digest.rows),
            wanted_rows: sum(|shard| shard.wanted_rows),
            is_whole: true,
        });
        if !method.is_rebuild() {
            return Ok(Vec::new());
        }
        let ranges = shards.into_iter().map(|shard| MendedRange {
            path: path.clone(),
            range: shard.live.range,
            method,
            bytes: shard.chain_bytes,
        });
        Ok(ranges.collect())
    }

    /// What is known of each live shard.
    fn looked_at(&self, path: &TablePath) -> Result<Vec<ShardLook>> {
        let live = self.tools.engine.rows()?.shards(path, &KeyRange::all())?;
        let wanted = self.wanted_shards(path)?;
        let mut of_chain: Vec<_> = live.iter().map(|shard| of_range(&shard.range)).collect();
        let mut of_changes = of_chain.clone();
        self.add(self.chain, path, &mut of_chain)?;
        if let ChangedKeys::Changes { increments, .. } = self.changed_keys {
            self.add(increments, path, &mut of_changes)?;
        }
        let mut looked_at = Vec::with_capacity(live.len());
        for ((live, (_, chain)), (_, changes)) in live.into_iter().zip(of_chain).zip(of_changes) {
            let wanted = overlapping(&wanted, &live.range);
            let keys = match self.changed_keys {
                _ if is_same(&live, wanted) => 0,
                ChangedKeys::Changes { live_since, .. } => {
                    changes.rows + self.changed_since(path, &live.range, live_since)?
                }
                ChangedKeys::Digests => u64::MAX,
            };
            looked_at.push(ShardLook {
                keys,
                wanted_rows: rows_within(wanted, &live.range),
                chain_bytes: chain.bytes,
                changed_bytes: changes.bytes,
                live,
            });
        }
        Ok(looked_at)
    }

    fn add(
        &self,
        backups: &[Arc<Manifest>],
        path: &TablePath,
        ranges: &mut [(KeyRange, Sizes)],
    ) -> Result<()> {
        for manifest in backups {
            let added = add_within(&self.tools.repository, manifest, path, ranges);
            self.tools.runtime.block_on(added)?;
        }
        Ok(())
    }

    /// How many keys of a range changed on the target after a commit.
    fn changed_since(
        &self,
        path: &TablePath,
        range: &KeyRange,
        since: Option<Version>,
    ) -> Result<u64> {
        let mut keys = 0;
        if let Some(since) = since {
            let engine = self.tools.engine.rows()?;
            engine.changes_since(path, range, since, &mut |block| {
                keys += block.len() as u64;
                ControlFlow::Continue(())
            })?;
        }
        Ok(keys)
    }

    fn wanted_shards(&self, path: &TablePath) -> Result<Vec<ShardBackup>> {
        let Some(wanted) = self.chain.last() else {
            return Ok(Vec::new());
        };
        let shards = self.tools.repository.shards(wanted, path);
        Ok(self.tools.runtime.block_on(shards)?)
    }
}

/// A live shard, and what is known of it.
struct ShardLook {
    live: LiveShard,
    /// That differ or may.
    keys: u64,
    wanted_rows: u64,
    /// Bytes of the segments up to the wanted backup.
    chain_bytes: u64,
    /// Bytes of the segments of increments after it.
    changed_bytes: u64,
}

impl ShardLook {
    fn method(&self, is_whole: bool) -> ChosenMethod {
        ChosenMethod::choose(ShardOutlook {
            keys: self.keys,
            live_rows: self.live.digest.rows,
            wanted_rows: self.wanted_rows,
            is_whole,
        })
    }
}

fn of_range(range: &KeyRange) -> (KeyRange, Sizes) {
    (range.clone(), Sizes::default())
}

/// Whether all keys of a table are mended.
fn is_whole(table: &RowTableMend) -> bool {
    table.range.is_none() && table.also.is_empty()
}

/// The indexes that a table has in the same way as in the backup: others are derived from its rows.
fn of_both<'a>(live: &'a LiveTable, backup: &'a TableBackup) -> impl Iterator<Item = &'a str> {
    let indexes = live.schema.indexes.iter();
    let is_same = |index: &&IndexSchema| {
        let is_backed_up = backup.indexes.iter().any(|one| one.index == index.name);
        is_backed_up && backup.schema.index(&index.name) == Some(*index)
    };
    indexes.filter(is_same).map(|index| index.name.as_str())
}

/// Those of the shards of a backup, which are in key order, that have keys of a range.
fn overlapping<'a>(wanted: &'a [ShardBackup], range: &KeyRange) -> &'a [ShardBackup] {
    let from = wanted.partition_point(|shard| !shard.range.ends_behind(&range.start));
    let behind = |shard: &ShardBackup| range.ends_behind(&shard.range.start);
    let to = from + wanted[from..].partition_point(behind);
    &wanted[from..to]
}

/// Whether a live shard has the digest of the wanted rows of its keys, as far as that is known.
fn is_same(live: &LiveShard, wanted: &[ShardBackup]) -> bool {
    let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else {
        return false;
    };
    let digest: Digest = wanted.iter().map(|shard| shard.digest).sum();
    let is_covered = first.range.start == live.range.start && last.range.end == live.range.end;
    is_covered && digest == live.digest
}

/// The rows of the shards of a backup that lie in a range as a whole.
fn rows_within(wanted: &[ShardBackup], range: &KeyRange) -> u64 {
    let within = wanted
        .iter()
        .filter(|shard| shard.range.intersect(range) == shard.range);
    within.map(|shard| shard.digest.rows).sum()
}
