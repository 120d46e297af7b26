//! What each kind of operation is: how it is ordered, planned, allocated, run, previewed and reported.
//!
//! Each kind has a room of its own. This file is the only one outside of them that knows which kinds there are.

pub mod cluster;
pub(crate) mod kind;
pub mod maintenance;
pub mod part_backup;
pub mod part_mend;
pub mod restore;
pub mod row_backup;
pub mod row_mend;

use mendb_model::operation::{NewTask, OperationHead, Request, State};

use self::kind::Kind;
use crate::attempt::{Attempt, Counts, Tools};
use crate::error::Result;
use crate::front::{Front, in_the_way};
use crate::journal_port::JournalPort;
use crate::task_error::TaskResult;
use crate::wire::StepRequest;

fn of(request: &Request) -> &dyn Kind {
    match request {
        Request::Backup(request) => request,
        Request::Restore(request) => request,
        Request::PartBackup(request) => request,
        Request::Mend(request) => request,
        Request::MendRows(request) => request,
        Request::Maintain(request) => request,
        Request::Cluster(request) => request,
    }
}

/// The tasks of a step. Finding them only reads, so it can be repeated at will.
pub(crate) fn tasks(
    step: &StepRequest,
    tools: &Tools,
    journal: &JournalPort<'_>,
) -> Result<Vec<NewTask>> {
    match step.request.is_one_task(step.step_kind) {
        true => Ok(vec![NewTask::whole()]),
        false => of(&step.request).tasks(step, tools, journal),
    }
}

/// Runs one task.
pub(crate) fn run(attempt: &Attempt<'_>, counts: &mut Counts) -> TaskResult<()> {
    of(&attempt.request.request).run(attempt, counts)
}

impl Front {
    /// Whether others have to wait for an open operation.
    pub(crate) fn holds_tables(&self, operation: &OperationHead) -> Result<bool> {
        of(&operation.request).holds_tables(self, operation)
    }

    /// Refuses to go on with an operation that stood in nobody's way while another works on its tables.
    pub(crate) fn check_resumable(&self, operation: &OperationHead) -> Result<()> {
        if operation.state != State::Failed || self.holds_tables(operation)? {
            return Ok(());
        }
        let touched = operation.request.target_tables();
        for other in self.journal.open_operations()? {
            if other.operation_id == operation.operation_id || !self.holds_tables(&other)? {
                continue;
            }
            let tables = other.request.target_tables();
            if let Some(table) = tables.iter().find(|table| touched.contains(table)) {
                return Err(in_the_way(&format!("table {table}"), &other));
            }
        }
        Ok(())
    }

    /// Releases what an operation has kept, before its record is removed.
    pub(crate) fn let_go(&self, operation: &OperationHead) -> Result<()> {
        of(&operation.request).let_go(self, operation)
    }
}
