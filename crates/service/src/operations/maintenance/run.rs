//! The steps of work on a repository alone: folding backups, removing backups, and removing files that no backup needs.
//!
//! A task that removes something holds the lease of the repository while it does, and no longer. While another process
//! has the lease, the task waits and is tried again. Folding replaces nothing yet, so it needs no lease; before its
//! manifest replaces another, the task looks under the lease whether the run is still the one that it folded. No step
//! takes back what was removed: a cancelled operation leaves the repository as far as it came.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use mendb_model::BackupId;
use mendb_model::name::{OperationId, TablePath};
use mendb_model::operation::{FoldedRun, MaintenanceRequest, NewTask, TaskOutput, TaskSpec};
use mendb_repo::{Collected, Compaction, Lease};

use super::in_use::{doomed, sentence};
use crate::attempt::{Attempt, Counts, Tools};
use crate::env;
use crate::error::{Error, Result};
use crate::task_error::{TaskError, TaskResult};
use crate::wire::StepRequest;

/// A worker that folds tells how far it is each time it has read so much.
const TOLD_EVERY_BYTES: u64 = 4 << 20;

/// The run that is being folded, planned once for all its shards.
#[derive(Debug, Default)]
struct PlannedRun(Mutex<Option<Planned>>);

type Planned = ((OperationId, u32), Arc<Compaction>);

impl PlannedRun {
    /// The plan, made with `plan` unless this run was asked for last. Other callers wait meanwhile.
    fn get_or_plan<E>(
        &self,
        key: (OperationId, u32),
        plan: impl FnOnce() -> std::result::Result<Compaction, E>,
    ) -> std::result::Result<Arc<Compaction>, E> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, compaction)) = kept.as_ref()
            && *known == key
        {
            return Ok(Arc::clone(compaction));
        }
        let compaction = Arc::new(plan()?);
        *kept = Some((key, Arc::clone(&compaction)));
        Ok(compaction)
    }
}

/// A task for each shard of the run that the current step folds.
pub(super) fn tasks(
    step: &StepRequest,
    request: &MaintenanceRequest,
    tools: &Tools,
) -> Result<Vec<NewTask>> {
    let run = step.incremental_idx.unwrap_or(0);
    let Some(fold) = request.folds.get(run as usize) else {
        return Err(Error::from(no_such_run(run)));
    };
    let key = (step.operation_id.clone(), run);
    let compaction = tools.kept.of::<PlannedRun>().get_or_plan(key, || {
        let plan = (tools.repository).plan_compaction(&request.collection, &fold.first, &fold.last);
        tools.runtime.block_on(plan)
    })?;
    let shards = compaction.shards();
    let bytes_each = fold.bytes / (shards.len() as u64).max(1);
    let task = |(path, shard)| NewTask {
        spec: TaskSpec::Fold { path, shard },
        bytes_total: bytes_each,
    };
    Ok(shards.into_iter().map(task).collect())
}

/// The run that a step is about.
fn run_of(step: &StepRequest, request: &MaintenanceRequest) -> TaskResult<FoldedRun> {
    let run = step.incremental_idx.unwrap_or(0);
    let fold = request.folds.get(run as usize);
    fold.cloned().ok_or_else(|| no_such_run(run))
}

fn no_such_run(run: u32) -> TaskError {
    TaskError::Proof(format!("nothing is folded as run {run}"))
}

/// The run as it is in the repository now.
fn plan(
    attempt: &Attempt<'_>,
    request: &MaintenanceRequest,
    fold: &FoldedRun,
) -> TaskResult<Compaction> {
    let repository = &attempt.tools.repository;
    attempt.wait(repository.plan_compaction(&request.collection, &fold.first, &fold.last))
}

/// Sees that the run is what was asked for, and drafts the manifest of the folded backup.
pub(super) fn prepare(
    attempt: &Attempt<'_>,
    request: &MaintenanceRequest,
    counts: &mut Counts,
) -> TaskResult<()> {
    let fold = run_of(attempt.request, request)?;
    let compaction = plan(attempt, request, &fold)?;
    if let Some(more) = (compaction.goes().iter()).find(|id| !fold.goes.contains(id)) {
        return Err(TaskError::Proof(format!(
            "backup {more} has come between {} and {} since this was planned, and would go with the others; \
             cancel this operation and ask again",
            fold.first, fold.last
        )));
    }
    counts.output = TaskOutput::Draft(Box::new(compaction.draft()));
    Ok(())
}

/// Writes the folded segments of one shard, from its beginning.
pub(super) fn fold(
    attempt: &Attempt<'_>,
    request: &MaintenanceRequest,
    (path, shard): (&TablePath, u32),
    counts: &mut Counts,
) -> TaskResult<()> {
    let fold = run_of(attempt.request, request)?;
    let repository = &attempt.tools.repository;
    let planned_run = attempt.tools.kept.of::<PlannedRun>();
    let run = attempt.request.incremental_idx.unwrap_or(0);
    let key = (attempt.request.operation_id.clone(), run);
    let compaction = planned_run.get_or_plan(key, || plan(attempt, request, &fold))?;
    *counts = Counts::default();
    let mut told = 0;
    let mut read = |more| {
        counts.bytes += more;
        if counts.bytes >= told + TOLD_EVERY_BYTES {
            told = counts.bytes;
            attempt.tell(counts);
        }
    };
    let number = attempt.request.attempt;
    let work = repository.fold_shard(
        &compaction,
        path,
        shard,
        attempt.writer(),
        number,
        &mut read,
    );
    let segments = attempt.wait(work)?;
    counts.rows = segments.iter().map(|segment| segment.digest.rows).sum();
    counts.output = TaskOutput::Segments(segments);
    Ok(())
}

/// Puts the folded backup in the place of the last of its run, and removes the others.
pub(super) fn replace(
    attempt: &Attempt<'_>,
    request: &MaintenanceRequest,
    counts: &mut Counts,
) -> TaskResult<()> {
    let fold = run_of(attempt.request, request)?;
    let draft = attempt.draft()?;
    let repository = &attempt.tools.repository;
    under_lease(attempt, "folds backups", |lease| {
        check_unused(attempt, request)?;
        check_kept(attempt, request)?;
        let compaction = plan(attempt, request, &fold)?;
        let stays = compaction.stays();
        let was_folded = draft.compacted.iter().flat_map(|it| &it.stands_for).last();
        let is_left_over = compaction.shards().is_empty();
        if !is_left_over && was_folded != Some(&stays.blake3) {
            return Err(TaskError::Proof(format!(
                "backup {} is not what it was when it was folded; cancel this operation and ask again",
                fold.last
            )));
        }
        env::crash_point();
        let replaced = repository.replace_manifest(&compaction, draft, attempt.writer());
        let stored = attempt.wait_to_the_end(replaced)?;
        env::crash_point();
        let mut stopped = Ok(());
        let mut removed = |_: &BackupId| go_on(attempt, counts, &mut stopped);
        let removing = repository.remove_folded(lease, &compaction, &stored, &mut removed);
        attempt.wait_to_the_end(removing)?;
        stopped
    })
}

/// Removes backups, those that have a manifest first.
pub(super) fn remove(
    attempt: &Attempt<'_>,
    request: &MaintenanceRequest,
    counts: &mut Counts,
) -> TaskResult<()> {
    let ids = |is_leftover| {
        let removals = request.removals.iter();
        let of_kind = removals.filter(move |removal| removal.is_leftover == is_leftover);
        of_kind.map(|removal| removal.backup_id.clone())
    };
    let (repository, collection) = (&attempt.tools.repository, &request.collection);
    *counts = Counts::default();
    under_lease(attempt, "deletes backups", |lease| {
        check_unused(attempt, request)?;
        check_kept(attempt, request)?;
        let whole: Vec<_> = ids(false).collect();
        let mut stopped = Ok(());
        if !whole.is_empty() {
            let mut removed = |_: &BackupId| go_on(attempt, counts, &mut stopped);
            let removing = repository.remove_backups(lease, collection, &whole, &mut removed);
            attempt.wait_to_the_end(removing)?;
        }
        stopped?;
        for id in ids(true) {
            attempt.wait_to_the_end(repository.discard_under(lease, collection, &id))?;
            counts.rows += 1;
            attempt.in_progress(counts)?;
        }
        Ok(())
    })
}

/// Counts a backup that has gone, and says whether the others are to go, too.
fn go_on(
    attempt: &Attempt<'_>,
    counts: &mut Counts,
    stopped: &mut TaskResult<()>,
) -> ControlFlow<()> {
    counts.rows += 1;
    *stopped = attempt.in_progress(counts);
    match stopped {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    }
}

/// Removes files that no backup needs.
pub(super) fn tidy(
    attempt: &Attempt<'_>,
    request: &MaintenanceRequest,
    counts: &mut Counts,
) -> TaskResult<()> {
    let repository = &attempt.tools.repository;
    *counts = Counts::default();
    let collected = under_lease(attempt, "removes files that no backup needs", |lease| {
        let mut told = |collected: Collected| {
            counts.rows = collected.objects;
            counts.bytes = collected.bytes;
            attempt.tell(counts);
        };
        attempt.wait(repository.collect_garbage_under(lease, &mut told))
    });
    match (collected, request.removals.first()) {
        // What was asked for has happened.
        (Err(TaskError::Repository(error)), Some(removed)) => {
            Err(TaskError::Repository(mendb_repo::Error::FilesStay {
                backup: removed.backup_id.clone(),
                source: Box::new(error),
            }))
        }
        (collected, _) => collected.map(drop),
    }
}

/// Lets stay what was about to go, and removes what was folded in vain. What has taken the place of another, or has
/// gone, stays so.
pub(super) fn roll_back(attempt: &Attempt<'_>, request: &MaintenanceRequest) -> TaskResult<()> {
    let goes: Vec<BackupId> = request.goes().iter().map(|(id, _)| (*id).clone()).collect();
    if !goes.is_empty() {
        let keeping = attempt
            .tools
            .repository
            .keep_backups(&request.collection, &goes);
        attempt.wait_to_the_end(keeping)?;
    }
    let Some(draft) = attempt.request.draft.as_deref() else {
        return Ok(());
    };
    // A process that was stopped right before it put the folded manifest puts it no more: what it names goes.
    let repository = &attempt.tools.repository;
    let kept = repository.keep_late_writers_out(&request.collection, &draft.backup_id);
    attempt.wait_to_the_end(kept)?;
    let swept = repository.sweep(draft, attempt.writer());
    match attempt.wait(swept) {
        // Nor is there anything beside it.
        Ok(_) | Err(TaskError::Repository(mendb_repo::Error::NotFound { .. })) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Stops where a user has asked for it and the coordinator has not said so yet: who takes the lease ends what a
/// process that died has begun to remove.
fn check_not_recalled(attempt: &Attempt<'_>) -> TaskResult<()> {
    attempt.check_stopped()?;
    match attempt.journal.is_recalled()? {
        true => Err(TaskError::Stopped),
        false => Ok(()),
    }
}

/// Waits while an operation goes on that needs a backup which is to go; one that only a user can move is waited for by
/// nobody.
fn check_unused(attempt: &Attempt<'_>, request: &MaintenanceRequest) -> TaskResult<()> {
    match attempt
        .journal
        .needed_beside(&request.collection, doomed(request))?
    {
        None => Ok(()),
        Some(needed) if needed.by.awaits_user() => Err(TaskError::Proof(sentence(&needed))),
        Some(needed) => Err(TaskError::InUse(sentence(&needed))),
    }
}

/// Sees that what was to stay is there: what it is decided on may be long ago, and another may have taken it away.
fn check_kept(attempt: &Attempt<'_>, request: &MaintenanceRequest) -> TaskResult<()> {
    if request.keeps.is_empty() {
        return Ok(());
    }
    let mut there = HashSet::new();
    for (id, read) in attempt.wait(attempt.tools.repository.list(&request.collection))? {
        match read {
            Ok(_) => {
                there.insert(id);
            }
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error.into()),
        }
    }
    match request.keeps.iter().find(|id| !there.contains(id)) {
        None => Ok(()),
        Some(gone) => Err(TaskError::Proof(format!(
            "backup {gone}, which was to stay, is gone or damaged since this was planned, so nothing more is \
             removed; cancel this operation and ask again"
        ))),
    }
}

/// Does something as the one process that removes things from the repository.
fn under_lease<T>(
    attempt: &Attempt<'_>,
    work: &str,
    doing: impl FnOnce(&Lease) -> TaskResult<T>,
) -> TaskResult<T> {
    check_not_recalled(attempt)?;
    let repository = &attempt.tools.repository;
    let lease = attempt.wait(repository.lease(work))?;
    let done = doing(&lease);
    attempt.wait_to_the_end(async {
        lease.release().await;
        Ok(())
    })?;
    done
}
