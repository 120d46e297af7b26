//! A mend of live tables of a part store, and the undo of one.
//!
//! A mend decides what to do with each table ([`assess`]), brings missing parts beside the live ones ([`stage`]), makes
//! them live partition by partition and proves each partition ([`commit`]). The freeze of the state before takes it
//! back ([`rollback`], [`undo`]). Each step begins by looking at what is there, so it finds done whatever an earlier
//! attempt has done.

pub(super) mod assess;
mod commit;
mod considered;
mod damage;
mod definitions;
mod drill;
mod kept_names;
mod local;
mod opened_source;
pub mod order;
mod partitions;
mod prepare;
pub mod preview;
mod proof;
mod records;
mod replicas;
mod rollback;
mod stage;
mod supply;
mod tables;
mod tasks;
mod undo;
mod verify;
mod view;
pub mod wanted_backup;

use mendb_model::operation::{MendRequest, NewTask, OperationHead, State, StepKind, TaskSpec};

use super::kind::{Kind, no_such_step};
use crate::attempt::{Attempt, Counts, Tools};
use crate::error::Result;
use crate::front::Front;
use crate::journal_port::JournalPort;
use crate::task_error::TaskResult;
use crate::wire::StepRequest;

impl Kind for MendRequest {
    fn tasks(
        &self,
        step: &StepRequest,
        tools: &Tools,
        journal: &JournalPort<'_>,
    ) -> Result<Vec<NewTask>> {
        tasks::tasks(step, self, tools, journal)
    }

    fn run(&self, attempt: &Attempt<'_>, counts: &mut Counts) -> TaskResult<()> {
        match (&attempt.request.spec, attempt.request.step_kind) {
            (TaskSpec::Whole, StepKind::Prepare) => prepare::prepare(attempt, self),
            (TaskSpec::Mend { table_idx, .. }, StepKind::Assess) => {
                assess::assess(attempt, self, *table_idx, counts)
            }
            (TaskSpec::Mend { table_idx, .. }, StepKind::Stage) => {
                stage::stage(attempt, self, *table_idx, counts)
            }
            (TaskSpec::Mend { table_idx, .. }, StepKind::Commit) => {
                commit::commit(attempt, self, *table_idx, counts)
            }
            (TaskSpec::Mend { table_idx, .. }, StepKind::Verify) => {
                verify::verify(attempt, self, *table_idx, counts)
            }
            (TaskSpec::Whole, StepKind::Finish | StepKind::Rollback) if self.drill.is_some() => {
                drill::remove(attempt, self)
            }
            (TaskSpec::Whole, StepKind::Finish) => prepare::finish(attempt, self),
            (TaskSpec::Whole, StepKind::Rollback) => rollback::rollback(attempt, self),
            _ => Err(no_such_step(&attempt.request.request)),
        }
    }

    /// Not for one that failed before it changed anything.
    fn holds_tables(&self, front: &Front, operation: &OperationHead) -> Result<bool> {
        match operation.state {
            State::Failed => Ok(!definitions::is_untouched(front, operation, self)?),
            _ => Ok(true),
        }
    }

    fn let_go(&self, front: &Front, operation: &OperationHead) -> Result<()> {
        Ok(undo::forget(&front.tools, &operation.operation_id, self)?)
    }
}
