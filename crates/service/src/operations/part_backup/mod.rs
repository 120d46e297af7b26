//! A backup of tables of a part store. Each stands by itself.

mod exact;
mod known;
pub mod order;
mod run;
mod tasks;
mod unchanged;

use mendb_model::operation::{NewTask, PartBackupRequest, StepKind, TaskSpec};

use super::kind::{Kind, no_such_step};
use crate::attempt::{Attempt, Counts, Tools};
use crate::error::Result;
use crate::journal_port::JournalPort;
use crate::task_error::TaskResult;
use crate::wire::StepRequest;

impl Kind for PartBackupRequest {
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
            (TaskSpec::Whole, StepKind::Cut) => run::cut(attempt, self, counts),
            (
                TaskSpec::CopyParts {
                    table,
                    chunk,
                    parts,
                    ..
                },
                StepKind::Copy,
            ) => run::copy(attempt, self, table, *chunk, parts, counts),
            (TaskSpec::Whole, StepKind::Verify) => exact::verify(attempt, self),
            (TaskSpec::Whole, StepKind::Seal) => run::seal(attempt),
            (TaskSpec::Whole, StepKind::Release) => {
                Ok(attempt.tools.engine.thaw(attempt.operation())?)
            }
            (TaskSpec::Whole, StepKind::Rollback) => run::rollback(attempt, self),
            _ => Err(no_such_step(&attempt.request.request)),
        }
    }
}
