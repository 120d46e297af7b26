//! Work on a repository alone: folding backups, removing backups, and removing files that no backup needs.

mod in_use;
pub mod order;
pub mod prune;
mod run;

use mendb_model::operation::{MaintenanceRequest, NewTask, StepKind, TaskSpec};

use super::kind::{Kind, no_such_step};
use crate::attempt::{Attempt, Counts, Tools};
use crate::error::Result;
use crate::journal_port::JournalPort;
use crate::task_error::TaskResult;
use crate::wire::StepRequest;

impl Kind for MaintenanceRequest {
    fn tasks(
        &self,
        step: &StepRequest,
        tools: &Tools,
        _: &JournalPort<'_>,
    ) -> Result<Vec<NewTask>> {
        run::tasks(step, self, tools)
    }

    fn run(&self, attempt: &Attempt<'_>, counts: &mut Counts) -> TaskResult<()> {
        match (&attempt.request.spec, attempt.request.step_kind) {
            (TaskSpec::Whole, StepKind::Prepare) => run::prepare(attempt, self, counts),
            (TaskSpec::Fold { path, shard }, StepKind::Fold) => {
                run::fold(attempt, self, (path, *shard), counts)
            }
            (TaskSpec::Whole, StepKind::Replace) => run::replace(attempt, self, counts),
            (TaskSpec::Whole, StepKind::Remove) => run::remove(attempt, self, counts),
            (TaskSpec::Whole, StepKind::Tidy) => run::tidy(attempt, self, counts),
            (TaskSpec::Whole, StepKind::Rollback) => run::roll_back(attempt, self),
            _ => Err(no_such_step(&attempt.request.request)),
        }
    }
}
