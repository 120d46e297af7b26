//! Keys that may differ because they changed since the wanted backup.

use std::sync::Arc;

use mendb_model::RowBlock;
use mendb_model::key::KeyRange;
use mendb_model::manifest::Manifest;
use mendb_model::name::TablePath;
use mendb_model::operation::RowMendRequest;

use super::wanted::WantedRows;
use super::{Fetched, Progress, Put, wanted_chain};
use crate::attempt::Attempt;
use crate::sizes::rows_within;
use crate::task_error::TaskResult;

/// Stages what the keys of a range are wanted to hold that some backups changed.
pub(super) fn stage(
    attempt: &Attempt<'_>,
    request: &RowMendRequest,
    (path, range): (&TablePath, &KeyRange),
    after_wanted: &[Arc<Manifest>],
    put: Put<'_>,
    progress: &mut Progress<'_, '_>,
) -> TaskResult<()> {
    let after = progress.last_key();
    let repository = &attempt.tools.repository;
    progress.keys_total = 0;
    for manifest in after_wanted {
        progress.keys_total += attempt.wait(rows_within(repository, manifest, path, range))?;
    }
    let changed = repository.read_chain(after_wanted, path, range, after.as_deref());
    let mut changed = attempt.wait(changed)?;
    let mut fetched = Fetched::default();
    let chain = wanted_chain(attempt, request)?;
    let mut wanted = WantedRows::new(attempt, &chain, path, range)?;
    while let Some(block) = attempt.wait(changed.next())? {
        wanted.put_all(&keys_of(&block), put, &mut |mut done, last| {
            done += fetched.since(changed.counts());
            progress.staged(done, last)
        })?;
    }
    progress.looked_at(fetched.since(changed.counts()));
    Ok(())
}

/// The keys of a block.
fn keys_of<B: AsRef<[u8]>>(block: &RowBlock<B>) -> Vec<&[u8]> {
    (0..block.len()).map(|row| block.key(row)).collect()
}
