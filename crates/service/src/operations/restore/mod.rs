//! A restore of a chain into tables that are absent.

pub(crate) mod fetched;
pub(crate) mod load;
pub mod order;
mod run;
mod tasks;
mod verify;

use mendb_model::operation::{NewTask, RestoreRequest, StepKind, TaskSpec};

use super::kind::{Kind, no_such_step};
use crate::attempt::{Attempt, Counts, Tools};
use crate::error::Result;
use crate::journal_port::JournalPort;
use crate::task_error::TaskResult;
use crate::wire::StepRequest;

impl Kind for RestoreRequest {
    fn tasks(
        &self,
        step: &StepRequest,
        tools: &Tools,
        _: &JournalPort<'_>,
    ) -> Result<Vec<NewTask>> {
        tasks::tasks(step, self, tools)
    }

    fn run(&self, attempt: &Attempt<'_>, counts: &mut Counts) -> TaskResult<()> {
        match (&attempt.request.spec, attempt.request.step_kind) {
            (TaskSpec::Whole, StepKind::Prepare) => run::prepare(attempt, self),
            (
                TaskSpec::Restore {
                    backup_id,
                    source,
                    target,
                    shard,
                },
                StepKind::Load | StepKind::Apply,
            ) => {
                let place = run::ShardToRestore {
                    request: self,
                    backup_id,
                    source,
                    target,
                    shard: *shard,
                };
                run::bring(attempt, &place, counts)
            }
            (
                TaskSpec::Verify {
                    backup_id,
                    source,
                    target,
                    shard,
                },
                StepKind::Verify,
            ) => {
                let place = run::ShardToRestore {
                    request: self,
                    backup_id,
                    source,
                    target,
                    shard: *shard,
                };
                verify::verify(attempt, &place, counts)
            }
            // Nobody ever sees what a drill has restored.
            (TaskSpec::Whole, StepKind::Finish) if self.drill.is_some() => {
                Ok(attempt.tools.engine.drop_staged(attempt.operation())?)
            }
            (TaskSpec::Whole, StepKind::Finish) => {
                Ok(attempt.tools.engine.make_live(attempt.operation())?)
            }
            (TaskSpec::Whole, StepKind::Rollback) => {
                Ok(attempt.tools.engine.drop_staged(attempt.operation())?)
            }
            _ => Err(no_such_step(&attempt.request.request)),
        }
    }
}
