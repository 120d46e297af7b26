//! Record `operation_event`: the audit log of an operation.

use mendb_model::name::OperationId;
use mendb_model::operation::{Event, OperationHead, ReportStatus, ShardAgent, State};
use rusqlite::{Transaction, params};
use serde::Serialize;

use super::{Journal, int};
use crate::error::Result;

pub(super) const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS operation_event (
    event_id     INTEGER PRIMARY KEY AUTOINCREMENT,
    operation_id TEXT NOT NULL,
    at_ms        INTEGER NOT NULL,
    event        TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS operation_event_by_operation ON operation_event (operation_id);";

/// One entry of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OperationEvent {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What happened.
    pub event: String,
}

pub(super) fn put(
    tx: &Transaction<'_>,
    operation: &OperationHead,
    event: &str,
) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO operation_event (operation_id, at_ms, event) VALUES (?1, ?2, ?3)",
    )?
    .execute(params![
        operation.operation_id.as_str(),
        int(operation.updated_at_ms),
        event
    ])?;
    Ok(())
}

/// What is written down about an event: begun with what was before it.
pub(super) struct Entry {
    text: Option<String>,
    state: State,
    /// Of a tick, the error before it: it is written down where it changed something.
    tick: Option<Option<String>>,
    /// So many agents of a cluster had been given up before it.
    left: usize,
}

impl Entry {
    /// What to write down; nothing of those that are only progress.
    pub(super) fn begin(before: &OperationHead, event: &Event) -> Self {
        Self {
            text: describe(&before.step_label(), event),
            state: before.state,
            tick: matches!(event, Event::Tick).then(|| before.error.clone()),
            left: match event {
                // That says so itself.
                Event::TakeOver { .. } => usize::MAX,
                _ => given_up(before),
            },
        }
    }

    /// Whether it ended the operation.
    pub(super) fn is_end(&self, after: &OperationHead) -> bool {
        after.state.is_terminal() && !self.state.is_terminal()
    }

    /// The text, where there is any.
    pub(super) fn end(self, after: &OperationHead) -> Option<String> {
        let is_end = self.is_end(after);
        if let Some(error) = self.tick
            && self.state == after.state
            && error == after.error
        {
            return None;
        }
        let mut text = self.text?;
        if let Some((lost, by)) = replaced(after).filter(|_| given_up(after) > self.left) {
            text += &format!(
                "; replica {} does the part of shard {} from now on, as {} is lost",
                by.replica, by.shard, lost.replica
            );
        }
        Some(if is_end {
            format!("{text}; operation {}", after.state.name())
        } else {
            text
        })
    }
}

/// How many agents of a cluster were given up.
fn given_up(operation: &OperationHead) -> usize {
    let request = operation.request.cluster();
    request.map_or(0, |request| request.left.len())
}

/// The agent that was given up last, and the one that does its part.
fn replaced(operation: &OperationHead) -> Option<(&ShardAgent, &ShardAgent)> {
    let request = operation.request.cluster()?;
    let lost = request.left.last()?;
    let by = request.shards.iter().find(|by| by.shard == lost.shard)?;
    Some((lost, by))
}

fn describe(step: &str, event: &Event) -> Option<String> {
    let text = match event {
        Event::Booted => "picked up".to_owned(),
        Event::Allocated { tasks, .. } if tasks.len() == 1 => format!("{step}: 1 task"),
        Event::Allocated { tasks, .. } => format!("{step}: {} tasks", tasks.len()),
        Event::AllocationFailed { message, .. } => format!("{step}: cannot begin: {message}"),
        Event::Reported(report) => {
            let shard = report.shard_idx;
            match &report.status {
                ReportStatus::InProgress => return None,
                ReportStatus::Success => format!("{step}: shard {shard} done"),
                ReportStatus::Error { message, .. }
                | ReportStatus::Unheard { message, .. }
                | ReportStatus::Refused { message } => {
                    format!("{step}: shard {shard} failed: {message}")
                }
                ReportStatus::CutLost { message } => {
                    format!("{step}: shard {shard} has lost the cut: {message}")
                }
                ReportStatus::Stopped => format!("{step}: shard {shard} stopped"),
            }
        }
        Event::Advance => format!("{step} done"),
        Event::Tick => "time passed".to_owned(),
        Event::Pause => "paused by a user".to_owned(),
        Event::Resume { .. } => "resumed by a user".to_owned(),
        Event::TakeOver { by } => format!(
            "a user has replica {} do the part of shard {}",
            by.replica, by.shard
        ),
        Event::Cancel { .. } => "cancelled by a user".to_owned(),
    };
    Some(text)
}

impl Journal {
    /// The audit log of an operation, oldest first.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn operation_events(&self, id: &OperationId) -> Result<Vec<OperationEvent>> {
        self.read("read operation events", |connection| {
            connection
                .prepare("SELECT at_ms, event FROM operation_event WHERE operation_id = ?1 ORDER BY event_id")?
                .query_map([id.as_str()], |row| {
                    Ok(OperationEvent { at_ms: row.get::<_, i64>(0)?.unsigned_abs(), event: row.get(1)? })
                })?
                .collect()
        })
    }
}
