//! The tasks of the stage step of a mend: one for each key range that is mended by itself.

use std::sync::Arc;

use mendb_model::key::KeyRange;
use mendb_model::manifest::Manifest;
use mendb_model::name::TablePath;
use mendb_model::operation::{ChainLink, ChosenMethod, FindBy, NewTask, RowMendRequest, TaskSpec};

use super::methods::{ChangedKeys, MendedRange, MendedRanges};
use crate::attempt::Tools;
use crate::error::{Error, Result};
use crate::sizes::segment_bytes;
use crate::wire::StepRequest;

/// A task for each range of a table that is there, for each shard of the backup of table and indexes where the
/// table is created, and one for single keys.
pub(super) fn tasks(
    step: &StepRequest,
    request: &RowMendRequest,
    tools: &Tools,
) -> Result<Vec<NewTask>> {
    let collection = &request.before.collection;
    let manifests = |links: &[ChainLink]| -> Result<Vec<Arc<Manifest>>> {
        let links = links.iter();
        links.map(|link| tools.manifest(collection, link)).collect()
    };
    let chain = manifests(&request.chain)?;
    let Some(wanted) = chain.last() else {
        return Ok(Vec::new());
    };
    let mut increments = Vec::new();
    if let FindBy::Changes { later } = &request.find_by {
        increments = manifests(later)?;
        // What changed since the last of them is in the backup that was just taken.
        increments.extend(step.draft.clone());
    }
    let methods = MendedRanges {
        tools,
        chain: &chain,
        rebuilds: !request.beside_writers,
        changed_keys: match &request.find_by {
            FindBy::Changes { .. } => ChangedKeys::Changes {
                increments: &increments,
                live_since: None,
            },
            FindBy::Versions { .. } | FindBy::Digests { .. } => ChangedKeys::Digests,
        },
    };
    let mut tasks = Vec::new();
    for table in &request.tables {
        let backup = wanted.table(&table.table).ok_or_else(|| Error::Refused {
            message: format!("backup {} has no table {}", wanted.backup_id, table.table),
            hint: None,
        })?;
        if table.create {
            for (path, _) in backup.sharded_tables() {
                let shards = tools.repository.shards(wanted, &path);
                for shard in tools.runtime.block_on(shards)? {
                    let bytes = segment_bytes(&shard);
                    tasks.push(task(&path, shard.range, bytes, None));
                }
            }
            continue;
        }
        tasks.extend(task_of_single_keys(
            &TablePath::table(&table.table),
            &table.also,
        ));
        let ranges = methods.of_table(table, backup)?.into_iter();
        tasks.extend(ranges.map(|of| {
            let MendedRange {
                path,
                range,
                method,
                bytes,
            } = of;
            task(&path, range, bytes, Some(method))
        }));
    }
    Ok(tasks)
}

/// The task of a range on its method; of one that is created, where there is none.
fn task(
    path: &TablePath,
    range: KeyRange,
    bytes_total: u64,
    method: Option<ChosenMethod>,
) -> NewTask {
    NewTask {
        bytes_total,
        spec: TaskSpec::MendRows {
            path: path.clone(),
            range,
            create: method.is_none(),
            only: Vec::new(),
            method,
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
            method: None,
        },
    })
}
