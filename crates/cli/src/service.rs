//! Opening the service on target and repository, and driving operations before the user's eyes.

use std::sync::Arc;
use std::time::Duration;

use mendb_engines::row::RowEngine;
use mendb_model::name::OperationId;
use mendb_model::operation::{Limits, Operation, State};
use mendb_repo::{Repository, RepositoryOptions, RetryPolicy};
use mendb_rowstore::Database;
use mendb_service::journal::Journal;
use mendb_service::{Service, Settings};
use tokio::runtime::Runtime;

use crate::clock;
use crate::context::Context;
use crate::failure::{Failure, FailureKind, Verdict};
use crate::operation_progress::OperationProgress;
use crate::operation_record::OperationRecord;
use crate::target;

/// How often another process is looked after.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);

impl Context {
    /// A runtime for requests to the repository.
    pub fn runtime(&self) -> Result<Arc<Runtime>, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| Failure::io("cannot start threads", &error))?;
        Ok(Arc::new(runtime))
    }

    /// Opens the repository.
    ///
    /// # Errors
    /// The URL is wrong, the place cannot be reached, or it is of an unknown format.
    pub fn open_repository(&self, runtime: &Runtime) -> Result<Repository, Failure> {
        let settings = &self.settings;
        let attempts = u32::try_from(settings.repository_attempts).unwrap_or(u32::MAX);
        let options = RepositoryOptions {
            retry: RetryPolicy {
                attempts,
                ..RetryPolicy::default()
            },
            segment_bytes: settings.segment_bytes,
            zstd_level: i32::try_from(settings.zstd_level).unwrap_or(1),
            ..RepositoryOptions::default()
        };
        Ok(runtime.block_on(Repository::open(&settings.repository, options))?)
    }

    /// Opens target, repository and journal.
    ///
    /// # Errors
    /// Any of them cannot be opened; the target also when another process has it open.
    pub fn open_service(&self) -> Result<Service, Failure> {
        let runtime = self.runtime()?;
        let repository = self.open_repository(&runtime)?;
        self.service_of(runtime, repository, self.open_rows()?)
    }

    /// Opens repository and journal for a target that is open.
    ///
    /// # Errors
    /// One of them cannot be opened.
    pub fn open_service_on(&self, database: Database) -> Result<Service, Failure> {
        let runtime = self.runtime()?;
        let repository = self.open_repository(&runtime)?;
        self.service_of(runtime, repository, database)
    }

    fn service_of(
        &self,
        runtime: Arc<Runtime>,
        repository: Repository,
        database: Database,
    ) -> Result<Service, Failure> {
        let engine = Arc::new(RowEngine::new(database));
        let settings = &self.settings;
        let limits = Limits {
            max_in_flight: u32::try_from(settings.max_in_flight).unwrap_or(u32::MAX),
            step_budget_ms: settings.step_deadline_s.saturating_mul(1000),
            operation_budget_ms: settings.operation_deadline_s.saturating_mul(1000),
            ..Limits::default()
        };
        let directory = target::directory(&settings.target)?;
        Ok(Service::new(
            engine,
            repository,
            runtime,
            &directory,
            Settings { limits },
        )?)
    }

    /// Opens the journal alone, which works while another process has the target open.
    ///
    /// # Errors
    /// The target has none, or it cannot be read.
    pub fn open_journal(&self) -> Result<Option<Journal>, Failure> {
        let directory = target::directory(&self.settings.target)?;
        if !Journal::exists(&directory) {
            return Ok(None);
        }
        Ok(Some(Journal::open(&directory)?))
    }

    /// Drives all unfinished operations to their ends with progress on stderr, and reports one.
    ///
    /// # Errors
    /// The operation did not end as `wanted`, or driving failed.
    pub fn drive(
        &self,
        service: &Service,
        id: &OperationId,
        wanted: State,
    ) -> Result<Verdict, Failure> {
        self.drive_all(service)?;
        self.report_end(service.journal(), id, wanted)
    }

    /// Drives all unfinished operations to their ends with progress on stderr.
    ///
    /// # Errors
    /// Driving failed. How the operations ended is in the journal.
    pub fn drive_all(&self, service: &Service) -> Result<(), Failure> {
        let mut progress = OperationProgress::start(self.output.quiet);
        let driven = service.drive(&mut |operation| progress.update(operation));
        progress.finish();
        Ok(driven?)
    }

    /// Follows an operation that another process drives, until it can move no more.
    ///
    /// # Errors
    /// The operation did not end as `wanted`.
    pub fn follow(
        &self,
        journal: &Journal,
        id: &OperationId,
        wanted: State,
    ) -> Result<Verdict, Failure> {
        let mut progress = OperationProgress::start(self.output.quiet);
        loop {
            let operation = journal.operation(id)?;
            progress.update(&operation);
            if operation.wake_at_ms().is_none() {
                break;
            }
            clock::sleep(FOLLOW_EVERY);
        }
        progress.finish();
        self.report_end(journal, id, wanted)
    }

    fn report_end(
        &self,
        journal: &Journal,
        id: &OperationId,
        wanted: State,
    ) -> Result<Verdict, Failure> {
        let operation = journal.operation(id)?;
        self.output
            .report(&OperationRecord::new(&operation), OperationRecord::sentence)?;
        check_end(&operation, wanted)?;
        Ok(Verdict::Done)
    }
}

/// Says whether an operation that moves no more is where it should be, and if not, what to do.
///
/// # Errors
/// It is in another state than `wanted`.
pub fn check_end(operation: &Operation, wanted: State) -> Result<(), Failure> {
    let id = &operation.operation_id;
    if operation.state == wanted {
        return Ok(());
    }
    if operation.is_paused() {
        return Err(Failure::new(
            FailureKind::FixEnvironment,
            format!("operation {id} is paused"),
        )
        .hint(format!("mendb operation resume {id} continues it")));
    }
    let mut failure = Failure::new(
        FailureKind::FixEnvironment,
        format!("operation {id} is {}", operation.state.name()),
    );
    failure.causes.extend(operation.error.clone());
    Err(match operation.state {
        State::Failed => failure.hint(format!(
            "repair what is named above, then: mendb operation resume {id}; or roll it back: mendb operation cancel {id}"
        )),
        _ => failure,
    })
}

impl From<mendb_service::Error> for Failure {
    fn from(error: mendb_service::Error) -> Self {
        use mendb_service::Error as E;
        let kind = match &error {
            E::Refused { .. }
            | E::UnknownOperation(_)
            | E::UnknownCollection(_)
            | E::Illegal(_)
            | E::Plan(_) => FailureKind::FixInput,
            E::BadName(_) => FailureKind::FixCommand,
            error if error.is_retriable() => FailureKind::Retry,
            _ => FailureKind::FixEnvironment,
        };
        let failure = Self::of(kind, &error);
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<mendb_repo::Error> for Failure {
    fn from(error: mendb_repo::Error) -> Self {
        let kind = match &error {
            mendb_repo::Error::Url { .. } => FailureKind::FixCommand,
            error if error.is_retriable() => FailureKind::Retry,
            _ => FailureKind::FixEnvironment,
        };
        Self::of(kind, &error)
    }
}
