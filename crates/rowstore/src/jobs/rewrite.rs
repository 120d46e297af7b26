//! Splits, merges and compaction: adjacent shards are rewritten into others that take their place.
//!
//! # Consistency
//! The bulk is copied from a view, outside the write lock: readers and writers go on. From that view on
//! the keys that are written to the sources are captured, and brought over in rounds until few are left;
//! the last of them go into the same batch that swaps the shards in the catalogue.
//! What was copied is proved by the digests: those of the new shards add up to those of the old ones.
//!
//! Rows of all runs become rows of the base. What streams need of the change log becomes a run of records.
//!
//! # Crash
//! Before the swap the new shards are garbage in case of a crash, after it the old ones are.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::sync::Arc;

use mendb_model::key::{KeyRange, to_hex};
use mendb_model::name::TablePath;
use mendb_model::{Digest, Malformed};

use crate::catalogue::{self, Access, Shard, TableEntry, route, streams};
use crate::commit::{Inner, Transaction};
use crate::error::{Error, Result};
use crate::kernel::{Batch, NOT_POISONED, ShardId, Store};
use crate::shard::block_writer::{BlockWriter, Role};
use crate::shard::blocks::RangeBlocks;
use crate::shard::budget::Budget;
use crate::shard::log::{self, Records};
use crate::shard::point::PointReader;
use crate::shard::stats::ShardStats;
use crate::shard::view::View;
use crate::shard::{cursor, single};

/// At most this many captured keys are brought over under the write lock.
const FINAL_KEYS: usize = 1_000;
/// After this many rounds the rest is brought over under the write lock however many keys it is: writers
/// outpace us, so they have to wait.
const MAX_ROUNDS: usize = 8;
/// Into what adjacent shards are rewritten.
pub(crate) enum Divide {
    /// One shard for each of these adjacent ranges, which together are those of the sources.
    Into(Vec<KeyRange>),
    /// Two shards, the first of about half these bytes, or one when there is no block boundary between.
    Halves { bytes: u64 },
}

pub(crate) fn split(inner: &Inner, path: &TablePath, at: &[u8]) -> Result<()> {
    loop {
        let commit = inner.commit();
        let shard = route(commit.catalogue.shards(path)?, at);
        if shard.range.start == at {
            return Ok(());
        }
        let _work = shard.work.lock().expect(NOT_POISONED);
        let left = KeyRange {
            start: shard.range.start.clone(),
            end: Some(at.to_vec()),
        };
        let right = KeyRange {
            start: at.to_vec(),
            end: shard.range.end.clone(),
        };
        let divide = Divide::Into(vec![left, right]);
        if rewrite(inner, std::slice::from_ref(shard), divide, Access::Reshape)? {
            return Ok(());
        }
    }
}

pub(crate) fn merge(inner: &Inner, path: &TablePath, at: &[u8]) -> Result<()> {
    loop {
        let commit = inner.commit();
        let shards = commit.catalogue.shards(path)?;
        let right = shards.iter().position(|shard| shard.range.start == at);
        let Some(right) = right.filter(|right| *right > 0) else {
            return Err(Error::NoBoundary {
                path: path.to_string(),
                key: to_hex(at),
            });
        };
        let sources = &shards[right - 1..=right];
        let _left = sources[0].work.lock().expect(NOT_POISONED);
        let _right = sources[1].work.lock().expect(NOT_POISONED);
        let divide = Divide::Into(vec![whole(sources)]);
        if rewrite(inner, sources, divide, Access::Reshape)? {
            return Ok(());
        }
    }
}

/// Small shards are packed so many ...
const PACKED_SHARDS: usize = 256;
/// ... and so many bytes at a time, since each commit copies the list of the shards.
const PACKED_BYTES: u64 = 8 << 20;

pub(crate) fn compact(inner: &Inner, path: &TablePath) -> Result<()> {
    let catalogue = inner.commit().catalogue;
    let mut left = catalogue.shards(path)?;
    while !left.is_empty() {
        let view = inner.view()?;
        let together = packed_together(&view, left)?;
        drop(view);
        let (sources, rest) = left.split_at(together);
        if together > 0 {
            let work = sources.iter();
            let work = work.map(|shard| shard.work.lock().expect(NOT_POISONED));
            let _work: Vec<_> = work.collect();
            let ranges = sources.iter().map(|shard| shard.range.clone()).collect();
            if !rewrite(inner, sources, Divide::Into(ranges), Access::Reshape)? {
                // One of them was rewritten meanwhile: that one is left out now.
                continue;
            }
        }
        left = if together > 0 { rest } else { &left[1..] };
    }
    Ok(())
}

/// How many of the first shards are packed in one commit; none if the first is packed, or gone.
fn packed_together(view: &View, shards: &[Arc<Shard>]) -> Result<usize> {
    let mut together = 0;
    let mut bytes = 0;
    for shard in shards.iter().take(PACKED_SHARDS) {
        if view.catalogue().shard(shard.id).is_none() {
            break;
        }
        let stats = view.stats(shard.id)?;
        bytes += stats.bytes();
        if stats.is_packed() || (together > 0 && bytes > PACKED_BYTES) {
            break;
        }
        together += 1;
    }
    Ok(together)
}

/// The range of adjacent shards together.
fn whole(shards: &[Arc<Shard>]) -> KeyRange {
    let (first, last) = (&shards[0], &shards[shards.len() - 1]);
    KeyRange {
        start: first.range.start.clone(),
        end: last.range.end.clone(),
    }
}

/// Rewrites shards whose `work` the caller holds; `false` when they are no longer in the catalogue.
///
/// `access` is [`Access::Reshape`], which is refused while their table is being mended, also when the mend
/// begins in the middle, since it stages in the shards that were there when it began. Or it is
/// [`Access::Settle`], once it is published.
pub(crate) fn rewrite(
    inner: &Inner,
    sources: &[Arc<Shard>],
    divide: Divide,
    access: Access,
) -> Result<bool> {
    let Some((capture, view, ids)) = Capture::begin(inner, sources, &divide, access)? else {
        return Ok(false);
    };
    let swapped = build(&inner.store, &view, sources, divide, &ids)
        .and_then(|children| finish(&capture, view, children));
    if matches!(swapped, Ok(true)) {
        // From here on the new shards are those of the table, whatever fails.
        inner.sync()?;
        catalogue::retire(&inner.store, sources.iter());
    } else {
        inner.store.erase_shards(ids.iter().copied());
        for id in ids {
            inner.store.files().remove(id);
        }
    }
    swapped
}

/// Whether the shards are still those of their table, which must be open to it.
fn replaceable(
    transaction: &Transaction<'_>,
    sources: &[Arc<Shard>],
    access: Access,
) -> Result<bool> {
    let catalogue = transaction.catalogue();
    if !sources.iter().all(|s| catalogue.shard(s.id).is_some()) {
        return Ok(false);
    }
    let entry = catalogue.table(&sources[0].path.table)?;
    entry.check(access)?;
    Ok(true)
}

/// The capturing of the keys written to the sources, while it lasts.
struct Capture<'a> {
    inner: &'a Inner,
    sources: &'a [Arc<Shard>],
    access: Access,
}

/// A capture, the view that it captures from, and ids for the new shards.
type Begun<'a> = (Capture<'a>, Arc<View>, Vec<ShardId>);

impl<'a> Capture<'a> {
    /// Begins to capture; `None` when the sources are no longer in the catalogue.
    fn begin(
        inner: &'a Inner,
        sources: &'a [Arc<Shard>],
        divide: &Divide,
        access: Access,
    ) -> Result<Option<Begun<'a>>> {
        let mut transaction = Transaction::begin(inner);
        if !replaceable(&transaction, sources, access)? {
            return Ok(None);
        }
        for shard in sources {
            let captures = &mut transaction.writer().captures;
            captures.insert(shard.id, BTreeSet::new());
        }
        let ids = match divide {
            Divide::Into(ranges) => ranges.len(),
            Divide::Halves { .. } => 2,
        };
        let ids: Vec<ShardId> = (0..ids).map(|_| transaction.allocate_shard()).collect();
        for id in &ids {
            transaction.batch.doom_shard(*id);
        }
        // No reader can tell the difference, so this is no version of its own.
        transaction.version = transaction.view.version();
        let capture = Self {
            inner,
            sources,
            access,
        };
        let view = transaction.commit_then(Inner::view)?;
        Ok(Some((capture, view, ids)))
    }

    /// The keys captured since the last call.
    fn take(&self, transaction: &mut Transaction<'_>) -> BTreeSet<Vec<u8>> {
        let captures = &mut transaction.writer().captures;
        let mut keys = BTreeSet::new();
        for shard in self.sources {
            if let Some(captured) = captures.get_mut(&shard.id) {
                keys.append(captured);
            }
        }
        keys
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        let mut writer = self.inner.writer.lock().expect(NOT_POISONED);
        for shard in self.sources {
            writer.captures.remove(&shard.id);
        }
    }
}

/// A shard that is not in the catalogue yet.
struct Child {
    id: ShardId,
    range: KeyRange,
    stats: ShardStats,
}

/// Copies the sources as of the view.
fn build(
    store: &Store,
    view: &Arc<View>,
    sources: &[Arc<Shard>],
    divide: Divide,
    ids: &[ShardId],
) -> Result<Vec<Child>> {
    let mut children = Vec::with_capacity(ids.len());
    match divide {
        Divide::Into(ranges) => {
            for (id, range) in ids.iter().zip(ranges) {
                let blocks = RangeBlocks::new(view.clone(), sources, range.clone());
                let mut child = Child::new(*id, range);
                child.fill(store, &mut blocks.peekable(), None)?;
                children.push(child);
            }
        }
        Divide::Halves { bytes } => {
            let mut range = whole(sources);
            let mut blocks = RangeBlocks::new(view.clone(), sources, range.clone()).peekable();
            let mut limit = Some(bytes / 2);
            for id in ids {
                let mut child = Child::new(*id, range.clone());
                child.fill(store, &mut blocks, limit.take())?;
                if let Some(Ok(next)) = blocks.peek() {
                    range.start = next.key(0).to_vec();
                    child.range.end = Some(range.start.clone());
                }
                children.push(child);
                if blocks.peek().is_none() {
                    break;
                }
            }
            if let Some(Err(error)) = blocks.next() {
                return Err(error);
            }
        }
    }
    for child in &mut children {
        child.fill_log(store, view, sources)?;
    }
    Ok(children)
}

impl Child {
    fn new(id: ShardId, range: KeyRange) -> Self {
        Self {
            id,
            range,
            stats: ShardStats::default(),
        }
    }

    /// Copies blocks until there is none or the base has `limit` bytes.
    fn fill(
        &mut self,
        store: &Store,
        blocks: &mut Peekable<RangeBlocks>,
        limit: Option<u64>,
    ) -> Result<()> {
        if blocks.peek().is_none() {
            return Ok(());
        }
        let budget = Budget::default();
        let mut writer = BlockWriter::new(store.files(), &budget, self.id, 0);
        while limit.is_none_or(|limit| writer.bytes() < limit) {
            let Some(block) = blocks.next().transpose()? else {
                break;
            };
            writer.push_block(&block)?;
        }
        self.put(store, writer, Role::Base)
    }

    /// Commits what was written: nobody reads it yet.
    fn put(&mut self, store: &Store, writer: BlockWriter<'_>, role: Role) -> Result<()> {
        let Some(blocks) = writer.finish()? else {
            return Ok(());
        };
        if role == Role::Base {
            self.stats.digest = blocks.digest();
        }
        let mut batch = Batch::default();
        blocks.put(&mut batch, self.id, &mut self.stats, role);
        store.commit(batch)
    }

    /// Copies the change log as far as streams need it.
    fn fill_log(&mut self, store: &Store, view: &Arc<View>, sources: &[Arc<Shard>]) -> Result<()> {
        let entry = view.table(&sources[0].path.table)?;
        let floor = streams::floor(entry, view.version());
        let sources = catalogue::within(sources, &self.range);
        let mut log_floor = u64::MAX;
        for source in sources {
            log_floor = log_floor.min(view.stats(source.id)?.log_floor);
        }
        self.stats.log_floor = log_floor.max(floor);
        if !entry.keeps_changes() {
            return Ok(());
        }
        let budget = Budget::default();
        let end = self.stats.file_bytes;
        let mut run = BlockWriter::new(store.files(), &budget, self.id, end);
        let mut version = 0;
        for source in sources {
            let range = self.range.intersect(&source.range);
            let mut records = Records::new(view, source.clone(), range, floor)?;
            while let Some(record) = records.next()? {
                version = version.max(record.version);
                run.push(&record.record, &record.change)?;
            }
        }
        self.put(store, run, Role::Records { version })
    }
}

/// Brings over what was written since the view, then swaps the shards.
fn finish(capture: &Capture<'_>, view: Arc<View>, mut children: Vec<Child>) -> Result<bool> {
    let (inner, sources) = (capture.inner, capture.sources);
    let mut seen = view;
    let mut round = 0;
    let mut transaction = loop {
        let mut transaction = Transaction::begin(inner);
        if !replaceable(&transaction, sources, capture.access)? {
            return Ok(false);
        }
        let keys = capture.take(&mut transaction);
        if keys.len() <= FINAL_KEYS || round == MAX_ROUNDS {
            let now = transaction.view.clone();
            let batch = &mut transaction.batch;
            catch_up(batch, &mut children, sources, &keys, &seen, &now)?;
            break transaction;
        }
        // Nobody commits between the two.
        let now = inner.view()?;
        drop(transaction);
        let mut batch = Batch::default();
        catch_up(&mut batch, &mut children, sources, &keys, &seen, &now)?;
        inner.store.commit(batch)?;
        seen = now;
        round += 1;
    };

    let mut recorded = Digest::default();
    for shard in sources {
        recorded.merge(transaction.committed_stats(shard.id)?.digest);
    }
    let copied: Digest = children.iter().map(|child| child.stats.digest).sum();
    if recorded != copied {
        return Err(Error::damaged(
            sources[0].label(),
            Malformed {
                what: "rows",
                detail: format!("their digest is {copied}, recorded is {recorded}"),
            },
        ));
    }
    swap(&mut transaction, sources, children)?;
    transaction.commit()?;
    Ok(true)
}

/// Stages the rows and change records of `keys` that were written between two views.
fn catch_up(
    batch: &mut Batch,
    children: &mut [Child],
    sources: &[Arc<Shard>],
    keys: &BTreeSet<Vec<u8>>,
    seen: &Arc<View>,
    now: &Arc<View>,
) -> Result<()> {
    struct SourceReaders<'a> {
        shard: &'a Arc<Shard>,
        seen: PointReader,
        now: PointReader,
    }
    let mut readers = Vec::with_capacity(sources.len());
    for shard in sources {
        readers.push(SourceReaders {
            shard,
            seen: PointReader::new(seen.clone(), shard.clone(), &seen.stats(shard.id)?),
            now: PointReader::new(now.clone(), shard.clone(), &now.stats(shard.id)?),
        });
    }
    for key in keys {
        let source = readers
            .iter_mut()
            .find(|source| source.shard.range.contains(key))
            .expect("a captured key lies in the shard that captured it");
        let child = children
            .iter_mut()
            .find(|child| child.range.contains(key))
            .expect("the new shards cover what the old ones did");
        let before = source.seen.get(key)?;
        let after = source.now.get(key)?;
        let stats = &mut child.stats;
        if before != after {
            let (before, after) = (before.as_deref(), after.as_deref());
            single::stage_row(batch, child.id, stats, key, before, after);
        }
        for (record, change) in log::records_of_key(now, source.shard, key, seen.version())? {
            single::stage_change(batch, child.id, stats, &record, change);
        }
    }
    Ok(())
}

/// Puts the new shards in the place of the old ones, with their cursors.
fn swap(
    transaction: &mut Transaction<'_>,
    sources: &[Arc<Shard>],
    children: Vec<Child>,
) -> Result<()> {
    let path = &sources[0].path;
    let mut entry = TableEntry::clone(transaction.catalogue().table(&path.table)?);
    let mut new = Vec::with_capacity(children.len());
    for child in children {
        let mut parts = Vec::with_capacity(sources.len());
        for source in sources {
            let cursors = transaction.view.cursors(source.id)?.into_iter();
            let moved = cursors.map(|(key, at)| (cursor::moved_to(child.id, &key), at));
            parts.push(moved.collect());
        }
        for (key, at) in cursor::merge(parts) {
            transaction.put_meta(&key, &at);
        }
        transaction.put_stats(child.id, child.stats);
        transaction.batch.spare_shard(child.id);
        new.push(Arc::new(Shard::new(child.id, path.clone(), child.range)));
    }
    let shards = entry
        .shards_mut(path.index.as_deref())
        .expect("the table has the index of its shards");
    let at = shards
        .iter()
        .position(|shard| shard.id == sources[0].id)
        .expect("the sources are in the catalogue");
    shards.splice(at..at + sources.len(), new);
    for source in sources {
        transaction.remove_shard(source.id)?;
    }
    transaction.put_table(entry);
    Ok(())
}

#[cfg(test)]
mod tests {
    use mendb_model::{Column, ColumnType, TableSchema, Value};

    use super::*;
    use crate::WriteBatch;
    use crate::commit::open;
    use crate::jobs::{mending, tables, write};
    use crate::kernel::Options;
    use crate::snapshot::Snapshot;
    use crate::table::Table;

    /// Creates the table `t` with one row.
    fn with_row(inner: &Inner) {
        let schema = TableSchema {
            columns: vec![Column {
                name: "id".to_owned(),
                column_type: ColumnType::Int64,
                not_null: true,
            }],
            key: vec!["id".to_owned()],
            indexes: vec![],
        };
        tables::create(inner, "t", schema, vec![]).unwrap();
        let mut batch = WriteBatch::new();
        let table = Table::of(inner.commit().catalogue.table("t").unwrap());
        batch.replace(&table, vec![Value::Int(1)]).unwrap();
        write::write(inner, batch).unwrap();
    }

    #[test]
    fn shards_that_were_swapped_in_stay_when_the_disk_then_fails() {
        let dir = tempfile::tempdir().unwrap();
        let inner = open::open(dir.path(), Options::default()).unwrap();
        with_row(&inner);
        inner.store.fail_syncs();
        compact(&inner, &TablePath::table("t")).unwrap_err();
        drop(inner);
        let inner = open::open(dir.path(), Options::default()).unwrap();
        let snapshot = Snapshot::new(inner.view().unwrap());
        let path = TablePath::table("t");
        let read = snapshot.read_digest(&path, &KeyRange::all()).unwrap();
        assert_eq!(read.rows, 1);
        assert_eq!(read, snapshot.shards(&path).unwrap()[0].digest);
    }

    #[test]
    fn a_rewrite_in_which_a_mend_begins_is_given_up_and_leaves_the_shards() {
        let dir = tempfile::tempdir().unwrap();
        let inner = open::open(dir.path(), Options::default()).unwrap();
        with_row(&inner);
        let shards = || {
            let catalogue = inner.commit().catalogue;
            catalogue.shards(&TablePath::table("t")).unwrap().to_vec()
        };
        let sources = shards();

        let divide = Divide::Into(vec![KeyRange::all()]);
        let begun = Capture::begin(&inner, &sources, &divide, Access::Reshape);
        let (capture, view, ids) = begun.unwrap().unwrap();
        let children = build(&inner.store, &view, &sources, divide, &ids).unwrap();
        mending::begin(&inner, "mend-1", &["t".to_owned()]).unwrap();
        let refused = finish(&capture, view, children);
        assert!(matches!(refused, Err(Error::BeingMended { .. })));
        assert_eq!(shards()[0].id, sources[0].id);
        drop(capture);

        mending::abort(&inner, "mend-1").unwrap();
        compact(&inner, &TablePath::table("t")).unwrap();
        assert_ne!(shards()[0].id, sources[0].id);
    }
}
