//! Single rows and single records of the change log, as clients write them.

use crate::kernel::{Batch, Section, ShardId, Tree};
use crate::shard::entry::delta_value;
use crate::shard::stats::ShardStats;

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
