//! Builds whole shards of a table that is being mended anew, beside the live ones.
//!
//! For a shard of which much differs this costs what a restore of it costs: the wanted rows come as one sorted stream,
//! are compared with the live ones, which are sorted too, and are written once, packed. Nothing is looked up, and
//! nothing is packed again afterwards. A shard of an index is rebuilt in the same way, from the index rows of the
//! backup: nothing is sorted for it. Where only the rows are rebuilt, the run of the successor
//! ([`crate::shard::successor`]) holds what differs, and [`super::derive`] makes the index rows from it.
//!
//! # Consistency
//! As in [`super::stage`]: the mend alone writes the shard, and readers see none of it. When the new shard is whole, the
//! change log of the live one is copied as far as streams need it once the mend is published.
//!
//! # Idempotence
//! How far the successor is commits with its rows. A call covers all keys of the shard up to its last row, or up to
//! the end of the shard; it passes over the keys that are in.
//!
//! # Crash
//! A call that is cut off continues behind its last commit when it is repeated. An open keeps the files of successors.
//!
//! *Trust*: rows are taken as they come, as [`super::load`] takes them: the mend proves digests before readers see
//! any row, and index rows that cannot be made of them are an error.
//!
//! *Memory*: the rows of a call, and a batch of what differs.

use std::cmp::Ordering;
use std::sync::Arc;

use mendb_model::key::KeyRange;
use mendb_model::{Digest, Replaced, RowBlock, StagedCounts};

use crate::catalogue::{PathState, Shard, TableEntry, mends, streams};
use crate::commit::{Inner, Transaction};
use crate::error::{Error, Result};
use crate::jobs::derive;
use crate::jobs::load::{BATCH_BYTES, check_rows};
use crate::jobs::stage::Staged;
use crate::kernel::{Direction, NOT_POISONED, ShardId};
use crate::shard::block_writer::{BlockWriter, Role, WrittenBlocks};
use crate::shard::budget::Budget;
use crate::shard::log::Records;
use crate::shard::rows::RowCursor;
use crate::shard::stats::ShardStats;
use crate::shard::successor::Successor;
use crate::shard::view::View;

pub(crate) fn rebuild<B: AsRef<[u8]>>(
    inner: &Inner,
    id: ShardId,
    operation: &str,
    ended_streams: &[String],
    rows: &RowBlock<B>,
    is_last: bool,
) -> Result<Staged> {
    let Some(shard) = inner.commit().catalogue.shard(id).cloned() else {
        return Ok(Staged::Gone);
    };
    let _work = shard.work.lock().expect(NOT_POISONED);
    let view = inner.view()?;
    if view.catalogue().shard(id).is_none() {
        return Ok(Staged::Gone);
    }
    let entry = mends::open_to(view.catalogue(), &shard.path.table, operation)?.clone();
    check_rows(&shard, rows)?;
    drop(view);
    let rebuilding = Rebuilding {
        inner,
        entry: &entry,
        shard: &shard,
        operation,
        ended_streams,
    };
    let mut successor = rebuilding.begin()?;
    let mut staged = StagedCounts::default();
    while !is_done(&successor, rows, is_last) {
        let view = inner.view()?;
        let batch = rebuilding.compare(&view, &successor, rows, is_last)?;
        staged.upserted += batch.rows.upserted;
        staged.erased += batch.rows.erased;
        staged.kept += batch.rows.kept;
        staged.bytes += batch.rows.bytes;
        successor = batch.successor.clone();
        rebuilding.commit(batch)?;
    }
    inner.acknowledge()?;
    Ok(Staged::Done(staged))
}

/// Whether a successor has all that a call is about.
fn is_done<B: AsRef<[u8]>>(successor: &Successor, rows: &RowBlock<B>, is_last: bool) -> bool {
    successor.is_whole || !is_last && rows.last_key() <= successor.up_to.as_deref()
}

/// One call, while it holds the shard.
struct Rebuilding<'a> {
    inner: &'a Inner,
    entry: &'a Arc<TableEntry>,
    shard: &'a Arc<Shard>,
    operation: &'a str,
    /// Need nothing once the mend is published.
    ended_streams: &'a [String],
}

/// Some of the keys of a shard, live and wanted.
struct Batch {
    /// Rows that stay.
    kept: Option<WrittenBlocks>,
    /// What becomes of the others.
    changed: Option<WrittenBlocks>,
    /// What streams need of the change log of the live shard, and the last version of it.
    log: Option<(WrittenBlocks, u64)>,
    /// Digest of the wanted rows.
    digest: Digest,
    rows: StagedCounts,
    /// How far the successor is with it.
    successor: Successor,
}

impl Rebuilding<'_> {
    /// The successor of the shard, which is made if there is none.
    fn begin(&self) -> Result<Successor> {
        let mut transaction = self.transaction()?;
        let stats = transaction.committed_stats(self.shard.id)?;
        if let Some(successor) = stats.successor {
            return Ok(successor);
        }
        if stats.staged.is_some() {
            return Err(Error::OtherMethod {
                shard: self.shard.id,
            });
        }
        let successor = Successor::new(transaction.allocate_shard());
        let empty = ShardStats {
            log_floor: stats.log_floor,
            ..ShardStats::default()
        };
        transaction.put_stats(successor.id, empty);
        transaction.put_successor(self.shard, successor.clone())?;
        transaction.commit()?;
        Ok(successor)
    }

    /// A commit that no reader can tell.
    fn transaction(&self) -> Result<Transaction<'_>> {
        let mut transaction = Transaction::begin(self.inner);
        // It may have been published since, or aborted, and even begun again.
        let table = &self.shard.path.table;
        let now = mends::open_to(transaction.catalogue(), table, self.operation)?;
        if now.state != self.entry.state {
            return Err(Error::NotMending {
                table: table.clone(),
                operation: self.operation.to_owned(),
            });
        }
        transaction.version = transaction.view.version();
        Ok(transaction)
    }

    /// Walks live and wanted rows side by side, from where the successor is until they fill a batch.
    fn compare<B: AsRef<[u8]>>(
        &self,
        view: &Arc<View>,
        successor: &Successor,
        rows: &RowBlock<B>,
        is_last: bool,
    ) -> Result<Batch> {
        let mut side_by_side = SideBySide::new(self, view, successor, rows, is_last)?;
        let stats = view.stats(successor.id)?;
        let budget = Budget::default();
        let writer = |end| BlockWriter::new(&view.files, &budget, successor.id, end);
        let mut kept = writer(stats.file_bytes);
        // Both go to one file, one after the other.
        let mut changed = BlockWriter::held(&view.files, &budget, successor.id);
        let mut counted = StagedCounts::default();
        let mut digest = Digest::default();
        let mut bytes = 0;
        // All that the call is about, unless the batch is full before.
        let mut up_to = match rows.last_key() {
            Some(last) => Some(
                last.max(successor.up_to.as_deref().unwrap_or_default())
                    .to_vec(),
            ),
            None => successor.up_to.clone(),
        };
        while let Some(Pair { key, live, wanted }) = side_by_side.pair() {
            bytes += key.len() + wanted.map_or(0, <[u8]>::len);
            if let Some(wanted) = wanted
                && live == Some(wanted)
            {
                kept.push(key, wanted)?;
                counted.kept += 1;
            } else {
                if let Some(wanted) = wanted {
                    digest.add(key, wanted);
                    counted.upserted += 1;
                } else {
                    counted.erased += 1;
                }
                counted.bytes += (key.len() + wanted.map_or(0, <[u8]>::len)) as u64;
                changed.push_entry(key, Replaced::of(key, live), wanted)?;
            }
            let is_full = bytes >= BATCH_BYTES;
            if is_full {
                up_to = Some(key.to_vec());
            }
            let (live, wanted) = (live.is_some(), wanted.is_some());
            side_by_side.advance(live, wanted)?;
            if is_full {
                break;
            }
        }
        let is_whole = is_last && side_by_side.pair().is_none();
        let kept = kept.finish()?;
        let mut end = stats.file_bytes + kept.as_ref().map_or(0, WrittenBlocks::file_bytes);
        if let Some(kept) = &kept {
            digest.merge(kept.digest());
        }
        let changed = changed.finish_at(end)?;
        end += changed.as_ref().map_or(0, WrittenBlocks::file_bytes);
        let log = match is_whole {
            true => self.copy_log(view, writer(end))?,
            false => None,
        };
        Ok(Batch {
            kept,
            changed,
            log,
            digest,
            rows: counted,
            successor: Successor {
                id: successor.id,
                up_to,
                is_whole,
            },
        })
    }

    /// Copies what streams need of the change log of the live shard when the mend is published.
    fn copy_log(
        &self,
        view: &Arc<View>,
        mut run: BlockWriter<'_>,
    ) -> Result<Option<(WrittenBlocks, u64)>> {
        let floor = self.log_floor(view);
        if view.stats(self.shard.id)?.log_bytes_after(floor) == 0 || floor >= self.begun_at() {
            return Ok(None);
        }
        let range = self.shard.range.clone();
        let mut records = Records::new(view, self.shard.clone(), range, floor)?;
        let mut version = 0;
        while let Some(record) = records.next()? {
            version = version.max(record.version);
            run.push(&record.record, &record.change)?;
        }
        Ok(run.finish()?.map(|run| (run, version)))
    }

    /// Up to which version no stream needs changes once the mend is published. One that was cut while the table was
    /// closed to writers needs none from before: what it was cut for is kept then, or given up with the mend.
    fn log_floor(&self, view: &View) -> u64 {
        let begun_at = self.begun_at();
        let mut entry = TableEntry::clone(self.entry);
        let ended = self.ended_streams;
        entry.streams.retain(|name, _| !ended.contains(name));
        for stream in entry.streams.values_mut() {
            if stream.lasts() && stream.attached_at > begun_at {
                stream.needed_after = stream.attached_at;
            }
        }
        streams::floor(&entry, view.version())
    }

    /// The version of the last commit that others made to the table.
    fn begun_at(&self) -> u64 {
        match self.entry.state {
            PathState::Mending { begun_at, .. } => begun_at,
            _ => u64::MAX,
        }
    }

    fn commit(&self, batch: Batch) -> Result<()> {
        let mut transaction = self.transaction()?;
        let successor = batch.successor.shard(self.shard);
        let nothing = Digest::default();
        if let Some(kept) = batch.kept {
            transaction.put_blocks(&successor, kept, Role::Base, nothing, nothing)?;
        }
        if let Some(changed) = batch.changed {
            transaction.put_blocks(&successor, changed, Role::Beside, nothing, nothing)?;
            derive::expect(&mut transaction, self.entry);
        }
        if let Some((log, version)) = batch.log {
            let role = Role::Records { version };
            transaction.put_blocks(&successor, log, role, nothing, nothing)?;
        }
        let floor = self.log_floor(&transaction.view);
        let stats = transaction.stats(&successor)?;
        stats.digest.merge(batch.digest);
        stats.log_floor = stats.log_floor.max(floor);
        transaction.put_successor(self.shard, batch.successor)?;
        transaction.commit()
    }
}

/// What a key holds, and what it is wanted to.
struct Pair<'a> {
    key: &'a [u8],
    live: Option<&'a [u8]>,
    wanted: Option<&'a [u8]>,
}

/// Live and wanted rows of a range, in the order of their keys.
struct SideBySide<'a, B> {
    live: RowCursor,
    has_live: bool,
    rows: &'a RowBlock<B>,
    row: usize,
}

impl<'a, B: AsRef<[u8]>> SideBySide<'a, B> {
    /// All behind what a successor has, up to the last of the rows, or to the end of the shard.
    fn new(
        of: &Rebuilding<'_>,
        view: &Arc<View>,
        successor: &Successor,
        rows: &'a RowBlock<B>,
        is_last: bool,
    ) -> Result<Self> {
        let behind = |key: &[u8]| [key, &[0]].concat();
        let range = KeyRange {
            start: match &successor.up_to {
                Some(up_to) => behind(up_to),
                None => of.shard.range.start.clone(),
            },
            end: match is_last {
                true => of.shard.range.end.clone(),
                false => rows.last_key().map(behind),
            },
        };
        let row = rows.lower_bound(&range.start);
        let ascending = Direction::Ascending;
        let live = RowCursor::new(view.clone(), of.shard.clone(), &range, ascending)?;
        let mut side_by_side = Self {
            live,
            has_live: false,
            rows,
            row,
        };
        side_by_side.has_live = side_by_side.live.advance()?;
        Ok(side_by_side)
    }

    /// What comes next.
    fn pair(&self) -> Option<Pair<'_>> {
        let live = self.has_live.then(|| self.live.key());
        let wanted = (self.row < self.rows.len()).then(|| self.rows.key(self.row));
        let (key, order) = match (live, wanted) {
            (Some(live), Some(wanted)) => match live.cmp(wanted) {
                Ordering::Greater => (wanted, Ordering::Greater),
                order => (live, order),
            },
            (Some(live), None) => (live, Ordering::Less),
            (None, Some(wanted)) => (wanted, Ordering::Greater),
            (None, None) => return None,
        };
        Some(Pair {
            key,
            live: order.is_le().then(|| self.live.value()),
            wanted: order.is_ge().then(|| self.rows.value(self.row)),
        })
    }

    /// Goes on behind it: behind a live row, a wanted one, or both.
    fn advance(&mut self, live: bool, wanted: bool) -> Result<()> {
        if live {
            self.has_live = self.live.advance()?;
        }
        self.row += usize::from(wanted);
        Ok(())
    }
}
