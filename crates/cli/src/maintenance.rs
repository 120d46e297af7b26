//! Work on a repository alone, from its order to its end.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use mendb_model::name::check;
use mendb_model::operation::{MaintenanceRequest, OperationHead, State};
use mendb_repo::Repository;
use mendb_service::journal::Journal;
use mendb_service::ways_on;
use tokio::runtime::Runtime;

use crate::context::Context;
use crate::failure::{Failure, FailureKind};
use crate::operations::ending::check_end;
use crate::owner::Owner;
use crate::service::STATE_ELSEWHERE;

impl Context {
    /// Has something done in a repository alone, or goes on with the same order. Returns the operation, which is
    /// done, and what it did, from its beginning: `request` may lack what an earlier process had done of it.
    ///
    /// # Errors
    /// It is refused, or did not come to its end.
    pub fn maintain(
        &self,
        repository: &Repository,
        runtime: &Arc<Runtime>,
        request: MaintenanceRequest,
    ) -> Result<(OperationHead, MaintenanceRequest), Failure> {
        let directory = &self.maintenance_directory(repository, runtime)?;
        fs::create_dir_all(directory).map_err(|error| {
            let doing = format!("cannot keep what is done in {}", directory.display());
            Failure::io(doing, &error).hint(STATE_ELSEWHERE)
        })?;
        let service =
            self.repository_service(repository.clone(), Arc::clone(runtime), directory)?;
        let keyed = self.session.as_ref().map(|session| {
            let order = session.key.clone();
            service.journal().ordered_as(order)
        });
        let id = service.request_maintenance(request)?;
        drop(keyed);
        if let Some(session) = &self.session {
            session.tell_begun(&id);
        }
        let owner = Owner::Repository(directory.clone());
        self.follow(&owner, service.journal(), &id)?;
        let operation = service.journal().operation_head(&id)?;
        check_end(&operation, State::Done)?;
        let Some(done) = operation.request.maintenance().cloned() else {
            let kind = operation.request.kind();
            return Err(Failure::input(format!("operation {id} is a {kind}")));
        };
        Ok((operation, done))
    }

    /// Goes on with an order that finds nothing left to do and was cut off before it was over.
    ///
    /// # Errors
    /// As [`Self::maintain`].
    pub fn end_maintenance(
        &self,
        repository: &Repository,
        runtime: &Arc<Runtime>,
        order: &MaintenanceRequest,
    ) -> Result<(), Failure> {
        let directory = self.maintenance_directory(repository, runtime)?;
        if !Journal::exists(&directory) {
            return Ok(());
        }
        let journal = self.open_journal_in(&directory)?;
        for operation in journal.operations()? {
            let Some(other) = operation.request.maintenance() else {
                continue;
            };
            if operation.state.is_terminal() || !other.is_same_order(order) {
                continue;
            }
            let id = &operation.operation_id;
            self.follow(&Owner::Repository(directory.clone()), &journal, id)?;
            check_end(&journal.operation_head(id)?, State::Done)?;
        }
        Ok(())
    }

    /// Says which work on a repository is not over, for who looks at what another order would do there.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn tell_maintenance(
        &self,
        repository: &Repository,
        runtime: &Runtime,
    ) -> Result<(), Failure> {
        let directory = self.maintenance_directory(repository, runtime)?;
        if !Journal::exists(&directory) {
            return Ok(());
        }
        for operation in self.open_journal_in(&directory)?.operations()? {
            if !operation.state.is_terminal() {
                let id = &operation.operation_id;
                self.say(&format!(
                    "note: operation {id} is not over: {}",
                    ways_on(&operation)
                ));
            }
        }
        Ok(())
    }

    /// The directory of the journal of what this machine does in a repository alone.
    fn maintenance_directory(
        &self,
        repository: &Repository,
        runtime: &Runtime,
    ) -> Result<PathBuf, Failure> {
        let header = runtime.block_on(repository.header())?;
        let header = header.ok_or_else(|| {
            let url = repository.url();
            Failure::input(format!("there is no repository at {url}"))
                .hint("--repository names its place")
        })?;
        // It becomes the name of a directory.
        check(&header.repository_id).map_err(|error| {
            Failure::of(FailureKind::FixEnvironment, &error).hint(
                "the id in mendb.json of the repository was changed: bring the file back from a copy",
            )
        })?;
        Ok(self.repository_state().join(&header.repository_id))
    }
}
