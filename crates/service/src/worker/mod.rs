//! Shard workers: one attempt of one task at a time, joining an engine and a repository.
//!
//! As many threads as may work at a time do the attempts, and one says of all of them that they live (`crew`). A
//! later attempt tells the earlier ones in its way to stop, and waits until they have ended (`turns`). What a worker
//! counts in a report is durable.
//! *Retry*: every attempt begins behind the last key that was reported.
//! *Crash*: a worker that panics is reported as an error that may pass; its process may also go.

mod backup;
mod crew;
mod fetched;
mod load;
pub(crate) mod maintenance;
pub(crate) mod manifests;
pub(crate) mod mend;
pub(crate) mod parts;
mod restore;
mod turns;
mod verify;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mendb_engines::{Engine, EngineError, Remedy};
use mendb_model::manifest::Manifest;
use mendb_model::name::OperationId;
use mendb_model::operation::{
    ChainLink, Report, ReportStatus, Request, StepKind, TaskOutput, TaskSpec,
};
use mendb_model::{TargetMark, describe_error};
use mendb_repo::Repository;
use mendb_repo::clickhouse_backup::ImportError;
use mendb_repo::foreign::panic_text;
use tokio::runtime::Handle;

use self::crew::Crew;
use self::maintenance::PlannedRun;
use self::manifests::{Manifests, changed};
use self::parts::{KnownFilesCache, LocalFilesCache};
use crate::env;
use crate::error::{self, Error};
use crate::journal::Journal;
use crate::wire::{Message, TaskRequest};

/// How often a worker that waits for the repository looks whether it was told to stop.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How often an attempt says within its lease that it is still there, whatever it does.
const SIGNS_OF_LIFE_A_LEASE: u32 = 30;

/// What a worker needs to reach the two sides it joins.
#[derive(Clone)]
pub struct Tools {
    /// The database.
    pub engine: Arc<dyn Engine>,
    /// Where backups live.
    pub repository: Repository,
    /// Runs the requests to the repository.
    pub runtime: Handle,
    /// The manifests that the operations of this process work with.
    pub manifests: Manifests,
    /// Where plans of mends are kept, and what was done of them.
    pub journal: Arc<Journal>,
    /// What the backups of the database say that they are of; `None` where there is no database.
    pub target: Option<TargetMark>,
    /// The journal of a target, beside which the repository alone is worked on: its operations may need what
    /// is there.
    pub beside: Option<Arc<Journal>>,
    /// What the repository has of the table that is being backed up.
    pub known_files: KnownFilesCache,
    /// Where the server has files that mends bring.
    pub local_files: LocalFilesCache,
    /// The run of backups that is being folded.
    pub planned_run: PlannedRun,
}

impl Tools {
    /// What joins an engine and a repository.
    pub fn new(
        engine: Arc<dyn Engine>,
        repository: Repository,
        runtime: Handle,
        journal: Arc<Journal>,
        target: Option<TargetMark>,
        beside: Option<Arc<Journal>>,
    ) -> Self {
        Self {
            engine,
            repository,
            runtime,
            manifests: Manifests::default(),
            journal,
            target,
            beside,
            known_files: KnownFilesCache::default(),
            local_files: LocalFilesCache::default(),
            planned_run: PlannedRun::default(),
        }
    }

    /// Whether a mark is that of the database.
    pub(crate) fn is_of(&self, mark: &TargetMark) -> bool {
        let own = self.target.as_ref();
        own.is_some_and(|own| own.is_same(mark))
    }

    /// The manifest of a link of a chain, if it is still the one that was planned with. Blocks.
    pub(crate) fn manifest(
        &self,
        collection: &str,
        link: &ChainLink,
    ) -> error::Result<Arc<Manifest>> {
        if let Some(known) = self.manifests.get(collection, link) {
            return Ok(known);
        }
        let work = self.repository.manifest(collection, &link.backup_id);
        let stored = self.runtime.block_on(work)?;
        let kept = self.manifests.insert(link, stored);
        kept.ok_or_else(|| Error::Refused {
            message: changed(link),
            hint: None,
        })
    }
}

/// Why an attempt ended before its task was done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TaskError {
    /// The coordinator told it to stop.
    #[error("stopped")]
    Stopped,
    /// The database failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] mendb_repo::Error),
    /// A backup of clickhouse-backup cannot be read.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// Another operation works with what this one would take away, and will be done some time.
    #[error("{0}")]
    InUse(String),
    /// What was done cannot be right.
    #[error("{0}")]
    Proof(String),
    /// Parts, named here, may hold rows that somebody brought beside rows that are to go.
    #[error("rows that came cannot be told from rows that are to go, in parts {0}")]
    Unclear(String),
    /// The journal cannot be read or written.
    #[error(transparent)]
    Journal(#[from] Box<Error>),
    /// A file beside the database cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl From<Error> for TaskError {
    fn from(error: Error) -> Self {
        Self::Journal(Box::new(error))
    }
}

/// What a task found out on behalf of a user who waits for the answer.
impl From<TaskError> for Error {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::Engine(error) => error.into(),
            TaskError::Repository(error) => error.into(),
            TaskError::Import(error) => error.into(),
            TaskError::Journal(error) => *error,
            TaskError::File {
                action,
                path,
                source,
            } => Self::Io {
                action: format!("cannot {action} {}", path.display()),
                source,
            },
            TaskError::Proof(message) | TaskError::InUse(message) => Self::Refused {
                message,
                hint: None,
            },
            error @ (TaskError::Stopped | TaskError::Unclear(_)) => Self::Refused {
                message: error.to_string(),
                hint: None,
            },
        }
    }
}

/// Why a step was asked of an operation that has none of its kind.
fn no_such_step(request: &Request) -> TaskError {
    TaskError::Proof(format!("a {} has no such step", request.kind()))
}

pub(crate) type TaskResult<T> = Result<T, TaskError>;

/// How far an attempt is: what its next report says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    pub last_key: Option<Vec<u8>>,
    pub rows: u64,
    pub bytes: u64,
    /// Of segments only those that no report has named yet.
    pub output: TaskOutput,
    /// How many segments come before those.
    pub segments_before: usize,
}

/// One attempt at work.
pub(crate) struct Attempt<'a> {
    pub tools: &'a Tools,
    pub request: &'a TaskRequest,
    stopped: &'a AtomicBool,
    send: &'a (dyn Fn(Message) + Sync),
}

impl<'a> Attempt<'a> {
    /// An attempt that nobody requested and nobody listens to: to look at what a task would find.
    pub(crate) fn alone(tools: &'a Tools, request: &'a TaskRequest) -> Self {
        static GOES_ON: AtomicBool = AtomicBool::new(false);
        Self {
            tools,
            request,
            stopped: &GOES_ON,
            send: &|_| {},
        }
    }

    /// As [`Self::alone`], with somebody who listens.
    pub(crate) fn watched(
        tools: &'a Tools,
        request: &'a TaskRequest,
        listener: &'a (dyn Fn(Message) + Sync),
    ) -> Self {
        Self {
            send: listener,
            ..Self::alone(tools, request)
        }
    }
}

impl Attempt<'_> {
    /// The same attempt, with nobody who listens: it looks at what another of its tasks would find.
    pub(crate) fn unheard(&self) -> Attempt<'_> {
        Attempt {
            tools: self.tools,
            request: self.request,
            stopped: self.stopped,
            send: &|_| {},
        }
    }

    /// Reports progress that is durable, and ends the attempt if it was told to stop.
    pub(crate) fn in_progress(&self, counts: &Counts) -> TaskResult<()> {
        env::crash_point();
        self.reply(ReportStatus::InProgress, counts.clone());
        self.check_stopped()
    }

    /// Reports how far it is, where nothing of that need be durable.
    pub(crate) fn tell(&self, counts: &Counts) {
        self.reply(ReportStatus::InProgress, counts.clone());
    }

    /// As [`Self::in_progress`], but says nothing the first time: where all is done by then, the end says it, too.
    pub(crate) fn in_progress_after(&self, is_first: &mut bool, counts: &Counts) -> TaskResult<()> {
        if !std::mem::take(is_first) {
            return self.in_progress(counts);
        }
        env::crash_point();
        self.check_stopped()
    }

    pub(crate) fn check_stopped(&self) -> TaskResult<()> {
        if self.stopped.load(Ordering::SeqCst) {
            Err(TaskError::Stopped)
        } else {
            Ok(())
        }
    }

    /// The manifest of a link of a chain, if it is still the one that was planned with.
    pub(crate) fn manifest(&self, collection: &str, link: &ChainLink) -> TaskResult<Arc<Manifest>> {
        let Tools {
            manifests,
            repository,
            ..
        } = self.tools;
        match manifests.get(collection, link) {
            Some(known) => Ok(known),
            None => {
                let stored = self.wait(repository.manifest(collection, &link.backup_id))?;
                manifests
                    .insert(link, stored)
                    .ok_or_else(|| TaskError::Proof(changed(link)))
            }
        }
    }

    /// The id of the operation as engines know it.
    pub(crate) fn operation(&self) -> &str {
        self.request.operation_id.as_str()
    }

    /// Waits for the repository, and gives up when the attempt is told to stop.
    pub(crate) fn wait<T, E: Into<TaskError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> TaskResult<T> {
        self.wait_while(work, || self.check_stopped())
    }

    /// Waits for the repository, whatever the attempt is told: for work that must not come to be after
    /// it was given up.
    pub(crate) fn wait_to_the_end<T>(
        &self,
        work: impl Future<Output = mendb_repo::Result<T>>,
    ) -> TaskResult<T> {
        self.wait_while(work, || Ok(()))
    }

    /// Waits, and looks now and then whether to go on.
    fn wait_while<T, E: Into<TaskError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
        go_on: impl Fn() -> TaskResult<()>,
    ) -> TaskResult<T> {
        self.tools.runtime.block_on(async {
            let mut work = std::pin::pin!(work);
            loop {
                if let Ok(done) = tokio::time::timeout(LOOK_EVERY, &mut work).await {
                    return done.map_err(Into::into);
                }
                go_on()?;
            }
        })
    }

    /// Where the attempt begins.
    fn start(&self) -> Counts {
        start(self.request)
    }

    fn run(&self) -> TaskResult<Counts> {
        self.check_stopped()?;
        let mut counts = self.start();
        if matches!(
            *self.request.request,
            Request::PartBackup(_) | Request::Mend(_)
        ) {
            parts::run(self, &mut counts)?;
            env::crash_point();
            return Ok(counts);
        }
        if let Request::MendRows(request) = self.request.request.as_ref() {
            mend::run(self, request, &mut counts)?;
            env::crash_point();
            return Ok(counts);
        }
        if let Request::Maintain(request) = self.request.request.as_ref() {
            maintenance::run(self, request, &mut counts)?;
            env::crash_point();
            return Ok(counts);
        }
        match (&self.request.spec, self.request.step_kind) {
            (TaskSpec::Whole, StepKind::Cut) => backup::cut(self, &mut counts)?,
            (TaskSpec::Whole, StepKind::Seal) => backup::seal(self)?,
            (TaskSpec::Whole, StepKind::Release) => backup::release(self)?,
            (
                TaskSpec::Copy {
                    path,
                    shard,
                    range,
                    digest,
                },
                StepKind::Copy,
            ) => {
                backup::copy(self, path, *shard, range, *digest, &mut counts)?;
            }
            (TaskSpec::Whole, StepKind::Prepare) => restore::prepare(self)?,
            (
                TaskSpec::Restore {
                    backup_id,
                    source,
                    target,
                    shard,
                },
                StepKind::Load | StepKind::Apply,
            ) => {
                let place = restore::Place {
                    backup_id,
                    source,
                    target,
                    shard: *shard,
                };
                restore::bring(self, &place, &mut counts)?;
            }
            (
                TaskSpec::Verify {
                    backup_id,
                    source,
                    target,
                    shard,
                },
                StepKind::Verify,
            ) => {
                let place = restore::Place {
                    backup_id,
                    source,
                    target,
                    shard: *shard,
                };
                verify::verify(self, &place, &mut counts)?;
            }
            (TaskSpec::Whole, StepKind::Finish) => self.tools.engine.commit(self.operation())?,
            (TaskSpec::Whole, StepKind::Rollback) => match self.request.request.as_ref() {
                Request::Backup(request) => backup::rollback(self, request)?,
                _ => self.tools.engine.undo(self.operation())?,
            },
            (spec, step) => {
                return Err(TaskError::Proof(format!(
                    "step {} has no task {spec:?}",
                    step.name()
                )));
            }
        }
        env::crash_point();
        Ok(counts)
    }

    /// Runs to the end, and how it ended.
    fn outcome(&self) -> (ReportStatus, Counts) {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.run()));
        match outcome {
            Ok(Ok(counts)) => (ReportStatus::Success, counts),
            Ok(Err(TaskError::Stopped)) => (ReportStatus::Stopped, self.start()),
            Ok(Err(TaskError::Engine(error))) if error.remedy == Remedy::Refreeze => {
                let message = describe_error(&error);
                (ReportStatus::CutLost { message }, self.start())
            }
            Ok(Err(error)) => {
                let retriable = match &error {
                    TaskError::Engine(error) => error.remedy == Remedy::Retry,
                    TaskError::Repository(error) => error.is_retriable(),
                    TaskError::Import(error) => error.is_retriable(),
                    TaskError::InUse(_) => true,
                    TaskError::Stopped
                    | TaskError::Proof(_)
                    | TaskError::Unclear(_)
                    | TaskError::Journal(_)
                    | TaskError::File { .. } => false,
                };
                (
                    ReportStatus::Error {
                        retriable,
                        message: describe_error(&error),
                    },
                    self.start(),
                )
            }
            Err(panic) => {
                let message = format!("a shard worker died: {}", panic_text(panic.as_ref()));
                (
                    ReportStatus::Error {
                        retriable: true,
                        message,
                    },
                    self.start(),
                )
            }
        }
    }

    fn reply(&self, status: ReportStatus, counts: Counts) {
        send_report(self.request, self.send, status, counts);
    }
}

/// Where an attempt begins. The segments that are known need not be named.
fn start(request: &TaskRequest) -> Counts {
    let (output, segments_before) = match &request.output {
        TaskOutput::Segments(known) => (TaskOutput::None, known.len()),
        other => (other.clone(), 0),
    };
    Counts {
        last_key: request.last_key.clone(),
        rows: request.rows,
        bytes: request.bytes,
        output,
        segments_before,
    }
}

fn send_report(
    request: &TaskRequest,
    send: &dyn Fn(Message),
    status: ReportStatus,
    counts: Counts,
) {
    let report = Report {
        step: request.step,
        shard_idx: request.shard_idx,
        attempt: request.attempt,
        status,
        last_key: counts.last_key,
        rows: counts.rows,
        bytes: counts.bytes,
        output: counts.output,
        segments_before: counts.segments_before,
    };
    send(Message::Reply {
        operation_id: request.operation_id.clone(),
        report,
    });
}

/// The workers of this process.
pub struct Workers {
    tools: Tools,
    crew: Crew,
}

impl Workers {
    /// Workers that join these two sides, and are taken for lost when they say nothing for the time of a
    /// lease.
    pub fn new(tools: Tools, lease_ms: u64) -> Self {
        let lease = Duration::from_millis(lease_ms);
        Self {
            tools,
            crew: Crew::new(lease / SIGNS_OF_LIFE_A_LEASE),
        }
    }

    /// Begins an attempt, and sends what it reports: that it is there, for as long as it waits for its turn
    /// or works. A request that came before, or that is older than another of its task or of a later step,
    /// is ignored.
    pub fn request(&self, request: TaskRequest, send: impl Fn(Message) + Send + Sync + 'static) {
        let (request, send) = (Arc::new(request), Arc::new(send));
        let beat = {
            let (request, send) = (Arc::clone(&request), Arc::clone(&send));
            move || send_report(&request, &*send, ReportStatus::InProgress, start(&request))
        };
        let (tools, requested) = (self.tools.clone(), Arc::clone(&request));
        self.crew.request(&requested, beat, move |turn| {
            let attempt = Attempt {
                tools: &tools,
                request: &request,
                stopped: &turn.stopped,
                send: &*send,
            };
            let (status, counts) = attempt.outcome();
            Box::new(move || send_report(&request, &*send, status, counts))
        });
    }

    /// Tells the attempt of a shard to stop.
    pub fn abort(&self, operation_id: &OperationId, step: u32, shard_idx: u32) {
        self.crew
            .change(|turns| turns.abort(operation_id, step, shard_idx));
    }

    /// Lets nothing of an operation begin any more: it is done or cancelled.
    pub fn end(&self, operation_id: &OperationId) {
        self.crew.change(|turns| turns.end(operation_id));
    }
}
