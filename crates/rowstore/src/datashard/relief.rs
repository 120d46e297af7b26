//! Shards that have grown too large split or pack themselves.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::database::{Inner, Options};
use crate::datashard::Shard;
use crate::datashard::pack::BLOCK_BYTES;
use crate::datashard::rewrite::{Divide, rewrite};
use crate::error::{Error, Result};
use crate::schemeshard::Access;

/// A shard does not split itself below this size: it is cut between blocks, so it needs some.
const MIN_SPLIT_BYTES: u64 = 4 * BLOCK_BYTES as u64;

/// Splits or packs those of the shards that have grown too large. The write that made them grow is
/// committed, so a failure here is only reported; it is not tried again before the next open.
pub(crate) fn relieve(inner: &Inner, grown: &[Arc<Shard>]) {
    for shard in grown {
        match relieve_shard(inner, shard) {
            // A mend needs its shards as they are. What it leaves too large is relieved when it ends.
            Ok(()) | Err(Error::BeingMended { .. }) => {}
            Err(error) => {
                shard.relief_failed.store(true, Ordering::Relaxed);
                tracing::warn!(shard = shard.label(), %error, "leave a shard larger than it should be");
            }
        }
    }
}

fn relieve_shard(inner: &Inner, shard: &Arc<Shard>) -> Result<()> {
    if shard.relief_failed.load(Ordering::Relaxed) {
        return Ok(());
    }
    let view = inner.view()?;
    if view.catalogue().shard(shard.id).is_none() {
        return Ok(());
    }
    let stats = view.stats(shard.id)?;
    drop(view);
    let options = &inner.options;
    let divide = divide(options, shard, stats.bytes());
    if matches!(divide, Divide::Into(_))
        && stats.delta_bytes <= options.compact_bytes.max(stats.base_bytes / 4)
    {
        return Ok(());
    }
    // Whoever has the shard now is rewriting it, or will come by here.
    if let Ok(_work) = shard.work.try_lock() {
        rewrite(inner, std::slice::from_ref(shard), divide, Access::Reshape)?;
    }
    Ok(())
}

/// Into what a shard is rewritten that has, or will have, so many bytes.
pub(crate) fn divide(options: &Options, shard: &Shard, bytes: u64) -> Divide {
    if bytes > options.split_bytes.max(MIN_SPLIT_BYTES) {
        Divide::Halves { bytes }
    } else {
        Divide::Into(vec![shard.range.clone()])
    }
}
