//! Splits or packs shards that have grown too large.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::catalogue::{Access, Shard};
use crate::commit::Inner;
use crate::error::{Error, Result};
use crate::jobs::rewrite::{Divide, rewrite};
use crate::kernel::Options;
use crate::shard::pack::BLOCK_BYTES;
use crate::shard::stats::ShardStats;

/// A shard does not split itself below this size: it is cut between blocks, so it needs some.
const MIN_SPLIT_BYTES: u64 = 4 * BLOCK_BYTES as u64;
/// A look-up of a row looks into each run: so many runs are packed if they are not a small part of their shard ...
const MANY_RUNS: usize = 12;
/// ... and so many in any case.
const MOST_RUNS: usize = 64;

/// Splits or packs those of the shards that have grown too large. The write that made them grow is
/// committed, so a failure here is only reported; it is not tried again before the next open.
pub(crate) fn grown(inner: &Inner, shards: &[Arc<Shard>]) {
    for shard in shards {
        if shard.split_or_pack_failed.load(Ordering::Relaxed) {
            continue;
        }
        match one(inner, shard, Access::Reshape) {
            // A mend needs its shards as they are. What it leaves too large is split or packed when it ends.
            Ok(_) | Err(Error::BeingMended { .. }) => {}
            Err(error) => {
                shard.split_or_pack_failed.store(true, Ordering::Relaxed);
                tracing::warn!(shard = shard.label(), %error, "leave a shard larger than it should be");
            }
        }
    }
}

/// Splits or packs a shard that has grown too large: how many rows it has then, or `None` if it was not.
pub(crate) fn one(inner: &Inner, shard: &Arc<Shard>, access: Access) -> Result<Option<u64>> {
    let view = inner.view()?;
    if view.catalogue().shard(shard.id).is_none() {
        return Ok(None);
    }
    let stats = view.stats(shard.id)?;
    drop(view);
    let divide = divide(&inner.options, shard, stats.packed_bytes());
    if matches!(divide, Divide::Into(_)) && !has_much_over_base(&inner.options, &stats) {
        return Ok(None);
    }
    // The job that has the shard now rewrites it, or comes by here.
    if let Ok(_work) = shard.work.try_lock() {
        let rewritten = rewrite(inner, std::slice::from_ref(shard), divide, access)?;
        return Ok(rewritten.then_some(stats.digest.rows));
    }
    Ok(None)
}

/// Whether so much lies over the base of a shard that it is worth packing.
fn has_much_over_base(options: &Options, stats: &ShardStats) -> bool {
    // Rows that hide none are as good as those of the base.
    let runs = stats.runs_over_rows().count();
    let run_bytes: u64 = stats.runs_over_rows().map(|run| run.bytes).sum();
    let base_bytes = stats.base_bytes + stats.run_bytes() - run_bytes;
    stats.delta_bytes > options.compact_bytes.max(base_bytes / 4)
        || run_bytes > options.compact_bytes.max(base_bytes)
        || runs > MANY_RUNS && run_bytes > base_bytes / 16
        || runs > MOST_RUNS
}

/// Into what a shard is rewritten that has so many bytes.
fn divide(options: &Options, shard: &Shard, bytes: u64) -> Divide {
    if bytes > options.split_bytes.max(MIN_SPLIT_BYTES) {
        Divide::Halves { bytes }
    } else {
        Divide::Into(vec![shard.range.clone()])
    }
}
