//! Drives operations: takes events through the machine, persists, then acts.
//!
//! One thread has one inbox. It takes all waiting events through the machine, commits what they touched to the
//! journal, and only then sends the messages that they ask for. So no message speaks of a state that a crash could
//! take back, and the next boot derives from the journal every message that a crash swallowed.
//!
//! The coordinator has a journal and a wire to workers. It has neither a database nor a repository, so it may run in
//! another process than they do.

mod outgoing;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use mendb_model::name::OperationId;
use mendb_model::operation::{
    Context, Effect, Event, NewTask, Operation, Request, State, TaskStatus,
};

use self::outgoing::Outgoing;
use crate::env;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::journal::batch::{Batch, Taken};
use crate::question::{Answer, Asker, Question};
use crate::wire::{End, Message, StepRequest};

/// How long the inbox is listened to before the journal is asked for commands and new operations
/// that other threads and processes left there.
const POLL: Duration = Duration::from_millis(100);

/// Messages that are taken together at most: so many are committed in a moment.
const MOST_AT_ONCE: usize = 256;

/// What is told about an operation each time it has moved; of several events that are taken together once.
pub type Observer<'a> = &'a mut dyn FnMut(&Operation);

/// Drives the unfinished operations of one target that work with one repository.
pub struct Coordinator<'a> {
    journal: &'a Journal,
    /// To the workers. They may be slow, or gone; what is lost is said again.
    wire: End,
    /// The id of the repository; operations that work with another are left alone.
    repository_id: Option<String>,
    /// The one operation that is driven; all of them without.
    only: Option<OperationId>,
    operations: BTreeMap<OperationId, Driven>,
    foreign: BTreeSet<OperationId>,
    /// The steps whose tasks are being looked for, with when that was asked.
    allocating: BTreeMap<OperationId, Asked>,
    /// The last question of each attempt that was answered.
    answered: HashMap<Asker, u64>,
    /// When the journal was last asked for what others left there.
    looked_at_ms: Option<u64>,
    /// Whether an operation has moved since then.
    has_moved: bool,
    /// Set when it is to end.
    stop: Option<&'a AtomicBool>,
}

/// An operation that is driven.
struct Driven {
    operation: Operation,
    /// Its request, for all who work for it.
    request: Arc<Request>,
}

/// A search for the tasks of a step.
struct Asked {
    step: StepRequest,
    at_ms: u64,
}

/// An event of an operation, with the record of the command that it is.
type Incoming = (OperationId, Event, Option<i64>);

impl<'a> Coordinator<'a> {
    /// Drives the operations of a journal that work with a repository, by its id; only one of them, if one is named.
    pub fn new(
        journal: &'a Journal,
        wire: End,
        repository_id: Option<String>,
        only: Option<OperationId>,
    ) -> Self {
        Self {
            journal,
            wire,
            repository_id,
            only,
            operations: BTreeMap::new(),
            foreign: BTreeSet::new(),
            allocating: BTreeMap::new(),
            answered: HashMap::new(),
            looked_at_ms: None,
            has_moved: false,
            stop: None,
        }
    }

    /// The same, which ends soon after `stop` is set: what works is told to stop, and operations stay where they are.
    #[must_use]
    pub fn until(mut self, stop: &'a AtomicBool) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Runs until no operation can move without a user, or it is told to stop.
    ///
    /// # Errors
    /// The journal cannot be read or written, or the workers are gone.
    pub fn run(mut self, observer: Observer<'_>) -> Result<()> {
        loop {
            if self.stop.is_some_and(|stop| stop.load(Ordering::SeqCst)) {
                for operation_id in self.operations.keys().cloned() {
                    self.send(Message::Over { operation_id });
                }
                return Ok(());
            }
            if self.is_time_to_look() {
                self.pick_up(observer)?;
                self.take_commands(observer)?;
            }
            self.tick(observer)?;
            self.ask_again();
            let mut operations = self.operations.values();
            // Only what others left last can still move one.
            if operations.all(|driven| driven.operation.awaits_user()) && !self.looks_again() {
                return Ok(());
            }
            match self.wire.inbox.recv_timeout(self.patience()) {
                Ok(message) => self.receive(message, observer)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::refused(
                        "the workers are gone",
                        "nothing is lost: who drives the operations next goes on with them",
                    ));
                }
            }
        }
    }

    /// Whether to ask the journal for what others left there: at once for what this process did.
    fn is_time_to_look(&mut self) -> bool {
        let now_ms = env::now_ms();
        let poll_ms = POLL.as_millis() as u64;
        // A clock that was set back is no reason to wait.
        let waited = |at_ms: u64| now_ms < at_ms || now_ms >= at_ms + poll_ms;
        let is_time = self.journal.take_news() || self.looked_at_ms.is_none_or(waited);
        if is_time {
            self.looked_at_ms = Some(now_ms);
            self.has_moved = false;
        }
        is_time
    }

    /// Has the journal asked once more before the end, where something has moved since.
    fn looks_again(&mut self) -> bool {
        let again = self.has_moved;
        if again {
            self.looked_at_ms = None;
        }
        again
    }

    /// How long to listen: until something is due, but not past the next look into the journal.
    fn patience(&self) -> Duration {
        if self.looked_at_ms.is_none() {
            return Duration::ZERO;
        }
        let operations = self.operations.values();
        let due = operations.filter_map(|driven| driven.operation.wake_at_ms());
        let due_ms = due.min().unwrap_or(u64::MAX);
        POLL.min(Duration::from_millis(due_ms.saturating_sub(env::now_ms())))
    }

    /// Boots the operations of the journal that are not yet driven.
    fn pick_up(&mut self, observer: Observer<'_>) -> Result<()> {
        let mut booted = VecDeque::new();
        for id in self.journal.unfinished_operations()? {
            let driven = self.operations.get(&id);
            let driven = driven.is_some_and(|driven| !driven.operation.state.is_terminal());
            if !driven && self.load(&id)? {
                booted.push_back((id, Event::Booted, None));
            }
        }
        self.take(booted, observer)
    }

    /// Reads an operation, if it works with our repository.
    fn load(&mut self, id: &OperationId) -> Result<bool> {
        let is_other = self.only.as_ref().is_some_and(|only| only != id);
        if is_other || self.foreign.contains(id) {
            return Ok(false);
        }
        let operation = self.journal.operation(id)?;
        if !operation.works_with(self.repository_id.as_deref()) {
            tracing::info!(operation_id = %id, repository = operation.repository_url, "left alone: it works with another repository");
            self.foreign.insert(id.clone());
            return Ok(false);
        }
        let request = Arc::new(operation.request.clone());
        let driven = Driven { operation, request };
        self.operations.insert(id.clone(), driven);
        Ok(true)
    }

    /// Takes the commands of users. Those for operations that are over come here first.
    fn take_commands(&mut self, observer: Observer<'_>) -> Result<()> {
        let mut events = VecDeque::new();
        for (command_id, id, command) in self.journal.commands()? {
            let known = self.operations.contains_key(&id)
                || match self.load(&id) {
                    Ok(ours) => ours,
                    Err(Error::UnknownOperation(_)) => {
                        self.journal.delete_command(command_id)?;
                        false
                    }
                    Err(error) => return Err(error),
                };
            if known {
                events.push_back((id, command.event(), Some(command_id)));
            }
        }
        self.take(events, observer)
    }

    fn tick(&mut self, observer: Observer<'_>) -> Result<()> {
        let now_ms = env::now_ms();
        let is_due = |driven: &Driven| {
            let wake_at_ms = driven.operation.wake_at_ms();
            wake_at_ms.is_some_and(|at| at <= now_ms)
        };
        let due = self.operations.iter().filter(|(_, driven)| is_due(driven));
        let ticks = due.map(|(id, _)| (id.clone(), Event::Tick, None));
        self.take(ticks.collect(), observer)
    }

    /// Takes a message and those that came behind it.
    fn receive(&mut self, first: Message, observer: Observer<'_>) -> Result<()> {
        let more = self.wire.inbox.try_iter().take(MOST_AT_ONCE - 1);
        let messages: Vec<Message> = std::iter::once(first).chain(more).collect();
        let mut events = VecDeque::new();
        for message in messages {
            let (operation_id, event) = match message {
                Message::Reply {
                    operation_id,
                    report,
                } => (operation_id, Event::Reported(report)),
                Message::Allocated {
                    operation_id,
                    step,
                    tasks,
                } => (operation_id, Event::Allocated { step, tasks }),
                Message::NotAllocated {
                    operation_id,
                    step,
                    retriable,
                    is_cut_lost,
                    message,
                } => {
                    let event = Event::AllocationFailed {
                        step,
                        retriable,
                        is_cut_lost,
                        message,
                    };
                    (operation_id, event)
                }
                Message::Ask {
                    asker,
                    number,
                    question,
                } => {
                    // What was said before a question is taken before it is answered.
                    self.take(std::mem::take(&mut events), observer)?;
                    self.answer(asker, number, &question);
                    continue;
                }
                // Workers are told these.
                Message::Request(_)
                | Message::Abort { .. }
                | Message::Allocate(_)
                | Message::Over { .. }
                | Message::Answer { .. } => continue,
            };
            if let Event::Allocated { step, .. } | Event::AllocationFailed { step, .. } = &event {
                let asked = self.allocating.get(&operation_id);
                if asked.is_none_or(|asked| asked.step.step != *step) {
                    // It came twice, or is of a step before.
                    continue;
                }
                self.allocating.remove(&operation_id);
            }
            events.push_back((operation_id, event, None));
        }
        self.take(events, observer)
    }

    /// Answers a question, unless later ones of who asks were answered before it.
    fn answer(&mut self, asker: Asker, number: u64, question: &Question) {
        let is_current = self.is_current(&asker) && (asker.task.is_some() || !question.writes());
        let answer = if is_current {
            let last = self.answered.entry(asker.clone()).or_default();
            if number < *last {
                return;
            }
            *last = number;
            question.answer(self.journal, &asker.operation_id)
        } else {
            Answer::NotCurrent
        };
        self.send(Message::Answer {
            asker,
            number,
            answer: Box::new(answer),
        });
    }

    /// Whether who asks is the attempt that its task has, or looks for the tasks of the step that its operation is in.
    fn is_current(&self, asker: &Asker) -> bool {
        let Some(Driven { operation, .. }) = self.operations.get(&asker.operation_id) else {
            return false;
        };
        let is_of_step = operation.current_step == asker.step;
        let of_task = asker.task.is_none_or(|(shard_idx, attempt)| {
            let task = operation.tasks.get(shard_idx as usize);
            task.is_some_and(|task| task.attempt == attempt && task.status == TaskStatus::Running)
        });
        is_of_step && of_task && !operation.state.is_terminal()
    }

    /// Takes events and all that follows from them at once, commits, and then acts.
    fn take(&mut self, mut events: VecDeque<Incoming>, observer: Observer<'_>) -> Result<()> {
        events.retain(|(id, ..)| self.operations.contains_key(id));
        if events.is_empty() {
            return Ok(());
        }
        let mut outgoing = Vec::new();
        let mut moved = BTreeSet::new();
        let journal = self.journal;
        journal.batch(|batch| {
            while let Some(event) = events.pop_front() {
                let id = event.0.clone();
                if self.take_one(batch, event, &mut events, &mut outgoing)? {
                    moved.insert(id);
                }
            }
            Ok(())
        })?;
        self.has_moved |= !moved.is_empty();
        for driven in moved.iter().filter_map(|id| self.operations.get(id)) {
            observer(&driven.operation);
        }
        for effect in outgoing {
            self.act(effect);
        }
        Ok(())
    }

    /// Takes one event. Returns whether it happened.
    fn take_one(
        &mut self,
        batch: &Batch<'_>,
        (id, event, command_id): Incoming,
        events: &mut VecDeque<Incoming>,
        outgoing: &mut Vec<Outgoing>,
    ) -> Result<bool> {
        let Some(driven) = self.operations.get_mut(&id) else {
            return Ok(false);
        };
        let context = Context {
            now_ms: env::now_ms(),
            jitter: env::jitter(),
        };
        let taken = batch.take(&mut driven.operation, context, event, command_id)?;
        let (effects, changed_request) = match taken {
            Taken::Happened {
                effects,
                changed_request,
            } => (effects, changed_request),
            Taken::Illegal(illegal) => {
                tracing::warn!(operation_id = %id, %illegal, "ignored");
                return Ok(false);
            }
            Taken::Withdrawn => return Ok(false),
        };
        if changed_request {
            driven.request = Arc::new(driven.operation.request.clone());
        }
        for effect in effects {
            if effect == Effect::Advance {
                // Before all that came in: none of it is of the step that begins.
                events.push_front((id.clone(), Event::Advance, None));
            } else if effect == Effect::Allocate
                && driven
                    .operation
                    .request
                    .is_one_task(driven.operation.step_kind())
            {
                let event = Event::Allocated {
                    step: driven.operation.current_step,
                    tasks: vec![NewTask::whole()],
                };
                events.push_front((id.clone(), event, None));
            } else {
                outgoing.extend(Outgoing::of(&driven.operation, &driven.request, &effect));
            }
        }
        Ok(true)
    }

    /// Carries out an effect.
    fn act(&mut self, effect: Outgoing) {
        match effect {
            Outgoing::Send(message) => self.send(*message),
            Outgoing::Allocate(step) => {
                self.send(Message::Allocate(step.clone()));
                let asked = Asked {
                    at_ms: env::now_ms(),
                    step: *step,
                };
                let id = asked.step.operation_id.clone();
                self.allocating.insert(id, asked);
            }
            Outgoing::End(operation_id) => {
                self.answered
                    .retain(|asker, _| asker.operation_id != operation_id);
                self.send(Message::Over { operation_id });
            }
        }
    }

    /// Asks anew for tasks that nobody has found within a lease: the message may be lost.
    fn ask_again(&mut self) {
        let now_ms = env::now_ms();
        let mut again = Vec::new();
        let operations = &self.operations;
        self.allocating.retain(|id, asked| {
            let Some(Driven { operation, .. }) = operations.get(id) else {
                return false;
            };
            let is_wanted =
                operation.state == State::Allocating && operation.current_step == asked.step.step;
            let waited_ms = now_ms.saturating_sub(asked.at_ms);
            if is_wanted && waited_ms >= operation.limits.lease_ms {
                asked.at_ms = now_ms;
                again.push(asked.step.clone());
            }
            is_wanted
        });
        for step in again {
            self.send(Message::Allocate(Box::new(step)));
        }
    }

    /// Sends to the workers. Those that are gone do nothing, and are found out by their leases.
    fn send(&self, message: Message) {
        drop(self.wire.out.send(message));
    }
}

#[cfg(test)]
mod tests {
    use mendb_model::name::{BackupId, BackupKind};
    use mendb_model::operation::{BackupRequest, Limits, plan};

    use super::*;
    use crate::journal::made::Made;
    use crate::wire::pair;

    const LONG: Duration = Duration::from_secs(60);

    fn operation() -> Operation {
        let request = Request::Backup(BackupRequest {
            collection: "shop".into(),
            backup_id: BackupId::new(0, BackupKind::Full).unwrap(),
            label: None,
            tables: vec!["orders".into()],
            parent: None,
            stream: "shop/1".into(),
            since_version: None,
            old_streams: Vec::new(),
            keeps_changes: false,
            found: None,
        });
        let steps = plan(&request, &[]).unwrap();
        let repository = ("id".to_owned(), "memory:".to_owned());
        let id = "backup-1".parse().unwrap();
        Operation::new(
            id,
            request,
            steps,
            repository,
            Limits::default(),
            env::now_ms(),
        )
    }

    fn keep(name: &str) -> Question {
        Question::PutMade(Made::Database(name.to_owned()))
    }

    #[test]
    fn the_journal_is_written_for_the_current_attempt_alone_and_never_by_what_others_have_passed() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path()).unwrap();
        journal.insert_operation(&operation()).unwrap();
        let (own, workers) = pair();
        let coordinator = Coordinator::new(&journal, own, Some("id".to_owned()), None);
        let ended = std::thread::scope(|scope| {
            let driving = scope.spawn(|| coordinator.run(&mut |_| {}));
            let next = || workers.inbox.recv_timeout(LONG).unwrap();
            let Message::Request(request) = next() else {
                panic!("the first step has one task");
            };
            let current = request.asker();
            let send = |asker: &Asker, number, question| {
                let ask = Message::Ask {
                    asker: asker.clone(),
                    number,
                    question: Box::new(question),
                };
                workers.out.send(ask).unwrap();
            };
            let answer = || match next() {
                Message::Answer { number, answer, .. } => (number, *answer),
                other => panic!("{other:?}"),
            };
            send(&current, 1, keep("first"));
            assert_eq!(answer(), (1, Answer::Kept));
            send(&current, 3, keep("third"));
            assert_eq!(answer(), (3, Answer::Kept));
            // It comes late: who asked goes on, and waits for no answer.
            send(&current, 2, keep("passed"));
            let other = Asker {
                task: Some((request.shard_idx, request.attempt + 1)),
                ..current.clone()
            };
            send(&other, 4, keep("of another attempt"));
            assert_eq!(answer(), (4, Answer::NotCurrent));
            let searching = Asker {
                task: None,
                ..current.clone()
            };
            send(&searching, 5, keep("by who looks for tasks"));
            assert_eq!(answer(), (5, Answer::NotCurrent));
            send(&searching, 6, Question::Made(current.operation_id));
            let made = ["first", "third"].map(|name| Made::Database(name.to_owned()));
            assert_eq!(answer(), (6, Answer::Made(made.to_vec())));
            drop(workers);
            driving.join().unwrap()
        });
        assert!(ended.unwrap_err().to_string().contains("workers are gone"));
    }
}
