//! Requests: what a user orders, checked against journal, target and repository, and turned into
//! an operation that needs to ask nobody any more.

pub mod backup;
pub mod mend;
pub mod part_backup;
pub mod restore;

use mendb_model::name::OperationId;
use mendb_model::operation::{Operation, Request, State, StepKind, plan};

use crate::env;
use crate::error::{Error, Result};
use crate::service::Service;

impl Service {
    /// Persists a new operation for a request.
    fn create(
        &self,
        request: Request,
        repository_id: String,
        bytes: &[u64],
    ) -> Result<OperationId> {
        let steps = plan(&request, bytes)?;
        let now_ms = env::now_ms();
        let kind = match &request {
            Request::Backup(_) | Request::PartBackup(_) => "backup",
            Request::Restore(_) => "restore",
            Request::Mend(_) => request.kind(),
        };
        let at = jiff::Timestamp::from_millisecond(i64::try_from(now_ms).unwrap_or(0))
            .unwrap_or_default();
        let id = format!("{kind}-{}-{}", at.strftime("%Y%m%d%H%M%S"), env::nonce());
        let repository = (repository_id, self.tools.repository.url().to_owned());
        let limits = self.settings.limits.clone();
        let operation = Operation::new(id.parse()?, request, steps, repository, limits, now_ms);
        env::crash_point();
        self.journal.insert_operation(&operation)?;
        env::crash_point();
        Ok(operation.operation_id)
    }
}

/// What a failed backup asks of a new one of its collection.
enum Failed {
    /// Nothing: it was being rolled back, and holds nothing any more on the target.
    Abandoned,
    /// To roll it back first.
    Cancellable,
}

impl Failed {
    /// `None` for an operation that is no failed backup, or that has gone too far to be rolled back.
    fn of(operation: &Operation) -> Option<Self> {
        if !operation.request.is_backup() || operation.state != State::Failed {
            return None;
        }
        match operation.step_kind() {
            StepKind::Rollback => Some(Self::Abandoned),
            step => step.can_cancel().then_some(Self::Cancellable),
        }
    }
}

/// Says which operation stands in the way and how to get it out of it.
fn in_the_way(what: &str, operation: &Operation) -> Error {
    let id = &operation.operation_id;
    let hint = match operation.state {
        State::Failed => format!(
            "mendb operation resume {id} continues it, mendb operation cancel {id} rolls it back"
        ),
        _ if operation.is_paused() => {
            format!("it is paused; mendb operation resume {id} continues it")
        }
        _ => format!(
            "mendb operation watch {id} follows it to its end, mendb operation cancel {id} rolls it back"
        ),
    };
    let doing = match &operation.request {
        Request::Backup(_) | Request::PartBackup(_) => "backed up",
        Request::Restore(_) => "restored",
        Request::Mend(_) => "mended",
    };
    Error::refused(
        format!(
            "{what} is being {doing} by operation {id} ({})",
            operation.state.name()
        ),
        hint,
    )
}
