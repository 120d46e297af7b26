//! Drives operations: takes events through the machine, persists, then acts.
//!
//! One thread, one inbox. All that waits in it goes through the machine, the journal commits what that touched,
//! and only then do the effects leave as messages. So a message never speaks of
//! what a crash could take back, and what a crash swallows is derived again at the next boot.

mod allocate;
mod reconcile;

mod outgoing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use mendb_model::name::OperationId;
use mendb_model::operation::{Context, Effect, Event, Operation, OperationHead, Request};

use self::outgoing::Outgoing;
use crate::env;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::journal::batch::{Batch, Taken};
use crate::wire::{Message, Wire};
use crate::worker::{Tools, Workers};

/// How long the inbox is listened to before the journal is asked for commands and new operations
/// that other threads and processes left there.
const POLL: Duration = Duration::from_millis(100);

/// Messages that are taken together at most: so many are committed in a moment.
const MOST_AT_ONCE: usize = 256;

/// What is told about an operation each time it has moved; of several events that are taken together once.
pub type Observer<'a> = &'a mut dyn FnMut(&Operation);

/// Drives the unfinished operations of one target that work with one repository.
pub(crate) struct Coordinator<'a> {
    journal: &'a Journal,
    tools: &'a Tools,
    workers: &'a Workers,
    wire: Arc<dyn Wire>,
    /// The id of the repository; operations that work with another are left alone.
    repository_id: Option<String>,
    /// The one operation that is driven; all of them without.
    only: Option<OperationId>,
    operations: BTreeMap<OperationId, Driven>,
    foreign: BTreeSet<OperationId>,
    inbox: Receiver<Message>,
    outbox: Sender<Message>,
    /// When the journal was last asked for what others left there.
    looked_at_ms: Option<u64>,
    /// Whether an operation has moved since then.
    has_moved: bool,
}

/// An operation that is driven.
struct Driven {
    operation: Operation,
    /// Its request, for all who work for it.
    request: Arc<Request>,
}

/// An event of an operation, with the record of the command that it is.
type Incoming = (OperationId, Event, Option<i64>);

impl<'a> Coordinator<'a> {
    pub(crate) fn new(
        journal: &'a Journal,
        tools: &'a Tools,
        workers: &'a Workers,
        wire: Arc<dyn Wire>,
        repository_id: Option<String>,
        only: Option<OperationId>,
    ) -> Self {
        let (outbox, inbox) = channel();
        Self {
            journal,
            tools,
            workers,
            wire,
            repository_id,
            only,
            operations: BTreeMap::new(),
            foreign: BTreeSet::new(),
            inbox,
            outbox,
            looked_at_ms: None,
            has_moved: false,
        }
    }

    /// Runs until no operation can move without a user.
    pub(crate) fn run(mut self, observer: Observer<'_>) -> Result<()> {
        let repository_id = self.repository_id.as_ref();
        reconcile::start_forgotten_merges(self.journal, self.tools, repository_id)?;
        reconcile::release_orphaned_locks(self.journal, self.tools)?;
        loop {
            if self.is_time_to_look() {
                self.pick_up(observer)?;
                self.take_commands(observer)?;
            }
            self.tick(observer)?;
            let mut operations = self.operations.values();
            // Only what others left last can still move one.
            if operations.all(|driven| driven.operation.awaits_user()) && !self.looks_again() {
                return Ok(());
            }
            match self.inbox.recv_timeout(self.patience()) {
                Ok(message) => self.receive(message, observer)?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
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
        if !works_with(&operation, self.repository_id.as_ref()) {
            tracing::info!(%id, repository = operation.repository_url, "left alone: it works with another repository");
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
        let more = self.inbox.try_iter().take(MOST_AT_ONCE - 1);
        let messages = std::iter::once(first).chain(more);
        let events = messages.filter_map(|message| match message {
            Message::Reply {
                operation_id,
                report,
            } => Some((operation_id, Event::Reported(report), None)),
            Message::Allocation {
                operation_id,
                event,
            } => Some((operation_id, event, None)),
            Message::Request(_) | Message::Abort { .. } => None,
        });
        let events = events.collect();
        self.take(events, observer)
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
        let effects = match batch.take(&mut driven.operation, context, event, command_id)? {
            Taken::Happened(effects) => effects,
            Taken::Illegal(illegal) => {
                tracing::warn!(%id, %illegal, "ignored");
                return Ok(false);
            }
            Taken::Withdrawn => return Ok(false),
        };
        if command_id.is_some() && *driven.request != driven.operation.request {
            driven.request = Arc::new(driven.operation.request.clone());
        }
        for effect in effects {
            if effect == Effect::Advance {
                // Before all that came in: none of it is of the step that begins.
                events.push_front((id.clone(), Event::Advance, None));
            } else if effect == Effect::Allocate
                && let Some(event) = allocate::at_once(&driven.operation)
            {
                events.push_front((id.clone(), event, None));
            } else {
                outgoing.extend(Outgoing::of(&driven.operation, &driven.request, &effect));
            }
        }
        Ok(true)
    }

    /// Carries out an effect.
    fn act(&self, effect: Outgoing) {
        match effect {
            Outgoing::Allocate(operation) => self.allocate(operation),
            Outgoing::Send(message) => self.to_worker(*message),
            Outgoing::End(id) => self.workers.end(&id),
        }
    }

    /// Finds tasks beside the loop: the repository may take its time, and nobody else should wait.
    fn allocate(&self, operation: Box<Operation>) {
        let (tools, outbox) = (self.tools.clone(), self.outbox.clone());
        std::thread::spawn(move || {
            let event = allocate::allocate(&operation, &tools);
            let operation_id = operation.operation_id.clone();
            // A coordinator that is gone allocates anew when it is back.
            drop(outbox.send(Message::Allocation {
                operation_id,
                event,
            }));
        });
    }

    fn to_worker(&self, message: Message) {
        self.wire.carry(message, &mut |message| {
            let wire = Arc::clone(&self.wire);
            let outbox = self.outbox.clone();
            match message {
                Message::Request(request) => self.workers.request(*request, move |reply| {
                    // A coordinator that is gone has no use for the reply: what it said is durable.
                    wire.carry(reply, &mut |reply| drop(outbox.send(reply)));
                }),
                Message::Abort {
                    operation_id,
                    step,
                    shard_idx,
                } => {
                    self.workers.abort(&operation_id, step, shard_idx);
                }
                Message::Reply { .. } | Message::Allocation { .. } => {}
            }
        });
    }
}

/// Whether an operation is driven with a repository. One that needs none is driven with any.
pub(crate) fn works_with(operation: &OperationHead, repository_id: Option<&String>) -> bool {
    let id = &operation.repository_id;
    id.is_empty() || Some(id) == repository_id
}
