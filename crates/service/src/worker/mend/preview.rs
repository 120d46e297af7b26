//! What a mend would do, found out without changing anything.

use std::ops::ControlFlow;
use std::sync::Arc;

use mendb_engines::StagedCounts;
use mendb_model::change::ChangeRef;
use mendb_model::key::{self, KeyRange};
use mendb_model::manifest::{Manifest, TableBackup};
use mendb_model::name::TablePath;
use mendb_model::operation::{MendedRows, Request, RowMendRequest, RowMendRoad, RowTableMend};
use mendb_model::value::ColumnType;
use mendb_model::{ChangeKind, Digest, RowBlock};
use serde::{Deserialize, Serialize};

use super::wanted::WantedRows;
use super::{
    Fetched, Progress, digests, live_digest, no_such_table, wanted_chain, wanted_manifest,
};
use crate::diff::{KeyUnion, Pulled};
use crate::error::Result;
use crate::wire::TaskRequest;
use crate::worker::{Attempt, Counts, TaskError, TaskResult, Tools};

/// What a mend would do to a key range of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardPreview {
    /// The table, or an index of one that would be created.
    pub table: String,
    /// The keys: of a live shard, or of one of the backup.
    pub range: KeyRange,
    /// The same, as people write keys.
    pub keys: String,
    /// The digest of its live rows: a target on which it is another has drifted from the plan. `None` for a
    /// table that would be created.
    pub digest: Option<Digest>,
    /// What would be done, exactly.
    pub rows: MendedRows,
}

/// Looks at each range of each table as the mend would, and counts instead of staging.
///
/// # Errors
/// The target or the repository cannot be read.
pub(crate) fn preview(tools: &Tools, request: &RowMendRequest) -> Result<Vec<ShardPreview>> {
    let task = TaskRequest::preview(Request::MendRows(request.clone()))?;
    let attempt = Attempt::alone(tools, &task);
    let mut previews = Vec::new();
    for table in &request.tables {
        previews.extend(of_table(&attempt, request, table)?);
    }
    Ok(previews)
}

/// A key range as people write keys.
pub(crate) fn keys_text(range: &KeyRange, types: &[ColumnType]) -> String {
    let text = |bytes: &[u8]| key::display(bytes, types);
    match (range.start.as_slice(), range.end.as_deref()) {
        ([], None) => "all".to_owned(),
        ([], Some(end)) => format!("before {}", text(end)),
        (start, None) => format!("from {}", text(start)),
        // One key has only itself before the next.
        (start, Some(end)) if end.strip_prefix(start) == Some(&[0]) => text(start),
        (start, Some(end)) => match end.strip_suffix(&[0]) {
            Some(last) if key::decode(last, types).is_ok() => {
                format!("{} to {}", text(start), text(last))
            }
            _ => format!("from {} before {}", text(start), text(end)),
        },
    }
}

fn of_table(
    attempt: &Attempt<'_>,
    request: &RowMendRequest,
    table: &RowTableMend,
) -> TaskResult<Vec<ShardPreview>> {
    let engine = attempt.tools.engine.rows()?;
    let wanted = wanted_manifest(attempt, request)?;
    let backup = wanted
        .table(&table.table)
        .ok_or_else(|| no_such_table(&wanted, &table.table))?;
    let path = TablePath::table(&table.table);
    let types = backup.schema.key_types();
    let preview = |range: KeyRange, digest, rows| ShardPreview {
        table: table.table.clone(),
        keys: keys_text(&range, &types),
        range,
        digest,
        rows,
    };
    if table.create {
        return created(attempt, request, backup);
    }
    let mut previews = Vec::new();
    match &request.road {
        RowMendRoad::Changes { later } => {
            let later: Vec<Arc<Manifest>> = later
                .iter()
                .map(|link| attempt.manifest(&request.before.collection, link))
                .collect::<TaskResult<_>>()?;
            for shard in engine.shards(&path)? {
                let Some(range) = table.part_of(&shard.range) else {
                    continue;
                };
                let (digest, _) = live_digest(engine, &path, &range)?;
                let rows = by_changes(attempt, request, &path, &range, &later)?;
                previews.push(preview(range, Some(digest), rows));
            }
        }
        RowMendRoad::Digests { .. } => {
            for shard in &backup.rows.shards {
                let Some(range) = table.part_of(&shard.range) else {
                    continue;
                };
                let mut counts = Counts::default();
                let mut progress = Progress::resume(attempt, &mut counts);
                let (digest, _) = live_digest(engine, &path, &range)?;
                let mut put = |changes: &RowBlock<&[u8]>| count(attempt, &path, changes);
                digests::stage(attempt, request, (&path, &range), &mut put, &mut progress)?;
                let done = progress.done;
                previews.push(preview(range, Some(digest), done));
            }
        }
    }
    Ok(previews)
}

/// All rows that the backup has of a table and its indexes.
fn created(
    attempt: &Attempt<'_>,
    request: &RowMendRequest,
    backup: &TableBackup,
) -> TaskResult<Vec<ShardPreview>> {
    let chain = wanted_chain(attempt, request)?;
    let mut previews = Vec::new();
    for (path, data) in backup.sharded_tables() {
        let schema = backup.schema_of(path.index.as_deref());
        let types = schema.map(|schema| schema.key_types()).unwrap_or_default();
        for shard in &data.shards {
            let repository = &attempt.tools.repository;
            let read = repository
                .read_chain(&chain, &path, &shard.range, None)?
                .estimate();
            previews.push(ShardPreview {
                table: path.to_string(),
                keys: keys_text(&shard.range, &types),
                range: shard.range.clone(),
                digest: None,
                rows: MendedRows {
                    upserted: shard.digest.rows,
                    fetched_bytes: read.bytes,
                    requests: read.requests,
                    ..MendedRows::default()
                },
            });
        }
    }
    Ok(previews)
}

/// What staging some changes would do.
fn count(
    attempt: &Attempt<'_>,
    path: &TablePath,
    changes: &RowBlock<&[u8]>,
) -> TaskResult<StagedCounts> {
    let keys: Vec<&[u8]> = changes.iter().map(|(key, _)| key).collect();
    let live = attempt.tools.engine.rows()?.rows_of(path, &keys)?;
    let mut counts = StagedCounts::default();
    for ((key, change), live) in changes.iter().zip(live) {
        let change = ChangeRef::decode(change).map_err(|error| {
            TaskError::Proof(format!("a change for {path} cannot be read: {error}"))
        })?;
        match (change.kind, live) {
            (ChangeKind::Erase, None) => counts.kept += 1,
            (ChangeKind::Erase, Some(_)) => {
                counts.erased += 1;
                counts.bytes += key.len() as u64;
            }
            (_, Some(live)) if live == change.row => counts.kept += 1,
            _ => {
                counts.upserted += 1;
                counts.bytes += (key.len() + change.row.len()) as u64;
            }
        }
    }
    Ok(counts)
}

/// Counts for the keys that changed in later backups or since the last of them.
fn by_changes(
    attempt: &Attempt<'_>,
    request: &RowMendRequest,
    path: &TablePath,
    range: &KeyRange,
    later: &[Arc<Manifest>],
) -> TaskResult<MendedRows> {
    let since = request.before.since_version.unwrap_or_default();
    let changed = match later {
        [] => None,
        later => Some(
            attempt
                .tools
                .repository
                .read_chain(later, path, range, None)?,
        ),
    };
    let changed = Pulled::new(changed, |changed| match changed {
        Some(changed) => attempt.wait(changed.next()),
        None => Ok(None),
    });
    let mut wanted = WantedRows::new(attempt, &wanted_chain(attempt, request)?, path)?;
    let mut done = MendedRows::default();
    let mut keys = KeyUnion::new(changed, |keys| {
        let mut put = |changes: &RowBlock<&[u8]>| count(attempt, path, changes);
        let mut left = keys;
        while !left.is_empty() {
            let (now, later) = wanted.split(left);
            done += wanted.put(now, &mut put)?;
            left = later;
        }
        Ok(())
    });
    let mut outcome = Ok(());
    let engine = attempt.tools.engine.rows()?;
    engine.changes_since(path, range, since, &mut |block| {
        let added = block.iter().try_for_each(|(key, _)| keys.push(key));
        match added {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                outcome = Err(error);
                ControlFlow::Break(())
            }
        }
    })?;
    outcome?;
    if let Some(changed) = keys.finish()? {
        done += Fetched::default().since(changed.counts());
    }
    Ok(done)
}
