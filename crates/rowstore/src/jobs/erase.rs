//! What is left of runs that a commit took out of their shards.

use crate::commit::{Inner, Transaction};
use crate::error::Result;
use crate::shard::removed_runs::RemovedRuns;

/// Erases runs, when it is on disk that they are taken out: what comes next is written over them.
pub(crate) fn erase_runs(inner: &Inner, removed: &[RemovedRuns]) -> Result<()> {
    inner
        .store
        .erase_runs(removed.iter().flat_map(RemovedRuns::runs));
    for removed in removed {
        // Who has the shard writes behind them; then their bytes stay until the shard is packed.
        let Ok(_work) = removed.shard.work.try_lock() else {
            continue;
        };
        let mut transaction = Transaction::begin(inner);
        if transaction.catalogue().shard(removed.shard.id).is_none() {
            continue;
        }
        // No reader can tell the difference, so this is no version of its own.
        transaction.version = transaction.view.version();
        let stats = transaction.stats(&removed.shard)?;
        if stats.file_bytes == removed.file_bytes {
            stats.file_bytes = removed.file_bytes_before;
            transaction.commit()?;
        }
    }
    Ok(())
}
