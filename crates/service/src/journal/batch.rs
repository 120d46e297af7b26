//! Events that are taken together: one commit for all of them.
//!
//! *Order*: the coordinator carries out their effects after the commit. *Crash*: all of them happened or none did.
//! *Cost*: an event writes only what it touched. One commit serves all events that came in during the last one.

use mendb_model::operation::{Context, Effect, Event, IllegalEvent, Operation, Touched};
use rusqlite::Transaction;

use super::{
    Journal, command, draft_shard, failed, mended_shard, operation, operation_end, operation_event,
    operation_step, shard_progress,
};
use crate::env;
use crate::error::Result;

/// Some events, not yet committed.
pub struct Batch<'a> {
    journal: &'a Journal,
    tx: &'a Transaction<'a>,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It happened.
    Happened {
        /// What it asks for.
        effects: Vec<Effect>,
        /// Whether the request of the operation is another one since.
        changed_request: bool,
    },
    /// The state of the operation does not allow it.
    Illegal(IllegalEvent),
    /// It was a command, and was withdrawn meanwhile.
    Withdrawn,
}

impl Journal {
    /// Takes events, and commits what they touched when all of them are taken.
    ///
    /// # Errors
    /// The journal cannot be written, or `take` fails: nothing happened then, and the operations that were
    /// changed in memory are not what the journal says.
    pub fn batch<T>(&self, take: impl FnOnce(&Batch<'_>) -> Result<T>) -> Result<T> {
        let action = "update operations";
        let mut connection = self.connection();
        self.check()?;
        let tx = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(|source| failed(&self.path, action, source))?;
        let taken = take(&Batch {
            journal: self,
            tx: &tx,
        })?;
        env::crash_point();
        tx.commit()
            .map_err(|source| failed(&self.path, action, source))?;
        self.keep(&connection)?;
        env::crash_point();
        Ok(taken)
    }
}

impl Batch<'_> {
    /// Takes an event through the machine, and writes what that touched. When the event is a user's command, its
    /// record goes in the same transaction: a crash neither loses a command nor lets it happen twice.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn take(
        &self,
        operation: &mut Operation,
        context: Context,
        event: Event,
        command_id: Option<i64>,
    ) -> Result<Taken> {
        let taken = self.write(operation, context, event, command_id);
        taken.map_err(|source| failed(&self.journal.path, "update operation", source))
    }

    fn write(
        &self,
        operation: &mut Operation,
        context: Context,
        event: Event,
        command_id: Option<i64>,
    ) -> rusqlite::Result<Taken> {
        let tx = self.tx;
        if let Some(command_id) = command_id
            && !command::delete(tx, command_id)?
        {
            return Ok(Taken::Withdrawn);
        }
        let entry = operation_event::Entry::begin(operation, &event);
        let outcome = match operation.step(context, event) {
            Ok(outcome) => outcome,
            Err(illegal) => return Ok(Taken::Illegal(illegal)),
        };
        if command_id.is_some() || outcome.touched.standing {
            put(tx, operation, &outcome.touched)?;
            if entry.is_end(operation) {
                operation_end::put(tx, operation)?;
            }
            if let Some(text) = entry.end(operation) {
                operation_event::put(tx, operation, &text)?;
            }
        }
        Ok(Taken::Happened {
            effects: outcome.effects,
            changed_request: outcome.touched.request,
        })
    }
}

/// Writes what an event touched.
fn put(tx: &Transaction<'_>, operation: &Operation, touched: &Touched) -> rusqlite::Result<()> {
    let id = &operation.operation_id;
    operation::put(tx, operation)?;
    if touched.request {
        operation::put_request(tx, operation)?;
    }
    operation_step::put_touched(tx, operation, touched)?;
    shard_progress::put_touched(tx, operation, touched)?;
    draft_shard::put_touched(tx, id, operation.draft.as_ref(), &touched.draft)?;
    if let Some(from) = touched.mended_from {
        mended_shard::put(tx, id, &operation.mended, from)?;
    }
    Ok(())
}
