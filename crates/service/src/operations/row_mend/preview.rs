//! What a mend would do, found out without changing anything.

use std::ops::ControlFlow;
use std::sync::Arc;

use mendb_engines::StagedCounts;
use mendb_model::change::ChangeRef;
use mendb_model::key::KeyRange;
use mendb_model::key_text::describe_range;
use mendb_model::manifest::{Manifest, TableBackup};
use mendb_model::name::TablePath;
use mendb_model::operation::{MendedRows, Request, RowMendRequest, RowMendRoad, RowTableMend};
use mendb_model::{ChangeKind, Digest, RowBlock, RowBlockBuilder};
use serde::{Deserialize, Serialize};

use super::conflicts::{Search, is_needed};
use super::digests::live_digest;
use super::wanted::WantedRows;
use super::{Fetched, Progress, digests, no_such_table, wanted_chain, wanted_manifest};
use crate::attempt::{Attempt, Counts};
use crate::diff::{KeyUnion, Pulled};
use crate::error::Result;
use crate::front::Front;
use crate::journal_port::JournalPort;
use crate::row_conflict::Conflicts;
use crate::task_error::{TaskError, TaskResult};
use crate::wire::TaskRequest;

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

/// What was found out about a mend.
pub(crate) struct Preview {
    pub(crate) shards: Vec<ShardPreview>,
    pub(crate) conflicts: Conflicts,
}

/// What was found out about a table.
pub(super) struct Looked {
    shards: Vec<ShardPreview>,
    /// The single keys that are mended with its range.
    also: Vec<KeyRange>,
    pub(super) conflicts: Conflicts,
}

/// Looks at each range of each table as the mend would, and counts instead of staging. Rows that stand in the
/// way are taken along, if `takes_along`: they are in the request then.
///
/// # Errors
/// The target or the repository cannot be read, or too many rows would be taken along.
pub(crate) fn preview(
    front: &Front,
    request: &mut RowMendRequest,
    takes_along: bool,
) -> Result<Preview> {
    look_at(front, request, takes_along, |_, _, _| Ok(true))
}

/// As [`preview`], of the tables alone in which rows can stand in the way.
///
/// # Errors
/// As [`preview`].
pub(crate) fn find_conflicts(
    front: &Front,
    request: &mut RowMendRequest,
    takes_along: bool,
) -> Result<Conflicts> {
    Ok(look_at(front, request, takes_along, is_needed)?.conflicts)
}

fn look_at(
    front: &Front,
    request: &mut RowMendRequest,
    takes_along: bool,
    chosen: impl Fn(&Attempt<'_>, &RowMendRequest, &RowTableMend) -> TaskResult<bool>,
) -> Result<Preview> {
    let task = TaskRequest::preview(Request::MendRows(request.clone()))?;
    let journal = JournalPort::here(&front.journal, &task);
    let attempt = Attempt::alone(&front.tools, &task, journal);
    let mut preview = Preview {
        shards: Vec::new(),
        conflicts: Conflicts::default(),
    };
    for at in 0..request.tables.len() {
        if !chosen(&attempt, request, &request.tables[at])? {
            continue;
        }
        let looked = look(&attempt, request, &request.tables[at], takes_along)?;
        preview.shards.extend(looked.shards);
        preview.conflicts.extend(looked.conflicts);
        request.tables[at].also = looked.also;
    }
    Ok(preview)
}

/// Looks at a table.
pub(super) fn look(
    attempt: &Attempt<'_>,
    request: &RowMendRequest,
    table: &RowTableMend,
    takes_along: bool,
) -> TaskResult<Looked> {
    let engine = attempt.tools.engine.rows()?;
    let wanted = wanted_manifest(attempt, request)?;
    let backup = wanted
        .table(&table.table)
        .ok_or_else(|| no_such_table(&wanted, &table.table))?;
    if table.create {
        return Ok(Looked {
            shards: created(attempt, request, backup)?,
            also: Vec::new(),
            conflicts: Conflicts::default(),
        });
    }
    let path = TablePath::table(&table.table);
    let mut search = Search::new(engine, table, backup, takes_along)?;
    let looking = Looking {
        attempt,
        request,
        path: &path,
    };
    let mut found = Vec::new();
    match &request.road {
        RowMendRoad::Changes { later } => {
            let later: Vec<Arc<Manifest>> = later
                .iter()
                .map(|link| attempt.manifest(&request.before.collection, link))
                .collect::<TaskResult<_>>()?;
            for shard in engine.shards(&path, &KeyRange::all())? {
                let Some(range) = table.part_of(&shard.range) else {
                    continue;
                };
                let rows = looking.by_changes(&range, &later, &mut search)?;
                found.push((range, rows));
            }
        }
        RowMendRoad::Digests { .. } => {
            let shards = attempt.tools.repository.shards(&wanted, &path);
            for shard in attempt.wait(shards)? {
                let Some(range) = table.part_of(&shard.range) else {
                    continue;
                };
                let mut counts = Counts::default();
                let mut progress = Progress::resume(attempt, &mut counts);
                let mut put = |changes: &RowBlock<&[u8]>| looking.count(changes, &mut search);
                digests::stage(attempt, request, (&path, &range), &mut put, &mut progress)?;
                let rows = progress.done;
                found.push((range, rows));
            }
        }
    }
    looking.at_single_keys(&mut search, &mut found)?;
    let types = backup.schema.key_types();
    let shards = found.into_iter().map(|(range, rows)| {
        Ok(ShardPreview {
            table: table.table.clone(),
            keys: describe_range(&range, &types),
            digest: Some(live_digest(engine, &path, &range)?.0),
            range,
            rows,
        })
    });
    let shards = shards.collect::<TaskResult<_>>()?;
    let (also, conflicts) = search.finish();
    Ok(Looked {
        shards,
        also,
        conflicts,
    })
}

/// All rows that the backup has of a table and its indexes.
fn created(
    attempt: &Attempt<'_>,
    request: &RowMendRequest,
    backup: &TableBackup,
) -> TaskResult<Vec<ShardPreview>> {
    let chain = wanted_chain(attempt, request)?;
    let mut previews = Vec::new();
    let wanted = wanted_manifest(attempt, request)?;
    for (path, _) in backup.sharded_tables() {
        let schema = backup.schema_of(path.index.as_deref());
        let types = schema.map(|schema| schema.key_types()).unwrap_or_default();
        let repository = &attempt.tools.repository;
        for shard in attempt.wait(repository.shards(&wanted, &path))? {
            let read = repository.read_chain(&chain, &path, &shard.range, None);
            let read = attempt.wait(read)?.estimate();
            previews.push(ShardPreview {
                table: path.to_string(),
                keys: describe_range(&shard.range, &types),
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

/// A table that is looked at.
struct Looking<'a, 'b> {
    attempt: &'a Attempt<'b>,
    request: &'a RowMendRequest,
    path: &'a TablePath,
}

impl Looking<'_, '_> {
    /// What staging some changes would do, and who stands in the way of it.
    fn count(
        &self,
        changes: &RowBlock<&[u8]>,
        search: &mut Search<'_>,
    ) -> TaskResult<StagedCounts> {
        let path = self.path;
        let keys: Vec<&[u8]> = changes.iter().map(|(key, _)| key).collect();
        let live = self.attempt.tools.engine.rows()?.rows_of(path, &keys)?;
        let mut counts = StagedCounts::default();
        let mut written = RowBlockBuilder::new();
        for ((key, change), live) in changes.iter().zip(live) {
            let change = ChangeRef::decode(change).map_err(|error| {
                TaskError::Proof(format!("a change for {path} cannot be read: {error}"))
            })?;
            match (change.kind, live) {
                (ChangeKind::Erase, None) => counts.kept += 1,
                (ChangeKind::Erase, Some(_)) => {
                    search.erase(key)?;
                    counts.erased += 1;
                    counts.bytes += key.len() as u64;
                }
                (_, Some(live)) if live == change.row => counts.kept += 1,
                _ => {
                    counts.upserted += 1;
                    counts.bytes += (key.len() + change.row.len()) as u64;
                    written.push(key, change.row);
                }
            }
        }
        search.look(&written.finish().view())?;
        Ok(counts)
    }

    /// Counts for the keys that changed in later backups or since the last of them.
    fn by_changes(
        &self,
        range: &KeyRange,
        later: &[Arc<Manifest>],
        search: &mut Search<'_>,
    ) -> TaskResult<MendedRows> {
        let Self {
            attempt,
            request,
            path,
        } = *self;
        let since = request.before.since_version.unwrap_or_default();
        let changed = match later {
            [] => None,
            later => {
                let repository = &attempt.tools.repository;
                Some(attempt.wait(repository.read_chain(later, path, range, None))?)
            }
        };
        let changed = Pulled::new(changed, |changed| match changed {
            Some(changed) => attempt.wait(changed.next()),
            None => Ok(None),
        });
        let chain = wanted_chain(attempt, request)?;
        let mut wanted = WantedRows::new(attempt, &chain, path, range)?;
        let mut done = MendedRows::default();
        let mut keys = KeyUnion::new(changed, |keys| {
            let mut put = |changes: &RowBlock<&[u8]>| self.count(changes, search);
            wanted.put_all(keys, &mut put, &mut |more, _| {
                done += more;
                Ok(())
            })
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

    /// Counts for the single keys that are mended too, those with them that are found to be in the way of
    /// these.
    fn at_single_keys(
        &self,
        search: &mut Search<'_>,
        found: &mut Vec<(KeyRange, MendedRows)>,
    ) -> TaskResult<()> {
        let first = found.len();
        loop {
            let keys = search.next_keys();
            if keys.is_empty() {
                break;
            }
            // Each round is of keys that ascend.
            let chain = wanted_chain(self.attempt, self.request)?;
            let mut wanted = WantedRows::new(self.attempt, &chain, self.path, &KeyRange::all())?;
            for key in &keys {
                self.attempt.check_stopped()?;
                let mut put = |changes: &RowBlock<&[u8]>| self.count(changes, search);
                let rows = wanted.put(&[key], &mut put)?;
                search.settle(key, rows.erased > 0, rows.kept == 0)?;
                found.push((KeyRange::only(key), rows));
            }
        }
        found[first..].sort_by(|(one, _), (other, _)| one.start.cmp(&other.start));
        Ok(())
    }
}
