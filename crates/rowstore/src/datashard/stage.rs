//! Wanted rows into the layers of a table that is being mended.
//!
//! # Consistency
//! What a batch stages for the table, for its indexes, and how far it came are one commit. Readers see
//! none of it. The rows of a shard are compared outside the write lock: while a table is being mended
//! nobody writes it, and whoever stages holds the shard, and with it the index rows of its rows.
//!
//! # Idempotence
//! As in [`super::load`], each (shard, operation, source) has a cursor that commits with the rows. Only
//! rows that differ are staged, so staging the same again, from another source too, stages nothing.
//!
//! # Crash
//! A call that is cut off continues behind its last commit when it is repeated.

use std::sync::Arc;

use mendb_model::change::ChangeRef;
use mendb_model::{ChangeKind, Malformed, RowBlock};

use crate::database::{Inner, NOT_POISONED};
use crate::datashard::cursor::{self, Source};
use crate::datashard::layer::{Layer, Place};
use crate::datashard::load::{BATCH_BYTES, ROW_OVERHEAD, check_rows, first_behind};
use crate::datashard::point::{PointReader, decode_over};
use crate::datashard::{Shard, ShardId};
use crate::error::{Error, Result};
use crate::index::{self, IndexEdit, RowEdit};
use crate::schemeshard::{TableEntry, mending, route};
use crate::transaction::Transaction;
use crate::view::View;

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staged {
    /// All rows are staged.
    Done(StagedRows),
    /// The shard is not there, or no longer: resolve the shards again and send the rows to those that
    /// own them now.
    Gone,
}

/// The rows of a call that were not staged before, by what is to become of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StagedRows {
    /// Rows that are to be there, and are not or are others.
    pub upserted: u64,
    /// Rows that are to go, and are there.
    pub erased: u64,
    /// Keys that are as they are wanted: nothing was staged for them.
    pub kept: u64,
    /// Bytes of the keys and rows that were staged, those of index rows not counted.
    pub bytes: u64,
}

pub(crate) fn stage<B: AsRef<[u8]>>(
    inner: &Inner,
    id: ShardId,
    operation: &str,
    source: Source,
    changes: &RowBlock<B>,
) -> Result<Staged> {
    let Some(shard) = inner.commit().catalogue.shard(id).cloned() else {
        return Ok(Staged::Gone);
    };
    let _work = shard.work.lock().expect(NOT_POISONED);
    let view = inner.view()?;
    if view.catalogue().shard(id).is_none() {
        return Ok(Staged::Gone);
    }
    if shard.path.index.is_some() {
        return Err(Error::IndexShard {
            shard: id,
            path: shard.path.to_string(),
        });
    }
    let entry = mending::open_to(view.catalogue(), &shard.path.table, operation)?.clone();
    check_rows(&shard, changes)?;
    let mut row = first_behind(&view, id, operation, source, changes)?;
    drop(view);
    let mut reader = PointReader::default();
    let mut staged = StagedRows::default();
    while row < changes.len() {
        let view = inner.view()?;
        let batch = Batch::compare(&view, &entry, &shard, &mut reader, changes, row)?;
        row = batch.end;
        staged.upserted += batch.upserted();
        staged.erased += batch.erased();
        staged.kept += batch.kept;
        staged.bytes += batch.bytes();

        let mut transaction = Transaction::begin(inner);
        // It may have been published since, or aborted, and even begun again with other layers.
        let now = mending::open_to(transaction.catalogue(), &shard.path.table, operation)?;
        if now.state != entry.state {
            return Err(Error::NotMending {
                table: entry.name.clone(),
                operation: operation.to_owned(),
            });
        }
        batch.put(&mut transaction, &entry, &shard)?;
        let cursor = cursor::key(id, operation, source);
        transaction.put_meta(&cursor, changes.key(row - 1));
        transaction.commit()?;
    }
    inner.acknowledge()?;
    Ok(Staged::Done(staged))
}

/// A row that is to change.
struct Differing<'a> {
    key: &'a [u8],
    before: Option<Vec<u8>>,
    after: Option<&'a [u8]>,
    place: Place,
}

impl Differing<'_> {
    fn edit(&self) -> RowEdit<'_> {
        RowEdit {
            key: self.key,
            before: self.before.as_deref(),
            after: self.after,
        }
    }
}

/// Some of the changes of a call, compared with the rows that are there.
struct Batch<'a> {
    differing: Vec<Differing<'a>>,
    /// The index rows that follow, for each index in the order of the schema.
    index_rows: Vec<Vec<(Vec<u8>, IndexEdit, Place)>>,
    /// How many keys are as they are wanted.
    kept: u64,
    /// The first change that is not in the batch.
    end: usize,
}

impl<'a> Batch<'a> {
    /// Takes the changes from `first` on until they and the rows they meet fill a batch.
    fn compare<B: AsRef<[u8]>>(
        view: &View,
        entry: &TableEntry,
        shard: &Arc<Shard>,
        reader: &mut PointReader,
        changes: &'a RowBlock<B>,
        first: usize,
    ) -> Result<Self> {
        let layer = layer_over(entry, shard);
        let stats = view.stats(shard.id)?;
        let mut batch = Self {
            differing: Vec::new(),
            index_rows: Vec::new(),
            kept: 0,
            end: first,
        };
        let mut bytes = 0;
        while batch.end < changes.len() && bytes < BATCH_BYTES {
            let key = changes.key(batch.end);
            let after = wanted_row(shard, changes.value(batch.end))?;
            // Keys ascend, so most lie behind what is staged.
            let staged = match &stats.layer {
                Some(above) if above.reaches(key) => layer.get(view, key)?,
                _ => None,
            };
            let before = match &staged {
                Some(value) => decode_over(shard, value)?.map(<[u8]>::to_vec),
                None => reader.beneath(view, shard, &stats, key)?,
            };
            batch.end += 1;
            if before.as_deref() == after {
                batch.kept += 1;
                continue;
            }
            if let Some(after) = after {
                let read = entry.layout.read(key, after, |_| ());
                read.map_err(|error| damaged_change(shard, error))?;
            }
            let rows = before.as_ref().map_or(0, Vec::len) + after.map_or(0, <[u8]>::len);
            bytes += key.len() + rows + ROW_OVERHEAD;
            batch.differing.push(Differing {
                place: place(view, shard, staged, key, after)?,
                key,
                before,
                after,
            });
        }
        for index in &entry.layout.indexes {
            let shards = entry.shards(Some(&index.name))?;
            // An index row belongs to one row of the table, and is staged when that is.
            let (again, anew): (Vec<&Differing<'_>>, Vec<_>) = batch
                .differing
                .iter()
                .partition(|row| row.place.entry.is_some());
            let edits = |rows: Vec<&Differing<'_>>| {
                let edits = index::edits(entry, index, rows.into_iter().map(Differing::edit))?;
                Ok::<_, Error>(edits.into_iter().filter(|(_, e)| e.before != e.after))
            };
            let mut index_rows = Vec::new();
            for (key, edit) in edits(anew)? {
                index_rows.push((key, edit, Place::default()));
            }
            for (key, edit) in edits(again)? {
                let shard = route(shards, &key);
                let staged = layer_over(entry, shard).get(view, &key)?;
                let place = place(view, shard, staged, &key, edit.after.as_deref())?;
                index_rows.push((key, edit, place));
            }
            batch.index_rows.push(index_rows);
        }
        Ok(batch)
    }

    fn bytes(&self) -> u64 {
        let rows = self.differing.iter();
        let bytes = rows.map(|row| row.key.len() + row.after.map_or(0, <[u8]>::len));
        bytes.sum::<usize>() as u64
    }

    fn upserted(&self) -> u64 {
        let upserted = self.differing.iter().filter(|row| row.after.is_some());
        upserted.count() as u64
    }

    fn erased(&self) -> u64 {
        self.differing.len() as u64 - self.upserted()
    }

    /// Adds the rows, and the index rows that follow from them, to a commit.
    fn put(
        &self,
        transaction: &mut Transaction<'_>,
        entry: &TableEntry,
        shard: &Arc<Shard>,
    ) -> Result<()> {
        for row in &self.differing {
            let layer = layer_over(entry, shard);
            transaction.put_layer_row(shard, layer, row.edit(), &row.place)?;
        }
        for (index, rows) in entry.layout.indexes.iter().zip(&self.index_rows) {
            let shards = entry.shards(Some(&index.name))?;
            for (key, edit, place) in rows {
                let shard = route(shards, key);
                let layer = layer_over(entry, shard);
                transaction.put_layer_row(shard, layer, edit.of_row(key), place)?;
            }
        }
        Ok(())
    }
}

fn layer_over<'a>(entry: &'a TableEntry, shard: &Shard) -> &'a Layer {
    let layer = entry.layers.get(&shard.id);
    layer.expect("a table that is being mended has a layer over each of its shards")
}

/// Where the row `after` of `key` goes in the layer over the shard, which has the entry `staged`.
fn place(
    view: &View,
    shard: &Shard,
    staged: Option<Vec<u8>>,
    key: &[u8],
    after: Option<&[u8]>,
) -> Result<Place> {
    // Without an entry the row beneath is the one before, which differs.
    let as_beneath = staged.is_some() && {
        let stats = view.stats(shard.id)?;
        let beneath = PointReader::default().beneath(view, shard, &stats, key)?;
        beneath.as_deref() == after
    };
    Ok(Place {
        entry: staged,
        as_beneath,
    })
}

/// The row that a change wants.
fn wanted_row<'a>(shard: &Shard, change: &'a [u8]) -> Result<Option<&'a [u8]>> {
    let change = ChangeRef::decode(change).map_err(|error| damaged_change(shard, error))?;
    match change.kind {
        ChangeKind::Erase => Ok(None),
        ChangeKind::Reset => Ok(Some(change.row)),
        ChangeKind::Upsert => Err(Error::PartialChange { shard: shard.id }),
    }
}

fn damaged_change(shard: &Shard, source: Malformed) -> Error {
    Error::damaged(format!("a change for {}", shard.label()), source)
}
