//! A restore in a process of its own that is killed before it is done, and goes on in another.
//!
//! The process gets SIGKILL, as from `kill -9` or the kernel when memory is short: it cannot say
//! goodbye, flush or clean up. All that the next process knows is what is on disk.

use std::process::{Child, ExitStatus};
use std::time::Duration;

use mendb_model::operation::{OperationHead, State};
use mendb_service::journal::Journal;

use super::place::Place;
use crate::clock::{self, Stopwatch};
use crate::failure::{Failure, FailureKind};
use crate::operations::ending::check_end;

/// The restore is killed when it is at least this far.
const KILL_AT_PERCENT: f64 = 30.0;
/// How often the journal is looked into meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// How the restore in its first process ended.
pub struct FirstRun {
    /// The operation as its process left it.
    pub operation: OperationHead,
    /// Whether the process was killed. If not, it was done before the moment came.
    pub killed: bool,
    /// How long it ran.
    pub elapsed: Duration,
}

/// Restores a collection in another process, and kills that when it is part-way.
///
/// # Errors
/// The process cannot be started, or the restore failed.
pub fn restore_and_kill(place: &Place, collection: &str) -> Result<FirstRun, Failure> {
    let watch = Stopwatch::start();
    let mut process = Process::start(place, &["restore", collection])?;
    let ended = loop {
        if let Some(status) = process.ended()? {
            break Some(status);
        }
        if let Some(journal) = place.context.open_journal()?
            && let Some(operation) = restore_of(&journal)?
            && operation.progress().percent >= KILL_AT_PERCENT
            && !operation.state.is_terminal()
        {
            process.kill();
            break None;
        }
        clock::sleep(LOOK_EVERY);
    };
    let elapsed = watch.elapsed();
    let operation = match place.context.open_journal()? {
        Some(journal) => restore_of(&journal)?,
        None => None,
    };
    let Some(operation) = operation else {
        return Err(failed("restore", ended));
    };
    // It may have become done in the moment between the look and the kill.
    let killed = ended.is_none() && operation.state != State::Done;
    if !killed {
        check_end(&operation, State::Done)?;
    }
    Ok(FirstRun {
        operation,
        killed,
        elapsed,
    })
}

/// Lets another process go on with an operation until it is done; the operation then, and how long
/// that took.
///
/// # Errors
/// The process cannot be started, or the operation failed.
pub fn resume(
    place: &Place,
    operation: &OperationHead,
) -> Result<(OperationHead, Duration), Failure> {
    let watch = Stopwatch::start();
    let id = &operation.operation_id;
    let mut process = Process::start(place, &["operation", "watch", id.as_str()])?;
    let status = process.wait()?;
    let elapsed = watch.elapsed();
    let journal = place.context.open_journal()?;
    let journal = journal.ok_or_else(|| failed("operation watch", Some(status)))?;
    let operation = journal.operation_head(id)?;
    check_end(&operation, State::Done)?;
    Ok((operation, elapsed))
}

/// The newest restore of a journal.
fn restore_of(journal: &Journal) -> Result<Option<OperationHead>, Failure> {
    let mut operations = journal.operations()?;
    operations.retain(|operation| operation.request.restore().is_some());
    Ok(operations.pop())
}

/// A process that leaves no operation behind of which anyone could say more.
fn failed(command: &str, status: Option<ExitStatus>) -> Failure {
    let ended = status.map_or("was killed".to_owned(), |status| status.to_string());
    Failure::new(
        FailureKind::FixEnvironment,
        format!("the process of mendb {command} ended too early: {ended}"),
    )
}

/// A process of this program; it does not outlive the demo.
struct Process(Child);

impl Process {
    fn start(place: &Place, arguments: &[&str]) -> Result<Self, Failure> {
        match place.program(arguments)?.spawn() {
            Ok(child) => Ok(Self(child)),
            Err(error) => Err(Failure::io("cannot start mendb a second time", &error)),
        }
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>, Failure> {
        self.0
            .try_wait()
            .map_err(|error| Failure::io("cannot look after a process", &error))
    }

    fn wait(&mut self) -> Result<ExitStatus, Failure> {
        self.0
            .wait()
            .map_err(|error| Failure::io("cannot wait for a process", &error))
    }

    /// Ends it at once and waits until it is gone. One that has ended already stays as it is.
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
