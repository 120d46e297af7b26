//! Requests: what a user orders, checked against journal, target and repository, and turned into
//! an operation that needs to ask nobody any more.

pub mod backup;
pub mod restore;

use mendb_model::name::OperationId;
use mendb_model::operation::{Operation, Request, State, plan};

use crate::env;
use crate::error::{Error, Result};
use crate::service::Service;

impl Service {
    /// Persists a new operation for a request.
    fn create(&self, request: Request, bytes: &[u64]) -> Result<OperationId> {
        let steps = plan(&request, bytes)?;
        let now_ms = env::now_ms();
        let kind = match &request {
            Request::Backup(_) => "backup",
            Request::Restore(_) => "restore",
        };
        let at = jiff::Timestamp::from_millisecond(i64::try_from(now_ms).unwrap_or(0))
            .unwrap_or_default();
        let id = format!("{kind}-{}-{}", at.strftime("%Y%m%d%H%M%S"), env::nonce());
        let operation = Operation::new(
            id.parse()?,
            request,
            steps,
            self.settings.limits.clone(),
            now_ms,
        );
        env::crash_point();
        self.journal.insert_operation(&operation)?;
        env::crash_point();
        Ok(operation.operation_id)
    }

    /// The operations of this target that could stand in the way of another.
    fn open_operations(&self) -> Result<Vec<Operation>> {
        let mut operations = self.journal.operations()?;
        operations.retain(|operation| !matches!(operation.state, State::Done | State::Cancelled));
        Ok(operations)
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
        Request::Backup(_) => "backed up",
        Request::Restore(_) => "restored",
    };
    Error::refused(
        format!(
            "{what} is being {doing} by operation {id} ({})",
            operation.state.name()
        ),
        hint,
    )
}
