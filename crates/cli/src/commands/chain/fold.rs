//! Folding the shards of a run of backups, several at a time.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;

use mendb_model::manifest::Manifest;
use mendb_repo::{Compaction, Repository};
use mendb_service::env::crash_point;
use tokio::runtime::Handle;

use crate::context::Context;
use crate::failure::Failure;
use crate::human;
use crate::progress::Progress;

/// Writes the folded shards of a run, with progress on stderr, and returns the manifest that names them.
/// Nothing that was there is changed. At most `general.max_in_flight` shards are folded at a time.
///
/// # Errors
/// A backup of the run cannot be read, or the repository not be written. What was written then is
/// removed, as far as the repository allows.
pub fn fold(
    context: &Context,
    repository: &Repository,
    runtime: &Handle,
    compaction: &Compaction,
    writer: &str,
) -> Result<Manifest, Failure> {
    let stays = &compaction.stays().manifest;
    let label = format!("folding {}", stays.collection);
    let progress = Progress::start(label, Some(compaction.bytes()), context.output.quiet);
    let shards = compaction.shards();
    let (next, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
    let work = || {
        let mut folded = Vec::new();
        let mut read = |more| {
            let done = bytes.fetch_add(more, Ordering::Relaxed) + more;
            progress.update(done, &human::bytes(done));
        };
        while let Some((path, shard)) = shards.get(next.fetch_add(1, Ordering::Relaxed)) {
            let work = repository.fold_shard(compaction, path, *shard, writer, &mut read);
            match runtime.block_on(work) {
                Ok(segments) => folded.push((path, *shard, segments)),
                Err(error) => {
                    // The others need not begin another.
                    next.store(shards.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
            crash_point();
        }
        Ok(folded)
    };
    let at_once = usize::try_from(context.settings.max_in_flight).unwrap_or(usize::MAX);
    let done = std::thread::scope(|scope| {
        let threads = 0..at_once.clamp(1, shards.len().max(1));
        let threads: Vec<_> = threads.map(|_| scope.spawn(work)).collect();
        let ends = threads.into_iter().map(ScopedJoinHandle::join);
        let ends = ends.map(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        ends.collect::<Result<Vec<_>, _>>()
    });
    progress.finish();
    let folded = match done {
        Ok(folded) => folded.into_iter().flatten(),
        Err(error) => {
            give_up(repository, runtime, stays, writer);
            return Err(error.into());
        }
    };
    let mut manifest = compaction.draft();
    for (path, shard, segments) in folded {
        manifest.put_shard(path, shard, segments);
    }
    Ok(manifest)
}

/// Removes what a writer wrote beside a backup that does not name it.
pub fn give_up(repository: &Repository, runtime: &Handle, stays: &Manifest, writer: &str) {
    if let Err(error) = runtime.block_on(repository.sweep(stays, writer)) {
        tracing::warn!(%error, backup = %stays.backup_id, "what was folded in vain stays");
    }
}
