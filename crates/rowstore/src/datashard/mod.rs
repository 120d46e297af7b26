//! One shard: a key range of a table, its rows, its change log, its cursors.
//!
//! Rows lie in three places. The **base** holds packed [`RowBlock`](mendb_model::RowBlock)s keyed by
//! their last key; it is written in bulk only. **Runs** ([`run`]) hold rows and tombstones over it, packed in the
//! same way: what was written in bulk since, by an import or a mend. The **delta** holds single ones, that
//! clients wrote. A read merges the three; compaction rewrites them into a new base.
//!
//! # Life
//! A shard never changes its range. Splits, merges and compaction put new shards with new ids in the
//! place of old ones in one commit; what the old ones have is garbage from then on, and their files
//! go when the last snapshot drops them.

pub(crate) mod block_writer;
pub(crate) mod blocks;
pub(crate) mod cursor;
pub(crate) mod derive;
pub(crate) mod index_edits;
pub(crate) mod load;
pub(crate) mod log;
pub(crate) mod overlay;
pub(crate) mod pack;
pub(crate) mod point;
pub(crate) mod relief;
pub(crate) mod rewrite;
pub(crate) mod rows;
pub(crate) mod run;
pub(crate) mod settle;
pub(crate) mod shard_edits;
pub(crate) mod stage;
pub(crate) mod stats;
pub(crate) mod stored;

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};

use mendb_model::key::KeyRange;
use mendb_model::name::TablePath;
use serde::{Deserialize, Serialize};

use crate::kernel::{Batch, Section, Store, Tree};
use overlay::delta_value;
use stats::ShardStats;

/// An entry of the delta or of a run that hides the row beneath.
pub(crate) const TOMBSTONE: u8 = 0;
/// First byte of such an entry that is a row.
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

/// Adds to `batch` that the row of `key` becomes `after`, and keeps the stats in step.
pub(crate) fn stage_row(
    batch: &mut Batch,
    shard: ShardId,
    stats: &mut ShardStats,
    key: &[u8],
    before: Option<&[u8]>,
    after: Option<&[u8]>,
) {
    if let Some(before) = before {
        stats.digest.remove(key, before);
    }
    if let Some(after) = after {
        stats.digest.add(key, after);
    }
    let delta = Section::of_shard(Tree::Delta, shard);
    let value = delta_value(stats.next_run, after);
    stats.delta_bytes += (key.len() + value.len()) as u64;
    if after.is_none() && !stats.covers(key) {
        // There is nothing to hide, so the delta need not remember.
        batch.remove(&delta, key);
    } else {
        batch.insert(&delta, key, value);
    }
}

/// Adds a record of the change log to `batch`.
pub(crate) fn stage_change(
    batch: &mut Batch,
    shard: ShardId,
    stats: &mut ShardStats,
    record: &[u8],
    change: Vec<u8>,
) {
    stats.log_bytes += (record.len() + change.len()) as u64;
    stats.log.add(record, &change);
    batch.insert(&Section::of_shard(Tree::Log, shard), record, change);
}

/// A shard of the current catalogue, or of a snapshot's.
pub(crate) struct Shard {
    pub(crate) id: ShardId,
    pub(crate) path: TablePath,
    pub(crate) range: KeyRange,
    /// Held by whoever loads into the shard, replaces it or trims its log: one at a time. Taken
    /// before the write lock of the store, and for several shards in key order.
    pub(crate) work: Mutex<()>,
    /// Splitting or packing it failed: not tried again on its own.
    pub(crate) relief_failed: AtomicBool,
    /// The store that it is no longer part of, to remove its file when nobody reads it any more.
    retired: OnceLock<Arc<Store>>,
}

impl Shard {
    pub(crate) fn new(id: ShardId, path: TablePath, range: KeyRange) -> Self {
        Self {
            id,
            path,
            range,
            work: Mutex::new(()),
            relief_failed: AtomicBool::new(false),
            retired: OnceLock::new(),
        }
    }

    /// What to call it in errors.
    pub(crate) fn label(&self) -> String {
        format!("shard {} of {}", self.id, self.path)
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        if let Some(store) = self.retired.get() {
            store.files().remove(self.id);
        }
    }
}

/// Erases what shards have that a commit has taken out of the catalogue. Failing leaves garbage that the
/// next open erases.
pub(crate) fn retire<'a>(store: &Arc<Store>, shards: impl Iterator<Item = &'a Arc<Shard>> + Clone) {
    for shard in shards.clone() {
        // Whoever came first has said the same.
        let _ = shard.retired.set(store.clone());
    }
    store.erase_shards(shards.map(|shard| shard.id));
}
