//! Stages wanted rows into runs of a table that is being mended.
//!
//! # Consistency
//! What a batch stages and how far it came are one commit. Readers see none of it. Rows are compared outside the write
//! lock: while a table is being mended only the mend writes it, and the stage call holds the shard. The rows of the
//! indexes follow when a caller asks for the table as it will be ([`super::derive`]).
//!
//! # Idempotence
//! As in [`super::load`], each (shard, operation, source) has a cursor that commits with the rows. Only
//! rows that differ are staged, so staging the same again, from another source too, stages nothing.
//!
//! # Crash
//! A call that is cut off continues behind its last commit when it is repeated.

use std::sync::Arc;

use mendb_model::change::ChangeRef;
use mendb_model::key::MAX_KEY_BYTES;
use mendb_model::{ChangeKind, Digest, Malformed, Replaced, RowBlock, RowSource, StagedCounts};

use crate::catalogue::{Shard, TableEntry, index_rows, mends};
use crate::commit::{Inner, Transaction};
use crate::error::{Error, Result};
use crate::jobs::derive;
use crate::jobs::load::{BATCH_BYTES, ROW_OVERHEAD, check_rows, first_behind};
use crate::kernel::{NOT_POISONED, ShardId};
use crate::shard::block_writer::{BlockWriter, Role, WrittenBlocks};
use crate::shard::budget::Budget;
use crate::shard::cursor;
use crate::shard::point::PointReader;
use crate::shard::view::View;

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staged {
    /// All rows are staged.
    Done(StagedCounts),
    /// The shard is not there, or no longer: resolve the shards again and send the rows to those that
    /// own them now.
    Gone,
}

pub(crate) fn stage<B: AsRef<[u8]>>(
    inner: &Inner,
    id: ShardId,
    operation: &str,
    source: RowSource,
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
    let entry = mends::open_to(view.catalogue(), &shard.path.table, operation)?.clone();
    if view.stats(id)?.successor.is_some() {
        return Err(Error::OtherMethod { shard: id });
    }
    check_rows(&shard, changes)?;
    let mut row = first_behind(&view, id, operation, source, changes)?;
    drop(view);
    let mut staged = StagedCounts::default();
    while row < changes.len() {
        let view = inner.view()?;
        let batch = Batch::compare(&view, &entry, &shard, changes, row)?;
        row = batch.end;
        staged.upserted += batch.rows.upserted;
        staged.erased += batch.rows.erased;
        staged.kept += batch.rows.kept;
        staged.bytes += batch.rows.bytes;

        let mut transaction = Transaction::begin(inner);
        // It may have been published since, or aborted, and even begun again.
        let now = mends::open_to(transaction.catalogue(), &shard.path.table, operation)?;
        if now.state != entry.state {
            return Err(Error::NotMending {
                table: entry.name.clone(),
                operation: operation.to_owned(),
            });
        }
        if let Some(run) = batch.run {
            let (before, after) = (batch.before, batch.after);
            transaction.put_blocks(&shard, run, Role::Staged, before, after)?;
            derive::expect(&mut transaction, &entry);
        }
        let cursor = cursor::key(id, operation, source);
        transaction.put_meta(&cursor, changes.key(row - 1));
        transaction.commit()?;
    }
    inner.acknowledge()?;
    Ok(Staged::Done(staged))
}

/// Some of the changes of a call, compared with the rows that are there.
struct Batch {
    /// Those that differ.
    run: Option<WrittenBlocks>,
    /// Digest of the rows that they replace, as staged so far.
    before: Digest,
    /// Digest of the rows that they are.
    after: Digest,
    rows: StagedCounts,
    /// The first change that is not in the batch.
    end: usize,
}

impl Batch {
    /// Takes the changes from `first` on until they and the rows they meet fill a batch.
    fn compare<B: AsRef<[u8]>>(
        view: &Arc<View>,
        entry: &TableEntry,
        shard: &Arc<Shard>,
        changes: &RowBlock<B>,
        first: usize,
    ) -> Result<Self> {
        let stats = view.stats(shard.id)?;
        let mut there = PointReader::seeing(view.clone(), shard.clone(), &stats, true);
        let budget = Budget::default();
        let mut run = BlockWriter::new(&view.files, &budget, shard.id, stats.file_bytes);
        let mut batch = Self {
            run: None,
            before: Digest::default(),
            after: Digest::default(),
            rows: StagedCounts::default(),
            end: first,
        };
        let mut bytes = 0;
        while batch.end < changes.len() && bytes < BATCH_BYTES {
            let key = changes.key(batch.end);
            let after = wanted_row(shard, changes.value(batch.end))?;
            let before = there.look_up(key)?;
            batch.end += 1;
            if before == after {
                batch.rows.kept += 1;
                continue;
            }
            if let Some(before) = before {
                batch.before.add(key, before);
            }
            match after {
                Some(after) => {
                    check_row(entry, shard, key, after)?;
                    batch.after.add(key, after);
                    batch.rows.upserted += 1;
                }
                None => batch.rows.erased += 1,
            }
            run.push_entry(key, Replaced::of(key, before), after)?;
            let after = after.map_or(0, <[u8]>::len);
            batch.rows.bytes += (key.len() + after) as u64;
            bytes += key.len() + after + before.map_or(0, <[u8]>::len) + ROW_OVERHEAD;
        }
        batch.run = run.finish()?;
        Ok(batch)
    }
}

/// Whether a row is one of its table.
fn check_row(entry: &TableEntry, shard: &Shard, key: &[u8], row: &[u8]) -> Result<()> {
    let read = entry.layout.read(key, row, |_| ());
    read.map_err(|error| damaged_change(shard, error))?;
    // The key of an index row is at most twice as long as what it is made of, about.
    if key.len() + row.len() > MAX_KEY_BYTES / 4 {
        for index in &entry.layout.indexes {
            index_rows::row_of(entry, index, key, row)?;
        }
    }
    Ok(())
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
