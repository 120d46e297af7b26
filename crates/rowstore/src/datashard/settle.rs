//! From the layers of a published mend to where rows belong, and into the change logs.
//!
//! *Cost.* What is little beside its shard is written like a client's write. A shard of which much is staged
//! is rewritten with it ([`rewrite`]), which costs less than to pack the shard afterwards. Shards are settled
//! side by side.
//!
//! # Consistency
//! What is written stays in the layer, which readers go on reading through until the mend ends, so it makes
//! no difference to them. The change records bear the version at which the rows became visible; no cut lies
//! between the two, since a table that is being mended cannot be cut.
//!
//! Every entry of a layer differs from what is beneath, so nothing need be read there; the digest of
//! the shard becomes that of the layer. That all that was staged is settled is proved by the digest of the
//! entries, and in a rewrite by that of the rows.
//!
//! # Crash
//! The next call goes on behind the last shard that was committed.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use mendb_model::{Digest, Malformed};

use crate::database::{Inner, NOT_POISONED, Options};
use crate::datashard::point::decode_over;
use crate::datashard::rewrite::rewrite;
use crate::datashard::stats::{LayerStats, ShardStats};
use crate::datashard::{Shard, log, relief};
use crate::error::{Error, Result};
use crate::kernel::{Batch, Direction, Section, Tree};
use crate::schemeshard::{Access, TableEntry, mending};
use crate::transaction::Transaction;
use crate::view::View;

/// A shard is rewritten when this part of it is staged over it ...
const AT_ONCE_OF_SHARD: u64 = 8;
/// ... and more than this part of [`Options::compact_bytes`]: to make new files takes its time too.
const AT_ONCE_BELOW_COMPACTION: u64 = 16;

pub(crate) fn settle(
    inner: &Inner,
    operation: &str,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<ControlFlow<()>> {
    let held: Vec<Arc<TableEntry>> = mending::held(&inner.commit().catalogue, operation)
        .cloned()
        .collect();
    if held.iter().any(|entry| entry.published_at().is_none()) {
        return Err(Error::MendUnpublished {
            operation: operation.to_owned(),
        });
    }
    let shards = held
        .iter()
        .flat_map(|entry| entry.all_shards().map(move |shard| (entry, shard)));
    let shards: Vec<(&Arc<TableEntry>, &Arc<Shard>)> = shards.collect();
    if settle_shards(inner, &shards, progress)?.is_break() {
        return Ok(ControlFlow::Break(()));
    }
    mending::finish(inner, operation)?;
    let shards: Vec<Arc<Shard>> = shards.into_iter().map(|(_, shard)| shard.clone()).collect();
    relief::relieve(inner, &shards);
    Ok(ControlFlow::Continue(()))
}

/// Settles shards, some at the same time. Those under way when one fails or `progress` breaks off are
/// settled to their end.
fn settle_shards(
    inner: &Inner,
    shards: &[(&Arc<TableEntry>, &Arc<Shard>)],
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<ControlFlow<()>> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let left = Mutex::new(shards.iter());
    let (settled, outcomes) = mpsc::channel();
    let work = |settled: mpsc::Sender<_>| {
        let next = || left.lock().expect(NOT_POISONED).next();
        while let Some((entry, shard)) = next() {
            // The other side listens for as long as anyone sends.
            let _ = settled.send(settle_shard(inner, entry, shard));
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads.min(shards.len()) {
            let settled = settled.clone();
            scope.spawn(|| work(settled));
        }
        drop(settled);
        let mut outcome = Ok(ControlFlow::Continue(()));
        for settled in outcomes {
            let flow = settled.map(|rows| rows.map_or(ControlFlow::Continue(()), &mut *progress));
            if !matches!(flow, Ok(ControlFlow::Continue(()))) {
                *left.lock().expect(NOT_POISONED) = [].iter();
                outcome = outcome.and(flow);
            }
        }
        outcome
    })
}

/// Settles what is staged over a shard: how many rows that were, or `None` when there is nothing, or another
/// call did it.
fn settle_shard(inner: &Inner, entry: &TableEntry, shard: &Arc<Shard>) -> Result<Option<u64>> {
    let _work = shard.work.lock().expect(NOT_POISONED);
    let view = inner.view()?;
    if view.catalogue().shard(shard.id).is_none() {
        // Another call rewrote it.
        return Ok(None);
    }
    let stats = view.stats(shard.id)?;
    let Some(staged) = &stats.layer else {
        return Ok(None);
    };
    let rows = staged.entries.rows;
    if is_much(&inner.options, &stats, staged) {
        let divide = relief::divide(&inner.options, shard, bytes_with(&stats, staged));
        drop(view);
        let settled = rewrite(inner, std::slice::from_ref(shard), divide, Access::Settle)?;
        return Ok(settled.then_some(rows));
    }
    let mut transaction = Transaction::begin(inner);
    let now = transaction.catalogue().table(&entry.name);
    if !now.is_ok_and(|now| now.state == entry.state) {
        // Another call ended the mend.
        return Ok(None);
    }
    let descent = Descent {
        view: &view,
        entry,
        shard,
        stats: &stats,
        staged,
    };
    let brought = descent.write(&mut transaction.batch)?;
    let settled = transaction.stats(shard)?;
    settled.delta_bytes += brought.delta_bytes;
    settled.log_bytes += brought.log_bytes;
    settled.log.merge(brought.log);
    settled.digest = staged.digest;
    settled.layer = None;
    transaction.commit()?;
    Ok(Some(rows))
}

/// Whether the layer over a shard is settled by rewriting the shard.
fn is_much(options: &Options, stats: &ShardStats, layer: &LayerStats) -> bool {
    let least = options.compact_bytes / AT_ONCE_BELOW_COMPACTION;
    layer.bytes > least.max(stats.bytes() / AT_ONCE_OF_SHARD)
}

/// Bytes of the shard with what is staged over it, about: rows of a shard are about as long as each other.
fn bytes_with(stats: &ShardStats, layer: &LayerStats) -> u64 {
    let (before, after) = (stats.digest.rows.max(1), layer.digest.rows);
    let in_proportion = u128::from(stats.bytes()) * u128::from(after) / u128::from(before);
    layer
        .bytes
        .max(u64::try_from(in_proportion).unwrap_or(u64::MAX))
}

/// The way of what is staged over a shard into its delta and, where streams need it, its change log.
struct Descent<'a> {
    view: &'a Arc<View>,
    entry: &'a TableEntry,
    shard: &'a Arc<Shard>,
    stats: &'a ShardStats,
    staged: &'a LayerStats,
}

/// What was brought to where it belongs.
#[derive(Default)]
struct Brought {
    entries: Digest,
    delta_bytes: u64,
    log: Digest,
    log_bytes: u64,
}

impl Descent<'_> {
    /// Adds it to a commit.
    fn write(&self, batch: &mut Batch) -> Result<Brought> {
        let Self { view, shard, .. } = self;
        let delta = Section::of_shard(Tree::Delta, shard.id);
        let log = Section::of_shard(Tree::Log, shard.id);
        let is_logged = self.entry.keeps_changes();
        let published_at = self.entry.published_at().unwrap_or_default();
        let layer = self.entry.visible_layer(shard.id);
        let entries = layer.map(|layer| layer.entries(view, &shard.range, Direction::Ascending));
        let mut brought = Brought::default();
        for entry in entries.into_iter().flatten() {
            let (key, value) = entry?;
            brought.entries.add(&key, &value);
            if is_logged {
                let (record, change) = log::record_of_entry(shard, &key, &value, published_at)?;
                brought.log_bytes += (record.len() + change.len()) as u64;
                brought.log.add(&record, &change);
                batch.insert(&log, &record, change);
            }
            brought.delta_bytes += (key.len() + value.len()) as u64;
            let is_row = decode_over(shard, &value)?.is_some();
            // Where the base has nothing to hide, the delta need not remember.
            if is_row || self.stats.covers(&key) {
                batch.insert(&delta, &key, value);
            } else {
                batch.remove(&delta, &key);
            }
        }
        if brought.entries == self.staged.entries {
            return Ok(brought);
        }
        let source = Malformed {
            what: "layer",
            detail: format!(
                "of the rows that were staged, {}, only {} are there",
                self.staged.entries, brought.entries
            ),
        };
        Err(Error::damaged(shard.label(), source))
    }
}

#[cfg(test)]
mod tests {
    use mendb_model::name::TablePath;
    use mendb_model::{Change, Column, ColumnType, RowBlockBuilder, TableSchema, Value, key, row};

    use super::*;
    use crate::schemeshard::cut::{self, StreamCut};
    use crate::schemeshard::tables;
    use crate::{Source, Staged, StagedRows, datashard::stage, open};

    fn options() -> Options {
        Options {
            trim_bytes: 0,
            ..Options::default()
        }
    }

    /// A store with an empty table and one staged row, published.
    fn with_published_row(dir: &std::path::Path) -> (Inner, Arc<Shard>) {
        let inner = open::open(dir, options()).unwrap();
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
        cut::cut(&inner, "mend-1", &["t".to_owned()], "s", StreamCut::Attach).unwrap();
        let shard = inner
            .commit()
            .catalogue
            .shards(&TablePath::table("t"))
            .unwrap()[0]
            .clone();
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
    fn a_mend_does_not_end_before_its_layers_are_settled() {
        let dir = tempfile::tempdir().unwrap();
        let (inner, _) = with_published_row(dir.path());
        let error = mending::finish(&inner, "mend-1").unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert!(mending::describe(&inner.commit().catalogue, "mend-1").is_some());
        assert!(settle_all(&inner).unwrap().is_continue());
        assert!(mending::describe(&inner.commit().catalogue, "mend-1").is_none());
    }

    #[test]
    fn a_mend_of_which_staged_rows_are_missing_does_not_end() {
        let dir = tempfile::tempdir().unwrap();
        let (inner, shard) = with_published_row(dir.path());
        let mut transaction = Transaction::begin(&inner);
        transaction.stats(&shard).unwrap().layer_mut().entries.rows += 1;
        transaction.commit().unwrap();
        let error = settle_all(&inner).unwrap_err();
        assert_eq!(
            error.to_string(),
            "shard 1 of t is damaged; restore it from a backup"
        );
        assert!(mending::describe(&inner.commit().catalogue, "mend-1").is_some());
    }

    #[test]
    fn a_damaged_layer_is_an_error_that_names_the_shard() {
        let dir = tempfile::tempdir().unwrap();
        let (inner, shard) = with_published_row(dir.path());
        let entry = inner.commit().catalogue.table("t").unwrap().clone();
        let mut batch = Batch::default();
        batch.insert(entry.layers[&shard.id].section(), &row_key(), *b"no row");
        inner.store.commit(batch).unwrap();
        Transaction::begin(&inner).commit().unwrap();
        let error = settle_all(&inner).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    }
}
