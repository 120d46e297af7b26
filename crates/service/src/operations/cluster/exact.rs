//! A backup of which all shards are of one moment.
//!
//! All agents freeze, and wait. When the last one has, each looks at its tables once more, and fails unless they have just
//! the rows that it froze: then what all have frozen is what was there at the moment of the last freeze. That holds
//! whatever keeps inserts away, and whether anything does; what stops them only makes it likely.
//!
//! *Crash*: that all have frozen is in the journal before any of them looks, so that who goes on never has one freeze
//! after another has looked. Inserts are started again at the end of each attempt, whatever came of it, and when the
//! backup is given up. Where the process dies in between and nobody goes on, they stay stopped: what stops them has to
//! know for how long at most.

use std::time::Duration;

use mendb_model::operation::{ClusterRequest, ShardAgent, StepKind};

use super::at_once::at_once;
use super::shard::Shard;
use crate::attempt::{Attempt, Counts};
use crate::env;
use crate::task_error::{TaskError, TaskResult};

/// How far it is, as the journal keeps it: a task never goes back behind its last key.
const FREEZING: &[u8] = b"1 freezing";
const ALL_FROZEN: &[u8] = b"2 all frozen";

/// Has all agents freeze at one moment, and wait.
pub(super) fn freeze(
    attempt: &Attempt<'_>,
    request: &ClusterRequest,
    counts: &mut Counts,
) -> TaskResult<()> {
    if counts.last_key.is_none() {
        counts.last_key = Some(FREEZING.to_vec());
        attempt.in_progress(counts)?;
    }
    let agents = attempt.tools.engine.agents()?;
    let stopped = agents.stop_inserts();
    env::crash_point();
    let frozen = stopped
        .map_err(TaskError::from)
        .and_then(|limit| freeze_stopped(attempt, request, limit, counts));
    match (frozen, agents.start_inserts()) {
        (frozen, Ok(())) => frozen,
        (Ok(()), Err(error)) => Err(TaskError::Proof(format!(
            "all shards were frozen at one moment, and inserts may be stopped still: {error}; start them again by hand, \
             then resume"
        ))),
        (Err(why), Err(error)) => Err(TaskError::Proof(format!(
            "{why}; and inserts may be stopped still: {error}; start them again by hand"
        ))),
    }
}

fn freeze_stopped(
    attempt: &Attempt<'_>,
    request: &ClusterRequest,
    limit: Option<Duration>,
    counts: &mut Counts,
) -> TaskResult<()> {
    let until_ms = limit.map(|limit| {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        env::now_ms().saturating_add(limit_ms)
    });
    if counts.last_key.as_deref() == Some(FREEZING) {
        hold_all(attempt, request, (StepKind::Verify, until_ms))?;
        counts.last_key = Some(ALL_FROZEN.to_vec());
        attempt.in_progress(counts)?;
    }
    hold_all(attempt, request, (StepKind::Copy, until_ms))
}

/// Has all agents go on to where they wait before a step.
fn hold_all(
    attempt: &Attempt<'_>,
    request: &ClusterRequest,
    (before, until_ms): (StepKind, Option<u64>),
) -> TaskResult<()> {
    let agents = attempt.tools.engine.agents()?;
    let shards: Vec<ShardAgent> = request.shards.iter().map(|at| agents.now(at)).collect();
    // What each counts is none of the count of all.
    let unheard = attempt.unheard();
    let held = at_once(&shards, |at| {
        let shard = Shard::of(&unheard, request, at)?;
        shard.hold(&unheard, (before, until_ms), &mut Counts::default())
    })?;
    for (at, held) in shards.iter().zip(held) {
        held.map_err(|error| match error {
            TaskError::Proof(why) => TaskError::Proof(format!("shard {}: {why}", at.shard)),
            error => error,
        })?;
    }
    Ok(())
}
