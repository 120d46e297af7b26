//! What a mend would do, found out without changing anything.

use std::ops::ControlFlow;
use std::sync::Arc;

use mendb_engines::StagedCounts;
use mendb_model::change::ChangeRef;
use mendb_model::key::KeyRange;
use mendb_model::key_text::describe_range;
use mendb_model::manifest::{Manifest, TableBackup};
use mendb_model::name::TablePath;
use mendb_model::operation::{
    ChosenMethod, FindBy, MendedRows, Request, Rewind, RowMendRequest, RowTableMend,
};
use mendb_model::{Change, ChangeKind, Digest, RowBlock, RowBlockBuilder};
use serde::{Deserialize, Serialize};

use super::candidates::{Candidate, Candidates};
use super::conflicts::{Search, is_needed};
use super::digests::live_digest;
use super::methods::{ChangedKeys, MendedRanges};
use super::rewind::differences;
use super::scope::{Chooser, NewerRow, RewrittenRow};
use super::units::Units;
use super::wanted::WantedRows;
use super::{Fetched, Progress, Put, digests, no_such_table, wanted_chain, wanted_manifest};
use crate::attempt::{Attempt, Counts};
use crate::diff::{KeyUnion, Pulled};
use crate::error::Result;
use crate::front::Front;
use crate::journal_port::JournalPort;
use crate::row_conflict::{Conflicts, MOST_NAMED};
use crate::task_error::{TaskError, TaskResult};
use crate::wire::TaskRequest;

/// What a mend would do to a key range of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardPreview {
    /// The table, or an index that would be created or rebuilt.
    pub table: String,
    /// The keys: of a live shard, or of one of the backup.
    pub range: KeyRange,
    /// The same, as people write keys.
    pub keys: String,
    /// The digest of its live rows: a target on which it is another has drifted from the plan. `None` for a
    /// table that would be created, and for an index.
    pub digest: Option<Digest>,
    /// What would be done, exactly.
    pub rows: MendedRows,
    /// The method that would be taken; `None` where there is no choice.
    #[serde(rename = "road", default, skip_serializing_if = "Option::is_none")]
    pub method: Option<ChosenMethod>,
}

/// What was found out about a mend.
pub(crate) struct Preview {
    pub(crate) shards: Vec<ShardPreview>,
    /// Bytes of the shards that would be rebuilt, about.
    pub(crate) rebuilt_bytes: u64,
    pub(crate) conflicts: Conflicts,
    /// Rows that stay because they are newer: the first of them.
    pub(crate) newer: Vec<NewerRow>,
    /// Rows that stay because others wrote them again: the first of them.
    pub(crate) rewritten: Vec<RewrittenRow>,
}

/// What was found out about a table.
pub(super) struct Looked {
    shards: Vec<ShardPreview>,
    rebuilt_bytes: u64,
    /// The single keys that are mended with its range.
    also: Vec<KeyRange>,
    pub(super) conflicts: Conflicts,
    stay: Stay,
}

/// The first rows that differ and stay.
#[derive(Default)]
struct Stay {
    newer: Vec<NewerRow>,
    rewritten: Vec<RewrittenRow>,
}

impl Stay {
    fn extend(&mut self, more: Self) {
        self.newer.extend(more.newer);
        self.newer.truncate(MOST_NAMED);
        self.rewritten.extend(more.rewritten);
        self.rewritten.truncate(MOST_NAMED);
    }
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
    let mut stay = Stay::default();
    let mut preview = Preview {
        shards: Vec::new(),
        rebuilt_bytes: 0,
        conflicts: Conflicts::default(),
        newer: Vec::new(),
        rewritten: Vec::new(),
    };
    for at in 0..request.tables.len() {
        if !chosen(&attempt, request, &request.tables[at])? {
            continue;
        }
        let looked = look(&attempt, request, &request.tables[at], takes_along)?;
        preview.shards.extend(looked.shards);
        preview.rebuilt_bytes += looked.rebuilt_bytes;
        preview.conflicts.extend(looked.conflicts);
        stay.extend(looked.stay);
        request.tables[at].also = looked.also;
    }
    Ok(Preview {
        newer: stay.newer,
        rewritten: stay.rewritten,
        ..preview
    })
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
            rebuilt_bytes: 0,
            also: Vec::new(),
            conflicts: Conflicts::default(),
            stay: Stay::default(),
        });
    }
    let mut search = Search::new(engine, table, backup, takes_along)?;
    let chain = wanted_chain(attempt, request)?;
    let increments: Vec<Arc<Manifest>> = match &request.find_by {
        FindBy::Changes { later } => later
            .iter()
            .map(|link| attempt.manifest(&request.before.collection, link))
            .collect::<TaskResult<_>>()?,
        FindBy::Versions { .. } | FindBy::Digests { .. } => Vec::new(),
    };
    let methods = MendedRanges {
        tools: attempt.tools,
        chain: &chain,
        rebuilds: !request.beside_writers,
        changed_keys: match &request.find_by {
            FindBy::Changes { .. } => ChangedKeys::Changes {
                increments: &increments,
                live_since: Some(request.before.since_version.unwrap_or_default()),
            },
            FindBy::Versions { .. } | FindBy::Digests { .. } => ChangedKeys::Digests,
        },
    };
    let units = Units::of_table(attempt, request, &TablePath::table(&table.table))?;
    let mut shards = Vec::new();
    let mut stay = Stay::default();
    let mut rebuilt_bytes = 0;
    for of in methods.of_table(table, backup)? {
        let looking = Looking {
            attempt,
            request,
            path: &of.path,
        };
        if of.method.is_rebuild() {
            let live = engine.shards(&of.path, &of.range)?;
            rebuilt_bytes += live.iter().map(|shard| shard.bytes).sum::<u64>();
        }
        let (rows, digest) = match &request.find_by {
            _ if of.path.index.is_some() => (looking.estimate(&chain, &of.range)?, None),
            FindBy::Changes { .. } if !of.method.is_rebuild() => {
                let rows = looking.by_changes(&of.range, &increments, &mut search)?;
                (rows, None)
            }
            _ => match request.rewind_of(&of.path.table) {
                Some(rewind) => {
                    let rewind = (rewind, &units);
                    looking.taken_back(rewind, &of.range, &mut search, &mut stay)?
                }
                None => looking.side_by_side(&of.range, &mut search, &mut stay)?,
            },
        };
        let method = Some(of.method);
        shards.push(looking.preview(backup, of.range, rows, method, digest)?);
    }
    let path = TablePath::table(&table.table);
    let looking = Looking {
        attempt,
        request,
        path: &path,
    };
    for (key, rows) in looking.at_single_keys(&mut search)? {
        shards.push(looking.preview(backup, key, rows, None, None)?);
    }
    let (also, conflicts) = search.finish();
    Ok(Looked {
        shards,
        rebuilt_bytes,
        also,
        conflicts,
        stay,
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
                method: None,
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
    /// What would be done to a range.
    fn preview(
        &self,
        backup: &TableBackup,
        range: KeyRange,
        rows: MendedRows,
        method: Option<ChosenMethod>,
        digest: Option<Digest>,
    ) -> TaskResult<ShardPreview> {
        let engine = self.attempt.tools.engine.rows()?;
        let index = self.path.index.as_deref();
        let types = backup.schema_of(index).map(|schema| schema.key_types());
        let digest = match (digest, index) {
            (None, None) => Some(live_digest(engine, self.path, &range)?.0),
            (digest, _) => digest,
        };
        Ok(ShardPreview {
            table: self.path.to_string(),
            keys: describe_range(&range, &types.unwrap_or_default()),
            digest,
            range,
            rows,
            method,
        })
    }

    /// What reading a range of the wanted rows takes.
    fn estimate(&self, chain: &[Arc<Manifest>], range: &KeyRange) -> TaskResult<MendedRows> {
        let repository = &self.attempt.tools.repository;
        let read = repository.read_chain(chain, self.path, range, None);
        let read = self.attempt.wait(read)?.estimate();
        Ok(MendedRows {
            fetched_bytes: read.bytes,
            requests: read.requests,
            ..MendedRows::default()
        })
    }

    /// Counts by the keys of a range that may differ, or by comparing all rows where the digests do; with the digest of the
    /// live rows where it is known.
    fn side_by_side(
        &self,
        range: &KeyRange,
        search: &mut Search<'_>,
        found: &mut Stay,
    ) -> TaskResult<(MendedRows, Option<Digest>)> {
        let at = (self.path, range);
        let wanted = digests::expected(self.attempt, self.request, self.path, range)?;
        if let Some(candidates) = Candidates::of(self.attempt, self.request, at, wanted)? {
            let mut done = MendedRows::default();
            let (digest, stay) = self.counted(range, search, &mut done, |put, done| {
                candidates.each(&mut |some, read| {
                    *done += read;
                    let mut changes = RowBlockBuilder::new();
                    for Candidate { key, live, wanted } in some {
                        if live == wanted {
                            done.kept += 1;
                            continue;
                        }
                        let change = match wanted {
                            Some(wanted) => Change::reset(wanted.to_vec(), 0),
                            None => Change::erase(0),
                        };
                        changes.push_with(key, |out| change.encode_into(out));
                    }
                    let counted = put(&changes.finish().view())?;
                    done.upserted += counted.upserted;
                    done.erased += counted.erased;
                    done.written_bytes += counted.bytes;
                    Ok(())
                })
            })?;
            if let Some(digest) = digest {
                found.extend(stay);
                return Ok((done, Some(digest)));
            }
        }
        let mut done = MendedRows::default();
        let ((), stay) = self.counted(range, search, &mut done, |put, done| {
            let mut counts = Counts::default();
            let mut progress = Progress::resume(self.attempt, &mut counts);
            digests::stage(self.attempt, self.request, at, put, &mut progress)?;
            *done += progress.done;
            Ok(())
        })?;
        found.extend(stay);
        Ok((done, None))
    }

    /// Has changes of a range counted, those that are chosen of them; with the rows that stay.
    fn counted<T>(
        &self,
        range: &KeyRange,
        search: &mut Search<'_>,
        done: &mut MendedRows,
        find: impl FnOnce(Put<'_>, &mut MendedRows) -> TaskResult<T>,
    ) -> TaskResult<(T, Stay)> {
        let mut chooser = Chooser::new(self.attempt, self.request, self.path, range)?;
        let mut stay = Stay::default();
        let (mut newer, mut rewritten) = (0, 0);
        let mut put = |changes: &RowBlock<&[u8]>| match &mut chooser {
            None => self.count(changes, search),
            Some(chooser) => {
                let chosen = chooser.choose(changes)?;
                newer += chosen.newer.len() as u64;
                rewritten += chosen.rewritten.len() as u64;
                stay.extend(Stay {
                    newer: chosen.newer,
                    rewritten: chosen.rewritten,
                });
                self.count(&chosen.changes.view(), search)
            }
        };
        let found = find(&mut put, done)?;
        done.newer = newer;
        done.rewritten = rewritten;
        Ok((found, stay))
    }

    /// Counts for the keys of a range that chosen transactions wrote; with the digest of the live rows where it is known.
    fn taken_back(
        &self,
        (rewind, units): (&Rewind, &Units),
        range: &KeyRange,
        search: &mut Search<'_>,
        stay: &mut Stay,
    ) -> TaskResult<(MendedRows, Option<Digest>)> {
        let newest = digests::expected(self.attempt, self.request, self.path, range)?;
        let at = (self.path, range);
        let digest = match Candidates::of(self.attempt, self.request, at, newest)? {
            Some(candidates) => candidates.each(&mut |_, _| Ok(()))?,
            None => None,
        };
        let mut done = MendedRows::default();
        let at = (self.path, range, units);
        differences(self.attempt, self.request, rewind, at, &mut |some| {
            let counted = self.count(&some.changes.view(), search)?;
            done += MendedRows {
                read: some.read,
                upserted: counted.upserted,
                erased: counted.erased,
                kept: some.kept,
                written_bytes: counted.bytes,
                newer: some.newer.len() as u64,
                rewritten: some.rewritten.len() as u64,
                ..MendedRows::default()
            };
            stay.extend(Stay {
                newer: some.newer,
                rewritten: some.rewritten,
            });
            Ok(())
        })?;
        Ok((done, digest))
    }

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
    fn at_single_keys(&self, search: &mut Search<'_>) -> TaskResult<Vec<(KeyRange, MendedRows)>> {
        let mut found = Vec::new();
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
        found.sort_by(|(one, _), (other, _)| one.start.cmp(&other.start));
        Ok(found)
    }
}
