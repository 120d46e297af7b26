//! The tasks of the stage of a mend: one for each key range that is looked at by itself.

use mendb_model::key::KeyRange;
use mendb_model::name::TablePath;
use mendb_model::operation::{NewTask, RowMendRequest, RowMendRoad, TaskSpec};

use crate::attempt::Tools;
use crate::error::{Error, Result};
use crate::sizes::{add_bytes_within, segment_bytes};
use crate::wire::StepRequest;

/// A task for each live shard where changes are known, for each shard of the backup where its digest
/// tells, for each of table and indexes where the table is created, and one for single keys.
pub(super) fn tasks(
    step: &StepRequest,
    request: &RowMendRequest,
    tools: &Tools,
) -> Result<Vec<NewTask>> {
    let collection = &request.before.collection;
    let wanted = request
        .chain
        .last()
        .map(|link| tools.manifest(collection, link));
    let Some(wanted) = wanted.transpose()? else {
        return Ok(Vec::new());
    };
    let shards = |path: &TablePath| -> Result<_> {
        let shards = tools.repository.shards(&wanted, path);
        Ok(tools.runtime.block_on(shards)?)
    };
    let mut tasks = Vec::new();
    for table in &request.tables {
        let backup = wanted.table(&table.table).ok_or_else(|| Error::Refused {
            message: format!("backup {} has no table {}", wanted.backup_id, table.table),
            hint: None,
        })?;
        if table.create {
            for (path, _) in backup.sharded_tables() {
                for shard in shards(&path)? {
                    let bytes = segment_bytes(&shard);
                    tasks.push(task(&path, shard.range, bytes, true));
                }
            }
            continue;
        }
        let path = TablePath::table(&table.table);
        tasks.extend(task_of_single_keys(&path, &table.also));
        match &request.road {
            RowMendRoad::Digests { .. } => {
                for shard in shards(&path)? {
                    let range = table.part_of(&shard.range);
                    let bytes = segment_bytes(&shard);
                    tasks.extend(range.map(|range| task(&path, range, bytes, false)));
                }
            }
            RowMendRoad::Changes { later } => {
                let mut changed_in = Vec::new();
                for link in later {
                    changed_in.push(tools.manifest(collection, link)?);
                }
                changed_in.extend(step.draft.clone());
                let live = tools
                    .engine
                    .rows()?
                    .shards(&path, &KeyRange::all())?
                    .into_iter();
                let ranges = live.filter_map(|shard| table.part_of(&shard.range));
                let mut ranges: Vec<_> = ranges.map(|range| (range, 0)).collect();
                for manifest in &changed_in {
                    let added = add_bytes_within(&tools.repository, manifest, &path, &mut ranges);
                    tools.runtime.block_on(added)?;
                }
                // Where nothing changed that is known: 0 would say that it is not.
                let of_range = |(range, bytes): (_, u64)| task(&path, range, bytes.max(1), false);
                tasks.extend(ranges.into_iter().map(of_range));
            }
        }
    }
    Ok(tasks)
}

fn task(path: &TablePath, range: KeyRange, bytes_total: u64, create: bool) -> NewTask {
    NewTask {
        bytes_total,
        spec: TaskSpec::MendRows {
            path: path.clone(),
            range,
            create,
            only: Vec::new(),
        },
    }
}

/// The task of single keys, if there are any; they are looked up one after the other.
fn task_of_single_keys(path: &TablePath, keys: &[KeyRange]) -> Option<NewTask> {
    let (first, last) = (keys.first()?, keys.last()?);
    let range = KeyRange {
        start: first.start.clone(),
        end: last.end.clone(),
    };
    Some(NewTask {
        bytes_total: 0,
        spec: TaskSpec::MendRows {
            path: path.clone(),
            range,
            create: false,
            only: keys.to_vec(),
        },
    })
}
