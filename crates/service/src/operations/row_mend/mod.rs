//! The steps of a mend of live tables of a row store.
//!
//! ```text
//! cut, copy, seal    writers are closed out, and the state before becomes a backup of the chain
//! prepare            every object is there; tables that are missing are created, hidden
//! stage              rows that differ from the wanted ones are staged beside the live ones
//! verify             counts and digests of what was staged over what is live
//! finish             readers see it, all at one moment; then writers go on
//! ```
//!
//! Changes name the keys that may differ ([`changes`]): the changes in the backups after the wanted one, the last of
//! which the mend has just taken itself. Where changes are not known, digests of key ranges name the ranges to read
//! ([`digests`]). A shard of which much may differ is rebuilt ([`methods`], [`rebuild`]). *Cost*: of the other shards
//! the mend reads what may differ, and nothing else of the tables or of the repository. *Crash*: staged rows and
//! cursors are durable together, and a repeated call passes over what is staged; until the finish, all of it can be
//! given up.

mod before;
mod beside_writers;
mod candidates;
mod changes;
pub(crate) mod conflicts;
mod digests;
pub mod drift;
mod estimate;
mod exchanges;
mod methods;
mod new_rules;
pub mod order;
mod preview;
mod rebuild;
mod rewind;
mod rewind_order;
pub(crate) mod scope;
mod second_look;
mod tasks;
mod undo;
mod unit_keys;
mod units;
mod verify;
mod wanted;
pub(crate) mod written_keys;

use std::ops::ControlFlow;
use std::sync::Arc;

use mendb_engines::{BesideWriters, HiddenTable, RowSource, StagedCounts};
use mendb_model::RowBlock;
use mendb_model::key::{KeyRange, to_hex};
use mendb_model::manifest::Manifest;
use mendb_model::name::TablePath;
use mendb_model::operation::{
    FindBy, MendedRows, NewTask, RowMendRequest, StepKind, TaskOutput, TaskSpec,
};

use super::kind::{Kind, no_such_step};
use super::restore::fetched::Fetched;
use super::restore::load::Load;
use super::row_backup::run as backup;
use super::row_backup::tasks::copy_tasks;
use crate::attempt::{Attempt, Counts, Tools};
use crate::error::Result;
use crate::journal_port::JournalPort;
use crate::task_error::{TaskError, TaskResult};
use crate::wire::StepRequest;

use digests::live_digest;
use wanted::WantedRows;

pub use preview::ShardPreview;

impl Kind for RowMendRequest {
    fn tasks(
        &self,
        step: &StepRequest,
        tools: &Tools,
        _: &JournalPort<'_>,
    ) -> Result<Vec<NewTask>> {
        match step.step_kind {
            StepKind::Copy => copy_tasks(step, &self.before, tools),
            _ => tasks::tasks(step, self, tools),
        }
    }

    fn run(&self, attempt: &Attempt<'_>, counts: &mut Counts) -> TaskResult<()> {
        run(attempt, self, counts)
    }
}

/// Runs one task of a mend.
fn run(attempt: &Attempt<'_>, request: &RowMendRequest, counts: &mut Counts) -> TaskResult<()> {
    if request.beside_writers {
        return beside_writers::run(attempt, request, counts);
    }
    match (&attempt.request.spec, attempt.request.step_kind) {
        (TaskSpec::Whole, StepKind::Cut) => cut(attempt, request, counts),
        (TaskSpec::Copy { .. }, StepKind::Copy) => backup::copy(attempt, &request.before, counts),
        (TaskSpec::Whole, StepKind::Seal) => backup::seal(attempt, &request.before, false),
        (TaskSpec::Whole, StepKind::Prepare) => prepare(attempt, request),
        (
            TaskSpec::MendRows {
                path,
                range,
                create,
                only,
                method,
            },
            StepKind::Stage,
        ) if only.is_empty() => {
            let mut progress = Progress::resume(attempt, counts);
            match method {
                _ if *create => load(attempt, request, path, range, &mut progress),
                Some(chosen) if chosen.is_rebuild() => {
                    rebuild::stage(attempt, request, (path, range), &mut progress)
                }
                _ => stage(attempt, request, path, range, &mut progress),
            }
        }
        (TaskSpec::MendRows { path, only, .. }, StepKind::Stage) => {
            stage_single(attempt, request, path, only, counts)
        }
        (TaskSpec::Whole, StepKind::Verify) => verify::verify(attempt, request, counts),
        (TaskSpec::Whole, StepKind::Finish) => finish(attempt, request, counts),
        (TaskSpec::Whole, StepKind::Rollback) => rollback(attempt, request),
        _ => Err(no_such_step(&attempt.request.request)),
    }
}

/// The backups up to the wanted one, oldest first.
fn wanted_chain(attempt: &Attempt<'_>, request: &RowMendRequest) -> TaskResult<Vec<Arc<Manifest>>> {
    let links = request.chain.iter();
    links
        .map(|link| attempt.manifest(&request.before.collection, link))
        .collect()
}

/// The wanted backup.
fn wanted_manifest(attempt: &Attempt<'_>, request: &RowMendRequest) -> TaskResult<Arc<Manifest>> {
    let link = request.chain.last();
    let link = link.ok_or_else(|| TaskError::Proof("the chain is empty".to_owned()))?;
    attempt.manifest(&request.before.collection, link)
}

/// Closes the tables to writers; then as a backup. Opens them again where that cannot be: nothing is
/// staged yet.
fn cut(attempt: &Attempt<'_>, request: &RowMendRequest, counts: &mut Counts) -> TaskResult<()> {
    let outcome = close_and_cut(attempt, request, counts);
    if outcome.is_err() {
        attempt.tools.engine.drop_staged(attempt.operation())?;
    }
    outcome
}

fn close_and_cut(
    attempt: &Attempt<'_>,
    request: &RowMendRequest,
    counts: &mut Counts,
) -> TaskResult<()> {
    let engine = attempt.tools.engine.rows()?;
    let tables = request.tables.iter().filter(|table| !table.create);
    let tables: Vec<String> = tables.map(|table| table.table.clone()).collect();
    engine.begin_mend(attempt.operation(), &tables)?;
    crate::env::crash_point();
    for expected in &request.expected {
        attempt.in_progress(counts)?;
        let path = TablePath::table(&expected.table);
        let (found, _) = live_digest(engine, &path, &expected.range)?;
        if found != expected.digest {
            return Err(TaskError::Proof(format!(
                "table {} has changed in the keys from {} since the mend was planned; cancel it and plan again",
                expected.table,
                to_hex(&expected.range.start)
            )));
        }
    }
    second_look::check(attempt, request)?;
    backup::cut(attempt, &request.before, counts)
}

/// Finds every object that may be needed, then creates the tables that are missing.
fn prepare(attempt: &Attempt<'_>, request: &RowMendRequest) -> TaskResult<()> {
    // The state before is in the repository: its snapshot would keep what is replaced in memory, and tables
    // that are not mended need not wait.
    attempt.tools.engine.thaw(attempt.operation())?;
    crate::env::crash_point();
    for manifest in wanted_chain(attempt, request)? {
        attempt.wait(attempt.tools.repository.check_present(&manifest))?;
        attempt.check_stopped()?;
    }
    let wanted = wanted_manifest(attempt, request)?;
    let created = request.tables.iter().filter(|table| table.create);
    let staged = created.map(|created| {
        let repository = &attempt.tools.repository;
        Ok(HiddenTable {
            name: created.table.clone(),
            backup: attempt.wait(repository.whole_table(&wanted, &created.table))?,
        })
    });
    let staged: Vec<HiddenTable> = staged.collect::<TaskResult<_>>()?;
    if !staged.is_empty() {
        attempt
            .tools
            .engine
            .rows()?
            .create_hidden(attempt.operation(), staged)?;
    }
    Ok(())
}

/// Stages what keys are wanted to hold, in the order of the task.
fn staging<'a>(
    attempt: &'a Attempt<'_>,
    path: &'a TablePath,
) -> TaskResult<impl FnMut(&RowBlock<&[u8]>) -> TaskResult<StagedCounts> + 'a> {
    let source = RowSource {
        step: attempt.request.step,
        index: attempt.request.shard_idx,
    };
    let engine = attempt.tools.engine.rows()?;
    Ok(move |changes: &RowBlock<&[u8]>| {
        let staged = engine.stage_mend(attempt.operation(), &path.table, source, changes)?;
        crate::env::crash_point();
        Ok(staged)
    })
}

/// Stages what differs in a range of a table.
fn stage(
    attempt: &Attempt<'_>,
    request: &RowMendRequest,
    path: &TablePath,
    range: &KeyRange,
    progress: &mut Progress<'_, '_>,
) -> TaskResult<()> {
    let mut put = staging(attempt, path)?;
    match &request.find_by {
        FindBy::Changes { later } => {
            let mut after_wanted: Vec<Arc<Manifest>> = later
                .iter()
                .map(|link| attempt.manifest(&request.before.collection, link))
                .collect::<TaskResult<_>>()?;
            // What changed since the last of them is in the backup that was just taken.
            let own = attempt.request.draft.clone();
            after_wanted.push(own.ok_or_else(|| {
                TaskError::Proof("the state before was not backed up".to_owned())
            })?);
            changes::stage(
                attempt,
                request,
                (path, range),
                &after_wanted,
                &mut put,
                progress,
            )
        }
        FindBy::Versions { .. } | FindBy::Digests { .. } => {
            digests::stage(attempt, request, (path, range), &mut put, progress)
        }
    }
}

/// Stages what single keys of a table are wanted to hold, that are mended with a range.
fn stage_single(
    attempt: &Attempt<'_>,
    request: &RowMendRequest,
    path: &TablePath,
    only: &[KeyRange],
    counts: &mut Counts,
) -> TaskResult<()> {
    let mut progress = Progress::resume(attempt, counts);
    let after = progress.last_key();
    let keys = only.iter().map(|one| one.start.as_slice());
    let keys: Vec<&[u8]> = keys.filter(|key| Some(*key) > after.as_deref()).collect();
    let chain = wanted_chain(attempt, request)?;
    let mut wanted = WantedRows::new(attempt, &chain, path, &KeyRange::all())?;
    let mut put = staging(attempt, path)?;
    wanted.put_all(&keys, &mut put, &mut |done, last| {
        progress.staged(done, last)
    })
}

/// Takes changes to what keys are wanted to hold.
type Put<'a> = &'a mut dyn FnMut(&RowBlock<&[u8]>) -> TaskResult<StagedCounts>;

/// How far a range is.
struct Progress<'a, 'b> {
    attempt: &'a Attempt<'b>,
    counts: &'a mut Counts,
    done: MendedRows,
    /// The keys that are looked at, as far as they can be counted beforehand; 0 when not known.
    keys_total: u64,
    is_first: bool,
}

impl<'a, 'b> Progress<'a, 'b> {
    /// Goes on where the attempt before ended.
    fn resume(attempt: &'a Attempt<'b>, counts: &'a mut Counts) -> Self {
        let done = match &counts.output {
            TaskOutput::Mended(done) => *done,
            _ => MendedRows::default(),
        };
        Self {
            attempt,
            counts,
            done,
            keys_total: 0,
            is_first: true,
        }
    }

    /// Counts rows that are staged for good, up to a key.
    fn staged(&mut self, more: MendedRows, last_key: &[u8]) -> TaskResult<()> {
        self.looked_at(more);
        self.counts.last_key = Some(last_key.to_vec());
        self.attempt
            .in_progress_after(&mut self.is_first, self.counts)
    }

    /// Counts what was read without staging anything.
    fn looked_at(&mut self, more: MendedRows) {
        self.done += more;
        self.counts.rows = self.done.read;
        self.counts.bytes = self.bytes();
        self.counts.output = TaskOutput::Mended(self.done);
    }

    /// As many of the bytes of the range as the part of its keys that is done, where it is known how many
    /// there are; else those that were fetched.
    fn bytes(&self) -> u64 {
        let bytes_total = self.attempt.request.bytes_total;
        if self.keys_total == 0 {
            return self.done.fetched_bytes;
        }
        let keys = self.done.read.min(self.keys_total);
        let bytes = u128::from(bytes_total) * u128::from(keys) / u128::from(self.keys_total);
        u64::try_from(bytes).unwrap_or(bytes_total)
    }

    fn last_key(&self) -> Option<Vec<u8>> {
        self.counts.last_key.clone()
    }
}

/// Loads all rows that the wanted backup has of a range, of a table that is created.
fn load(
    attempt: &Attempt<'_>,
    request: &RowMendRequest,
    path: &TablePath,
    range: &KeyRange,
    progress: &mut Progress<'_, '_>,
) -> TaskResult<()> {
    let chain = wanted_chain(attempt, request)?;
    let after = progress.last_key();
    let load = Load {
        chain: &chain,
        source: path,
        target: path,
        range,
    };
    load.run(attempt, after.as_deref(), &mut |more, last_key| {
        match last_key {
            Some(last_key) => progress.staged(more, last_key)?,
            None => progress.looked_at(more),
        }
        Ok(())
    })
}

/// Shows readers what was staged, releases what the next increment does not need, so that it is not
/// written again, and unlocks.
fn finish(attempt: &Attempt<'_>, request: &RowMendRequest, counts: &mut Counts) -> TaskResult<()> {
    let engine = attempt.tools.engine.rows()?;
    engine.publish_mend(attempt.operation())?;
    crate::env::crash_point();
    backup::release(attempt, &request.before)?;
    crate::env::crash_point();
    let settled = engine.settle_mend(attempt.operation(), &mut |_| {
        // That it goes on is what is told; its rows were counted when they were staged.
        match attempt.in_progress(counts) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    match settled {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(TaskError::Stopped),
    }
}

/// Gives up what was staged, and takes the backup of the state before back.
fn rollback(attempt: &Attempt<'_>, request: &RowMendRequest) -> TaskResult<()> {
    attempt.tools.engine.drop_staged(attempt.operation())?;
    crate::env::crash_point();
    backup::rollback(attempt, &request.before)
}

/// What the target has for mends beside writers.
fn beside_writers_of<'a>(attempt: &'a Attempt<'_>) -> TaskResult<&'a dyn BesideWriters> {
    let beside = attempt.tools.engine.rows()?.beside_writers();
    beside.ok_or_else(|| {
        TaskError::Proof("the mend was ordered for another kind of target than this one".to_owned())
    })
}

fn no_such_table(manifest: &Manifest, table: &str) -> TaskError {
    TaskError::Proof(format!(
        "backup {} has no table {table}",
        manifest.backup_id
    ))
}
