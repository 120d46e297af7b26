//! Drives operations: takes events through the machine, persists, then acts.
//!
//! One thread, one inbox. For each event: the machine makes a new operation of the old one, the
//! journal commits it, and only then do the effects leave as messages. So a message never speaks of
//! what a crash could take back, and what a crash swallows is derived again at the next boot.

mod allocate;
mod reconcile;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use mendb_model::name::OperationId;
use mendb_model::operation::{Context, Effect, Event, Operation, State};

use crate::env;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::wire::{Message, TaskRequest, Wire};
use crate::worker::{Tools, Workers};

/// How long the inbox is listened to before the journal is asked for commands and new operations
/// that other threads and processes left there.
const POLL: Duration = Duration::from_millis(100);

/// What is told about an operation each time it has moved.
pub type Observer<'a> = &'a mut dyn FnMut(&Operation);

/// Drives the unfinished operations of one target that work with one repository.
pub(crate) struct Coordinator<'a> {
    journal: &'a Journal,
    tools: &'a Tools,
    workers: &'a Workers,
    wire: Arc<dyn Wire>,
    /// The id of the repository; operations that work with another are left alone.
    repository_id: Option<String>,
    operations: BTreeMap<OperationId, Operation>,
    foreign: BTreeSet<OperationId>,
    inbox: Receiver<Message>,
    outbox: Sender<Message>,
}

impl<'a> Coordinator<'a> {
    pub(crate) fn new(
        journal: &'a Journal,
        tools: &'a Tools,
        workers: &'a Workers,
        wire: Arc<dyn Wire>,
        repository_id: Option<String>,
    ) -> Self {
        let (outbox, inbox) = channel();
        Self {
            journal,
            tools,
            workers,
            wire,
            repository_id,
            operations: BTreeMap::new(),
            foreign: BTreeSet::new(),
            inbox,
            outbox,
        }
    }

    /// Runs until no operation can move without a user.
    pub(crate) fn run(mut self, observer: Observer<'_>) -> Result<()> {
        let repository_id = self.repository_id.as_ref();
        reconcile::start_forgotten_merges(self.journal, self.tools, repository_id)?;
        reconcile::release_orphaned_locks(self.journal, self.tools)?;
        loop {
            self.pick_up(observer)?;
            self.take_commands(observer)?;
            self.tick(observer)?;
            if self.operations.values().all(Operation::awaits_user) {
                return Ok(());
            }
            match self.inbox.recv_timeout(self.patience()) {
                Ok(message) => self.receive(message, observer)?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
    }

    /// How long to listen: until something is due, but not past the next look into the journal.
    fn patience(&self) -> Duration {
        let due = self.operations.values().filter_map(Operation::wake_at_ms);
        let due_ms = due.min().unwrap_or(u64::MAX);
        POLL.min(Duration::from_millis(due_ms.saturating_sub(env::now_ms())))
    }

    /// Boots the operations of the journal that are not yet driven.
    fn pick_up(&mut self, observer: Observer<'_>) -> Result<()> {
        for id in self.journal.unfinished_operations()? {
            let driven = self
                .operations
                .get(&id)
                .is_some_and(|operation| !operation.state.is_terminal());
            if !driven && self.load(&id)? {
                self.take(&id, Event::Booted, None, observer)?;
            }
        }
        Ok(())
    }

    /// Reads an operation, if it works with our repository.
    fn load(&mut self, id: &OperationId) -> Result<bool> {
        if self.foreign.contains(id) {
            return Ok(false);
        }
        let operation = self.journal.operation(id)?;
        if !works_with(&operation, self.repository_id.as_ref()) {
            tracing::info!(%id, repository = operation.repository_url, "left alone: it works with another repository");
            self.foreign.insert(id.clone());
            return Ok(false);
        }
        self.operations.insert(id.clone(), operation);
        Ok(true)
    }

    /// Takes the commands of users. Those for operations that are over come here first.
    fn take_commands(&mut self, observer: Observer<'_>) -> Result<()> {
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
                self.take(&id, command.event(), Some(command_id), observer)?;
            }
        }
        Ok(())
    }

    fn tick(&mut self, observer: Observer<'_>) -> Result<()> {
        let now_ms = env::now_ms();
        let due = |operation: &Operation| operation.wake_at_ms().is_some_and(|at| at <= now_ms);
        let due = self
            .operations
            .iter()
            .filter(|(_, operation)| due(operation));
        let ids: Vec<_> = due.map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.take(&id, Event::Tick, None, observer)?;
        }
        Ok(())
    }

    fn receive(&mut self, message: Message, observer: Observer<'_>) -> Result<()> {
        let (id, event) = match message {
            Message::Reply {
                operation_id,
                report,
            } => (operation_id, Event::Reported(report)),
            Message::Allocation {
                operation_id,
                event,
            } => (operation_id, event),
            Message::Request(_) | Message::Abort { .. } => return Ok(()),
        };
        self.take(&id, event, None, observer)
    }

    /// Takes an event and all that follows from it at once.
    fn take(
        &mut self,
        id: &OperationId,
        event: Event,
        command_id: Option<i64>,
        observer: Observer<'_>,
    ) -> Result<()> {
        let mut events = VecDeque::from([(event, command_id)]);
        while let Some((event, command_id)) = events.pop_front() {
            let Some(before) = self.operations.get(id) else {
                return Ok(());
            };
            let mut after = before.clone();
            let context = Context {
                now_ms: env::now_ms(),
                jitter: env::jitter(),
            };
            let effects = match after.step(context, event.clone()) {
                Ok(effects) => effects,
                Err(illegal) => {
                    tracing::warn!(%id, %illegal, "ignored");
                    if let Some(command_id) = command_id {
                        self.journal.delete_command(command_id)?;
                    }
                    continue;
                }
            };
            if command_id.is_some() || !effects.is_empty() || !same_but_for_time(before, &mut after)
            {
                env::crash_point();
                let happened = self
                    .journal
                    .update_operation(before, &after, &event, command_id)?;
                env::crash_point();
                if !happened {
                    continue;
                }
            }
            observer(&after);
            self.operations.insert(id.clone(), after);
            for effect in effects {
                events.extend(self.act(id, &effect).map(|event| (event, None)));
            }
        }
        Ok(())
    }

    /// Carries out an effect. Returns the event that it is answered with at once, if so.
    fn act(&self, id: &OperationId, effect: &Effect) -> Option<Event> {
        let operation = self.operations.get(id)?;
        match effect {
            Effect::Allocate => self.allocate(operation),
            Effect::Advance => return Some(Event::Advance),
            Effect::Propose { shard_idx } => {
                let task = operation.tasks.get(*shard_idx as usize)?;
                let request = TaskRequest::new(operation, *shard_idx, task);
                self.to_worker(Message::Request(Box::new(request)));
            }
            Effect::Abort { step, shard_idx } => self.to_worker(Message::Abort {
                operation_id: id.clone(),
                step: *step,
                shard_idx: *shard_idx,
            }),
            Effect::Finished if operation.state == State::Failed => {}
            Effect::Finished => self.workers.end(id),
        }
        None
    }

    /// Finds tasks beside the loop: the repository may take its time, and nobody else should wait.
    fn allocate(&self, operation: &Operation) {
        let (operation, tools, outbox) =
            (operation.clone(), self.tools.clone(), self.outbox.clone());
        std::thread::spawn(move || {
            let event = allocate::allocate(&operation, &tools);
            let operation_id = operation.operation_id;
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
pub(crate) fn works_with(operation: &Operation, repository_id: Option<&String>) -> bool {
    let id = &operation.repository_id;
    id.is_empty() || Some(id) == repository_id
}

/// Whether an event only made time pass.
fn same_but_for_time(before: &Operation, after: &mut Operation) -> bool {
    let now_ms = std::mem::replace(&mut after.updated_at_ms, before.updated_at_ms);
    let same = before == after;
    after.updated_at_ms = now_ms;
    same
}
