//! A shard of a catalogue: a key range of a table or of an index.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};

use mendb_model::key::KeyRange;
use mendb_model::name::TablePath;

use crate::kernel::{ShardId, Store};

/// A shard of the current catalogue, or of a snapshot's.
pub(crate) struct Shard {
    pub(crate) id: ShardId,
    pub(crate) path: TablePath,
    pub(crate) range: KeyRange,
    /// Held by the job that loads into the shard, replaces it or trims its log: one at a time. Taken
    /// before the write lock of the store, and for several shards in key order.
    pub(crate) work: Mutex<()>,
    /// Splitting or packing it failed: not tried again on its own.
    pub(crate) split_or_pack_failed: AtomicBool,
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
            split_or_pack_failed: AtomicBool::new(false),
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
        // The first caller has set the same.
        let _ = shard.retired.set(store.clone());
    }
    store.erase_shards(shards.map(|shard| shard.id));
}

/// The shard that holds `key`, of shards in key order that cover all keys.
pub(crate) fn route<'a>(shards: &'a [Arc<Shard>], key: &[u8]) -> &'a Arc<Shard> {
    let after = shards.partition_point(|shard| shard.range.start.as_slice() <= key);
    &shards[after.saturating_sub(1)]
}

/// Those that have keys of a range, of shards in key order that touch each other.
pub(crate) fn within<'a>(shards: &'a [Arc<Shard>], range: &KeyRange) -> &'a [Arc<Shard>] {
    let ends_before = |shard: &Arc<Shard>| {
        let end = shard.range.end.as_ref();
        end.is_some_and(|end| *end <= range.start)
    };
    let first = shards.partition_point(ends_before);
    let begins_before = |shard: &Arc<Shard>| {
        let end = range.end.as_ref();
        end.is_none_or(|end| shard.range.start < *end)
    };
    let behind = shards.partition_point(begins_before);
    if range.is_empty() {
        return &[];
    }
    shards.get(first..behind).unwrap_or_default()
}
