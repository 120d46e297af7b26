//! The tasks of a restore.

use std::sync::Arc;

use mendb_model::key::KeyRange;
use mendb_model::manifest::{Manifest, ShardBackup, TableBackup};
use mendb_model::name::{BackupId, TablePath};
use mendb_model::operation::{NewTask, RestoreRequest, RestoreStrategy, StepKind, TaskSpec};

use crate::attempt::Tools;
use crate::error::{Error, Result};
use crate::sizes::{Sizes, add_within, segment_bytes};
use crate::wire::StepRequest;

/// A task for each shard of the backup that the step is about.
pub(super) fn tasks(
    step: &StepRequest,
    request: &RestoreRequest,
    tools: &Tools,
) -> Result<Vec<NewTask>> {
    match step.step_kind {
        StepKind::Verify => verify_tasks(request, tools),
        _ if request.strategy == RestoreStrategy::Merged => merge_tasks(request, tools),
        _ => {
            let idx = step.incremental_idx;
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
    }
}

/// A task for each shard of the last backup.
fn verify_tasks(request: &RestoreRequest, tools: &Tools) -> Result<Vec<NewTask>> {
    let last = request.chain.last().map(|link| &link.backup_id);
    let full = request.chain.first().map(|link| &link.backup_id);
    let totals = |id| totals(request, id, tools);
    let (_, bytes) = full.map(totals).transpose()?.unwrap_or_default();
    let (rows, _) = last.map(totals).transpose()?.unwrap_or_default();
    shard_tasks(request, last, tools, |place, shard| {
        let share = u128::from(bytes) * u128::from(shard.digest.rows) / u128::from(rows.max(1));
        Some(NewTask {
            bytes_total: share as u64,
            spec: place.verify(),
        })
    })
}

/// A shard of a backup and the table it goes to.
#[derive(Clone)]
struct ShardToRestore {
    backup_id: BackupId,
    source: TablePath,
    target: TablePath,
    shard: u32,
}

impl ShardToRestore {
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

/// A task for each shard of the chosen tables in one backup, of a drill for those of its sample, as `task` makes them.
fn shard_tasks<T>(
    request: &RestoreRequest,
    backup_id: Option<&BackupId>,
    tools: &Tools,
    task: impl Fn(ShardToRestore, &ShardBackup) -> Option<T>,
) -> Result<Vec<T>> {
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
        for (source, _) in table.sharded_tables() {
            let shards = tools.repository.shards(&manifest, &source);
            let shards = tools.runtime.block_on(shards)?;
            let target = TablePath {
                table: mapping.target.clone(),
                index: source.index.clone(),
            };
            let drilled = request.drill.as_ref();
            let drilled = drilled.map(|drill| drill.chosen(&source.to_string(), shards.len()));
            let is_restored = |at: usize| {
                let drilled = drilled.as_ref();
                drilled.is_none_or(|drilled| drilled.binary_search(&at).is_ok())
            };
            let restored = shards.iter().enumerate().filter(|(at, _)| is_restored(*at));
            for (at, backup) in restored {
                let shard = u32::try_from(at).unwrap_or(u32::MAX);
                let place = ShardToRestore {
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
    let last = request.chain.last().map(|link| &link.backup_id);
    let mut tasks = Vec::new();
    // The shards of one sharded table follow each other.
    let mut of_table: Vec<(KeyRange, Sizes)> = Vec::new();
    let all = shard_tasks(request, last, tools, |place, shard| {
        Some((place, shard.range.clone()))
    })?;
    for places in all.chunk_by(|(a, _), (b, _)| a.source == b.source) {
        of_table.clear();
        of_table.extend(
            places
                .iter()
                .map(|(_, range)| (range.clone(), Sizes::default())),
        );
        for link in &request.chain {
            let manifest = manifest(request, &link.backup_id, tools)?;
            let path = &places[0].0.source;
            let added = add_within(&tools.repository, &manifest, path, &mut of_table);
            tools.runtime.block_on(added)?;
        }
        let sized = places.iter().zip(&of_table);
        let sized = sized.filter(|(_, (_, sizes))| sizes.bytes > 0);
        tasks.extend(sized.map(|((place, _), (_, sizes))| NewTask {
            bytes_total: sizes.bytes,
            spec: place.clone().restore(),
        }));
    }
    Ok(tasks)
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

/// What the chosen tables of a backup, with their indexes, are together.
fn totals(request: &RestoreRequest, backup_id: &BackupId, tools: &Tools) -> Result<(u64, u64)> {
    let manifest = manifest(request, backup_id, tools)?;
    let (mut rows, mut bytes) = (0, 0);
    for mapping in &request.tables {
        let table = manifest.table(&mapping.source);
        for (_, data) in table.into_iter().flat_map(TableBackup::sharded_tables) {
            let totals = data.totals();
            rows += totals.digest.rows;
            bytes += totals.bytes;
        }
    }
    Ok((rows, bytes))
}
