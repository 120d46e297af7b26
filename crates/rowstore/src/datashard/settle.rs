//! From the layers of a published mend to where rows belong, and into the change logs.
//!
//! *Cost.* What is little beside its shard is copied into the delta. A shard of which much is staged is
//! rewritten with it ([`rewrite`]), which costs less than to write each row once more and to pack the
//! shard afterwards.
//!
//! # Consistency
//! What is copied stays in the layer, which readers go on reading through: they see the same before and
//! after each batch. A batch moves the rows, their change records and how far the shard came in one
//! commit. The change records bear the version of that commit, as those of a client's write do.
//!
//! Every entry of a layer differs from what is beneath, so nothing need be read there; the digest of
//! the shard becomes that of the layer when the mend ends. That all that was staged is settled is proved
//! by the digest of the entries, and in a rewrite by that of the rows.
//!
//! # Crash
//! The next call goes on behind the last batch, or the last shard, that was committed.

use std::ops::ControlFlow;
use std::sync::Arc;

use fjall::Guard;

use crate::database::{Inner, NOT_POISONED, Options};
use crate::datashard::load::{BATCH_BYTES, ROW_OVERHEAD};
use crate::datashard::point::decode_over;
use crate::datashard::rewrite::rewrite;
use crate::datashard::stats::{LayerStats, ShardStats};
use crate::datashard::{Shard, log, relief};
use crate::error::{Error, Result};
use crate::schemeshard::{Access, TableEntry, mending};
use crate::transaction::Transaction;

/// A shard is rewritten when this part of it is staged over it ...
const AT_ONCE_OF_SHARD: u64 = 8;
/// ... and more than this part of [`Options::compact_bytes`]: to make new files takes its time too.
const AT_ONCE_BELOW_COMPACTION: u64 = 16;

pub(crate) fn settle(
    inner: &Inner,
    operation: &str,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<ControlFlow<()>> {
    // The tables, not the view: a snapshot that is held while much is written keeps all that the engine
    // would let go of, in memory too.
    let held: Vec<Arc<TableEntry>> = mending::held(&inner.view().catalogue, operation)
        .cloned()
        .collect();
    if held.iter().any(|entry| entry.published_at().is_none()) {
        return Err(Error::MendUnpublished {
            operation: operation.to_owned(),
        });
    }
    let mut grown = Vec::new();
    for entry in held {
        for shard in entry.all_shards() {
            let stats = inner.view().stats(shard.id)?;
            let Some(layer) = &stats.layer else {
                continue;
            };
            if is_much(&inner.options, &stats, layer) {
                if let Some(rows) = settle_at_once(inner, shard)?
                    && progress(rows).is_break()
                {
                    return Ok(ControlFlow::Break(()));
                }
                continue;
            }
            while let Some(rows) = settle_batch(inner, &entry, shard)? {
                if progress(rows).is_break() {
                    inner.acknowledge(inner.view().version)?;
                    return Ok(ControlFlow::Break(()));
                }
            }
            grown.push(shard.clone());
        }
    }
    mending::finish(inner, operation)?;
    relief::relieve(inner, &grown);
    Ok(ControlFlow::Continue(()))
}

/// Whether the layer over a shard is settled by rewriting the shard.
fn is_much(options: &Options, stats: &ShardStats, layer: &LayerStats) -> bool {
    let least = options.compact_bytes / AT_ONCE_BELOW_COMPACTION;
    layer.bytes > least.max(stats.bytes() / AT_ONCE_OF_SHARD)
}

/// Rewrites a shard with all that is staged over it; how many rows that were, or `None` when another call
/// did it.
fn settle_at_once(inner: &Inner, shard: &Arc<Shard>) -> Result<Option<u64>> {
    let _work = shard.work.lock().expect(NOT_POISONED);
    let stats = inner.view().stats(shard.id)?;
    let Some(layer) = &stats.layer else {
        return Ok(None);
    };
    let rows = layer.entries.rows.saturating_sub(layer.settled.rows);
    let divide = relief::divide(&inner.options, shard, bytes_with(&stats, layer));
    let sources = std::slice::from_ref(shard);
    let settled = rewrite(inner, sources, divide, Access::Settle)?;
    Ok(settled.then_some(rows))
}

/// Bytes of the shard with what is staged over it, about: rows of a shard are about as long as each other.
fn bytes_with(stats: &ShardStats, layer: &LayerStats) -> u64 {
    let (before, after) = (stats.digest.rows.max(1), layer.digest.rows);
    let in_proportion = u128::from(stats.bytes()) * u128::from(after) / u128::from(before);
    layer
        .bytes
        .max(u64::try_from(in_proportion).unwrap_or(u64::MAX))
}

/// Copies the next entries of the layer over a shard; how many, or `None` when there are none.
fn settle_batch(inner: &Inner, entry: &TableEntry, shard: &Arc<Shard>) -> Result<Option<u64>> {
    let _work = shard.work.lock().expect(NOT_POISONED);
    let view = inner.view();
    let stats = view.stats(shard.id)?;
    let (Some(layer), Some(layer_stats)) = (entry.layers.get(&shard.id), &stats.layer) else {
        return Ok(None);
    };
    let unsettled = layer.unsettled(&view, &shard.range, layer_stats);
    let mut entries = unsettled.into_iter().flatten();
    let mut rows = Vec::new();
    let mut bytes = 0;
    while bytes < BATCH_BYTES
        && let Some(next) = entries.next().map(Guard::into_inner)
    {
        let (key, value) = next.map_err(|error| view.store.fault(error))?;
        bytes += key.len() + value.len() + ROW_OVERHEAD;
        rows.push((key, value));
    }
    if rows.is_empty() {
        return Ok(None);
    }

    let mut transaction = Transaction::begin(inner);
    let Ok(current) = transaction.catalogue().table(&entry.name).cloned() else {
        return Ok(None);
    };
    if current.state != entry.state {
        // Another call finished the mend.
        return Ok(None);
    }
    let version = transaction.version;
    for (key, value) in &rows {
        let wanted = decode_over(shard, value)?;
        transaction.settle_row(shard, key, value)?;
        if !current.streams.is_empty() {
            transaction.put_change(shard, key, &log::change_to(wanted, version))?;
        }
    }
    transaction.commit()?;
    Ok(Some(rows.len() as u64))
}

#[cfg(test)]
mod tests {
    use mendb_model::name::TablePath;
    use mendb_model::{Change, Column, ColumnType, RowBlockBuilder, TableSchema, Value, key, row};

    use super::*;
    use crate::schemeshard::tables;
    use crate::{Source, Staged, StagedRows, datashard::stage, open};

    /// A store with an empty table and one staged row, published.
    fn with_published_row(dir: &std::path::Path) -> (Inner, Arc<Shard>) {
        let inner = open::open(dir, Options::default()).unwrap();
        let column = |name: &str| Column {
            name: name.to_owned(),
            column_type: ColumnType::Int64,
            not_null: false,
        };
        let schema = TableSchema {
            columns: vec![column("id"), column("value")],
            key: vec!["id".to_owned()],
            indexes: vec![],
        };
        tables::create(&inner, "t", schema, vec![]).unwrap();
        mending::begin(&inner, "mend-1", &["t".to_owned()]).unwrap();
        let shard = inner.view().shards(&TablePath::table("t")).unwrap()[0].clone();
        let mut changes = RowBlockBuilder::new();
        let row = row::encode(&[ColumnType::Int64], &[Value::Int(7)]);
        let bytes = (row_key().len() + row.len()) as u64;
        changes.push(&row_key(), &Change::reset(row, 1).encode());
        let source = Source { step: 0, index: 0 };
        let staged = stage::stage(&inner, shard.id, "mend-1", source, &changes.finish());
        let expected = StagedRows {
            upserted: 1,
            bytes,
            ..StagedRows::default()
        };
        assert_eq!(staged.unwrap(), Staged::Done(expected));
        mending::publish(&inner, "mend-1").unwrap();
        (inner, shard)
    }

    fn row_key() -> Vec<u8> {
        key::encode(&[ColumnType::Int64], [Value::Int(1).as_ref()])
    }

    fn settle_all(inner: &Inner) -> Result<ControlFlow<()>> {
        settle(inner, "mend-1", &mut |_| ControlFlow::Continue(()))
    }

    #[test]
    fn a_mend_of_which_staged_rows_are_missing_does_not_end() {
        let dir = tempfile::tempdir().unwrap();
        let (inner, shard) = with_published_row(dir.path());
        let mut transaction = Transaction::begin(&inner);
        transaction.stats(&shard).layer_mut().entries.rows += 1;
        transaction.commit().unwrap();
        let error = settle_all(&inner).unwrap_err();
        assert_eq!(
            error.to_string(),
            "shard 1 of t is damaged; restore it from a backup"
        );
        assert!(mending::describe(&inner.view().catalogue, "mend-1").is_some());
    }

    #[test]
    fn a_damaged_layer_is_an_error_that_names_the_shard() {
        let dir = tempfile::tempdir().unwrap();
        let (inner, shard) = with_published_row(dir.path());
        let entry = inner.view().table("t").unwrap().clone();
        let layer = entry.layers[&shard.id].keyspace().unwrap();
        let mut batch = inner.store.batch();
        batch.insert(layer, row_key(), b"no row".as_slice());
        batch.commit().unwrap();
        Transaction::begin(&inner).commit().unwrap();
        let error = settle_all(&inner).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    }
}
