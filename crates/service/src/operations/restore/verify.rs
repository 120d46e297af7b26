//! The proof of a restore.

use super::run::{ShardToRestore, look_up};
use crate::attempt::{Attempt, Counts};
use crate::task_error::{TaskError, TaskResult};

/// Reads every row of a restored range and compares count and digest with the manifest.
pub(super) fn verify(
    attempt: &Attempt<'_>,
    place: &ShardToRestore<'_>,
    counts: &mut Counts,
) -> TaskResult<()> {
    let (shard, _) = look_up(attempt, place)?;
    let found = attempt
        .tools
        .engine
        .rows()?
        .digest(place.target, &shard.range)?;
    if found != shard.digest {
        return Err(TaskError::Proof(format!(
            "restored shard {} of {} is not what backup {} holds: {} rows with digest {found}, expected {} rows with digest {}",
            place.shard, place.target, place.backup_id, found.rows, shard.digest.rows, shard.digest
        )));
    }
    counts.rows = found.rows;
    counts.bytes = attempt.request.bytes_total;
    Ok(())
}
