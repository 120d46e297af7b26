//! Drives operations: takes events through the machine, persists, then acts.
//!
//! One thread, one inbox. For each event: the machine makes a new operation of the old one, the
//! journal commits it, and only then do the effects leave as messages. So a message never speaks of
//! what a crash could take back, and what a crash swallows is derived again at the next boot.

mod allocate;
mod reconcile;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use mendb_model::name::OperationId;
use mendb_model::operation::{Context, Effect, Event, Operation};

use crate::env;
use crate::error::Result;
use crate::journal::Journal;
use crate::wire::{Message, TaskRequest, Wire};
use crate::worker::{Tools, Workers};

pub(crate) use allocate::segment_bytes;

/// How long the inbox is listened to before the journal is asked for commands and new operations
/// that other threads and processes left there.
const POLL: Duration = Duration::from_millis(100);

/// What is told about an operation each time it has moved.
pub type Observer<'a> = &'a mut dyn FnMut(&Operation);

/// Drives the unfinished operations of one target.
pub(crate) struct Coordinator<'a> {
    journal: &'a Journal,
    tools: &'a Tools,
    wire: Arc<dyn Wire>,
    workers: Arc<Workers>,
    operations: BTreeMap<OperationId, Operation>,
    inbox: Receiver<Message>,
    outbox: Sender<Message>,
}

impl<'a> Coordinator<'a> {
    pub(crate) fn new(journal: &'a Journal, tools: &'a Tools, wire: Arc<dyn Wire>) -> Self {
        let (outbox, inbox) = channel();
        let workers = Arc::new(Workers::new(tools.clone()));
        Self {
            journal,
            tools,
            wire,
            workers,
            operations: BTreeMap::new(),
            inbox,
            outbox,
        }
    }

    /// Runs until no operation can move without a user.
    pub(crate) fn run(mut self, observer: Observer<'_>) -> Result<()> {
        reconcile::release_orphaned_locks(self.journal, self.tools)?;
        loop {
            self.pick_up(observer)?;
            self.take_commands(observer)?;
            if self
                .operations
                .values()
                .all(|operation| operation.wake_at_ms().is_none())
            {
                return Ok(());
            }
            match self.inbox.recv_timeout(self.patience()) {
                Ok(message) => self.receive(message, observer)?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    self.tick(observer)?;
                }
            }
        }
    }

    /// How long to listen: until something is due, but not past the next look into the journal.
    fn patience(&self) -> Duration {
        let due_ms = self
            .operations
            .values()
            .filter_map(Operation::wake_at_ms)
            .min()
            .unwrap_or(u64::MAX);
        POLL.min(Duration::from_millis(due_ms.saturating_sub(env::now_ms())))
    }

    /// Boots the operations of the journal that are not yet driven.
    fn pick_up(&mut self, observer: Observer<'_>) -> Result<()> {
        for id in self.journal.unfinished_operations()? {
            if !self.operations.contains_key(&id) {
                let operation = self.journal.operation(&id)?;
                self.operations.insert(id.clone(), operation);
                self.take(&id, Event::Booted, observer)?;
            }
        }
        Ok(())
    }

    /// Takes the commands of users. Those for operations that are over come here first.
    fn take_commands(&mut self, observer: Observer<'_>) -> Result<()> {
        for (id, command) in self.journal.take_commands()? {
            if !self.operations.contains_key(&id) {
                match self.journal.operation(&id) {
                    Ok(operation) => self.operations.insert(id.clone(), operation),
                    Err(error) => {
                        tracing::warn!(%id, %error, "a command for an operation that cannot be read");
                        continue;
                    }
                };
            }
            self.take(&id, command.event(), observer)?;
        }
        Ok(())
    }

    fn tick(&mut self, observer: Observer<'_>) -> Result<()> {
        let now_ms = env::now_ms();
        let due = |operation: &Operation| operation.wake_at_ms().is_some_and(|at| at <= now_ms);
        let ids: Vec<_> = self
            .operations
            .iter()
            .filter(|(_, o)| due(o))
            .map(|(id, _)| id.clone())
            .collect();
        for id in ids {
            self.take(&id, Event::Tick, observer)?;
        }
        Ok(())
    }

    fn receive(&mut self, message: Message, observer: Observer<'_>) -> Result<()> {
        match message {
            Message::Reply {
                operation_id,
                report,
            } => self.take(&operation_id, Event::Reported(report), observer),
            Message::SnapshotLost { operation_id, step } => {
                self.take(&operation_id, Event::SnapshotLost { step }, observer)
            }
            Message::Request(_) | Message::Abort { .. } => Ok(()),
        }
    }

    /// Takes an event and all that follows from it at once.
    fn take(&mut self, id: &OperationId, event: Event, observer: Observer<'_>) -> Result<()> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
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
                    continue;
                }
            };
            let unchanged = effects.is_empty() && same_but_for_time(before, &after);
            if !unchanged {
                env::crash_point();
                self.journal.update_operation(before, &after, &event)?;
                env::crash_point();
            }
            observer(&after);
            self.operations.insert(id.clone(), after);
            for effect in effects {
                events.extend(self.act(id, &effect));
            }
        }
        Ok(())
    }

    /// Carries out an effect. Returns the event that it is answered with at once, if so.
    fn act(&self, id: &OperationId, effect: &Effect) -> Option<Event> {
        let operation = self.operations.get(id)?;
        match effect {
            Effect::Allocate => return Some(allocate::allocate(operation, self.tools)),
            Effect::Advance => return Some(Event::Advance),
            Effect::Propose { shard_idx } => {
                let task = operation.tasks.get(*shard_idx as usize)?;
                let request = TaskRequest::new(operation, *shard_idx, task);
                self.to_worker(Message::Request(Box::new(request)));
            }
            Effect::Abort { shard_idx } => self.to_worker(Message::Abort {
                operation_id: id.clone(),
                step: operation.current_step,
                shard_idx: *shard_idx,
            }),
            Effect::Finished => self.workers.forget(id),
        }
        None
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
                Message::Reply { .. } | Message::SnapshotLost { .. } => {}
            }
        });
    }
}

/// Whether an event only made time pass.
fn same_but_for_time(before: &Operation, after: &Operation) -> bool {
    let mut timeless = after.clone();
    timeless.updated_at_ms = before.updated_at_ms;
    timeless == *before
}
