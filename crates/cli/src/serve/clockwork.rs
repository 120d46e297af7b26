//! Runs what is scheduled.
//!
//! *Order*: that a time is run is written down before it is; the operation is made for that time and no other.
//! *Crash*: a run that was cut off goes on with the operation that it had made, or is done again where it had made none.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mendb_server::schedule::{Choice, choose};
use mendb_server::store::audit::Wish;
use mendb_server::store::schedule::Schedule;
use mendb_service::env;
use serde_json::json;

use super::desk::ProgramDesk;
use crate::commands::schedule::{watch, work};
use crate::failure::{Failure, FailureKind, Verdict};

/// How often it is looked what is due.
const LOOK_EVERY_MS: u64 = 1000;

/// The schedules that run.
type Running = Arc<Mutex<BTreeSet<String>>>;

/// Runs what is due until the server ends.
pub fn run(desk: &Arc<ProgramDesk>) {
    let running = Running::default();
    if let Err(failure) = go_on(desk, &running) {
        tracing::error!(%failure, "what was scheduled and cut off cannot be gone on with");
    }
    while !desk.house.is_stopping() {
        if let Err(failure) = look(desk, &running) {
            tracing::error!(%failure, "what is scheduled cannot be read");
        }
        let begun_ms = env::now_ms();
        loop {
            let waited_ms = env::now_ms().saturating_sub(begun_ms);
            if waited_ms >= LOOK_EVERY_MS || desk.house.is_stopping() {
                break;
            }
            desk.house
                .wait(Duration::from_millis(LOOK_EVERY_MS - waited_ms));
        }
    }
}

/// Goes on with runs that a crash or the end of a server has cut off.
fn go_on(desk: &Arc<ProgramDesk>, running: &Running) -> Result<(), Failure> {
    let schedules = desk.store.schedules()?;
    for (run_id, run) in desk.store.open_runs()? {
        match schedules.iter().find(|schedule| schedule.name == run.name) {
            Some(schedule) => begin(desk, running, schedule, run.due_ms, run_id),
            None => desk
                .store
                .end_run(run_id, "failed: the schedule was removed", None)?,
        }
    }
    Ok(())
}

/// Decides what is due now.
fn look(desk: &Arc<ProgramDesk>, running: &Running) -> Result<(), Failure> {
    for schedule in desk.store.schedules()? {
        match choose(&schedule, env::now_ms()) {
            Ok(Choice::Wait { .. }) => {}
            Ok(Choice::Run { due_ms, missed }) => {
                let runs = running.lock().unwrap_or_else(PoisonError::into_inner);
                let is_running = runs.contains(&schedule.name);
                drop(runs);
                let skipped = is_running.then_some("the run before it is not over");
                let run = desk.store.decide(&schedule.name, due_ms, missed, skipped)?;
                if let (Some(run_id), false) = (run, is_running) {
                    begin(desk, running, &schedule, due_ms, run_id);
                }
            }
            Err(why) => tracing::error!(schedule = schedule.name, why, "never due"),
        }
    }
    Ok(())
}

/// Runs a schedule in a thread of its own.
fn begin(
    desk: &Arc<ProgramDesk>,
    running: &Running,
    schedule: &Schedule,
    due_ms: u64,
    run_id: i64,
) {
    let name = schedule.name.clone();
    let mut runs = running.lock().unwrap_or_else(PoisonError::into_inner);
    runs.insert(name.clone());
    drop(runs);
    let (desk, running, schedule) = (Arc::clone(desk), Arc::clone(running), schedule.clone());
    let thread = std::thread::Builder::new().spawn(move || {
        let ended = perform(&desk, &schedule, due_ms);
        let (outcome, operation) = &ended;
        // One that the end of the server has cut off goes on with the next.
        if let Some(outcome) = outcome {
            tracing::info!(schedule = schedule.name, outcome, "a schedule has run");
            if let Err(error) = desk.store.end_run(run_id, outcome, operation.as_deref()) {
                tracing::error!(%error, schedule = schedule.name, "how a schedule ended cannot be kept");
            }
        }
        let mut runs = running.lock().unwrap_or_else(PoisonError::into_inner);
        runs.remove(&schedule.name);
    });
    if let Err(error) = thread {
        tracing::error!(%error, schedule = name, "no thread");
    }
}

/// Runs a schedule on this thread. Returns what became of it, if it is over, and its operation.
fn perform(
    desk: &ProgramDesk,
    schedule: &Schedule,
    due_ms: u64,
) -> (Option<String>, Option<String>) {
    let key = format!("schedule/{}/{due_ms}", schedule.name);
    let wish = Wish {
        who: format!("schedule {}", schedule.name),
        role: "admin".to_owned(),
        peer: String::new(),
        request: format!("{} of {}", schedule.work.name(), schedule.collection),
        arguments: json!(schedule.arguments),
    };
    let audit = match desk.store.begin_audit(&wish) {
        Ok(audit) => audit,
        Err(error) => return (Some(format!("failed: {error}")), None),
    };
    // What it tells is for nobody, but it is told whether it goes on.
    let (listener, mut told) = mendb_server::Listener::new();
    let hear = move || while told.blocking_recv().is_some() {};
    if let Err(error) = std::thread::Builder::new().spawn(hear) {
        return (Some(format!("failed: no thread: {error}")), None);
    }
    let listener = Arc::new(listener);
    let context = desk.context(&key, &listener);
    let ended = match desk.operation_of(&key) {
        Ok(Some(id)) => watch(&context, &id),
        Ok(None) => {
            let _made_for_it = desk
                .house
                .target
                .journal()
                .ordered_as(ProgramDesk::order_of(&key));
            work(schedule, &context)
        }
        Err(failure) => Err(failure),
    };
    let operation = listener.begun();
    let outcome = match ended {
        Ok(Verdict::Done) => "done".to_owned(),
        Ok(Verdict::Drift) => "failed: damage was found, or a table is missing".to_owned(),
        Err(failure) if failure.kind == FailureKind::Retry && desk.house.is_stopping() => {
            return (None, operation);
        }
        Err(failure) => {
            let why = failure
                .causes
                .iter()
                .fold(failure.message, |text, cause| text + ": " + cause);
            format!("failed: {why}")
        }
    };
    if let Err(error) = desk.store.end_audit(audit, &outcome, operation.as_deref()) {
        tracing::error!(%error, "the audit cannot be written");
    }
    (Some(outcome), operation)
}
