//! A backup of a collection of a row store: full, or the changes since the last.

mod found;
pub mod order;
pub(crate) mod run;
pub(crate) mod tasks;
pub(crate) mod unfolded;

use mendb_model::operation::{BackupRequest, NewTask, StepKind, TaskSpec};

use super::kind::{Kind, no_such_step};
use crate::attempt::{Attempt, Counts, Tools};
use crate::error::Result;
use crate::journal_port::JournalPort;
use crate::task_error::TaskResult;
use crate::wire::StepRequest;

impl Kind for BackupRequest {
    fn tasks(
        &self,
        step: &StepRequest,
        tools: &Tools,
        _: &JournalPort<'_>,
    ) -> Result<Vec<NewTask>> {
        tasks::copy_tasks(step, self, tools)
    }

    fn run(&self, attempt: &Attempt<'_>, counts: &mut Counts) -> TaskResult<()> {
        match (&attempt.request.spec, attempt.request.step_kind) {
            (TaskSpec::Whole, StepKind::Cut) => run::cut(attempt, self, counts),
            (TaskSpec::Copy { path, .. }, StepKind::Copy) => match &self.found {
                Some(found) if path.is_unfolded() || path.is_transactions() => {
                    unfolded::copy(attempt, self, found, path, counts)
                }
                Some(found) => found::copy(attempt, self, found, counts),
                None => run::copy(attempt, self, counts),
            },
            (TaskSpec::Whole, StepKind::Seal) => run::seal(attempt, self, self.found.is_some()),
            (TaskSpec::Whole, StepKind::Release) => run::release(attempt, self),
            (TaskSpec::Whole, StepKind::Rollback) => run::rollback(attempt, self),
            _ => Err(no_such_step(&attempt.request.request)),
        }
    }
}
