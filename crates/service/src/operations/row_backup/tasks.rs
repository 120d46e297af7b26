//! The tasks of a backup of rows.

use mendb_model::manifest::{ChangeMethod, Manifest};
use mendb_model::operation::{BackupRequest, NewTask, TaskSpec};

use crate::attempt::Tools;
use crate::error::{Error, Result};
use crate::wire::StepRequest;

/// A task for each shard of the draft; of an increment of kept changes, for each that has some.
pub(crate) fn copy_tasks(
    step: &StepRequest,
    request: &BackupRequest,
    tools: &Tools,
) -> Result<Vec<NewTask>> {
    let id = step.operation_id.as_str();
    let draft = step.draft.as_deref();
    let is_frozen = tools.engine.is_frozen(id)?;
    // Where no digests are kept, what is copied tells.
    let proves = request.since_version.is_none() && tools.engine.rows()?.keeps_digests();
    let mut tasks = Vec::new();
    for (path, data) in draft.into_iter().flat_map(Manifest::stored_tables) {
        let drafted = data.shards_here().ok_or_else(|| Error::Refused {
            message: format!("the backup was drafted without the shards of {path}"),
            hint: None,
        })?;
        // A stream tells of each key, and the draft has what the parent had: without one there is no change.
        let is_told = draft
            .and_then(|draft| draft.table(&path.table))
            .is_some_and(|table| table.changes_by == Some(ChangeMethod::Stream));
        for (shard, backup) in (0u32..).zip(drafted) {
            let (rows, range) = (tools.engine.rows()?, &backup.range);
            let kept_since = request.since_version.filter(|_| request.found.is_none());
            let bytes_total = match kept_since {
                // The copy task notices that the cut is lost.
                _ if !is_frozen => 0,
                None => match rows.estimate_bytes(id, &path, range)? {
                    0 if is_told => continue,
                    bytes => bytes,
                },
                Some(since) => match rows.estimate_change_bytes(id, &path, range, since)? {
                    // The draft says so already.
                    0 => continue,
                    bytes => bytes,
                },
            };
            let spec = TaskSpec::Copy {
                path: path.clone(),
                shard,
                range: backup.range.clone(),
                digest: proves.then_some(backup.digest),
            };
            tasks.push(NewTask { spec, bytes_total });
        }
    }
    Ok(tasks)
}
