//! The steps of a mend whose writers go on until the publish.
//!
//! ```text
//! prepare            every object is there, and the engine makes room for what will be staged
//! stage              each range is read; rows that differ from the wanted ones are staged
//! commit             writers wait: ranges that were written since are read again, then all is published
//! cut, copy, seal    what the publish replaced becomes a backup: the state before, an increment on the wanted one
//! finish             the engine drops what it kept
//! ```
//!
//! *Crash*: the next attempt reads a range again unless it was read to its end. A mark in the publishing transaction
//! says whether the publish happened, and the same transaction keeps what it replaced: the backup of the state before
//! can be made at any time after. *Cost*: of a range the rows that may differ are read, and looked up in the repository
//! (`candidates`). Where it is not known which may, all its rows are read once, twice where they differ, and the repository
//! only where they do.

use std::ops::ControlFlow;

use mendb_engines::{LookedDigests, WantedTable};
use mendb_model::key::{KeyRange, to_hex};
use mendb_model::manifest::{OnlyKeys, ShardedData};
use mendb_model::name::TablePath;
use mendb_model::operation::{
    MendedRows, MendedShard, Rewind, RowMendRequest, RowTableMend, StepKind, TaskOutput, TaskSpec,
};
use mendb_model::{Digest, RowBlock, StagedCounts};
use mendb_repo::ChainReader;

use super::backup;
use super::candidates::{Candidate, Candidates};
use super::digests::expected;
use super::exchanges::Exchanges;
use super::rewind::{ReplacedRows, differences, replaced_digests};
use super::units::Units;
use super::{
    Fetched, Progress, beside_writers_of, no_such_table, staging, wanted_chain, wanted_manifest,
};
use crate::attempt::{Attempt, Counts};
use crate::diff::Pulled;
use crate::operations::kind::no_such_step;
use crate::task_error::{TaskError, TaskResult};

/// Runs one task.
pub(super) fn run(
    attempt: &Attempt<'_>,
    request: &RowMendRequest,
    counts: &mut Counts,
) -> TaskResult<()> {
    match (&attempt.request.spec, attempt.request.step_kind) {
        (TaskSpec::Whole, StepKind::Prepare) => prepare(attempt, request, counts),
        (TaskSpec::MendRows { path, range, .. }, StepKind::Stage) => {
            // Nothing of an attempt before counts: the range is looked at as a whole.
            *counts = Counts::default();
            let mut progress = Progress::resume(attempt, counts);
            look(attempt, request, (path, range), None, &mut progress)
        }
        (TaskSpec::Whole, StepKind::Commit) => publish(attempt, request, counts),
        (TaskSpec::Whole, StepKind::Cut) => draft(attempt, request, counts),
        (TaskSpec::Copy { path, range, .. }, StepKind::Copy) => {
            copy(attempt, request, (path, range), counts)
        }
        (TaskSpec::Whole, StepKind::Seal) => backup::seal(attempt, &request.before, true),
        (TaskSpec::Whole, StepKind::Finish) => {
            Ok(attempt.tools.engine.make_live(attempt.operation())?)
        }
        (TaskSpec::Whole, StepKind::Rollback) => super::rollback(attempt, request),
        _ => Err(no_such_step(&attempt.request.request)),
    }
}

/// Finds every object that may be needed, and makes room.
fn prepare(attempt: &Attempt<'_>, request: &RowMendRequest, counts: &Counts) -> TaskResult<()> {
    for manifest in wanted_chain(attempt, request)? {
        attempt.wait(attempt.tools.repository.check_present(&manifest))?;
        attempt.check_stopped()?;
    }
    let engine = attempt.tools.engine.rows()?;
    let tables = request.tables.iter().map(|table| table.table.clone());
    engine.begin_mend(attempt.operation(), &tables.collect::<Vec<_>>())?;
    crate::env::crash_point();
    for expected in &request.expected {
        attempt.in_progress(counts)?;
        let path = TablePath::table(&expected.table);
        if engine.digest(&path, &expected.range)? != expected.digest {
            return Err(TaskError::Proof(format!(
                "table {} has changed in the keys from {} since the mend was planned: plan it again",
                expected.table,
                to_hex(&expected.range.start)
            )));
        }
    }
    Ok(())
}

/// Stages what differs in a range, and notes what it was. The units of the table are those that are known, or as they are
/// then.
fn look(
    attempt: &Attempt<'_>,
    request: &RowMendRequest,
    (path, range): (&TablePath, &KeyRange),
    units: Option<&Units>,
    progress: &mut Progress<'_, '_>,
) -> TaskResult<()> {
    let (engine, beside) = (attempt.tools.engine.rows()?, beside_writers_of(attempt)?);
    let (operation, table) = (attempt.operation(), &path.table);
    let expected = expected(attempt, request, path, range)?;
    let look = beside.begin_look(operation, table, range)?;
    let candidates = || Candidates::of(attempt, request, (path, range), expected);
    if let Some(rewind) = request.rewind_of(table) {
        let known = match candidates()? {
            Some(candidates) => {
                candidates.each(&mut |_, _| attempt.in_progress(progress.counts))?
            }
            None => None,
        };
        let found = match known {
            Some(found) => found,
            None => engine.digest(path, range)?,
        };
        let now;
        let units = match units {
            Some(units) => units,
            None => {
                now = Units::of_table(attempt, request, path)?;
                &now
            }
        };
        let at = (path, range, units);
        let digests = take_back(attempt, request, rewind, at, found, progress)?;
        return Ok(beside.end_look(operation, table, range, &look, digests)?);
    }
    if let Some(candidates) = candidates()? {
        let before = progress.done;
        let digests = choose(attempt, request, (path, range), candidates, progress)?;
        if let Some(digests) = digests {
            return Ok(beside.end_look(operation, table, range, &look, digests)?);
        }
        // What was staged may not be all.
        progress.done = before;
        let look = beside.begin_look(operation, table, range)?;
        let digests = compare(attempt, request, (path, range), expected, progress)?;
        return Ok(beside.end_look(operation, table, range, &look, digests)?);
    }
    let digests = compare(attempt, request, (path, range), expected, progress)?;
    Ok(beside.end_look(operation, table, range, &look, digests)?)
}

/// Stages what differs among the keys of a range that may; `None` where these are not all.
fn choose(
    attempt: &Attempt<'_>,
    request: &RowMendRequest,
    at: (&TablePath, &KeyRange),
    candidates: Candidates<'_, '_>,
    progress: &mut Progress<'_, '_>,
) -> TaskResult<Option<LookedDigests>> {
    let mut put = staging(attempt, at.0)?;
    let mut exchanges = Exchanges::new(attempt, request, at, &mut put, progress)?;
    let mut done = MendedRows::default();
    let found = candidates.each(&mut |some, read| {
        done += read;
        for Candidate { key, live, wanted } in some {
            match live == wanted {
                true => done.kept += 1,
                false => exchanges.add(key, *live, *wanted),
            }
        }
        match exchanges.is_full() {
            true => exchanges.stage(std::mem::take(&mut done)),
            false => attempt.check_stopped(),
        }
    })?;
    match found {
        Some(found) => exchanges.finish(found, done).map(Some),
        None => Ok(None),
    }
}

/// Stages what differs in a range, by reading all of its rows.
fn compare(
    attempt: &Attempt<'_>,
    request: &RowMendRequest,
    (path, range): (&TablePath, &KeyRange),
    expected: Option<Digest>,
    progress: &mut Progress<'_, '_>,
) -> TaskResult<LookedDigests> {
    let engine = attempt.tools.engine.rows()?;
    let found = engine.digest(path, range)?;
    progress.looked_at(MendedRows {
        read: found.rows,
        ..MendedRows::default()
    });
    attempt.in_progress(progress.counts)?;
    if Some(found) == expected {
        progress.looked_at(MendedRows {
            kept: found.rows,
            ..MendedRows::default()
        });
        return Ok(LookedDigests {
            found,
            wanted: found,
        });
    }
    let chain = wanted_chain(attempt, request)?;
    let repository = &attempt.tools.repository;
    let wanted = attempt.wait(repository.read_chain(&chain, path, range, None))?;
    let mut put = staging(attempt, path)?;
    let mut walk = Walk {
        attempt,
        wanted: Pulled::new(wanted, |wanted| attempt.wait(wanted.next())),
        exchanges: Exchanges::new(attempt, request, (path, range), &mut put, progress)?,
        found: Digest::default(),
        done: MendedRows::default(),
        fetched: Fetched::default(),
    };
    let mut outcome = Ok(());
    engine.scan(path, range, None, &mut |live| match walk.compare(live) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            outcome = Err(error);
            ControlFlow::Break(())
        }
    })?;
    outcome?;
    walk.finish()
}

/// Stages what chosen transactions changed in a range, whose rows were read: what is written from the look on is found
/// when writers wait.
fn take_back(
    attempt: &Attempt<'_>,
    request: &RowMendRequest,
    rewind: &Rewind,
    (path, range, units): (&TablePath, &KeyRange, &Units),
    found: Digest,
    progress: &mut Progress<'_, '_>,
) -> TaskResult<LookedDigests> {
    let mut digests = LookedDigests {
        found,
        wanted: found,
    };
    progress.looked_at(MendedRows {
        read: found.rows,
        ..MendedRows::default()
    });
    let mut put = staging(attempt, path)?;
    let at = (path, range, units);
    differences(attempt, request, rewind, at, &mut |some| {
        for LookedDigests { found, wanted } in some.exchanged {
            digests.wanted.subtract(found);
            digests.wanted.merge(wanted);
        }
        let staged = match some.changes.is_empty() {
            true => StagedCounts::default(),
            false => put(&some.changes.view())?,
        };
        progress.looked_at(MendedRows {
            upserted: staged.upserted,
            erased: staged.erased,
            kept: some.kept,
            written_bytes: staged.bytes,
            newer: some.newer.len() as u64,
            rewritten: some.rewritten.len() as u64,
            ..MendedRows::default()
        });
        attempt.in_progress(progress.counts)
    })?;
    Ok(digests)
}

/// Writes what the publish replaced into the backup of the state before. Where transactions were taken back, that stands on
/// the newest backup, which does not have the rows that took its place.
fn copy(
    attempt: &Attempt<'_>,
    request: &RowMendRequest,
    (path, range): (&TablePath, &KeyRange),
    counts: &mut Counts,
) -> TaskResult<()> {
    if request.rewind_of(&path.table).is_none() {
        return backup::copy(attempt, &request.before, counts);
    }
    let mut replaced = ReplacedRows::new(attempt, request, path, range)?;
    backup::copy_as(attempt, &request.before, counts, &mut |block| {
        Ok(replaced.on_newest(block)?.0)
    })
}

/// The digest of any range in the wanted backup, by reading its rows where that does not tell.
fn wanted_digest(
    attempt: &Attempt<'_>,
    request: &RowMendRequest,
    path: &TablePath,
    range: &KeyRange,
) -> TaskResult<Digest> {
    if let Some(digest) = expected(attempt, request, path, range)? {
        return Ok(digest);
    }
    let chain = wanted_chain(attempt, request)?;
    let repository = &attempt.tools.repository;
    let mut wanted = attempt.wait(repository.read_chain(&chain, path, range, None))?;
    let mut digest = Digest::default();
    while let Some(block) = attempt.wait(wanted.next())? {
        for (key, row) in block.iter() {
            digest.add(key, row);
        }
    }
    Ok(digest)
}

/// Walks live and wanted rows of a range side by side.
struct Walk<'a, 'b, 'c, 'd> {
    attempt: &'a Attempt<'b>,
    wanted: Pulled<'a, ChainReader>,
    exchanges: Exchanges<'a, 'b, 'c, 'd>,
    /// Of the live rows so far.
    found: Digest,
    /// What was done since the last report.
    done: MendedRows,
    fetched: Fetched,
}

impl Walk<'_, '_, '_, '_> {
    /// Compares the next live rows.
    fn compare(&mut self, live: &RowBlock<&[u8]>) -> TaskResult<()> {
        self.attempt.check_stopped()?;
        for (key, row) in live.iter() {
            self.bring(Some(key))?;
            self.found.add(key, row);
            match self.wanted.next_at(key)? {
                Some(wanted) if wanted == row => self.done.kept += 1,
                wanted => self.exchanges.add(key, Some(row), wanted),
            }
            self.stage_if_full()?;
        }
        Ok(())
    }

    /// Adds the wanted rows before a live one, or all that are left.
    fn bring(&mut self, before: Option<&[u8]>) -> TaskResult<()> {
        while let Some((key, row)) = self.wanted.next_before(before)? {
            self.exchanges.add(key, None, Some(row));
            self.stage_if_full()?;
        }
        Ok(())
    }

    fn stage_if_full(&mut self) -> TaskResult<()> {
        if !self.exchanges.is_full() {
            return Ok(());
        }
        let done = self.done();
        self.exchanges.stage(done)
    }

    fn done(&mut self) -> MendedRows {
        let mut done = std::mem::take(&mut self.done);
        done += self.fetched.since(self.wanted.source().counts());
        done
    }

    /// Stages what is left, and tells the digests.
    fn finish(mut self) -> TaskResult<LookedDigests> {
        self.bring(None)?;
        let done = self.done();
        self.exchanges.finish(self.found, done)
    }
}

/// Locks writers out, looks again at what they wrote since, and publishes.
fn publish(attempt: &Attempt<'_>, request: &RowMendRequest, counts: &mut Counts) -> TaskResult<()> {
    let mut again: Vec<MendedShard> = Vec::new();
    let (engine, beside) = (attempt.tools.engine.rows()?, beside_writers_of(attempt)?);
    let operation = attempt.operation();
    if !engine.is_published(operation)? {
        let wanted = wanted_tables(attempt, request)?;
        let mut locked = beside.lock_out(operation, &wanted, request.max_write_wait_ms)?;
        // Nobody writes any more: what becomes of each unit is certain from here on.
        let mut units = Vec::new();
        for wanted in &wanted {
            let path = TablePath::table(&wanted.table);
            units.push((wanted, Units::of_table(attempt, request, &path)?));
        }
        let mut look_again = |table: &str, range: &KeyRange| -> TaskResult<()> {
            let mut counts = Counts::default();
            let mut progress = Progress::resume(attempt, &mut counts);
            let path = TablePath::table(table);
            let of_table = units.iter().find(|(wanted, _)| wanted.table == table);
            let units = of_table.map(|(_, units)| units);
            look(attempt, request, (&path, range), units, &mut progress)?;
            let rows = progress.done;
            again.retain(|known| known.path != path || known.range != *range);
            again.push(MendedShard {
                path,
                range: range.clone(),
                rows,
                method: None,
            });
            Ok(())
        };
        for (table, range) in locked.drifted()? {
            look_again(&table, &range)?;
        }
        for (wanted, units) in &units {
            let ranges = wanted.shards.iter().map(|(range, _)| range.clone());
            let ranges: Vec<KeyRange> = ranges.collect();
            for range in units.misjudged(beside, operation, &wanted.table, &ranges)? {
                look_again(&wanted.table, &range)?;
            }
        }
        attempt.check_stopped()?;
        crate::env::crash_point();
        locked.publish()?;
        crate::env::crash_point();
    }
    counts.output = TaskOutput::Published {
        writers_waited_ms: beside.writers_waited_ms(operation)?,
        again,
    };
    Ok(())
}

fn wanted_tables(attempt: &Attempt<'_>, request: &RowMendRequest) -> TaskResult<Vec<WantedTable>> {
    let wanted = wanted_manifest(attempt, request)?;
    let of_table = |table: &RowTableMend| {
        let path = TablePath::table(&table.table);
        let shards = attempt.tools.repository.shards(&wanted, &path);
        let mut ranges = Vec::new();
        for shard in attempt.wait(shards)? {
            let Some(range) = table.part_of(&shard.range) else {
                continue;
            };
            let digest = match range == shard.range {
                _ if !table.scope.is_all() => None,
                true => Some(shard.digest),
                false => Some(wanted_digest(attempt, request, &path, &range)?),
            };
            ranges.push((range, digest));
        }
        Ok(WantedTable {
            table: table.table.clone(),
            shards: ranges,
        })
    };
    request.tables.iter().map(of_table).collect()
}

/// Drafts the backup of the state before: the wanted backup, with what the publish replaced.
fn draft(attempt: &Attempt<'_>, request: &RowMendRequest, counts: &mut Counts) -> TaskResult<()> {
    let beside = beside_writers_of(attempt)?;
    let wanted = wanted_manifest(attempt, request)?;
    let mut tables = Vec::new();
    for mended in &request.tables {
        let mut table = wanted
            .table(&mended.table)
            .cloned()
            .ok_or_else(|| no_such_table(&wanted, &mended.table))?;
        let path = TablePath::table(&mended.table);
        let mut exchanged = beside.exchanged(attempt.operation(), &mended.table)?;
        if mended.scope.rewind.is_some() {
            for (range, digests) in &mut exchanged {
                *digests = replaced_digests(attempt, request, &path, range)?;
            }
        }
        let shards = attempt.tools.repository.shards(&wanted, &path);
        let mut shards = attempt.wait(shards)?;
        for shard in &mut shards {
            shard.segments = Vec::new();
            for (range, digests) in &exchanged {
                if range.intersect(&shard.range) == *range {
                    // What was mended is there as it was, the rest as it is wanted.
                    shard.digest.subtract(digests.wanted);
                    shard.digest.merge(digests.found);
                }
            }
        }
        table.rows = ShardedData::here(table.rows.schema_version, shards);
        table.changes_by = None;
        table.untold = None;
        table.unfolded = None;
        let changed = !mended.scope.is_all();
        let range = mended.range.clone();
        let range = range.or_else(|| changed.then(KeyRange::all));
        table.only = range.map(|range| OnlyKeys { range, changed });
        tables.push(table);
    }
    let version = beside.version_before(attempt.operation())?;
    counts.output = backup::drafted(attempt, &request.before, version, tables);
    Ok(())
}
