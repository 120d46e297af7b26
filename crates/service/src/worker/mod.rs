//! Shard workers: one attempt of one task at a time, joining an engine and a repository.
//!
//! Each attempt has a thread of its own. Two attempts of one shard never work at the same time: a
//! later one tells the earlier to stop and waits for it. What a worker counts in a report is durable.
//! *Retry*: every attempt begins behind the last key that was reported.
//! *Crash*: a worker that panics is reported as an error that may pass; its process may also go.

mod backup;
mod restore;
mod verify;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mendb_engines::{Engine, EngineError, Remedy};
use mendb_model::describe_error;
use mendb_model::name::OperationId;
use mendb_model::operation::{Report, ReportStatus, StepKind, TaskOutput, TaskSpec};
use mendb_repo::Repository;
use tokio::runtime::Handle;

use crate::env;
use crate::wire::{Message, TaskRequest};

/// What a worker needs to reach the two sides it joins.
#[derive(Clone)]
pub struct Tools {
    /// The database.
    pub engine: Arc<dyn Engine>,
    /// Where backups live.
    pub repository: Repository,
    /// Runs the requests to the repository.
    pub runtime: Handle,
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
    /// What was done cannot be right.
    #[error("{0}")]
    Proof(String),
}

type TaskResult<T> = Result<T, TaskError>;

/// How far an attempt is: what its next report says.
#[derive(Debug, Clone)]
pub(crate) struct Counts {
    pub last_key: Option<Vec<u8>>,
    pub rows: u64,
    pub bytes: u64,
    pub output: TaskOutput,
}

/// One attempt at work.
pub(crate) struct Attempt<'a> {
    pub tools: &'a Tools,
    pub request: &'a TaskRequest,
    stopped: &'a AtomicBool,
    send: &'a dyn Fn(Message),
}

impl Attempt<'_> {
    /// Reports progress that is durable, and ends the attempt if it was told to stop.
    pub(crate) fn in_progress(&self, counts: &Counts) -> TaskResult<()> {
        env::crash_point();
        self.reply(ReportStatus::InProgress, counts.clone());
        self.check_stopped()
    }

    pub(crate) fn check_stopped(&self) -> TaskResult<()> {
        if self.stopped.load(Ordering::SeqCst) {
            Err(TaskError::Stopped)
        } else {
            Ok(())
        }
    }

    /// The id of the operation as engines know it.
    pub(crate) fn operation(&self) -> &str {
        self.request.operation_id.as_str()
    }

    /// Waits for the repository.
    pub(crate) fn wait<T>(
        &self,
        work: impl Future<Output = mendb_repo::Result<T>>,
    ) -> TaskResult<T> {
        Ok(self.tools.runtime.block_on(work)?)
    }

    fn start(&self) -> Counts {
        Counts {
            last_key: self.request.last_key.clone(),
            rows: self.request.rows,
            bytes: self.request.bytes,
            output: self.request.output.clone(),
        }
    }

    fn run(&self) -> TaskResult<Counts> {
        let mut counts = self.start();
        match (&self.request.spec, self.request.step_kind) {
            (TaskSpec::Whole, StepKind::Cut) => backup::cut(self, &mut counts)?,
            (TaskSpec::Whole, StepKind::Seal) => backup::seal(self)?,
            (TaskSpec::Whole, StepKind::Release) => backup::release(self)?,
            (TaskSpec::Copy { path, shard, range }, StepKind::Copy) => {
                backup::copy(self, path, *shard, range, &mut counts)?;
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
                restore::carry(self, &place, &mut counts)?;
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
            (TaskSpec::Whole, StepKind::Rollback) => restore::rollback(self)?,
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

    /// Runs to the end and says how it ended.
    fn report(&self) {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.run()));
        let (status, counts) = match outcome {
            Ok(Ok(counts)) => (ReportStatus::Success, counts),
            Ok(Err(TaskError::Stopped)) => (ReportStatus::Stopped, self.start()),
            Ok(Err(TaskError::Engine(error))) if error.remedy == Remedy::Refreeze => {
                let operation_id = self.request.operation_id.clone();
                (self.send)(Message::SnapshotLost {
                    operation_id,
                    step: self.request.step,
                });
                (ReportStatus::Stopped, self.start())
            }
            Ok(Err(error)) => {
                let retriable = match &error {
                    TaskError::Engine(error) => error.remedy == Remedy::Retry,
                    TaskError::Repository(error) => error.is_retriable(),
                    TaskError::Stopped | TaskError::Proof(_) => false,
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
        };
        self.reply(status, counts);
    }

    fn reply(&self, status: ReportStatus, counts: Counts) {
        let report = Report {
            step: self.request.step,
            shard_idx: self.request.shard_idx,
            attempt: self.request.attempt,
            status,
            last_key: counts.last_key,
            rows: counts.rows,
            bytes: counts.bytes,
            output: counts.output,
        };
        (self.send)(Message::Reply {
            operation_id: self.request.operation_id.clone(),
            report,
        });
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// A shard of an operation: at most one attempt works on it.
type Place = (OperationId, u32, u32);

/// An attempt that was requested, and may still be at work.
struct Running {
    attempt: u32,
    stopped: Arc<AtomicBool>,
    /// Held while the attempt works.
    turn: Arc<Mutex<()>>,
}

/// The workers of this process.
pub struct Workers {
    tools: Tools,
    running: Arc<Mutex<HashMap<Place, Running>>>,
}

impl Workers {
    /// Workers that join these two sides.
    pub fn new(tools: Tools) -> Self {
        Self {
            tools,
            running: Arc::default(),
        }
    }

    /// Begins an attempt, and sends what it reports. A request that came before, or is older than
    /// one that came before, is ignored.
    pub fn request(&self, request: TaskRequest, send: impl Fn(Message) + Send + 'static) {
        let place: Place = (
            request.operation_id.clone(),
            request.step,
            request.shard_idx,
        );
        let stopped = Arc::new(AtomicBool::new(false));
        let turn = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            let before = running.get(&place);
            if before.is_some_and(|before| before.attempt >= request.attempt) {
                return;
            }
            let turn = match before {
                Some(before) => {
                    before.stopped.store(true, Ordering::SeqCst);
                    Arc::clone(&before.turn)
                }
                None => Arc::default(),
            };
            let attempt = request.attempt;
            let entry = Running {
                attempt,
                stopped: Arc::clone(&stopped),
                turn: Arc::clone(&turn),
            };
            running.insert(place, entry);
            turn
        };
        let tools = self.tools.clone();
        std::thread::spawn(move || {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            Attempt {
                tools: &tools,
                request: &request,
                stopped: &stopped,
                send: &send,
            }
            .report();
        });
    }

    /// Tells the attempt of a shard to stop.
    pub fn abort(&self, operation_id: &OperationId, step: u32, shard_idx: u32) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = running.get(&(operation_id.clone(), step, shard_idx)) {
            running.stopped.store(true, Ordering::SeqCst);
        }
    }

    /// Forgets the attempts of an operation that is over.
    pub fn forget(&self, operation_id: &OperationId) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|(operation, _, _), _| operation != operation_id);
    }
}
