//! Shard workers: one attempt of one task at a time.
//!
//! As many threads as may work at a time run the attempts, and one more reports that they live (`crew`). A later attempt
//! tells the earlier ones in its way to stop, and waits until they have ended (`turns`). What a worker counts in a report
//! is durable. `operations` has what the steps do.
//! *Retry*: every attempt begins behind the last key that was reported.
//! *Crash*: a panic of a worker becomes an error that a retry may pass; its process may also die.

mod crew;
mod turns;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use mendb_engines::Remedy;
use mendb_model::describe_error;
use mendb_model::operation::ReportStatus;
use mendb_repo::foreign::panic_text;

use self::crew::Crew;
use crate::attempt::{Attempt, Counts, Tools, send_report, start};
use crate::env;
use crate::error::Error;
use crate::journal_port::{Answers, JournalPort};
use crate::operations;
use crate::task_error::{TaskError, TaskResult};
use crate::wire::{End, Message, StepRequest, TaskRequest};

/// How often an attempt says within its lease that it is still there, whatever it does.
const SIGNS_OF_LIFE_A_LEASE: u32 = 30;

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

    /// Tells all that works to stop, and waits for that, but not longer than so. Returns whether all have ended.
    pub fn stop(&self, longest: Duration) -> bool {
        self.crew.stop(longest)
    }

    /// Works for a coordinator until that is gone. Attempts that still work then end when they next ask for the
    /// journal, or are done; nobody hears of them.
    pub fn serve(&self, end: End) {
        let End { out, inbox } = end;
        let answers = Answers::default();
        for message in inbox {
            match message {
                Message::Request(request) => self.request(*request, &out, &answers),
                Message::Abort {
                    operation_id,
                    step,
                    shard_idx,
                } => {
                    self.crew
                        .change(|turns| turns.abort(&operation_id, step, shard_idx));
                }
                Message::Over { operation_id } => {
                    self.crew.change(|turns| turns.end(&operation_id));
                }
                Message::Allocate(step) => self.allocate(*step, &out, &answers),
                Message::Answer {
                    asker,
                    number,
                    answer,
                } => answers.give(asker, number, *answer),
                // A coordinator is told these.
                Message::Reply { .. }
                | Message::Allocated { .. }
                | Message::NotAllocated { .. }
                | Message::Ask { .. } => {}
            }
        }
        answers.close();
    }

    /// Begins an attempt, and sends what it reports: that it is there, for as long as it waits for its turn
    /// or works. A request that came before, or that is older than another of its task or of a later step,
    /// is ignored.
    fn request(&self, request: TaskRequest, out: &Sender<Message>, answers: &Answers) {
        let request = Arc::new(request);
        let send = sender(out);
        let beat = {
            let (request, send) = (Arc::clone(&request), send.clone());
            move || send_report(&request, &send, ReportStatus::InProgress, start(&request))
        };
        let (tools, requested) = (self.tools.clone(), Arc::clone(&request));
        let answers = answers.clone();
        self.crew.request(&requested, beat, move |turn| {
            let journal = JournalPort::asking(request.asker(), &send, &answers);
            let of_operation = tracing::error_span!(
                "attempt",
                operation_id = %request.of_step.operation_id,
                step = request.of_step.step,
                shard = request.shard_idx,
                attempt = request.attempt,
                error = tracing::field::Empty,
            )
            .entered();
            let attempt = Attempt::requested(&tools, &request, journal, &turn.stopped, &send);
            let (status, counts) = outcome(&attempt);
            if let ReportStatus::Error { message, .. }
            | ReportStatus::Refused { message }
            | ReportStatus::CutLost { message }
            | ReportStatus::Unheard { message, .. } = &status
            {
                of_operation.record("error", message);
            }
            Box::new(move || send_report(&request, &send, status, counts))
        });
    }

    /// Finds the tasks of a step in a thread of its own: the repository may take its time, and nobody else should
    /// wait.
    fn allocate(&self, step: StepRequest, out: &Sender<Message>, answers: &Answers) {
        let (tools, answers, send) = (self.tools.clone(), answers.clone(), sender(out));
        let refused = (sender(out), step.operation_id.clone(), step.step);
        let thread = std::thread::Builder::new().spawn(move || {
            let found = catch_unwind(AssertUnwindSafe(|| {
                let _of_operation = tracing::error_span!(
                    "tasks",
                    operation_id = %step.operation_id,
                    step = step.step,
                )
                .entered();
                let journal = JournalPort::asking(step.asker(), &send, &answers);
                operations::tasks(&step, &tools, &journal)
            }));
            let (operation_id, number) = (step.operation_id, step.step);
            send(match found {
                Ok(Ok(tasks)) => Message::Allocated {
                    operation_id,
                    step: number,
                    tasks,
                },
                Ok(Err(error)) => Message::NotAllocated {
                    operation_id,
                    step: number,
                    retriable: error.is_retriable(),
                    is_cut_lost: matches!(&error, Error::Engine(error) if error.remedy == Remedy::Refreeze),
                    message: describe_error(&error),
                },
                Err(panic) => Message::NotAllocated {
                    operation_id,
                    step: number,
                    retriable: true,
                    is_cut_lost: false,
                    message: format!("a thread died that looked for tasks: {}", panic_text(panic.as_ref())),
                },
            });
        });
        if let Err(error) = thread {
            let (send, operation_id, step) = refused;
            send(Message::NotAllocated {
                operation_id,
                step,
                retriable: true,
                is_cut_lost: false,
                message: format!("the system gives no thread to look for tasks: {error}"),
            });
        }
    }
}

/// Sends to a coordinator. One that is gone has no use for it: what was said is durable.
fn sender(out: &Sender<Message>) -> impl Fn(Message) + Clone + Send + Sync + 'static {
    let out = out.clone();
    move |message| drop(out.send(message))
}

/// Runs an attempt to its end, and how it ended.
fn outcome(attempt: &Attempt<'_>) -> (ReportStatus, Counts) {
    let run = || -> TaskResult<Counts> {
        attempt.check_stopped()?;
        let mut counts = attempt.start();
        operations::run(attempt, &mut counts)?;
        env::crash_point();
        Ok(counts)
    };
    let status = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(counts)) => return (ReportStatus::Success, counts),
        Ok(Err(TaskError::Stopped)) => ReportStatus::Stopped,
        Ok(Err(TaskError::Engine(error))) if error.remedy == Remedy::Refreeze => {
            ReportStatus::CutLost {
                message: describe_error(&error),
            }
        }
        Ok(Err(TaskError::Unheard {
            why,
            was_heard,
            other,
        })) => ReportStatus::Unheard {
            message: describe_error(&why),
            was_heard,
            other,
        },
        Ok(Err(error)) if error.is_refusal() => ReportStatus::Refused {
            message: describe_error(&error),
        },
        Ok(Err(error)) => ReportStatus::Error {
            retriable: error.is_retriable(),
            message: describe_error(&error),
        },
        Err(panic) => ReportStatus::Error {
            retriable: true,
            message: format!("a shard worker died: {}", panic_text(panic.as_ref())),
        },
    };
    (status, attempt.start())
}
