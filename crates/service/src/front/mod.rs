//! What users ask for: checked against journal, target and repository, and turned into an operation that need not ask
//! anybody again.
//!
//! What one kind of operation asks and plans is in its room of `operations`; what the kinds share is here.

pub mod chosen;
pub mod follow;
mod into;
pub mod selectors;
pub(crate) mod stream;
pub mod whose;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mendb_model::name::OperationId;
use mendb_model::operation::{Limits, Operation, OperationHead, Request, State, StepKind, plan};
use mendb_repo::Repository;
use tokio::runtime::Handle;

use crate::attempt::Tools;
use crate::env;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::journal::collection::Collection;
use crate::ways_on::ways_on;

/// The settings of a service.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The bounds of new operations.
    pub limits: Limits,
    /// Where the target is, without credentials: what its backups call it.
    pub target_url: String,
    /// The host of this process, where that is known.
    pub host: Option<String>,
}

/// Takes the orders of users for one target and one repository. [`crate::Service`] is one, and drives what was
/// ordered.
pub struct Front {
    pub(crate) journal: Arc<Journal>,
    pub(crate) tools: Tools,
    /// The bounds of new operations.
    limits: Mutex<Limits>,
    /// Held while a request is checked and persisted: two cannot pass each other's checks.
    requests: Mutex<()>,
}

impl Front {
    pub(crate) fn new(journal: Arc<Journal>, tools: Tools, limits: Limits) -> Self {
        Self {
            journal,
            tools,
            limits: Mutex::new(limits),
            requests: Mutex::new(()),
        }
    }

    /// The journal, for those who only want to look.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.tools.repository
    }

    /// The runtime for requests to the repository.
    pub fn runtime(&self) -> &Handle {
        &self.tools.runtime
    }

    /// From now on bounds new operations so.
    pub fn change_limits(&self, limits: Limits) {
        *self.limits() = limits;
    }

    fn limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn requests(&self) -> MutexGuard<'_, ()> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of the repository; `None` where the place is none.
    pub(crate) fn repository_id(&self) -> Result<Option<String>> {
        let header = self.runtime().block_on(self.tools.repository.header())?;
        Ok(header.map(|header| header.repository_id))
    }

    /// The collection of a name.
    ///
    /// # Errors
    /// There is none.
    pub fn collection(&self, name: &str) -> Result<Collection> {
        self.journal
            .collection(name)?
            .ok_or_else(|| Error::UnknownCollection(name.to_owned()))
    }

    /// Persists a new operation for a request.
    pub(crate) fn create(
        &self,
        request: Request,
        repository_id: String,
        bytes: &[u64],
    ) -> Result<OperationId> {
        self.create_as(new_id(request.id_prefix())?, request, repository_id, bytes)
    }

    /// Persists a new operation for a request, under an id that it refers to.
    pub(crate) fn create_as(
        &self,
        id: OperationId,
        request: Request,
        repository_id: String,
        bytes: &[u64],
    ) -> Result<OperationId> {
        let steps = plan(&request, bytes)?;
        let repository = (repository_id, self.tools.repository.url().to_owned());
        let limits = self.limits().clone();
        let operation = Operation::new(id, request, steps, repository, limits, env::now_ms());
        env::crash_point();
        self.journal.insert_operation(&operation)?;
        env::crash_point();
        Ok(operation.head.operation_id)
    }
}

/// An id for an operation that begins now.
pub(crate) fn new_id(prefix: &str) -> Result<OperationId> {
    let now_ms = i64::try_from(env::now_ms()).unwrap_or(0);
    let at = jiff::Timestamp::from_millisecond(now_ms).unwrap_or_default();
    let id = format!("{prefix}-{}-{}", at.strftime("%Y%m%d%H%M%S"), env::nonce());
    Ok(id.parse()?)
}

/// What a failed backup asks of a new one of its collection.
pub(crate) enum Failed {
    /// Nothing: it was being rolled back, and holds nothing any more on the target.
    Abandoned,
    /// To roll it back first.
    Cancellable,
}

impl Failed {
    /// `None` for an operation that is no failed backup, or that has gone too far to be rolled back. A mend
    /// whose rollback failed is abandoned too: the target comes first there.
    pub(crate) fn of(operation: &OperationHead) -> Option<Self> {
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

/// Whether an operation goes on without anybody doing anything.
pub(crate) fn is_moving(operation: &OperationHead) -> bool {
    !operation.awaits_user() && !operation.is_paused()
}

/// Says which operation stands in the way and how to get it out of it.
pub(crate) fn in_the_way(what: &str, operation: &OperationHead) -> Error {
    let id = &operation.operation_id;
    Error::InTheWay {
        message: format!(
            "{what} is being {} by operation {id} ({})",
            operation.request.doing(),
            operation.state.name()
        ),
        hint: ways_on(operation),
        is_moving: is_moving(operation),
    }
}
