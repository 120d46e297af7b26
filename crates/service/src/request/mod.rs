//! Requests: what a user orders, checked against journal, target and repository, and turned into
//! an operation that needs to ask nobody any more.

pub mod backup;
mod before;
pub mod chosen;
mod considered;
mod follow;
mod into;
pub mod maintenance;
pub mod mend;
pub mod mend_source;
pub mod part_backup;
pub mod restore;
pub mod row_drift;
pub mod row_mend;
mod row_undo;
pub mod selectors;
pub(crate) mod stream;
pub mod whose;

use mendb_model::name::OperationId;
use mendb_model::operation::{Operation, OperationHead, Request, State, StepKind, plan};

use crate::env;
use crate::error::{Error, Result};
use crate::service::Service;
use crate::ways_on::ways_on;
use crate::worker::parts;

impl Service {
    /// Whether others have to wait for an open operation: not for a mend that failed before it changed
    /// anything.
    fn holds_tables(&self, operation: &OperationHead) -> Result<bool> {
        match &operation.request {
            Request::Mend(request) if operation.state == State::Failed => {
                Ok(!parts::is_untouched(&self.tools, operation, request)?)
            }
            _ => Ok(true),
        }
    }

    /// Refuses to go on with a mend that stood in nobody's way while another works on its tables.
    pub(crate) fn check_resumable(&self, operation: &OperationHead) -> Result<()> {
        if !matches!(operation.request, Request::Mend(_)) || operation.state != State::Failed {
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

    /// Persists a new operation for a request.
    fn create(
        &self,
        request: Request,
        repository_id: String,
        bytes: &[u64],
    ) -> Result<OperationId> {
        let kind = match &request {
            Request::Backup(_) | Request::PartBackup(_) => "backup",
            Request::Restore(_) => "restore",
            Request::Mend(_) | Request::MendRows(_) | Request::Maintain(_) => request.kind(),
        };
        self.create_as(new_id(kind)?, request, repository_id, bytes)
    }

    /// Persists a new operation for a request, under an id that it refers to.
    fn create_as(
        &self,
        id: OperationId,
        request: Request,
        repository_id: String,
        bytes: &[u64],
    ) -> Result<OperationId> {
        let steps = plan(&request, bytes)?;
        let repository = (repository_id, self.tools.repository.url().to_owned());
        let limits = self.settings.limits.clone();
        let operation = Operation::new(id, request, steps, repository, limits, env::now_ms());
        env::crash_point();
        self.journal.insert_operation(&operation)?;
        env::crash_point();
        Ok(operation.head.operation_id)
    }
}

/// An id for an operation that begins now.
fn new_id(kind: &str) -> Result<OperationId> {
    let now_ms = i64::try_from(env::now_ms()).unwrap_or(0);
    let at = jiff::Timestamp::from_millisecond(now_ms).unwrap_or_default();
    let id = format!("{kind}-{}-{}", at.strftime("%Y%m%d%H%M%S"), env::nonce());
    Ok(id.parse()?)
}

/// What a failed backup asks of a new one of its collection.
enum Failed {
    /// Nothing: it was being rolled back, and holds nothing any more on the target.
    Abandoned,
    /// To roll it back first.
    Cancellable,
}

impl Failed {
    /// `None` for an operation that is no failed backup, or that has gone too far to be rolled back. A mend
    /// whose rollback failed is abandoned too: the target comes first there.
    fn of(operation: &OperationHead) -> Option<Self> {
        if operation.state != State::Failed {
            return None;
        }
        let is_backup = operation.request.is_backup();
        match operation.step_kind() {
            StepKind::Rollback if operation.request.takes_backup() => Some(Self::Abandoned),
            step => (is_backup && step.can_cancel()).then_some(Self::Cancellable),
        }
    }
}

/// Says which operation stands in the way and how to get it out of it.
fn in_the_way(what: &str, operation: &OperationHead) -> Error {
    let id = &operation.operation_id;
    let doing = match &operation.request {
        Request::Backup(_) | Request::PartBackup(_) => "backed up",
        Request::Restore(_) => "restored",
        Request::Mend(_) | Request::MendRows(_) => "mended",
        Request::Maintain(_) => "worked on",
    };
    Error::refused(
        format!(
            "{what} is being {doing} by operation {id} ({})",
            operation.state.name()
        ),
        ways_on(operation),
    )
}
