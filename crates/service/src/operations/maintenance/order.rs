//! Orders work on the repository alone.

use mendb_model::name::OperationId;
use mendb_model::operation::{MaintenanceRequest, Request};

use crate::error::{Error, Result};
use crate::front::{Front, in_the_way};
use crate::operations::maintenance::in_use::{doomed, refusal};

impl Front {
    /// Begins to fold or remove backups, and files that no backup needs. Where the same order is an operation that
    /// is not over, that one is returned: it goes on with what was cut off, by what was decided then.
    ///
    /// # Errors
    /// There is no repository; another operation, of the repository or of the target beside it, works with one
    /// of the backups; there is nothing to do; or the journal cannot be written.
    pub fn request_maintenance(&self, request: MaintenanceRequest) -> Result<OperationId> {
        let _one_at_a_time = self.requests();
        let Some(repository_id) = self.repository_id()? else {
            return Err(Error::refused(
                format!("there is no repository at {}", self.tools.repository.url()),
                "name its place with --repository",
            ));
        };
        let needed = self
            .journal
            .needed_beside(&request.collection, &doomed(&request))?;
        if let Some(needed) = needed {
            return Err(refusal(&needed));
        }
        for operation in self.journal.operations()? {
            let Request::Maintain(other) = &operation.request else {
                continue;
            };
            // One that failed holds nothing, and what it has begun is what the new one finds.
            if operation.state.is_terminal() || operation.repository_id != repository_id {
                continue;
            }
            if other.is_same_order(&request) {
                return Ok(operation.operation_id);
            }
            let theirs = other.backups();
            let shared = (request.backups().into_iter()).find(|id| theirs.contains(id));
            if let Some(id) = shared.filter(|_| other.collection == request.collection) {
                return Err(in_the_way(&format!("backup {id}"), &operation));
            }
        }
        self.create(Request::Maintain(request), repository_id, &[])
    }
}
