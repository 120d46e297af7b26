//! Opening the service on target and repository, and driving operations before the user's eyes.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mendb_engines::Engine;
use mendb_engines::row::RowEngine;
use mendb_model::name::OperationId;
use mendb_model::operation::{DifferentTable, Limits, OperationHead, Request, State};
use mendb_repo::clickhouse_backup::ImportError;
use mendb_repo::{Repository, RepositoryOptions, RetryPolicy};
use mendb_rowstore::Database;
use mendb_service::journal::Journal;
use mendb_service::journal::command::Command;
use mendb_service::{Conflicts, HolderFate, Service, Settings, command_through, ways_on};
use tokio::runtime::Runtime;

use crate::backup_name;
use crate::clock;
use crate::context::Context;
use crate::failure::{Failure, FailureKind, Verdict};
use crate::operation_progress::OperationProgress;
use crate::operation_record::{OperationRecord, progress_line};
use crate::orphan::way_out;
use crate::parts::backup_report::BackupReport;
use crate::parts::mend_report::MendReport;
use crate::rows::mend_report::RowMendReport;
use crate::target::OpenTarget;

/// How often it is looked what another process does.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// After so many looks it is tried whether that process still has the target open.
const LOOKS_A_TRY: u32 = 5;
/// So often it is tried to give a command to a process that drives and does not take it.
const MOST_TRIES: u32 = 10;

/// A service, and what keeps other processes from driving the same target. Dropped in this order.
pub struct OpenService {
    service: Service,
    _target: OpenTarget,
}

impl Deref for OpenService {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.service
    }
}

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

    /// How repositories are used.
    pub fn repository_options(&self) -> RepositoryOptions {
        let settings = &self.settings;
        let attempts = u32::try_from(settings.repository_attempts).unwrap_or(u32::MAX);
        RepositoryOptions {
            retry: RetryPolicy {
                attempts,
                ..RetryPolicy::default()
            },
            segment_bytes: settings.segment_bytes,
            zstd_level: i32::try_from(settings.zstd_level).unwrap_or(1),
            upload_bytes_per_s: settings.upload_bytes_per_s,
            download_bytes_per_s: settings.download_bytes_per_s,
            transfers: usize::try_from(settings.transfers).unwrap_or(usize::MAX),
            ..RepositoryOptions::default()
        }
    }

    /// Opens the repository.
    ///
    /// # Errors
    /// The URL is wrong, the place cannot be reached, or it is of an unknown format.
    pub fn open_repository(&self, runtime: &Runtime) -> Result<Repository, Failure> {
        let opened = Repository::open(&self.settings.repository, self.repository_options());
        Ok(runtime.block_on(opened)?)
    }

    /// Opens target, repository and journal.
    ///
    /// # Errors
    /// Any of them cannot be opened; the target also when another process has it open.
    pub fn open_service(&self) -> Result<OpenService, Failure> {
        self.open_service_of(self.open_target()?)
    }

    fn open_service_of(&self, target: OpenTarget) -> Result<OpenService, Failure> {
        let runtime = self.runtime()?;
        let repository = self.open_repository(&runtime)?;
        let engine = Arc::clone(&target.engine);
        let service = self.service_of(runtime, repository, engine, &target.journal_directory)?;
        Ok(OpenService {
            service,
            _target: target,
        })
    }

    /// Opens repository and journal, and looks at the target, which of rows another process may have open: for
    /// what changes none of them.
    ///
    /// # Errors
    /// Any of them cannot be opened.
    pub fn look(&self) -> Result<OpenService, Failure> {
        self.open_service_of(self.look_at_target()?)
    }

    /// Opens target, repository and journal, for who tries again; `None` while another process has the target
    /// open, which is not waited for.
    ///
    /// # Errors
    /// One of them cannot be opened for another reason.
    fn try_open_service_at_once(&self) -> Result<Option<OpenService>, Failure> {
        let target = self.open_target_at_once();
        unless_busy(target.and_then(|target| self.open_service_of(target)))
    }

    /// Opens repository and journal for a row store that is open.
    ///
    /// # Errors
    /// One of them cannot be opened.
    pub fn open_service_on(&self, database: Database) -> Result<Service, Failure> {
        let runtime = self.runtime()?;
        let repository = self.open_repository(&runtime)?;
        let engine = Arc::new(RowEngine::new(database));
        self.service_of(runtime, repository, engine, &self.journal_directory()?)
    }

    fn service_of(
        &self,
        runtime: Arc<Runtime>,
        repository: Repository,
        engine: Arc<dyn Engine>,
        journal_directory: &Path,
    ) -> Result<Service, Failure> {
        let settings = &self.settings;
        let limits = Limits {
            max_in_flight: u32::try_from(settings.max_in_flight).unwrap_or(u32::MAX),
            step_budget_ms: settings.step_deadline_s.saturating_mul(1000),
            operation_budget_ms: settings.operation_deadline_s.saturating_mul(1000),
            ..Limits::default()
        };
        Ok(Service::new(
            engine,
            repository,
            runtime,
            journal_directory,
            Settings {
                limits,
                target_url: self.target()?.shown_url(),
                host: host(),
            },
        )?)
    }

    /// Opens the journal alone, which works while another process has the target open.
    ///
    /// # Errors
    /// The target has none, or it cannot be read.
    pub fn open_journal(&self) -> Result<Option<Journal>, Failure> {
        let directory = self.journal_directory()?;
        if !Journal::exists(&directory) {
            return Ok(None);
        }
        Ok(Some(Journal::open(&directory)?))
    }

    /// The same failure with how far the operations are that stand in its way: the one it names, or those
    /// that another process may be working on.
    pub fn tell_what_is_in_the_way(&self, mut failure: Failure) -> Failure {
        let opened = match (&failure.operation, failure.kind) {
            (Some(_), _) | (None, FailureKind::Busy) => self.open_journal(),
            _ => return failure,
        };
        if let (Some(id), Ok(journal)) = (&failure.operation, &opened)
            && !is_known(journal.as_ref(), id)
        {
            let hint = way_out(id);
            return failure.hint(hint);
        }
        let Ok(Some(journal)) = opened else {
            return failure;
        };
        let ids = match &failure.operation {
            Some(operation) => operation.parse().into_iter().collect(),
            None => journal.unfinished_operations().unwrap_or_default(),
        };
        for operation in ids.iter().filter_map(|id| journal.operation_head(id).ok()) {
            if failure.operation.is_some() {
                failure.hint = Some(ways_on(&operation));
            }
            failure.causes.push(format!(
                "operation {} is at {:.0} %: {}",
                operation.operation_id,
                operation.progress().percent,
                progress_line(&operation)
            ));
        }
        failure
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
        service.check_repository(id)?;
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

    /// Brings an operation to where only a user can move it: drives it, or follows it while another
    /// process has the target open. When that process ends, or is killed, this one takes its place.
    ///
    /// # Errors
    /// The operation did not end as `wanted`, or the target cannot be opened for another reason than
    /// that another process has it open.
    pub fn see_through(
        &self,
        journal: &Journal,
        id: &OperationId,
        wanted: State,
    ) -> Result<Verdict, Failure> {
        let mut progress = OperationProgress::start(self.output.quiet);
        for look in 0u32.. {
            let operation = journal.operation_head(id)?;
            if operation.awaits_user() {
                break;
            }
            if look.is_multiple_of(LOOKS_A_TRY)
                && let Some(service) = self.try_open_service_at_once()?
            {
                progress.finish();
                return self.drive(&service, id, wanted);
            }
            progress.update(&operation);
            clock::sleep(LOOK_EVERY);
        }
        progress.finish();
        self.report_end(journal, id, wanted)
    }

    /// Asks something of an operation: does it, or has the process do it that has the target open. Where that
    /// cannot be, what was asked is withdrawn, so that it does not happen later.
    ///
    /// # Errors
    /// The operation's state does not allow it, its repository is not ours, driving failed, or the other
    /// process does not do it.
    pub fn deliver(
        &self,
        journal: &Journal,
        id: &OperationId,
        command: Command,
    ) -> Result<(), Failure> {
        if let Some(service) = self.try_open_service_at_once()? {
            service.check_repository(id)?;
            let command_id = service.command(id, command)?;
            let driven = self.drive_all(&service);
            if driven.is_err() {
                journal.delete_command(command_id)?;
            }
            return driven;
        }
        let command_id = command_through(journal, id, command)?;
        let taken = self.wait_until_taken(journal, id, command_id);
        let Err(failure) = taken else {
            return Ok(());
        };
        let waited = journal.delete_command(command_id)?;
        // It may have been taken at the last moment.
        if !waited && failure.kind == FailureKind::Busy {
            return Ok(());
        }
        Err(failure)
    }

    /// Waits until the process that drives has taken a command, or drives when it has ended.
    fn wait_until_taken(
        &self,
        journal: &Journal,
        id: &OperationId,
        command_id: i64,
    ) -> Result<(), Failure> {
        for _ in 0..MOST_TRIES {
            for _ in 0..LOOKS_A_TRY {
                if !journal.has_command(command_id)? {
                    return Ok(());
                }
                clock::sleep(LOOK_EVERY);
            }
            if let Some(service) = self.try_open_service_at_once()? {
                service.check_repository(id)?;
                return self.drive_all(&service);
            }
        }
        Err(Failure::new(
            FailureKind::Busy,
            format!("another process has the target open and does not take the command for {id}"),
        )
        .hint("nothing was asked of the operation: try again when that process has ended"))
    }

    /// Reports where an operation is that moves no more.
    fn report_end(
        &self,
        journal: &Journal,
        id: &OperationId,
        wanted: State,
    ) -> Result<Verdict, Failure> {
        let operation = journal.operation(id)?;
        match &operation.request {
            Request::Mend(_) => {
                let report = MendReport::new(&operation, &journal.mend_plans(id)?);
                self.output.report(&report, MendReport::describe)?;
            }
            Request::MendRows(request) if operation.state == State::Done => {
                let report = RowMendReport::new(&operation, request);
                self.output.report(&report, RowMendReport::describe)?;
            }
            Request::PartBackup(request) if operation.state == State::Done => {
                let runtime = self.runtime()?;
                let repository = self.open_repository(&runtime)?;
                let read = repository.manifest(&request.collection, &request.backup_id);
                let manifest = runtime.block_on(read)?.manifest;
                let report = BackupReport::new(&operation, &manifest);
                self.output.report(&report, BackupReport::describe)?;
                if !manifest.is_complete() {
                    check_end(&operation, wanted)?;
                    return Ok(Verdict::Drift);
                }
            }
            _ => self
                .output
                .report(&OperationRecord::new(&operation), OperationRecord::sentence)?,
        }
        check_end(&operation, wanted)?;
        check_none_stopped(&operation)?;
        // Parts are as in the backup, and queries answer otherwise all the same; or a table could not be taken back.
        let is_otherwise = match &operation.request {
            Request::Mend(request) if wanted == State::Done => {
                let mut different = request.different.iter();
                different.any(DifferentTable::leaves_other_answers)
            }
            Request::Mend(_) if wanted == State::Cancelled => {
                let plans = journal.mend_plans(id)?;
                plans.iter().any(|plan| plan.changed)
            }
            _ => false,
        };
        Ok(if is_otherwise {
            Verdict::Drift
        } else {
            Verdict::Done
        })
    }
}

/// What was opened; `None` where another process has the target open.
fn unless_busy(opened: Result<OpenService, Failure>) -> Result<Option<OpenService>, Failure> {
    match opened {
        Ok(service) => Ok(Some(service)),
        Err(failure) if failure.kind == FailureKind::Busy => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Whether a journal has an operation, as far as that can be told.
fn is_known(journal: Option<&Journal>, id: &str) -> bool {
    let Some(journal) = journal else {
        return false;
    };
    let Ok(id) = id.parse() else {
        return false;
    };
    let read = journal.operation_head(&id);
    !matches!(read, Err(mendb_service::Error::UnknownOperation(_)))
}

/// The name of this host, where the system tells it.
fn host() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Says which tables a mend that is done has left as they were.
///
/// # Errors
/// There are some.
fn check_none_stopped(operation: &OperationHead) -> Result<(), Failure> {
    let Request::Mend(request) = &operation.request else {
        return Ok(());
    };
    if request.stopped.is_empty() || operation.state != State::Done {
        return Ok(());
    }
    let (left, all) = (
        request.stopped.len(),
        request.stopped.len() + request.tables.len(),
    );
    let mut failure = Failure::input(format!("{left} of {all} tables were not mended"));
    let reasons = request.stopped.iter();
    failure
        .causes
        .extend(reasons.map(|table| format!("{}: {}", table.target, table.reason)));
    let mut advice: Vec<&str> = (request.stopped.iter())
        .map(|table| table.advice.as_str())
        .filter(|advice| !advice.is_empty())
        .collect();
    advice.sort_unstable();
    advice.dedup();
    Err(if advice.is_empty() {
        failure
    } else {
        failure.hint(advice.join("; "))
    })
}

/// Says whether an operation that moves no more is where it should be, and if not, what to do.
///
/// # Errors
/// It is in another state than `wanted`.
pub fn check_end(operation: &OperationHead, wanted: State) -> Result<(), Failure> {
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
    let stands = match operation.state {
        State::Failed => "failed".to_owned(),
        state => format!("is {}", state.name()),
    };
    let mut failure = Failure::new(
        FailureKind::FixEnvironment,
        format!("operation {id} {stands}"),
    );
    failure.causes.extend(operation.error.clone());
    Err(match operation.state {
        State::Failed if operation.step_kind().can_cancel() => failure.hint(format!(
            "repair what is named above, then: mendb operation resume {id}; or roll it back: mendb operation cancel {id}"
        )),
        State::Failed => failure.hint(format!(
            "repair what is named above, then: mendb operation resume {id}"
        )),
        State::Done | State::Cancelled => failure,
        _ => failure.hint(format!(
            "it works with the repository {}: name that one with --repository",
            operation.repository_url
        )),
    })
}

impl From<mendb_service::Error> for Failure {
    fn from(error: mendb_service::Error) -> Self {
        use mendb_service::Error as E;
        if let E::Repository(error) = error {
            return error.into();
        }
        let kind = match &error {
            E::Refused { .. }
            | E::NothingFits { .. }
            | E::Conflicts(_)
            | E::UnknownOperation(_)
            | E::UnknownCollection(_)
            | E::Illegal(_)
            | E::Plan(_) => FailureKind::FixInput,
            E::BadName(_) => FailureKind::FixCommand,
            error if error.is_retriable() => FailureKind::Retry,
            _ => FailureKind::FixEnvironment,
        };
        let mut failure = Self::of(kind, &error);
        match &error {
            E::NothingFits { unmatched } => failure.unmatched = unmatched.as_slice().into(),
            E::Conflicts(conflicts) => {
                failure.causes = causes(conflicts);
                failure.conflicts = Some(conflicts.clone());
            }
            _ => {}
        }
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// The first rows that stand in the way of a mend.
fn causes(conflicts: &Conflicts) -> Vec<String> {
    const NAMED: usize = 10;
    let refusing = |fate| conflicts.of(fate).collect::<Vec<_>>();
    let mut of_fate = refusing(HolderFate::InBackup);
    of_fate.extend(refusing(HolderFate::Stays));
    let mut count = conflicts.count;
    if of_fate.is_empty() {
        of_fate = conflicts.of(HolderFate::Erased).collect();
        count = of_fate.len() as u64;
    }
    let named = of_fate.iter().take(NAMED);
    let mut causes: Vec<String> = named.map(ToString::to_string).collect();
    if count > causes.len() as u64 {
        causes.push(format!("and {} more", count - causes.len() as u64));
    }
    causes
}

impl From<mendb_repo::Error> for Failure {
    fn from(error: mendb_repo::Error) -> Self {
        let kind = match &error {
            mendb_repo::Error::Url { .. } => FailureKind::FixCommand,
            mendb_repo::Error::NoSuchBackup { .. }
            | mendb_repo::Error::AmbiguousLabel { .. }
            | mendb_repo::Error::CannotCompact { .. }
            | mendb_repo::Error::Claimed { .. } => FailureKind::FixInput,
            error if error.is_retriable() => FailureKind::Retry,
            _ => FailureKind::FixEnvironment,
        };
        let failure = Self::of(kind, &error);
        match error {
            mendb_repo::Error::NoSuchBackup {
                collection,
                wanted,
                there,
                ..
            } => failure.hint(backup_name::meant(&collection, &wanted, &there)),
            mendb_repo::Error::Claimed { collection, by, .. } => failure.hint(format!(
                "finish that backup (mendb operation list shows it), or remove what there is of it: mendb delete \
                 {collection}/{by}"
            )),
            mendb_repo::Error::Leased { .. } => failure.hint("try again when it is done"),
            mendb_repo::Error::Leaving { .. } => {
                failure.hint("take a full backup, or the same again when that backup is gone")
            }
            _ => failure,
        }
    }
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Store(error) => error.into(),
            ImportError::NoSuchBackup { .. } | ImportError::NoSuchTable { .. } => {
                Self::of(FailureKind::FixInput, &error)
            }
            error => Self::of(FailureKind::FixEnvironment, &error),
        }
    }
}
