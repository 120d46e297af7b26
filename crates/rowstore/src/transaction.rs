//! The one way to change the store: read the last commit, stage, commit.
//!
//! # Consistency
//! A transaction holds the write lock from [`Transaction::begin`] on, so it reads what the commit
//! before it wrote. All it stages becomes one batch of the engine: rows of all tables and shards, index
//! rows, change records, digests, cursors, the catalogue and the version appear together or not at all.
//!
//! # Crash
//! A commit is in the journal when [`Transaction::commit`] returns and on disk after [`Inner::sync`].
//! Syncing happens outside the write lock, so commits that wait together are synced together.
//!
//! # Errors
//! A transaction that is dropped has changed nothing. When the engine fails to commit, it refuses
//! everything further until the store is opened again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

use fjall::OwnedWriteBatch;
use mendb_model::Change;

use crate::database::{Inner, NOT_POISONED};
use crate::datashard::layer::{Layer, Place};
use crate::datashard::stats::ShardStats;
use crate::datashard::{Shard, ShardId, log};
use crate::error::Result;
use crate::index::RowEdit;
use crate::schemeshard::{Catalogue, TableEntry};
use crate::view::View;

/// Key of the commit version in the `meta` keyspace: 8 bytes big-endian.
pub(crate) const VERSION_KEY: &[u8] = b"version";
/// Key of the id of the store in the `meta` keyspace: text.
pub(crate) const ID_KEY: &[u8] = b"id";
/// Key of the next shard id in the `meta` keyspace: 8 bytes big-endian.
pub(crate) const NEXT_SHARD_KEY: &[u8] = b"next-shard";

/// What the write lock guards.
pub(crate) struct Writer {
    /// The stats of every shard, as of the last commit.
    pub(crate) stats: HashMap<ShardId, ShardStats>,
    /// The keys written to a shard since its rewrite took its view, for each rewrite under way.
    pub(crate) captures: HashMap<ShardId, BTreeSet<Vec<u8>>>,
    /// The next shard id to hand out.
    pub(crate) next_shard: u64,
    /// The one that the last commit which changed it recorded: rewrites reserve ids without a commit.
    pub(crate) recorded_next_shard: u64,
}

/// One commit in the making.
pub(crate) struct Transaction<'a> {
    inner: &'a Inner,
    writer: MutexGuard<'a, Writer>,
    /// The commit before.
    pub(crate) view: Arc<View>,
    /// The version this commit will have: the next one, unless it changes nothing a reader sees.
    pub(crate) version: u64,
    pub(crate) batch: OwnedWriteBatch,
    catalogue: Option<Catalogue>,
    touched: BTreeMap<ShardId, (Arc<Shard>, ShardStats)>,
    captured: Vec<(ShardId, Vec<u8>)>,
    /// The bytes of the changes that were put.
    pub(crate) logged_bytes: u64,
    next_shard: u64,
}

impl<'a> Transaction<'a> {
    /// Waits for the write lock.
    pub(crate) fn begin(inner: &'a Inner) -> Self {
        let writer = inner.writer.lock().expect(NOT_POISONED);
        let view = inner.view();
        Self {
            version: view.version + 1,
            batch: view.store.batch(),
            view,
            inner,
            catalogue: None,
            touched: BTreeMap::new(),
            captured: Vec::new(),
            logged_bytes: 0,
            next_shard: writer.next_shard,
            writer,
        }
    }

    /// The catalogue as changed so far.
    pub(crate) fn catalogue(&self) -> &Catalogue {
        self.catalogue.as_ref().unwrap_or(&self.view.catalogue)
    }

    /// The guarded state, for those who register rewrites.
    pub(crate) fn writer(&mut self) -> &mut Writer {
        &mut self.writer
    }

    /// The stats of a shard, to be changed.
    pub(crate) fn stats(&mut self, shard: &Arc<Shard>) -> &mut ShardStats {
        let committed = &self.writer.stats;
        let (_, stats) = self.touched.entry(shard.id).or_insert_with(|| {
            let stats = committed.get(&shard.id).cloned().unwrap_or_default();
            (shard.clone(), stats)
        });
        stats
    }

    /// The stats of a shard as of the commit before.
    pub(crate) fn committed_stats(&self, shard: ShardId) -> ShardStats {
        self.writer.stats.get(&shard).cloned().unwrap_or_default()
    }

    /// The row of `key` becomes `after`; it was `before`.
    pub(crate) fn put_row(
        &mut self,
        shard: &Arc<Shard>,
        key: &[u8],
        before: Option<&[u8]>,
        after: Option<&[u8]>,
    ) -> Result<()> {
        self.stats(shard);
        if self.writer.captures.contains_key(&shard.id) {
            self.captured.push((shard.id, key.to_vec()));
        }
        let Some((_, stats)) = self.touched.get_mut(&shard.id) else {
            unreachable!("the stats of the shard were just entered");
        };
        let store = &self.view.store;
        shard
            .files
            .stage_row(store, &mut self.batch, stats, key, before, after)
    }

    /// Stages in the layer over the shard what becomes of a row.
    pub(crate) fn put_layer_row(
        &mut self,
        shard: &Arc<Shard>,
        layer: &Layer,
        row: RowEdit<'_>,
        place: &Place,
    ) -> Result<()> {
        self.stats(shard);
        let Some((_, stats)) = self.touched.get_mut(&shard.id) else {
            unreachable!("the stats of the shard were just entered");
        };
        let (store, batch) = (&self.view.store, &mut self.batch);
        layer.stage_row(store, batch, shard, stats, row, place)
    }

    /// Records what happened to `key` for the streams of its table.
    pub(crate) fn put_change(
        &mut self,
        shard: &Arc<Shard>,
        key: &[u8],
        change: &Change,
    ) -> Result<()> {
        self.stats(shard);
        let Some((_, stats)) = self.touched.get_mut(&shard.id) else {
            unreachable!("the stats of the shard were just entered");
        };
        let record = log::record_key(key, self.version);
        let change = change.encode();
        self.logged_bytes += (record.len() + change.len()) as u64;
        let store = &self.view.store;
        shard
            .files
            .stage_change(store, &mut self.batch, stats, &record, &change)
    }

    /// Sets a record in the `meta` keyspace.
    pub(crate) fn put_meta(&mut self, key: Vec<u8>, value: &[u8]) {
        self.batch.insert(&self.view.store.meta, key, value);
    }

    /// Removes the cursors of a shard.
    pub(crate) fn remove_cursors(&mut self, shard: ShardId) -> Result<()> {
        for key in self.view.cursors(shard)?.into_keys() {
            self.batch.remove(&self.view.store.meta, key);
        }
        Ok(())
    }

    /// A shard id that was never used.
    pub(crate) fn allocate_shard(&mut self) -> ShardId {
        let id = ShardId(self.next_shard);
        self.next_shard += 1;
        id
    }

    /// A shard id for a rewrite that commits later. It is lost when that does not happen.
    pub(crate) fn reserve_shard(&mut self) -> ShardId {
        let id = self.allocate_shard();
        self.writer.next_shard = self.next_shard;
        id
    }

    /// Makes a table what `entry` says.
    pub(crate) fn put_table(&mut self, entry: TableEntry) {
        let store = &self.view.store;
        self.batch
            .insert(&store.catalogue, entry.name.as_bytes(), entry.encode());
        self.edit_catalogue().insert(entry);
    }

    /// Removes a table, the stats and the cursors of its shards.
    pub(crate) fn remove_table(&mut self, entry: &TableEntry) -> Result<()> {
        self.batch
            .remove(&self.view.store.catalogue, entry.name.as_bytes());
        for shard in entry.all_shards() {
            self.remove_shard(shard.id)?;
        }
        self.edit_catalogue().remove(&entry.name);
        Ok(())
    }

    /// Removes the stats and the cursors of a shard that is no longer in the catalogue.
    pub(crate) fn remove_shard(&mut self, shard: ShardId) -> Result<()> {
        self.batch
            .remove(&self.view.store.meta, ShardStats::key(shard));
        self.touched.remove(&shard);
        self.remove_cursors(shard)
    }

    /// Sets the stats of a shard that enters the catalogue.
    pub(crate) fn put_stats(&mut self, shard: Arc<Shard>, stats: ShardStats) {
        self.touched.insert(shard.id, (shard, stats));
    }

    fn edit_catalogue(&mut self) -> &mut Catalogue {
        let current = &self.view.catalogue;
        self.catalogue
            .get_or_insert_with(|| Catalogue::clone(current))
    }

    /// Commits and publishes. Returns the commit to be read.
    pub(crate) fn commit(mut self) -> Result<Arc<View>> {
        let store = self.view.store.clone();
        for (id, (_, stats)) in &self.touched {
            self.batch
                .insert(&store.meta, ShardStats::key(*id), stats.encode());
        }
        self.batch
            .insert(&store.meta, VERSION_KEY, self.version.to_be_bytes());
        if self.next_shard != self.writer.recorded_next_shard {
            let next = self.next_shard.to_be_bytes();
            self.batch.insert(&store.meta, NEXT_SHARD_KEY, next);
        }
        self.batch.commit().map_err(|error| store.fault(error))?;

        let catalogue = match self.catalogue {
            Some(catalogue) => {
                let stats = &mut self.writer.stats;
                stats.retain(|id, _| catalogue.shard(*id).is_some());
                Arc::new(catalogue)
            }
            None => self.view.catalogue.clone(),
        };
        self.writer.next_shard = self.next_shard;
        self.writer.recorded_next_shard = self.next_shard;
        for (shard, key) in self.captured {
            if let Some(keys) = self.writer.captures.get_mut(&shard) {
                keys.insert(key);
            }
        }
        for (id, (_, stats)) in self.touched {
            self.writer.stats.insert(id, stats);
        }
        let view = Arc::new(View {
            snapshot: store.snapshot(),
            store,
            version: self.version,
            catalogue,
        });
        self.inner.publish(view.clone());
        relieve_memory(&view);
        Ok(view)
    }
}

/// All memtables together may hold this many times the bytes of one.
const MEMTABLES: u64 = 4;

/// Flushes the shard with the most unflushed bytes when all memtables together are too large: the
/// engine bounds each memtable, but there are many shards.
fn relieve_memory(view: &View) {
    let limit = MEMTABLES * view.store.memtable_bytes();
    if view.store.write_buffer_bytes() < limit {
        return;
    }
    // The engine counts what it is flushing already; to go by that would flush shards while they are small.
    let unflushed = |shard: &Arc<Shard>| shard.files.unflushed_bytes.load(Ordering::Relaxed);
    if view.catalogue.all_shards().map(unflushed).sum::<u64>() < limit {
        return;
    }
    let Some(shard) = view
        .catalogue
        .all_shards()
        .max_by_key(|shard| unflushed(shard))
    else {
        return;
    };
    shard.files.unflushed_bytes.store(0, Ordering::Relaxed);
    let layer = view.table(&shard.path.table).ok();
    let layer = layer.and_then(|entry| entry.layers.get(&shard.id)?.keyspace());
    let keyspaces = [shard.files.delta(), shard.files.log(), layer];
    for keyspace in keyspaces.into_iter().flatten() {
        if let Err(error) = keyspace.rotate_memtable() {
            tracing::warn!(shard = %shard.id, %error, "leave a memtable to be flushed later");
        }
    }
}
