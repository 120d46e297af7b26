//! From the layers of a published mend to where rows belong, and into the change logs.
//!
//! *Cost.* What is little is written like a client's write. What is more, but little beside its shard, is
//! ingested into the delta, and as change records into the log. A shard of which much is staged is rewritten
//! with it ([`rewrite`]), which costs less than to pack the shard afterwards. Shards are settled side by side.
//!
//! # Consistency
//! An ingestion is not part of a batch. But what is ingested stays in the layer, which readers go on
//! reading through until the mend ends, so it makes no difference to them. The change records bear the
//! version at which the rows became visible; no cut lies between the two, since a table that is being
//! mended cannot be cut.
//!
//! Every entry of a layer differs from what is beneath, so nothing need be read there; the digest of
//! the shard becomes that of the layer. That all that was staged is settled is proved by the digest of the
//! entries, and in a rewrite by that of the rows.
//!
//! # Crash
//! The next call goes on behind the last shard that was committed. To ingest the same again changes
//! nothing. What is ingested follows what is on disk: publishing was synced, and nobody writes the shard
//! since.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use fjall::{OwnedWriteBatch, UserValue};
use mendb_model::{Digest, Malformed};

use crate::database::{Inner, NOT_POISONED, Options};
use crate::datashard::point::decode_over;
use crate::datashard::rewrite::rewrite;
use crate::datashard::stats::{LayerStats, ShardStats};
use crate::datashard::{Shard, log, relief};
use crate::error::{Error, Result};
use crate::schemeshard::{Access, TableEntry, mending};
use crate::store::Put;
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
    log::clear(inner, entry, shard)?;
    let view = inner.view();
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
    let descent = Descent {
        view: &view,
        entry,
        shard,
        stats: &stats,
        staged,
    };
    let ingested = if staged.bytes > inner.options.ingest_bytes {
        Some(descent.ingest()?)
    } else {
        None
    };
    let mut transaction = Transaction::begin(inner);
    let now = transaction.catalogue().table(&entry.name);
    if !now.is_ok_and(|now| now.state == entry.state) {
        // Another call ended the mend.
        return Ok(None);
    }
    let brought = match ingested {
        Some(brought) => brought,
        None => descent.write(&mut transaction.batch)?,
    };
    let settled = transaction.stats(shard);
    settled.delta_bytes += brought.delta_bytes;
    settled.log_bytes += brought.log_bytes;
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
    log_bytes: u64,
}

impl Descent<'_> {
    fn is_logged(&self) -> bool {
        self.entry.keeps_changes()
    }

    /// Ingests it. Not recorded yet.
    fn ingest(&self) -> Result<Brought> {
        let store = &self.view.store;
        let files = &self.shard.files;
        store.ingest(files.open_delta(store)?, |delta| {
            if !self.is_logged() {
                return self.bring(delta, &mut |_, _| Ok(()));
            }
            store.ingest(files.open_log(store)?, |log| self.bring(delta, log))
        })
    }

    /// Adds it to a commit.
    fn write(&self, batch: &mut OwnedWriteBatch) -> Result<Brought> {
        let store = &self.view.store;
        let files = &self.shard.files;
        let delta = files.open_delta(store)?;
        let log = self
            .is_logged()
            .then(|| files.open_log(store))
            .transpose()?;
        let batch = RefCell::new(batch);
        let mut put_row = |key, value| {
            let mut batch = batch.borrow_mut();
            match value {
                Some(value) => batch.insert(delta, key, value),
                None => batch.remove(delta, key),
            }
            Ok(())
        };
        let mut put_record = |record, change: Option<UserValue>| {
            if let Some((log, change)) = log.zip(change) {
                batch.borrow_mut().insert(log, record, change);
            }
            Ok(())
        };
        let brought = self.bring(&mut put_row, &mut put_record)?;
        files.count(brought.delta_bytes + brought.log_bytes);
        Ok(brought)
    }

    /// Hands over the rows, and the records of their changes, in the order of their keys.
    fn bring(&self, put_row: &mut Put<'_>, put_record: &mut Put<'_>) -> Result<Brought> {
        let Self { view, shard, .. } = self;
        let published_at = self.entry.published_at().unwrap_or_default();
        let layer = self.entry.visible_layer(shard.id);
        let entries = layer.and_then(|layer| layer.entries(view, &shard.range));
        let mut brought = Brought::default();
        for entry in entries.into_iter().flatten() {
            let entry = entry.into_inner();
            let (key, value) = entry.map_err(|error| view.store.fault(error))?;
            brought.entries.add(&key, &value);
            if self.is_logged() {
                let (record, change) = log::record_of_entry(shard, &key, &value, published_at)?;
                brought.log_bytes += (record.len() + change.len()) as u64;
                put_record(record, Some(change))?;
            }
            brought.delta_bytes += (key.len() + value.len()) as u64;
            let is_row = decode_over(shard, &value)?.is_some();
            // Where the base has nothing to hide, the delta need not remember.
            let is_kept = is_row || self.stats.covers(&key);
            put_row(key, is_kept.then_some(value))?;
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
    use mendb_model::key::KeyRange;
    use mendb_model::name::TablePath;
    use mendb_model::{Change, Column, ColumnType, RowBlockBuilder, TableSchema, Value, key, row};

    use super::*;
    use crate::schemeshard::cut::{self, StreamCut};
    use crate::schemeshard::tables;
    use crate::snapshot::Snapshot;
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
    fn what_was_ingested_when_the_process_died_is_ingested_again() {
        let dir = tempfile::tempdir().unwrap();
        let (inner, shard) = with_published_row(dir.path());
        let view = inner.view();
        let stats = view.stats(shard.id).unwrap();
        let entry = view.table("t").unwrap();
        let staged = stats.layer.as_ref().unwrap();
        let descent = Descent {
            view: &view,
            entry,
            shard: &shard,
            stats: &stats,
            staged,
        };
        let ingested = descent.ingest().unwrap();
        assert!(ingested.delta_bytes > 0 && ingested.log_bytes > 0);
        drop((view, shard, inner));

        let inner = open::open(dir.path(), options()).unwrap();
        let path = TablePath::table("t");
        let seen = |snapshot: Snapshot| {
            let shards = snapshot.shards(&path).unwrap();
            let read = snapshot.read_digest(&path, &KeyRange::all()).unwrap();
            assert_eq!((shards[0].digest, read.rows), (read, 1));
        };
        seen(Snapshot::new(inner.view()));
        assert!(settle_all(&inner).unwrap().is_continue());
        let snapshot = Snapshot::new(inner.view());
        let attached_at = snapshot.describe("t").unwrap().streams[0].attached_at;
        let all = KeyRange::all();
        let mut changes = snapshot.changes(&path, &all, attached_at, None).unwrap();
        let block = changes.next().unwrap().unwrap();
        assert_eq!((block.len(), block.key(0)), (1, row_key().as_slice()));
        assert!(changes.next().is_none());
        seen(snapshot);
    }

    #[test]
    fn a_mend_does_not_end_before_its_layers_are_settled() {
        let dir = tempfile::tempdir().unwrap();
        let (inner, _) = with_published_row(dir.path());
        let error = mending::finish(&inner, "mend-1").unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert!(mending::describe(&inner.view().catalogue, "mend-1").is_some());
        assert!(settle_all(&inner).unwrap().is_continue());
        assert!(mending::describe(&inner.view().catalogue, "mend-1").is_none());
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
