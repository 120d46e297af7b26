//! The machine that runs every long operation.
//!
//! ```text
//!             +------------- backoff over, next attempt --------------+
//!             v                                                       |
//! Allocating --> Proposing --> Waiting --> Applying --> next step: Allocating
//!  tasks of       requests      shards      barrier: the step
//!  the step       go out        report      is committed              --> Done | Failed | Cancelled
//! ```
//!
//! [`Operation::step`] is a pure function of the operation, the time and an event. Its caller
//! persists what the event touched, then carries out the effects: whatever is lost in a crash between the
//! two is derived again from what was persisted, by [`Event::Booted`].
//!
//! * *Cost*: an event of one task costs the same whatever the number of tasks; only those that begin a step, end
//!   it or resume an operation go through all of them.
//!
//! * *Attempts*: requests and reports carry the attempt; what speaks of another one is ignored.
//!   The first terminal report of an attempt wins.
//! * *Retry*: only the shard that failed is requested again, from its last key, after a backoff.
//! * *Budgets*: deadlines are absolute times, persisted; a restart does not extend them.
//! * *Lost cuts*: a step that reads a cut goes back to take it again, after a backoff when that happens
//!   repeatedly; elsewhere a cut that is gone is a fatal error.
//! * *Failures*: a fatal error of one task fails the operation at once; in steps whose tables do not
//!   depend on each other ([`StepKind::isolates_failures`]), once the others are done.
//! * *Holding*: an operation that was ordered so waits before one of its steps until it is resumed.
//! * *Stopping* (pause, cancel, failure): no request goes out any more, running attempts are told
//!   to stop, and only when the last of them has answered or its lease is over does the machine
//!   go on, so that two never work on one shard.

mod absorb;
mod asked;
pub mod cluster;
mod drill;
mod event;
mod kinds;
mod machine;
pub mod maintenance;
pub mod plan;
pub mod progress;
pub mod request;
mod rewind;
mod shard_method;
mod standing;
pub mod step;
mod take_over;
pub mod task;
mod tasks;
mod touched;
mod waits;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::manifest::Manifest;
use crate::name::OperationId;

pub use cluster::{ClusterRequest, ClusterWork, EXACT, HOLD, ShardAgent};
pub use drill::Drill;
pub use event::{Context, Effect, Event, IllegalEvent};
pub use maintenance::{FoldedRun, MaintenanceRequest, MaintenanceWork, Removal};
pub use plan::{PlanError, plan};
pub use progress::Progress;
pub use request::{
    BackupRequest, ChainLink, DifferentTable, ExpectedShard, FindBy, FoundBy, MendRequest,
    MendSource, PartBackupRequest, Redefinition, Request, RestoreRequest, RestoreStrategy,
    RowMendRequest, RowScope, RowTableMend, StoppedTable, TableMapping, TableMend, TableUndo,
    TargetTable, WrittenSince,
};
pub use rewind::{BadChangedBy, ChangedBy, Rewind, UntoldTable};
pub use shard_method::{ChosenMethod, ShardMethod, ShardOutlook};
pub use step::{PlannedStep, StepKind};
pub use task::{
    MendedRows, MendedShard, NewTask, PartAt, Report, ReportStatus, Task, TaskOutput, TaskSpec,
    TaskStatus,
};
pub use tasks::{TaskCounts, Tasks};
pub use touched::{Outcome, Touched, TouchedDraft};

/// Where an operation stands. Only [`Operation::step`] writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The tasks of the step are being found, or a shard waits for the backoff of its next attempt.
    Allocating,
    /// Tasks are known; some are still to be requested, as the window allows.
    Proposing,
    /// Every unfinished task has been requested.
    Waiting,
    /// Every task of the step is done; the next step begins with [`Event::Advance`].
    Applying,
    /// The last step is done.
    Done,
    /// A fatal error, or a deadline passed. It can be resumed after repair, or cancelled.
    Failed,
    /// Cancelled and rolled back.
    Cancelled,
}

impl State {
    /// The name in the journal and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allocating => "allocating",
            Self::Proposing => "proposing",
            Self::Waiting => "waiting",
            Self::Applying => "applying",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more happens unless a user asks for it.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// Why no request goes out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// A user paused the operation.
    Pause {
        /// When: the deadlines move by as much at resume.
        since_ms: u64,
    },
    /// It has come to a step before which it was to wait ([`Request::holds_before`]).
    Hold {
        /// When: the deadlines move by as much at resume.
        since_ms: u64,
    },
    /// A user cancelled it: roll back once nothing runs.
    Cancel,
    /// It failed with this message: be failed once nothing runs.
    Fail(String),
    /// It was refused with this message: roll back once nothing runs.
    Refuse(String),
}

/// A cut that does not exist any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostCut {
    /// How often in a row.
    pub times: u32,
    /// It is not taken again before this time.
    pub not_before_ms: u64,
    /// What was gone the last time, and how that was noticed.
    pub message: String,
}

/// The bounds of an operation, fixed when it is created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The most tasks that are worked on at a time.
    pub max_in_flight: u32,
    /// Tasks that are requested beyond those: who has done one need not wait until that is written down.
    #[serde(default)]
    pub requested_ahead: u32,
    /// A running attempt not heard of for so long is lost.
    pub lease_ms: u64,
    /// The backoff after a first error; it doubles with each further one.
    pub first_backoff_ms: u64,
    /// The backoff stops growing here.
    pub max_backoff_ms: u64,
    /// Time for each step.
    pub step_budget_ms: u64,
    /// Time for the whole operation.
    pub operation_budget_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const DAY_MS: u64 = 24 * 60 * 60 * 1000;
        Self {
            max_in_flight: 2,
            requested_ahead: 64,
            lease_ms: 10 * 60 * 1000,
            first_backoff_ms: 1_000,
            max_backoff_ms: 30_000,
            step_budget_ms: DAY_MS,
            operation_budget_ms: DAY_MS,
        }
    }
}

/// What is known of a long-running request without its tasks: of one size whatever the number of shards. Lists
/// need no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationHead {
    /// Its id.
    pub operation_id: OperationId,
    /// What was asked for. Read and not written: it hardly ever changes, and is a record of its own.
    #[serde(skip_serializing)]
    pub request: Request,
    /// The plan. Not part of the serialised form: each step is a record of its own.
    #[serde(skip_serializing, default)]
    pub steps: Vec<PlannedStep>,
    /// The step it is in.
    pub current_step: u32,
    /// Where it stands in it.
    pub state: State,
    /// Why no request goes out, if so.
    pub stop: Option<Stop>,
    /// Whether the tasks of the current step are known.
    pub allocated: bool,
    /// What is counted of them.
    #[serde(default)]
    pub counts: TaskCounts,
    /// The last error of the first of them that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_error: Option<String>,
    /// Attempts of tasks count on from here, so that no two of one shard share a number, even when
    /// a step is begun again.
    pub attempt_floor: u32,
    /// Counts failed allocations of the current step in a row.
    pub allocation_failures: u32,
    /// An allocation that failed is repeated at this time.
    pub allocate_at_ms: u64,
    /// How the cut was lost, if it was: it is taken again, the later the more often that happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_cut: Option<LostCut>,
    /// The repository it works with: its id, which a copy shares.
    pub repository_id: String,
    /// Where that repository was when the operation was created.
    pub repository_url: String,
    /// Its bounds.
    pub limits: Limits,
    /// When it was created, in milliseconds since 1970.
    pub created_at_ms: u64,
    /// The last event.
    pub updated_at_ms: u64,
    /// The step is failed after this time.
    pub step_deadline_ms: u64,
    /// The operation is failed after this time.
    pub operation_deadline_ms: u64,
    /// Rows done in the steps before.
    pub rows_before: u64,
    /// Bytes done in the steps before.
    pub bytes_before: u64,
    /// What a mend of rows did to all ranges.
    #[serde(default)]
    pub mended_rows: MendedRows,
    /// Hundredths of a percent that have been shown.
    pub percent_floor: u32,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

impl Limits {
    /// The most tasks that are requested at a time.
    pub fn window(&self) -> usize {
        let window = self
            .max_in_flight
            .max(1)
            .saturating_add(self.requested_ahead);
        usize::try_from(window).unwrap_or(usize::MAX)
    }
}

/// A long-running request and how far it is. After each event, what that changed is persisted.
///
/// It is read as its [`OperationHead`], too: what is known of it without what grows with the shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// All but what grows with the number of shards.
    pub head: OperationHead,
    /// The tasks of the current step.
    pub tasks: Tasks,
    /// The manifest in the making, of a backup that was cut and is not over.
    pub draft: Option<Arc<Manifest>>,
    /// What a mend of rows did to each range.
    pub mended: Vec<MendedShard>,
    /// What the event that is being taken has touched.
    touched: Touched,
}

impl Deref for Operation {
    type Target = OperationHead;

    fn deref(&self) -> &OperationHead {
        &self.head
    }
}

impl DerefMut for Operation {
    fn deref_mut(&mut self) -> &mut OperationHead {
        &mut self.head
    }
}

impl Operation {
    /// A new operation at the beginning of its plan. `repository` is the id and the URL of the repository.
    pub fn new(
        operation_id: OperationId,
        request: Request,
        steps: Vec<PlannedStep>,
        repository: (String, String),
        limits: Limits,
        now_ms: u64,
    ) -> Self {
        let (repository_id, repository_url) = repository;
        let head = OperationHead {
            operation_id,
            request,
            steps,
            current_step: 0,
            state: State::Allocating,
            stop: None,
            allocated: false,
            counts: TaskCounts::default(),
            task_error: None,
            attempt_floor: 0,
            allocation_failures: 0,
            allocate_at_ms: 0,
            lost_cut: None,
            repository_id,
            repository_url,
            created_at_ms: now_ms,
            updated_at_ms: now_ms,
            step_deadline_ms: now_ms.saturating_add(limits.step_budget_ms),
            operation_deadline_ms: now_ms.saturating_add(limits.operation_budget_ms),
            limits,
            rows_before: 0,
            bytes_before: 0,
            mended_rows: MendedRows::default(),
            percent_floor: 0,
            error: None,
        };
        Self::assembled(head, Tasks::default(), None, Vec::new())
    }

    /// An operation whose records were read.
    pub fn assembled(
        head: OperationHead,
        tasks: Tasks,
        draft: Option<Arc<Manifest>>,
        mended: Vec<MendedShard>,
    ) -> Self {
        Self {
            head,
            tasks,
            draft,
            mended,
            touched: Touched::default(),
        }
    }
}

impl OperationHead {
    /// The step it is in.
    pub fn step_kind(&self) -> StepKind {
        self.steps
            .get(self.current_step as usize)
            .map_or(StepKind::Rollback, |step| step.kind)
    }

    /// The label of the step it is in.
    pub fn step_label(&self) -> String {
        self.steps
            .get(self.current_step as usize)
            .map(PlannedStep::label)
            .unwrap_or_default()
    }

    /// Whether it is driven with a repository, by the id of that. One that needs none is driven with any.
    pub fn works_with(&self, repository_id: Option<&str>) -> bool {
        let own = self.repository_id.as_str();
        own.is_empty() || Some(own) == repository_id
    }

    /// Whether it waits to be resumed: a user has paused it, or it is held.
    pub fn is_paused(&self) -> bool {
        matches!(self.stop, Some(Stop::Pause { .. } | Stop::Hold { .. }))
    }

    /// Whether it waits before the step that it was to wait before.
    pub fn is_held(&self) -> bool {
        matches!(self.stop, Some(Stop::Hold { .. }))
    }
}

#[cfg(test)]
mod hold_tests;
#[cfg(test)]
mod isolation_tests;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod report_tests;
#[cfg(test)]
mod tests;
