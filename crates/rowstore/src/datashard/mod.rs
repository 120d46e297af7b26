//! One shard: a key range of a table, its rows, its change log, its cursors.
//!
//! Rows lie in two keyspaces. The **base** holds packed [`RowBlock`](mendb_model::RowBlock)s keyed by
//! their last key; it is written by bulk ingestion only. The **delta** holds single rows and
//! tombstones over it. A read merges the two; compaction rewrites them into a new base. While a table
//! is being mended a third keyspace lies over both, the [`layer`]; readers see it once it is published.
//!
//! # Consistency
//! An ingestion is not part of a batch. Therefore the [`stats::ShardStats`] of a shard say where its
//! base ends (`base_end`): blocks beyond do not exist for readers until the batch that moves the end,
//! and those that a crash left beyond it are removed before the next ingestion.
//!
//! # Life
//! A shard never changes its range. Splits, merges and compaction put new shards with new ids in the
//! place of old ones in one commit; the keyspaces of the old ones go when the last snapshot drops them.

pub(crate) mod blocks;
pub(crate) mod cursor;
pub(crate) mod layer;
pub(crate) mod load;
pub(crate) mod log;
pub(crate) mod overlay;
pub(crate) mod pack;
pub(crate) mod point;
pub(crate) mod relief;
pub(crate) mod rewrite;
pub(crate) mod rows;
pub(crate) mod settle;
pub(crate) mod stage;
pub(crate) mod stats;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use fjall::{Keyspace, OwnedWriteBatch};
use mendb_model::key::KeyRange;
use mendb_model::name::TablePath;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::store::{KeyspaceKind, Store};
use stats::ShardStats;

/// Value of the delta, or of a layer, that hides the row beneath.
pub(crate) const TOMBSTONE: u8 = 0;
/// First byte of such a value that is a row.
pub(crate) const ROW: u8 = 1;

/// Names a shard. Never used again once the shard is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShardId(pub u64);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A keyspace that is created by the first write to it, so that an idle shard costs nothing.
///
/// A snapshot from before its creation sees it empty, which is what it was.
struct LazyKeyspace {
    name: String,
    kind: KeyspaceKind,
    handle: OnceLock<Keyspace>,
}

impl LazyKeyspace {
    fn new(name: String, kind: KeyspaceKind) -> Self {
        Self {
            name,
            kind,
            handle: OnceLock::new(),
        }
    }

    fn open(&self, store: &Store) -> Result<&Keyspace> {
        if let Some(handle) = self.handle.get() {
            return Ok(handle);
        }
        let handle = store.keyspace(&self.name, self.kind)?;
        Ok(self.handle.get_or_init(|| handle))
    }

    /// Opens it if it is one of `names`, and takes it out of them.
    fn open_existing(&self, store: &Store, names: &mut Vec<String>) -> Result<()> {
        if let Some(at) = names.iter().position(|name| *name == self.name) {
            names.swap_remove(at);
            self.open(store)?;
        }
        Ok(())
    }

    /// Takes it out of the store. Failing leaves garbage that the next open removes.
    fn retire(&self, store: &Store) {
        let Some(handle) = self.handle.get() else {
            return;
        };
        if let Err(error) = store.delete(handle.clone()) {
            tracing::warn!(keyspace = self.name, %error, "leave a keyspace for the next open");
        }
    }
}

/// A row, or that there is none, as a value that lies over what is beneath.
fn over_value(row: Option<&[u8]>) -> Vec<u8> {
    let mut value = Vec::with_capacity(1 + row.map_or(0, <[u8]>::len));
    match row {
        Some(row) => {
            value.push(ROW);
            value.extend_from_slice(row);
        }
        None => value.push(TOMBSTONE),
    }
    value
}

/// The keyspaces of a shard.
pub(crate) struct Keyspaces {
    base: LazyKeyspace,
    delta: LazyKeyspace,
    log: LazyKeyspace,
    /// Bytes written to the delta, the log and the layer since they were last flushed on our request.
    pub(crate) unflushed_bytes: AtomicU64,
}

impl Keyspaces {
    pub(crate) fn new(id: ShardId) -> Self {
        Self {
            base: LazyKeyspace::new(format!("base-{id}"), KeyspaceKind::Base),
            delta: LazyKeyspace::new(format!("delta-{id}"), KeyspaceKind::Delta),
            log: LazyKeyspace::new(format!("log-{id}"), KeyspaceKind::Log),
            unflushed_bytes: AtomicU64::new(0),
        }
    }

    /// Opens those of `names` that belong to the shard.
    pub(crate) fn open_existing(&self, store: &Store, names: &mut Vec<String>) -> Result<()> {
        for lazy in [&self.base, &self.delta, &self.log] {
            lazy.open_existing(store, names)?;
        }
        Ok(())
    }

    pub(crate) fn base(&self) -> Option<&Keyspace> {
        self.base.handle.get()
    }

    pub(crate) fn delta(&self) -> Option<&Keyspace> {
        self.delta.handle.get()
    }

    pub(crate) fn log(&self) -> Option<&Keyspace> {
        self.log.handle.get()
    }

    pub(crate) fn open_base(&self, store: &Store) -> Result<&Keyspace> {
        self.base.open(store)
    }

    pub(crate) fn open_delta(&self, store: &Store) -> Result<&Keyspace> {
        self.delta.open(store)
    }

    pub(crate) fn open_log(&self, store: &Store) -> Result<&Keyspace> {
        self.log.open(store)
    }

    /// Takes the keyspaces out of the store, as [`LazyKeyspace::retire`] does.
    pub(crate) fn retire(&self, store: &Store) {
        for lazy in [&self.base, &self.delta, &self.log] {
            lazy.retire(store);
        }
    }

    /// Adds to `batch` that the row of `key` becomes `after`, and keeps the stats in step.
    pub(crate) fn stage_row(
        &self,
        store: &Store,
        batch: &mut OwnedWriteBatch,
        stats: &mut ShardStats,
        key: &[u8],
        before: Option<&[u8]>,
        after: Option<&[u8]>,
    ) -> Result<()> {
        if let Some(before) = before {
            stats.digest.remove(key, before);
        }
        if let Some(after) = after {
            stats.digest.add(key, after);
        }
        let delta = self.delta.open(store)?;
        let value = over_value(after);
        let bytes = (key.len() + value.len()) as u64;
        stats.delta_bytes += bytes;
        self.count(bytes);
        if after.is_none() && !stats.covers(key) {
            // The base has nothing to hide, so the delta need not remember.
            batch.remove(delta, key);
        } else {
            batch.insert(delta, key, value);
        }
        Ok(())
    }

    /// Adds a record of the change log to `batch`.
    pub(crate) fn stage_change(
        &self,
        store: &Store,
        batch: &mut OwnedWriteBatch,
        stats: &mut ShardStats,
        log_key: &[u8],
        change: &[u8],
    ) -> Result<()> {
        let bytes = (log_key.len() + change.len()) as u64;
        stats.log_bytes += bytes;
        self.count(bytes);
        batch.insert(self.log.open(store)?, log_key, change);
        Ok(())
    }

    fn count(&self, bytes: u64) {
        self.unflushed_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A shard of the current catalogue, or of a snapshot's.
pub(crate) struct Shard {
    pub(crate) id: ShardId,
    pub(crate) path: TablePath,
    pub(crate) range: KeyRange,
    pub(crate) files: Keyspaces,
    /// Held by whoever ingests into the shard, replaces it or trims its log: one at a time. Taken
    /// before the write lock of the store, and for several shards in key order.
    pub(crate) work: Mutex<()>,
    /// Splitting or packing it failed: not tried again on its own.
    pub(crate) relief_failed: AtomicBool,
}

impl Shard {
    pub(crate) fn new(id: ShardId, path: TablePath, range: KeyRange) -> Self {
        Self::with_files(id, path, range, Keyspaces::new(id))
    }

    pub(crate) fn with_files(
        id: ShardId,
        path: TablePath,
        range: KeyRange,
        files: Keyspaces,
    ) -> Self {
        Self {
            id,
            path,
            range,
            files,
            work: Mutex::new(()),
            relief_failed: AtomicBool::new(false),
        }
    }

    /// What to call it in errors.
    pub(crate) fn label(&self) -> String {
        format!("shard {} of {}", self.id, self.path)
    }
}
