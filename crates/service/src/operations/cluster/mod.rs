//! Work on a cluster: each shard's part is an operation of the agent beside one of its servers.
//!
//! The agent has the journal, the plans and the files of its server, and drives what it was ordered by itself; the
//! coordinator orders, follows and has the barriers. So nobody but its agent ever works on a server, and an order is one
//! operation whatever dies in between: its key is the operation, the step's work and the shard.

mod at_once;
mod exact;
mod looks;
pub mod order;
mod run;
mod shard;
mod unheard;

use mendb_model::operation::{ClusterRequest, NewTask, StepKind, TaskSpec};

use super::kind::{Kind, no_such_step};
use crate::attempt::{Attempt, Counts, Tools};
use crate::error::Result;
use crate::journal_port::JournalPort;
use crate::task_error::{TaskError, TaskResult};
use crate::wire::StepRequest;

impl Kind for ClusterRequest {
    fn tasks(&self, _: &StepRequest, _: &Tools, _: &JournalPort<'_>) -> Result<Vec<NewTask>> {
        let tasks = (0u32..)
            .zip(&self.shards)
            .map(|(shard_idx, shard)| NewTask {
                spec: TaskSpec::Shard {
                    shard: shard.shard.clone(),
                    shard_idx,
                },
                bytes_total: 0,
            });
        Ok(tasks.collect())
    }

    fn run(&self, attempt: &Attempt<'_>, counts: &mut Counts) -> TaskResult<()> {
        let of_shard = match &attempt.request.spec {
            TaskSpec::Shard { shard_idx, .. } => self.shards.get(*shard_idx as usize),
            _ => None,
        };
        let agents = attempt.tools.engine.agents()?;
        let of_shard = of_shard.map(|at| agents.now(at));
        let answers = of_shard.as_ref().map(|at| agents.answers(at));
        let run = match (attempt.request.step_kind, &of_shard) {
            (StepKind::Prepare, Some(shard)) => run::prepare(attempt, self, shard),
            (StepKind::Freeze | StepKind::Stage, Some(shard)) => {
                run::hold(attempt, self, shard, counts)
            }
            (StepKind::Copy, Some(shard)) => run::copy(attempt, self, shard, counts),
            (StepKind::Commit, Some(shard)) => run::commit(attempt, self, shard, counts),
            (StepKind::Freeze, None) => exact::freeze(attempt, self, counts),
            (StepKind::Cut, None) => run::draft(attempt, self, counts),
            (StepKind::Seal, None) => run::seal(attempt, self),
            (StepKind::Rollback, None) => run::roll_back(attempt, self, counts),
            _ => Err(no_such_step(&attempt.request.request)),
        };
        run.map_err(|error| match (error, &of_shard) {
            (TaskError::Engine(why), Some(at)) if why.is_unheard => TaskError::Unheard {
                why,
                was_heard: answers != Some(agents.answers(at)),
                other: unheard::another(agents, self, (at, attempt.request.step_kind))
                    .map(Box::new),
            },
            (error, _) => error,
        })
    }
}
