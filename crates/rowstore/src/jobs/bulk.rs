//! Many changes of one table as one commit: sorted, and written in bulk.
//!
//! Changes are sorted by key, in files where they are many. The commit merges them with the rows that are
//! there, and writes one run to each shard of the table and of its indexes, or the base of an empty one. So it
//! costs what a restore of as many rows costs, and no row is written twice.
//!
//! *Memory*: what a [`crate::kernel::Sorter`] takes for the rows, and as much for all indexes together where they
//! are few. *Crash*: all of it or nothing.

use std::sync::{Arc, MutexGuard};

use mendb_model::change::ChangeRef;
use mendb_model::{Change, ChangeKind, Value};

use crate::batch;
use crate::catalogue::index_rows::{self, RowEdit};
use crate::catalogue::{Access, Shard, TableEntry};
use crate::commit::{Inner, Transaction};
use crate::error::{Error, Result};
use crate::jobs::sorted_edits::{TakeEdit, sort_edits};
use crate::jobs::{erase, lapse, split_or_pack, write};
use crate::kernel::{Merged, NOT_POISONED, Sorter};
use crate::shard::budget::Budget;
use crate::shard::index_edits;
use crate::shard::point::PointReader;
use crate::shard::shard_edits::{Purpose, ShardEdits, ShardEditsWriter};
use crate::shard::view::View;
use crate::table::Table;

/// Changes of one table that [`BulkWrite::commit`] commits together, however many they are.
///
/// Values are checked as they are added; a call that fails adds nothing. Later changes of a key come after
/// earlier ones. What does not fit into memory is in files without a name beside the store.
pub struct BulkWrite {
    inner: Arc<Inner>,
    table: Table,
    changes: u64,
    sorter: Sorter,
    /// A change as it is sorted.
    value: Vec<u8>,
}

/// What a bulk write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The version of the commit, or that of the last commit when nothing changed.
    pub version: u64,
    /// How many changes there were.
    pub changes: u64,
    /// How many keys they are of.
    pub keys: u64,
}

/// Why a bulk write was refused.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub error: Error,
    /// Whether it was committed all the same, and the disk then failed: whether it stays shows when the store is
    /// opened again. Otherwise nothing of it was written.
    pub is_committed: bool,
    /// Which change is at fault, if one is: how many were added before it.
    pub change: Option<u64>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self {
            error,
            is_committed: false,
            change: None,
        }
    }
}

impl BulkWrite {
    pub(crate) fn new(inner: Arc<Inner>, table: &Table) -> Self {
        Self {
            sorter: inner.store.sorter(),
            inner,
            table: table.clone(),
            changes: 0,
            value: Vec::new(),
        }
    }

    /// As [`crate::WriteBatch::upsert`].
    ///
    /// # Errors
    /// As there; or the disk is full.
    pub fn upsert(&mut self, row: &[(usize, Value)]) -> Result<()> {
        let (key, change) = batch::upsert_or_reset(&self.table, row)?;
        self.push(&key, &change)
    }

    /// As [`crate::WriteBatch::replace`].
    ///
    /// # Errors
    /// As there; or the disk is full.
    pub fn replace(&mut self, values: &[Value]) -> Result<()> {
        let (key, change) = batch::replace(&self.table, values)?;
        self.push(&key, &change)
    }

    /// As [`crate::WriteBatch::erase`].
    ///
    /// # Errors
    /// As there; or the disk is full.
    pub fn erase(&mut self, key: &[Value]) -> Result<()> {
        let key = self.table.key(key)?;
        self.push(&key, &Change::erase(0))
    }

    /// How many changes were added.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    fn push(&mut self, key: &[u8], change: &Change) -> Result<()> {
        batch::check_length(&self.table, change)?;
        self.value.clear();
        self.value.extend_from_slice(&self.changes.to_be_bytes());
        change.encode_into(&mut self.value);
        self.sorter.push(key, &self.value)?;
        self.changes += 1;
        Ok(())
    }

    /// Commits all of it, or on an error nothing, unless [`Refused::is_committed`]. Other writers wait meanwhile, readers do not. Calls `progress`
    /// with the number of changes that are merged, now and then; it must not write to the store itself.
    ///
    /// # Errors
    /// As [`crate::Database::write`].
    pub fn commit(self, progress: &mut dyn FnMut(u64)) -> std::result::Result<Written, Refused> {
        let Self {
            inner,
            table,
            changes,
            sorter,
            value: _,
        } = self;
        let mut sorted = sorter.finish()?;
        loop {
            let entry = inner.commit().catalogue.table(table.name())?.clone();
            let work = hold(&entry);
            let transaction = Transaction::begin(&inner);
            let now = transaction.catalogue().table(table.name())?;
            if !Arc::ptr_eq(now, &entry) {
                continue;
            }
            entry.check(Access::Write)?;
            table.check_current(&entry)?;
            let mut merging = Merging {
                view: transaction.view.clone(),
                entry: &entry,
                budget: Budget::default(),
                keys: 0,
                merged: 0,
            };
            let written = merging.run(&inner, &mut sorted, progress);
            let keys = merging.keys;
            let committed = written.and_then(|written| Ok(commit(transaction, written)?));
            let (version, logged_bytes) =
                committed.inspect_err(|_| erase::cut_off(&inner, entry.all_shards()))?;
            drop(work);
            inner.acknowledge().map_err(|error| Refused {
                error,
                is_committed: true,
                change: None,
            })?;
            lapse::after_logging(&inner, logged_bytes);
            let shards: Vec<_> = entry.all_shards().cloned().collect();
            split_or_pack::grown(&inner, &shards);
            return Ok(Written {
                version,
                changes,
                keys,
            });
        }
    }
}

/// Nobody replaces the shards of the table meanwhile, or writes their files.
fn hold(entry: &TableEntry) -> Vec<MutexGuard<'_, ()>> {
    let shards = entry.all_shards();
    shards
        .map(|shard| shard.work.lock().expect(NOT_POISONED))
        .collect()
}

/// Commits the edits: the version, or that of the last commit if there are none; and about how much they add to
/// change logs.
fn commit(mut transaction: Transaction<'_>, written: Vec<ShardEdits>) -> Result<(u64, u64)> {
    if written.is_empty() {
        return Ok((transaction.view.version(), 0));
    }
    let version = transaction.version;
    let in_blocks: u64 = written.iter().map(ShardEdits::logged_bytes).sum();
    for edits in written {
        transaction.put_edits(edits)?;
    }
    let logged_bytes = in_blocks + transaction.logged_bytes;
    transaction.commit()?;
    Ok((version, logged_bytes))
}

/// Merges sorted changes with the rows that are there.
struct Merging<'a> {
    view: Arc<View>,
    entry: &'a TableEntry,
    budget: Budget,
    keys: u64,
    merged: u64,
}

/// How often progress is told.
const TOLD_CHANGES: u64 = 10_000;

impl Merging<'_> {
    fn run(
        &mut self,
        inner: &Inner,
        changes: &mut Merged,
        progress: &mut dyn FnMut(u64),
    ) -> std::result::Result<Vec<ShardEdits>, Refused> {
        let entry = self.entry;
        let indexes = &entry.layout.indexes;
        let (mut written, sorted) = sort_edits(inner, entry, |take| {
            let mut written = Vec::new();
            for shard in &entry.rows {
                written.extend(self.merge_shard(shard, changes, take, progress)?);
            }
            Ok::<_, Refused>(written)
        })?;
        let purpose = self.purpose();
        for (index, edits) in indexes.iter().zip(sorted) {
            let shards = entry.shards(Some(&index.name))?;
            let conflict = |key: &[u8], other: &[u8], unique: usize| {
                index_rows::taken(entry, index, shards, [key, other], unique)
            };
            let conflict = index
                .unique
                .then_some(&conflict as index_edits::Conflict<'_>);
            written.extend(index_edits::write(
                &self.view,
                &self.budget,
                shards,
                edits,
                purpose,
                conflict,
            )?);
        }
        Ok(written)
    }

    fn purpose(&self) -> Purpose {
        Purpose::Write {
            is_logged: self.entry.keeps_changes(),
        }
    }

    /// Writes what becomes of the rows of a shard, and has the index rows sorted.
    fn merge_shard(
        &mut self,
        shard: &Arc<Shard>,
        changes: &mut Merged,
        take: TakeEdit<'_>,
        progress: &mut dyn FnMut(u64),
    ) -> std::result::Result<Option<ShardEdits>, Refused> {
        // Those of the shards before are taken.
        let end = shard.range.end.as_deref();
        let is_of_shard = |(key, _): &(&[u8], &[u8])| end.is_none_or(|end| *key < end);
        if changes.peek().filter(is_of_shard).is_none() {
            return Ok(None);
        }
        let entry = self.entry;
        let view = self.view.clone();
        let stats = view.stats(shard.id)?;
        let mut there = PointReader::new(view.clone(), shard.clone(), &stats);
        let mut writer = ShardEditsWriter::new(&view, &self.budget, shard, self.purpose())?;
        let mut key = Vec::new();
        let mut spare = Vec::new();
        while let Some((next, _)) = changes.peek().filter(is_of_shard) {
            key.clear();
            key.extend_from_slice(next);
            let before = there.get(&key)?;
            let mut after = before.clone();
            let mut last = 0;
            while let Some((next, value)) = changes.peek()
                && next == key
            {
                let (number, change) = decode(shard, value)?;
                last = number;
                self.apply(shard, &key, &change, &mut after, &mut spare)
                    .map_err(|error| at_fault(error, number))?;
                changes.take()?;
                self.merged += 1;
                if self.merged.is_multiple_of(TOLD_CHANGES) {
                    progress(self.merged);
                }
            }
            self.keys += 1;
            if before != after {
                let edit = RowEdit {
                    key: &key,
                    before: before.as_deref(),
                    after: after.as_deref(),
                };
                let edited = index_rows::edits(entry, edit, take);
                edited.map_err(|error| at_fault(error, last))?;
                writer.push(&key, edit.before, edit.after)?;
            }
            spare = after.unwrap_or(spare);
        }
        Ok(writer.finish()?)
    }

    /// Makes a row what it is after a change.
    fn apply(
        &self,
        shard: &Shard,
        key: &[u8],
        change: &ChangeRef<'_>,
        row: &mut Option<Vec<u8>>,
        spare: &mut Vec<u8>,
    ) -> Result<()> {
        let is_new = change.kind == ChangeKind::Upsert && row.is_none();
        let applied = change.apply_to(row, spare, &self.entry.layout.value_types);
        applied.map_err(|error| Error::damaged(shard.label(), error))?;
        match row {
            Some(row) => write::check_row(self.entry, shard, key, row, is_new),
            None => Ok(()),
        }
    }
}

fn at_fault(error: Error, change: u64) -> Refused {
    Refused {
        error,
        is_committed: false,
        change: Some(change),
    }
}

/// The number of a change and the change.
fn decode<'a>(shard: &Shard, value: &'a [u8]) -> Result<(u64, ChangeRef<'a>)> {
    let (number, change) = value
        .split_first_chunk()
        .expect("what is sorted is proved by its checksum");
    let change = ChangeRef::decode(change);
    let change = change.map_err(|error| Error::damaged(shard.label(), error))?;
    Ok((u64::from_be_bytes(*number), change))
}

#[cfg(test)]
mod tests {
    use mendb_model::{Column, ColumnType, TableSchema};

    use super::*;
    use crate::commit::open;
    use crate::jobs::tables;
    use crate::kernel::Options;

    #[test]
    fn a_commit_after_which_the_disk_fails_is_not_called_refused() {
        let dir = tempfile::tempdir().unwrap();
        let inner = Arc::new(open::open(dir.path(), Options::default()).unwrap());
        let schema = TableSchema {
            columns: vec![Column {
                name: "id".to_owned(),
                column_type: ColumnType::Int64,
                not_null: true,
            }],
            key: vec!["id".to_owned()],
            indexes: vec![],
        };
        tables::create(&inner, "t", schema, vec![]).unwrap();
        let table = Table::of(inner.commit().catalogue.table("t").unwrap());
        let mut bulk = BulkWrite::new(inner.clone(), &table);
        bulk.replace(&[Value::Int(1)]).unwrap();
        inner.store.fail_syncs();
        let refused = bulk.commit(&mut |_| ()).unwrap_err();
        assert!(refused.is_committed, "{refused:?}");
        // The store takes no more: nothing of the next one is there.
        let mut bulk = BulkWrite::new(inner.clone(), &table);
        bulk.replace(&[Value::Int(2)]).unwrap();
        let refused = bulk.commit(&mut |_| ()).unwrap_err();
        assert!(!refused.is_committed, "{refused:?}");
    }
}
