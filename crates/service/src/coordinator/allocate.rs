//! Finds the tasks of a step. It only reads, so it can be repeated at will.

use std::sync::Arc;

use mendb_engines::Remedy;
use mendb_model::describe_error;
use mendb_model::key::KeyRange;
use mendb_model::manifest::{Manifest, Segment, ShardBackup};
use mendb_model::name::BackupId;
use mendb_model::name::TablePath;
use mendb_model::operation::{
    BackupRequest, Event, NewTask, Operation, Request, RestoreRequest, RestoreStrategy, StepKind,
    TaskSpec,
};

use crate::error::{Error, Result};
use crate::worker::Tools;
use crate::worker::mend;
use crate::worker::parts::{backup_tasks, mend_tasks};

/// The tasks of the current step, or why they cannot be found.
pub(super) fn allocate(operation: &Operation, tools: &Tools) -> Event {
    let step = operation.current_step;
    match tasks(operation, tools) {
        Ok(tasks) => Event::Allocated { step, tasks },
        Err(error) => Event::AllocationFailed {
            step,
            retriable: error.is_retriable(),
            is_cut_lost: matches!(&error, Error::Engine(error) if error.remedy == Remedy::Refreeze),
            message: describe_error(&error),
        },
    }
}

fn tasks(operation: &Operation, tools: &Tools) -> Result<Vec<NewTask>> {
    match (operation.step_kind(), &operation.request) {
        (StepKind::Copy, Request::Backup(request)) => copy_tasks(operation, request, tools),
        (StepKind::Copy, Request::MendRows(request)) => {
            copy_tasks(operation, &request.before, tools)
        }
        (StepKind::Stage, Request::MendRows(request)) => mend::tasks(operation, request, tools),
        (StepKind::Load, Request::Restore(request))
            if request.strategy == RestoreStrategy::Merged =>
        {
            merge_tasks(request, tools)
        }
        (StepKind::Load | StepKind::Apply, Request::Restore(request)) => {
            let idx = operation
                .steps
                .get(operation.current_step as usize)
                .and_then(|s| s.incremental_idx);
            let link = idx.and_then(|idx| request.chain.get(idx as usize));
            shard_tasks(
                request,
                link.map(|link| &link.backup_id),
                tools,
                |place, shard| {
                    let task = NewTask {
                        bytes_total: segment_bytes(shard),
                        spec: place.restore(),
                    };
                    (!shard.segments.is_empty()).then_some(task)
                },
            )
        }
        (StepKind::Verify, Request::Restore(request)) => {
            let last = request.chain.last().map(|link| &link.backup_id);
            let full = request.chain.first().map(|link| &link.backup_id);
            let bytes = full
                .map(|id| bytes_of_tables(request, id, tools))
                .transpose()?
                .unwrap_or(0);
            let rows = last
                .map(|id| rows_of_tables(request, id, tools))
                .transpose()?
                .unwrap_or(0);
            shard_tasks(request, last, tools, |place, shard| {
                let share =
                    u128::from(bytes) * u128::from(shard.digest.rows) / u128::from(rows.max(1));
                Some(NewTask {
                    bytes_total: share as u64,
                    spec: place.verify(),
                })
            })
        }
        (StepKind::Copy, Request::PartBackup(request)) => backup_tasks(operation, request, tools),
        (
            StepKind::Assess | StepKind::Stage | StepKind::Commit | StepKind::Verify,
            Request::Mend(request),
        ) => mend_tasks(operation, request, tools),
        _ => Ok(vec![NewTask {
            spec: TaskSpec::Whole,
            bytes_total: 0,
        }]),
    }
}

fn copy_tasks(
    operation: &Operation,
    request: &BackupRequest,
    tools: &Tools,
) -> Result<Vec<NewTask>> {
    let id = operation.operation_id.as_str();
    let draft = operation.draft.as_deref();
    let mut tasks = Vec::new();
    for (path, data) in draft.into_iter().flat_map(Manifest::sharded_tables) {
        for (shard, backup) in (0u32..).zip(&data.shards) {
            let full = request.since_version.is_none() && tools.engine.is_frozen(id);
            let bytes_total = if full {
                tools
                    .engine
                    .rows()?
                    .estimate_bytes(id, &path, &backup.range)?
            } else {
                0
            };
            let spec = TaskSpec::Copy {
                path: path.clone(),
                shard,
                range: backup.range.clone(),
                digest: request.since_version.is_none().then_some(backup.digest),
            };
            tasks.push(NewTask { spec, bytes_total });
        }
    }
    Ok(tasks)
}

/// A shard of a backup and the table it goes to.
struct Place {
    backup_id: BackupId,
    source: TablePath,
    target: TablePath,
    shard: u32,
}

impl Place {
    fn restore(self) -> TaskSpec {
        let Self {
            backup_id,
            source,
            target,
            shard,
        } = self;
        TaskSpec::Restore {
            backup_id,
            source,
            target,
            shard,
        }
    }

    fn verify(self) -> TaskSpec {
        let Self {
            backup_id,
            source,
            target,
            shard,
        } = self;
        TaskSpec::Verify {
            backup_id,
            source,
            target,
            shard,
        }
    }
}

/// A task for each shard of the chosen tables in one backup, as `task` makes them.
fn shard_tasks(
    request: &RestoreRequest,
    backup_id: Option<&BackupId>,
    tools: &Tools,
    task: impl Fn(Place, &ShardBackup) -> Option<NewTask>,
) -> Result<Vec<NewTask>> {
    let Some(backup_id) = backup_id else {
        return Ok(Vec::new());
    };
    let manifest = manifest(request, backup_id, tools)?;
    let mut tasks = Vec::new();
    for mapping in &request.tables {
        let table = manifest
            .table(&mapping.source)
            .ok_or_else(|| Error::Refused {
                message: format!("backup {backup_id} has no table {}", mapping.source),
                hint: None,
            })?;
        for (source, data) in table.sharded_tables() {
            let target = TablePath {
                table: mapping.target.clone(),
                index: source.index.clone(),
            };
            for (shard, backup) in (0u32..).zip(&data.shards) {
                let place = Place {
                    backup_id: backup_id.clone(),
                    source: source.clone(),
                    target: target.clone(),
                    shard,
                };
                tasks.extend(task(place, backup));
            }
        }
    }
    Ok(tasks)
}

/// A task for each shard of the last backup that the chain has anything for.
fn merge_tasks(request: &RestoreRequest, tools: &Tools) -> Result<Vec<NewTask>> {
    let links = request.chain.iter();
    let chain = links.map(|link| manifest(request, &link.backup_id, tools));
    let chain = chain.collect::<Result<Vec<_>>>()?;
    let last = request.chain.last().map(|link| &link.backup_id);
    shard_tasks(request, last, tools, |place, shard| {
        let bytes = chain
            .iter()
            .map(|manifest| bytes_within(manifest, &place.source, &shard.range));
        let bytes_total = bytes.sum();
        (bytes_total > 0).then(|| NewTask {
            bytes_total,
            spec: place.restore(),
        })
    })
}

fn manifest(
    request: &RestoreRequest,
    backup_id: &BackupId,
    tools: &Tools,
) -> Result<Arc<Manifest>> {
    let links = &request.chain;
    let link = links.iter().find(|link| link.backup_id == *backup_id);
    let link = link.ok_or_else(|| Error::Refused {
        message: format!("backup {backup_id} is not in the chain"),
        hint: None,
    })?;
    tools.manifest(&request.collection, link)
}

fn shards_of_tables(request: &RestoreRequest, manifest: &Manifest) -> Vec<ShardBackup> {
    let tables = request
        .tables
        .iter()
        .filter_map(|mapping| manifest.table(&mapping.source));
    tables
        .flat_map(|t| {
            t.sharded_tables()
                .flat_map(|(_, data)| data.shards.clone())
                .collect::<Vec<_>>()
        })
        .collect()
}

fn bytes_of_tables(request: &RestoreRequest, backup_id: &BackupId, tools: &Tools) -> Result<u64> {
    let manifest = manifest(request, backup_id, tools)?;
    Ok(shards_of_tables(request, &manifest)
        .iter()
        .map(segment_bytes)
        .sum())
}

fn rows_of_tables(request: &RestoreRequest, backup_id: &BackupId, tools: &Tools) -> Result<u64> {
    let manifest = manifest(request, backup_id, tools)?;
    Ok(shards_of_tables(request, &manifest)
        .iter()
        .map(|shard| shard.digest.rows)
        .sum())
}

/// Bytes of the segments of one shard.
pub(crate) fn segment_bytes(shard: &ShardBackup) -> u64 {
    shard.segments.iter().map(|segment| segment.bytes).sum()
}

/// Bytes of the segments of a table that may have keys of a range.
pub(crate) fn bytes_within(manifest: &Manifest, path: &TablePath, range: &KeyRange) -> u64 {
    let within = segments_within(manifest, path, range);
    within.map(|segment| segment.bytes).sum()
}

/// The segments of a table that may have keys of a range.
pub(crate) fn segments_within<'a>(
    manifest: &'a Manifest,
    path: &TablePath,
    range: &'a KeyRange,
) -> impl Iterator<Item = &'a Segment> {
    let data = manifest.sharded_table(path);
    let shards = data.into_iter().flat_map(|data| &data.shards);
    let segments = shards.flat_map(|shard| &shard.segments);
    segments.filter(|segment| {
        let ends_after = segment.last_key >= range.start;
        let begins_before = |end: &Vec<u8>| segment.first_key < *end;
        ends_after && range.end.as_ref().is_none_or(begins_before)
    })
}
