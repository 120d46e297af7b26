//! The steps of work on a cluster.

use mendb_model::manifest::{CLUSTER_FORMAT_VERSION, Manifest};
use mendb_model::operation::{ClusterRequest, ClusterWork, ShardAgent, StepKind, TaskOutput};
use mendb_model::part::{PartStoreBackup, ShardContents};
use serde::Deserialize;

use super::at_once::at_once;
use super::shard::{Shard, TakenBack, read};
use crate::attempt::{Attempt, Counts};
use crate::env;
use crate::task_error::{TaskError, TaskResult};

/// What an agent says at the end of its backup.
#[derive(Deserialize)]
struct Report {
    contents: ShardContents,
}

/// Finds out whether the agent can do its part. Nothing is changed by it on any shard.
pub(super) fn prepare(
    attempt: &Attempt<'_>,
    request: &ClusterRequest,
    at: &ShardAgent,
) -> TaskResult<()> {
    let shard = Shard::of(attempt, request, at)?;
    if request.is_backup() {
        return Ok(shard.agents.check(at)?);
    }
    shard.planned().map(drop)
}

/// Drafts the manifest of a backup that has no shard yet.
pub(super) fn draft(
    attempt: &Attempt<'_>,
    request: &ClusterRequest,
    counts: &mut Counts,
) -> TaskResult<()> {
    let ClusterWork::Backup { backup_id, label } = &request.work else {
        return Err(TaskError::Proof("a mend drafts no manifest".to_owned()));
    };
    counts.output = TaskOutput::Draft(Box::new(Manifest {
        format_version: CLUSTER_FORMAT_VERSION,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        collection: request.collection.clone(),
        backup_id: backup_id.clone(),
        label: label.clone(),
        operation_id: attempt.operation().to_owned(),
        target: attempt.tools.target.clone(),
        parent: None,
        snapshot_version: env::now_ms().into(),
        tables: Vec::new(),
        compacted: None,
        transactions: None,
        commits: None,
        part_store: Some(PartStoreBackup {
            exact: request.is_exact(),
            ..PartStoreBackup::new(String::new(), None)
        }),
    }));
    Ok(())
}

/// Has the agent freeze its server, or stage what a mend brings, and wait.
pub(super) fn hold(
    attempt: &Attempt<'_>,
    request: &ClusterRequest,
    at: &ShardAgent,
    counts: &mut Counts,
) -> TaskResult<()> {
    let before = match request.is_backup() {
        true => StepKind::Copy,
        false => StepKind::Commit,
    };
    Shard::of(attempt, request, at)?.hold(attempt, (before, None), counts)
}

/// Has the agent put what its server has into the repository.
pub(super) fn copy(
    attempt: &Attempt<'_>,
    request: &ClusterRequest,
    at: &ShardAgent,
    counts: &mut Counts,
) -> TaskResult<()> {
    let shard = Shard::of(attempt, request, at)?;
    let Some(id) = shard.see_through(attempt, counts)? else {
        return Err(TaskError::Proof(format!(
            "the agent of shard {} has taken no backup",
            at.shard
        )));
    };
    let (told, _) = shard.agents.report(at, &id, false)?;
    let report: Report = read(at, &told)?;
    counts.output = TaskOutput::Shard {
        shard: at.shard.clone(),
        replica: at.replica.clone(),
        contents: Box::new(report.contents),
    };
    Ok(())
}

/// Has the agent bring its server to what the backup has of the shard, or take a mend back.
pub(super) fn commit(
    attempt: &Attempt<'_>,
    request: &ClusterRequest,
    at: &ShardAgent,
    counts: &mut Counts,
) -> TaskResult<()> {
    let shard = Shard::of(attempt, request, at)?;
    if let Some(id) = shard.see_through(attempt, counts)? {
        // It says what it has left as it was.
        shard.agents.report(at, &id, false)?;
    }
    Ok(())
}

/// Puts the manifest: from here on the backup exists, with all shards.
pub(super) fn seal(attempt: &Attempt<'_>, request: &ClusterRequest) -> TaskResult<()> {
    let manifest = attempt.draft()?;
    let store = manifest.part_store.as_ref();
    for shard in &request.shards {
        let own = store.and_then(|store| store.of_shard(&shard.shard));
        if own.is_none() {
            return Err(TaskError::Proof(format!(
                "the backup has nothing of shard {}",
                shard.shard
            )));
        }
    }
    if store.is_none_or(|store| store.tables.is_empty() && store.missing.is_empty()) {
        return Err(TaskError::Proof(format!(
            "no shard of cluster {} has a table any more that was asked for",
            request.cluster
        )));
    }
    let repository = &attempt.tools.repository;
    attempt.wait_to_the_end(repository.put_manifest(manifest, attempt.writer()))?;
    env::crash_point();
    Ok(())
}

/// Has every agent take back what it did of its part, and then removes what a backup has in the repository.
pub(super) fn roll_back(
    attempt: &Attempt<'_>,
    request: &ClusterRequest,
    counts: &mut Counts,
) -> TaskResult<()> {
    let repository = &attempt.tools.repository;
    let mut taken_back = Vec::new();
    let mut left = Vec::new();
    let agents = attempt.tools.engine.agents()?;
    // Who died may have left them stopped. All else is taken back whatever comes of it.
    let inserts_started = match request.is_exact() {
        true => agents.start_inserts(),
        false => Ok(()),
    };
    let shards: Vec<ShardAgent> = request.shards.iter().map(|at| agents.now(at)).collect();
    // All hear of it at once; then one after the other is waited for.
    let operation = &attempt.request.operation_id;
    at_once(&shards, |at| {
        let shard = Shard {
            agents,
            operation,
            request,
            at,
        };
        shard.tell_cancel()
    })?;
    // One that was lost, and does not answer, is told when it is asked the next time.
    for at in request.left.iter().map(|at| agents.now(at)) {
        if let Err(error) = Shard::of(attempt, request, &at)?.tell_cancel() {
            tracing::warn!(%error, shard = at.shard, replica = at.replica, "was lost, and is not told of the cancel");
        }
    }
    for at in &shards {
        let shard = Shard::of(attempt, request, at)?;
        let TakenBack {
            operation,
            left: stays,
        } = shard.take_back(attempt, counts)?;
        taken_back.extend(operation);
        left.extend(stays);
    }
    if !left.is_empty() {
        counts.output = TaskOutput::Lacks(left.join("; "));
    }
    inserts_started?;
    if !request.is_backup() {
        return Ok(());
    }
    let (collection, id) = (&request.collection, request.backup_id());
    // The manifest first, then what agents wrote, which have no other part in it any more.
    let own = attempt.operation();
    attempt.wait(repository.withdraw(collection, id, own, attempt.writer()))?;
    for operation in &taken_back {
        let operation = operation.as_str();
        let writer = operation.rsplit('-').next().unwrap_or(operation);
        attempt.wait(repository.withdraw_objects(collection, id, writer))?;
    }
    Ok(())
}
