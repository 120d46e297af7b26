//! Runs what is scheduled.
//!
//! *Order*: that a time is run is written down before it is; the operation is made for that time and no other. Runs that
//! change a collection run one after another ([`super::queue`]), and wait for operations of others that are in their way.
//! *Crash*: a run that was cut off goes on with the operation that it had made, or is done again where it had made none.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mendb_model::name::OperationId;
use mendb_server::schedule::{Choice, choose};
use mendb_server::store::audit::Wish;
use mendb_server::store::schedule::{Schedule, Work};
use mendb_service::env;
use serde_json::json;

use super::desk::ProgramDesk;
use super::hooks::note_run;
use super::queue::{MOST_IN_LINE, Place, Queue};
use crate::commands::schedule::{go_on as go_on_with, work};
use crate::failure::{Failure, FailureKind, Verdict};
use crate::settings::hooks::Happening;

/// How often it is looked what is due.
const LOOK_EVERY_MS: u64 = 1000;

/// A run waits so long for what is in its way; then it has failed, and its next time is due.
const LONGEST_WAIT_MS: u64 = 6 * 3_600_000;
/// What is in the way may be no operation that is known here: so often it is tried again all the same.
const TRY_EVERY_MS: u64 = 30_000;

/// What runs.
#[derive(Default)]
struct Clockwork {
    /// The schedules that have a run which is not over.
    running: Mutex<BTreeSet<String>>,
    queue: Arc<Queue>,
    /// Why schedules are never due, as far as it was told.
    broken: Mutex<BTreeMap<String, String>>,
}

impl Clockwork {
    fn running(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn broken(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs what is due until the server ends.
pub fn run(desk: &Arc<ProgramDesk>) {
    let clockwork = Arc::new(Clockwork::default());
    if let Err(failure) = go_on(desk, &clockwork) {
        tracing::error!(%failure, "what was scheduled and cut off cannot be gone on with");
    }
    while !desk.house.is_stopping() {
        if let Err(failure) = look(desk, &clockwork) {
            tracing::error!(%failure, "what is scheduled cannot be read");
        }
        desk.house.wait_for(LOOK_EVERY_MS);
    }
}

/// Goes on with runs that a crash or the end of a server has cut off, in the order in which they were decided.
fn go_on(desk: &Arc<ProgramDesk>, clockwork: &Arc<Clockwork>) -> Result<(), Failure> {
    let schedules = desk.store.schedules()?;
    for (run_id, run) in desk.store.open_runs()? {
        let Some(schedule) = schedules.iter().find(|schedule| schedule.name == run.name) else {
            desk.store
                .end_run(run_id, "failed: the schedule was removed", None)?;
            continue;
        };
        match enter(clockwork, schedule) {
            Ok(place) => begin(desk, clockwork, schedule, place, (run.due_ms, run_id)),
            Err(why) => desk
                .store
                .end_run(run_id, &format!("failed: {why}"), None)?,
        }
    }
    Ok(())
}

/// A place in the line of the collection, for work that changes it.
fn enter(clockwork: &Clockwork, schedule: &Schedule) -> Result<Option<Place>, String> {
    match schedule.work {
        Work::Verify | Work::Drill => return Ok(None),
        Work::Full | Work::Increment | Work::Prune => {}
    }
    let place = clockwork.queue.enter(&schedule.collection, &schedule.name);
    place.map(Some).ok_or_else(|| {
        format!(
            "{MOST_IN_LINE} runs of {} are not over, and no more than that wait",
            schedule.collection
        )
    })
}

/// Decides what is due now.
fn look(desk: &Arc<ProgramDesk>, clockwork: &Arc<Clockwork>) -> Result<(), Failure> {
    for schedule in desk.store.schedules()? {
        let choice = choose(&schedule, env::now_ms());
        if choice.is_ok() {
            clockwork.broken().remove(&schedule.name);
        }
        match choice {
            Ok(Choice::Wait { .. } | Choice::Paused) => {}
            Ok(Choice::Run { due_ms, missed }) => {
                let place = if clockwork.running().contains(&schedule.name) {
                    Err(match waits(desk, &schedule.name)? {
                        Some(why) => format!("the run before it is not over: it waits: {why}"),
                        None => "the run before it is not over".to_owned(),
                    })
                } else {
                    enter(clockwork, &schedule)
                };
                let skipped = place.as_ref().err().map(String::as_str);
                if let Some(why) = skipped {
                    let outcome = format!("skipped: {why}");
                    tell(desk, &schedule, due_ms, Happening::Late, &outcome);
                }
                let run = desk.store.decide(&schedule.name, due_ms, missed, skipped)?;
                if let (Some(run_id), Ok(place)) = (run, place) {
                    begin(desk, clockwork, &schedule, place, (due_ms, run_id));
                }
            }
            Err(why) => {
                let told = clockwork
                    .broken()
                    .insert(schedule.name.clone(), why.clone());
                if told.as_ref() != Some(&why) {
                    tracing::error!(schedule = schedule.name, why, "never due");
                }
            }
        }
    }
    Ok(())
}

/// Tells others of a run.
fn tell(desk: &ProgramDesk, schedule: &Schedule, due_ms: u64, happening: Happening, outcome: &str) {
    if let Err(failure) = note_run(desk, schedule, due_ms, happening, outcome) {
        tracing::error!(%failure, schedule = schedule.name, "nobody is told of a run");
    }
}

/// Why the run of a schedule that is not over has not begun yet.
fn waits(desk: &ProgramDesk, schedule: &str) -> Result<Option<String>, Failure> {
    let mut open = desk.store.open_runs()?.into_iter();
    let run = open.find(|(_, run)| run.name == schedule);
    Ok(run.and_then(|(_, run)| run.waits))
}

/// Runs a schedule in a thread of its own.
fn begin(
    desk: &Arc<ProgramDesk>,
    clockwork: &Arc<Clockwork>,
    schedule: &Schedule,
    place: Option<Place>,
    (due_ms, run_id): (u64, i64),
) {
    let name = schedule.name.clone();
    clockwork.running().insert(name.clone());
    let (of_thread, for_thread) = (Arc::clone(clockwork), Arc::clone(desk));
    let schedule = schedule.clone();
    let thread = std::thread::Builder::new().spawn(move || {
        let run = ScheduledRun {
            desk: &for_thread,
            schedule: &schedule,
            place,
            run_id,
            due_ms,
            key: format!("schedule/{}/{due_ms}", schedule.name),
            is_told_late: Cell::new(false),
        };
        // One that the end of the server has cut off goes on with the next.
        if let Some((outcome, operation)) = run.perform() {
            tracing::info!(
                schedule = schedule.name,
                outcome,
                operation_id = operation.as_deref(),
                "a schedule has run"
            );
            let ended = for_thread
                .store
                .end_run(run_id, &outcome, operation.as_deref());
            if let Err(error) = ended {
                tracing::error!(%error, schedule = schedule.name, "how a schedule ended cannot be kept");
            }
        }
        drop(run);
        of_thread.running().remove(&schedule.name);
    });
    if let Err(error) = thread {
        clockwork.running().remove(&name);
        let why = format!("failed: no thread: {error}");
        if let Err(error) = desk.store.end_run(run_id, &why, None) {
            tracing::error!(%error, schedule = name, "how a schedule ended cannot be kept");
        }
    }
}

/// A run of a schedule.
struct ScheduledRun<'a> {
    desk: &'a ProgramDesk,
    schedule: &'a Schedule,
    /// In the line of its collection, if it changes that.
    place: Option<Place>,
    run_id: i64,
    /// When it was due, in milliseconds since 1970.
    due_ms: u64,
    /// What its operation is made for.
    key: String,
    /// Whether others were told that it is late.
    is_told_late: Cell<bool>,
}

impl ScheduledRun<'_> {
    /// Does it on this thread. Returns what became of it and its operation; nothing where the end of the server has cut
    /// it off.
    fn perform(&self) -> Option<(String, Option<String>)> {
        let schedule = self.schedule;
        let wish = Wish {
            who: format!("schedule {}", schedule.name),
            role: "admin".to_owned(),
            peer: String::new(),
            request: format!("{} of {}", schedule.work.name(), schedule.collection),
            arguments: json!(schedule.arguments),
        };
        if let Err(error) = self.desk.store.audit_run(self.run_id, &wish) {
            return Some((format!("failed: {error}"), None));
        }
        let ended = match self.wait_and_do() {
            Ok(Some(verdict)) => Ok(verdict),
            Ok(None) => return None,
            Err(failure) => Err(failure),
        };
        // Another one may have been rolled back first.
        let operation = match self.desk.operation_of(&self.key) {
            Ok(operation) => operation.map(|id| id.to_string()),
            Err(failure) => {
                tracing::error!(%failure, schedule = schedule.name, "its operation cannot be looked for");
                None
            }
        };
        let outcome = match ended {
            Ok(Verdict::Done) => "done".to_owned(),
            Ok(Verdict::Drift) => "failed: damage was found, or a table is missing".to_owned(),
            Err(failure) if failure.kind == FailureKind::Retry && self.desk.house.is_stopping() => {
                return None;
            }
            Err(failure) => {
                let why = failure
                    .causes
                    .iter()
                    .fold(failure.message, |text, cause| text + ": " + cause);
                format!("failed: {why}")
            }
        };
        // Of an operation its end is told.
        if operation.is_none() {
            let happening = match outcome.as_str() {
                "done" => Happening::Success,
                _ => Happening::Failure,
            };
            self.tell(happening, &outcome);
        }
        Some((outcome, operation))
    }

    /// Tells others of the run.
    fn tell(&self, happening: Happening, outcome: &str) {
        tell(self.desk, self.schedule, self.due_ms, happening, outcome);
    }

    /// Tells others, once, that the run has not begun, where it should have long ago.
    fn tell_if_late(&self, why: &str) {
        let late_ms = env::now_ms().saturating_sub(self.due_ms);
        let after_ms = self
            .desk
            .settings()
            .0
            .hooks
            .late_after_s
            .saturating_mul(1000);
        if late_ms < after_ms || self.is_told_late.replace(true) {
            return;
        }
        self.tell(
            Happening::Late,
            &format!("{} s late: {why}", late_ms / 1000),
        );
    }

    /// Does it when nothing is in its way any more. Returns nothing when the server ends before.
    fn wait_and_do(&self) -> Result<Option<Verdict>, Failure> {
        let began_ms = env::now_ms();
        let mut told: Option<String> = None;
        let mut note = |why: Option<String>| -> Result<(), Failure> {
            if told != why {
                self.desk.store.note_waiting(self.run_id, why.as_deref())?;
                told = why;
            }
            Ok(())
        };
        while let Some(before) = self.place.as_ref().and_then(Place::before) {
            if self.desk.house.is_stopping() {
                return Ok(None);
            }
            let why = format!("schedule {before} runs before it");
            self.tell_if_late(&why);
            note(Some(why))?;
            self.desk.house.wait_for(LOOK_EVERY_MS);
        }
        loop {
            if self.desk.house.is_stopping() {
                return Ok(None);
            }
            let before = self.desk.unfinished()?;
            let failure = match self.attempt() {
                Err(failure) if self.passes(&failure)? => failure,
                ended => {
                    note(None)?;
                    return ended.map(Some);
                }
            };
            if env::now_ms().saturating_sub(began_ms) > LONGEST_WAIT_MS {
                return Err(failure.context("it has waited 6 hours for what is in its way"));
            }
            note(Some(failure.message))?;
            self.wait_for_one_of(&before)?;
        }
    }

    /// Waits until an operation is over that was not, or for as long as nobody can say whether it would help.
    fn wait_for_one_of(&self, before: &BTreeSet<OperationId>) -> Result<(), Failure> {
        let since_ms = env::now_ms();
        while env::now_ms().saturating_sub(since_ms) < TRY_EVERY_MS
            && !self.desk.house.is_stopping()
        {
            self.desk.house.wait_for(LOOK_EVERY_MS);
            let now = self.desk.unfinished()?;
            if before.iter().any(|id| !now.contains(id)) {
                break;
            }
        }
        Ok(())
    }

    /// Whether what has refused it goes on by itself, and nothing of it has begun.
    fn passes(&self, failure: &Failure) -> Result<bool, Failure> {
        Ok(failure.passes && self.desk.operation_of(&self.key)?.is_none())
    }

    fn attempt(&self) -> Result<Verdict, Failure> {
        // What it tells is for nobody, but it is told whether it goes on.
        let (listener, mut told) = mendb_server::Listener::new();
        let hear = move || while told.blocking_recv().is_some() {};
        std::thread::Builder::new()
            .spawn(hear)
            .map_err(|error| Failure::io("cannot start a thread", &error))?;
        let context = self.desk.context(&self.key, &Arc::new(listener));
        match self.desk.operation_of(&self.key)? {
            Some(id) => go_on_with(self.schedule, &context, &id),
            None => {
                self.tell_if_late("it begins only now");
                let journal = self.desk.house.target.journal();
                let _made_for_it = journal.ordered_as(ProgramDesk::order_of(&self.key));
                work(self.schedule, &context)
            }
        }
    }
}
