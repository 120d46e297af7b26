//! What an [`Operation`](super::Operation) learns, and what it wants done.

use super::cluster::ShardAgent;
use super::task::{NewTask, Report};
use crate::part::OnConcurrentInsert;

/// What a transition may know of the world.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// Milliseconds since 1970.
    pub now_ms: u64,
    /// A random number from 0 to 1, which spreads retries.
    pub jitter: f64,
}

/// Something that happened. Each begins with its sender.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Coordinator: the operation was created, or read from the journal after a restart.
    Booted,
    /// Coordinator: the tasks of a step.
    Allocated {
        /// The step.
        step: u32,
        /// Its tasks; there may be none.
        tasks: Vec<NewTask>,
    },
    /// Coordinator: the tasks of a step could not be found.
    AllocationFailed {
        /// The step.
        step: u32,
        /// Whether to try again without anyone doing anything.
        retriable: bool,
        /// Whether the cut that it reads does not exist any more.
        is_cut_lost: bool,
        /// What failed, why, and what to do.
        message: String,
    },
    /// Worker: how an attempt goes.
    Reported(Report),
    /// Coordinator, after [`Effect::Advance`]: begin the next step.
    Advance,
    /// Coordinator: time passed.
    Tick,
    /// User: send no more requests.
    Pause,
    /// User: go on after a pause or a failure.
    Resume {
        /// What becomes of parts that came into tables of a mend, or of a cluster, meanwhile, if that is said anew.
        on_concurrent_insert: Option<OnConcurrentInsert>,
    },
    /// User: have another replica do the part of a shard of a cluster, and go on.
    TakeOver {
        /// It, with its shard.
        by: ShardAgent,
    },
    /// User: give up and roll back.
    Cancel {
        /// What becomes of parts that came into tables of a cluster meanwhile, if that is said.
        on_concurrent_insert: Option<OnConcurrentInsert>,
    },
}

/// Something to do, after the operation was persisted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Find the tasks of the current step and send [`Event::Allocated`].
    Allocate,
    /// Request this task in its current attempt.
    Propose {
        /// Its place in the tasks.
        shard_idx: u32,
    },
    /// Tell the running attempt of a task to stop.
    Abort {
        /// The step it belongs to: not the current one when the operation goes back.
        step: u32,
        /// Its place in the tasks of that step.
        shard_idx: u32,
    },
    /// Send [`Event::Advance`].
    Advance,
    /// The operation reached a terminal state.
    Finished,
}

/// An event that the operation's state does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IllegalEvent {
    /// It is over.
    #[error("operation {operation_id} is {state} and cannot be {wanted}")]
    Over {
        /// The operation.
        operation_id: String,
        /// Its state.
        state: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
    /// It is not stopped.
    #[error(
        "operation {operation_id} is neither paused nor failed: there is nothing to resume. If no process works on it, go on with it: mendb operation watch {operation_id}"
    )]
    NotStopped {
        /// The operation.
        operation_id: String,
    },
    /// No other replica can do the part of a shard.
    #[error("no other replica can go on with operation {operation_id}: {why}")]
    NoTakeOver {
        /// The operation.
        operation_id: String,
        /// What is in the way.
        why: String,
    },
    /// It is stopped already.
    #[error("operation {operation_id} is already stopping or stopped")]
    Stopping {
        /// The operation.
        operation_id: String,
    },
    /// It is being rolled back.
    #[error(
        "operation {operation_id} is being rolled back already; mendb operation watch {operation_id} finishes that"
    )]
    RollingBack {
        /// The operation.
        operation_id: String,
    },
    /// Its result exists.
    #[error(
        "operation {operation_id} is in step {step}, where its result exists already; let it finish: mendb operation watch {operation_id}"
    )]
    TooLate {
        /// The operation.
        operation_id: String,
        /// The step.
        step: &'static str,
    },
}
