//! What is asked of every kind of operation.

use mendb_model::operation::{NewTask, OperationHead, Request};

use crate::attempt::{Attempt, Counts, Tools};
use crate::error::Result;
use crate::front::Front;
use crate::journal_port::JournalPort;
use crate::task_error::{TaskError, TaskResult};
use crate::wire::StepRequest;

/// A kind of operation, by its request.
pub(crate) trait Kind {
    /// The tasks of a step that may be several. Finding them only reads, so it can be repeated at will.
    fn tasks(
        &self,
        step: &StepRequest,
        tools: &Tools,
        journal: &JournalPort<'_>,
    ) -> Result<Vec<NewTask>>;

    /// Runs one task. Counts what is done and durable.
    fn run(&self, attempt: &Attempt<'_>, counts: &mut Counts) -> TaskResult<()>;

    /// Whether others have to wait for an open operation of this request.
    fn holds_tables(&self, _front: &Front, _operation: &OperationHead) -> Result<bool> {
        Ok(true)
    }

    /// Releases what an operation of this request has kept, before its record is removed.
    fn let_go(&self, _front: &Front, _operation: &OperationHead) -> Result<()> {
        Ok(())
    }
}

/// Why a step was asked of an operation that has none of its kind.
pub(crate) fn no_such_step(request: &Request) -> TaskError {
    TaskError::Proof(format!("a {} has no such step", request.kind()))
}
