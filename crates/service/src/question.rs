//! The questions that an attempt asks the journal of its operation, and the answers.

use mendb_model::describe_error;
use mendb_model::name::{BackupId, OperationId};
use mendb_model::part::{LeftPartition, TableName, TablePlan, Tally, Witness};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::journal::Journal;
use crate::journal::command::Command;
use crate::journal::made::Made;
use crate::journal::mend_plan::{MendPlan, MendState};
use crate::journal::needed::Needed;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Asker {
    /// The operation.
    pub operation_id: OperationId,
    /// The step.
    pub step: u32,
    /// The task in it and the attempt; `None` where its tasks are looked for, which writes nothing.
    pub task: Option<(u32, u32)>,
}

/// What the journal is asked, or told to keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// The plan of a table of a mend, by its place.
    MendPlan(u32),
    /// The plans of all tables of a mend, which may be another operation.
    MendPlans(OperationId),
    /// The plan of a table of a mend, which may be another operation, by its name.
    MendPlanOf(OperationId, TableName),
    /// What a mend, which may be another operation, left the partitions of a table as.
    LeftPartitions(OperationId, u32),
    /// What a mend, which may be another operation, has created.
    Made(OperationId),
    /// The newest witness of a table.
    Witness(TableName),
    /// Whether there is an operation of this id.
    IsKnown(OperationId),
    /// Whether a user has asked that the operation be paused or cancelled.
    IsRecalled,
    /// Which of some backups of a collection an unfinished operation needs, of those of the target that is worked on
    /// beside the repository alone.
    NeededBeside(String, Vec<BackupId>),
    /// Keep the plan of a table.
    PutMendPlan(u32, Box<TablePlan>),
    /// Keep what was done to a table.
    SetMendDone(u32, Tally),
    /// Keep how many parts came after planning.
    SetMendLate(u32, u64),
    /// Keep what has become of a table.
    SetMendState(u32, MendState),
    /// Keep what a partition of a table was left as.
    PutLeftPartition(u32, Box<LeftPartition>),
    /// Keep what is about to be created.
    PutMade(Made),
    /// Keep the witness of a table.
    PutWitness(TableName, Box<Witness>),
}

/// What the journal answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is kept, durably.
    Kept,
    /// Yes or no.
    Is(bool),
    /// A plan.
    MendPlan(Option<Box<MendPlan>>),
    /// A plan with its place.
    MendPlanAt(Option<(u32, Box<MendPlan>)>),
    /// Plans.
    MendPlans(Vec<MendPlan>),
    /// What partitions were left as.
    LeftPartitions(Vec<LeftPartition>),
    /// What was created.
    Made(Vec<Made>),
    /// A witness.
    Witness(Option<Box<Witness>>),
    /// A backup that is needed, and by what.
    Needed(Option<Box<Needed>>),
    /// The one who asks is not the current attempt of its task, or may not write.
    NotCurrent,
    /// The journal cannot be read or written, and why.
    Failed(String),
}

impl Question {
    /// Whether it has something written.
    pub(crate) fn writes(&self) -> bool {
        match self {
            Self::MendPlan(_)
            | Self::MendPlans(_)
            | Self::MendPlanOf(..)
            | Self::LeftPartitions(..)
            | Self::Made(_)
            | Self::Witness(_)
            | Self::IsKnown(_)
            | Self::IsRecalled
            | Self::NeededBeside(..) => false,
            Self::PutMendPlan(..)
            | Self::SetMendDone(..)
            | Self::SetMendLate(..)
            | Self::SetMendState(..)
            | Self::PutLeftPartition(..)
            | Self::PutMade(_)
            | Self::PutWitness(..) => true,
        }
    }

    /// The answer to an attempt of this operation.
    pub(crate) fn answer(&self, journal: &Journal, own: &OperationId) -> Answer {
        let answer = self.try_answer(journal, own);
        answer.unwrap_or_else(|error| Answer::Failed(describe_error(&error)))
    }

    fn try_answer(&self, journal: &Journal, own: &OperationId) -> Result<Answer> {
        let answer = match self {
            Self::MendPlan(idx) => Answer::MendPlan(journal.mend_plan(own, *idx)?.map(Box::new)),
            Self::MendPlans(id) => Answer::MendPlans(journal.mend_plans(id)?),
            Self::MendPlanOf(id, target) => {
                let found = journal.mend_plan_of(id, target)?;
                Answer::MendPlanAt(found.map(|(idx, plan)| (idx, Box::new(plan))))
            }
            Self::LeftPartitions(id, idx) => {
                Answer::LeftPartitions(journal.left_partitions(id, *idx)?)
            }
            Self::Made(id) => Answer::Made(journal.made(id)?),
            Self::Witness(table) => Answer::Witness(journal.witness(table)?.map(Box::new)),
            Self::IsKnown(id) => Answer::Is(journal.knows(id)?),
            Self::IsRecalled => {
                let stops = |(_, id, command): &(i64, OperationId, Command)| {
                    id == own && matches!(command, Command::Pause | Command::Cancel(_))
                };
                let is_asked = journal.commands()?.iter().any(stops);
                Answer::Is(is_asked || journal.operation_head(own)?.stop.is_some())
            }
            Self::NeededBeside(collection, backups) => {
                let found = journal.needed_beside(collection, backups)?;
                Answer::Needed(found.map(Box::new))
            }
            Self::PutMendPlan(idx, plan) => kept(journal.put_mend_plan(own, *idx, plan))?,
            Self::SetMendDone(idx, done) => kept(journal.set_mend_done(own, *idx, done))?,
            Self::SetMendLate(idx, late) => kept(journal.set_mend_late(own, *idx, *late))?,
            Self::SetMendState(idx, state) => kept(journal.set_mend_state(own, *idx, *state))?,
            Self::PutLeftPartition(idx, left) => kept(journal.put_left_partition(own, *idx, left))?,
            Self::PutMade(made) => kept(journal.put_made(own, made))?,
            Self::PutWitness(table, witness) => kept(journal.put_witness(table, witness))?,
        };
        Ok(answer)
    }
}

fn kept(written: Result<()>) -> Result<Answer> {
    written.map(|()| Answer::Kept)
}
