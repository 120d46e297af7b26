//! From the layers of a published mend into the deltas and the change logs.
//!
//! # Consistency
//! What is copied stays in the layer, which readers go on reading through: they see the same before and
//! after each batch. A batch moves the rows, their change records and how far the shard came in one
//! commit. The change records bear the version of that commit, as those of a client's write do.
//!
//! # Crash
//! The next call goes on behind the last batch that was committed.

use std::ops::ControlFlow;
use std::sync::Arc;

use fjall::Guard;

use crate::database::{Inner, NOT_POISONED};
use crate::datashard::load::{BATCH_BYTES, ROW_OVERHEAD};
use crate::datashard::point::{PointReader, decode_over};
use crate::datashard::{Shard, log, rewrite};
use crate::error::{Error, Result};
use crate::schemeshard::{TableEntry, mending};
use crate::transaction::Transaction;

pub(crate) fn settle(
    inner: &Inner,
    operation: &str,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<ControlFlow<()>> {
    let view = inner.view();
    let held: Vec<Arc<TableEntry>> = mending::held(&view.catalogue, operation)
        .map(|(entry, _)| entry.clone())
        .collect();
    if let Some(mend) = mending::describe(&view.catalogue, operation)
        && mend.published_at.is_none()
    {
        return Err(Error::MendUnpublished {
            operation: operation.to_owned(),
        });
    }
    let mut grown = Vec::new();
    for entry in held {
        for shard in entry.all_shards() {
            if view.stats(shard.id)?.layer.is_none() {
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
    drop(view);
    mending::finish(inner, operation)?;
    rewrite::relieve(inner, &grown);
    Ok(ControlFlow::Continue(()))
}

/// Copies the next entries of the layer over a shard; how many, or `None` when there are none.
fn settle_batch(inner: &Inner, entry: &TableEntry, shard: &Arc<Shard>) -> Result<Option<u64>> {
    let _work = shard.work.lock().expect(NOT_POISONED);
    let view = inner.view();
    let stats = view.stats(shard.id)?;
    let (Some(layer), Some(layer_stats)) = (entry.layers.get(&shard.id), &stats.layer) else {
        return Ok(None);
    };
    let mut range = shard.range.clone();
    if let Some(settled_to) = &layer_stats.settled_to {
        range.start = [settled_to.as_slice(), &[0]].concat();
    }
    let mut entries = layer.entries(&view, &range).into_iter().flatten();
    let mut reader = PointReader::default();
    let mut rows = Vec::new();
    let mut bytes = 0;
    while bytes < BATCH_BYTES
        && let Some(next) = entries.next().map(Guard::into_inner)
    {
        let (key, value) = next.map_err(|error| view.store.fault(error))?;
        let beneath = reader.through(None, &view, shard, &stats, &key)?;
        bytes += key.len() + value.len() + beneath.as_ref().map_or(0, Vec::len) + ROW_OVERHEAD;
        rows.push((key, beneath, value));
    }
    let Some((last, ..)) = rows.last() else {
        return Ok(None);
    };

    let mut transaction = Transaction::begin(inner);
    let Ok(current) = transaction.catalogue().table(&entry.name).cloned() else {
        return Ok(None);
    };
    if current.state != entry.state {
        // Another call finished the mend.
        return Ok(None);
    }
    transaction.stats(shard).layer_mut().settled_to = Some(last.to_vec());
    let version = transaction.version;
    for (key, beneath, value) in &rows {
        let wanted = decode_over(shard, value)?;
        if beneath.as_deref() == wanted {
            continue;
        }
        transaction.put_row(shard, key, beneath.as_deref(), wanted)?;
        if !current.streams.is_empty() {
            transaction.put_change(shard, key, &log::change_to(wanted, version))?;
        }
    }
    transaction.commit()?;
    Ok(Some(rows.len() as u64))
}
