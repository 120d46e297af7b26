//! Changes one by one, which an increment keeps beside its folded ones where a change stream told them.
//!
//! A table's are one shard, in the order of keys and, of each key, as they were made; the transactions are another. Their
//! places begin at the second of the backup's id, so that they ascend along a chain. *Crash*: a task is begun anew; what
//! it had written is swept.

use std::ops::ControlFlow;

use mendb_model::RowBlock;
use mendb_model::name::{BackupId, TablePath};
use mendb_model::operation::{BackupRequest, FoundBy, TaskOutput};
use mendb_repo::{Content, SegmentTarget};

use super::found::{no_such_table, versions};
use crate::attempt::{Attempt, Counts};
use crate::task_error::{TaskError, TaskResult};

/// Places of a backup begin at its second, shifted by so many bits: more changes than that in an increment would take
/// longer than the seconds that they reach into.
const PLACE_BITS: u32 = 32;

/// Where the places of the changes of a backup begin. What it has folded alone was made before all that a later one has,
/// and after all that an earlier one has.
pub(crate) fn first_place(backup_id: &BackupId) -> u64 {
    let seconds = u64::try_from(backup_id.unix_seconds()).unwrap_or(0);
    seconds << PLACE_BITS
}

/// Writes the changes of a table one by one, or the transactions.
pub(super) fn copy(
    attempt: &Attempt<'_>,
    request: &BackupRequest,
    found: &FoundBy,
    path: &TablePath,
    counts: &mut Counts,
) -> TaskResult<()> {
    let parent = found.chain.last();
    let parent = parent.ok_or_else(|| TaskError::Proof("the chain is empty".to_owned()))?;
    let parent = attempt.manifest(&request.collection, parent)?;
    let schema = match path.is_transactions() {
        true => Some(mendb_model::unfolded::transactions_schema()),
        false => {
            // That of the snapshot is the same.
            let table = parent.table(&path.table);
            table.and_then(|table| mendb_model::unfolded::table_schema(&table.schema))
        }
    };
    let schema = schema.ok_or_else(|| no_such_table(&parent, &path.table))?;
    let target = SegmentTarget {
        collection: request.collection.clone(),
        backup_id: request.backup_id.clone(),
        path: path.clone(),
        shard: 0,
        writer: attempt.writer().to_owned(),
        attempt: attempt.request.attempt,
        first_segment: 0,
    };
    let repository = &attempt.tools.repository;
    let mut writer = repository.segment_writer(target, &schema, Content::Changes)?;
    let mut segments = Vec::new();
    let mut outcome = Ok(());
    let mut write = |block: &RowBlock<&[u8]>| -> TaskResult<()> {
        // They are the rows of the folded changes again.
        counts.bytes += block.as_bytes().len() as u64;
        segments.extend(attempt.wait(writer.push(block))?);
        attempt.in_progress(counts)
    };
    versions(attempt)?.read_unfolded(
        attempt.operation(),
        path,
        first_place(&request.backup_id),
        &mut |block| match write(block) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                outcome = Err(error);
                ControlFlow::Break(())
            }
        },
    )?;
    outcome?;
    segments.extend(attempt.wait(writer.finish())?);
    counts.output = TaskOutput::Segments(segments);
    Ok(())
}
