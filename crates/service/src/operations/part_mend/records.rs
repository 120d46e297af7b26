//! What the journal knows of a table under mend. By it a mend tells what somebody inserted from what it may remove.

use std::collections::HashMap;

use mendb_model::name::OperationId;
use mendb_model::part::{
    Hash128, Inventory, Ledger, LeftPartition, OnConcurrentInsert, TablePlan, Wanted,
};

use crate::journal::mend_plan::MendPlan;
use crate::journal_port::JournalPort;
use crate::task_error::TaskResult;

/// The records of one table, and what they are asked for.
pub(super) struct Records {
    before: Inventory,
    left: Vec<LeftPartition>,
    /// Partitions and contents of what is brought.
    brings: Vec<(String, Hash128)>,
    /// Names of parts that somebody had brought before it was planned.
    came: Vec<String>,
    aim: Aim,
}

/// What a table is looked at for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    /// To carry a plan out. Partitions that are mended are done with, and what came into one that was begun
    /// came after its mend.
    Mend(OnConcurrentInsert),
    /// To plan how a mend that is over is undone.
    PlanUndo(OnConcurrentInsert),
    /// To take a mend back that was given up: what somebody brought stays.
    TakeBack,
}

impl Records {
    /// Of a table whose plan is carried out.
    pub(super) fn of_plan(
        journal: &JournalPort<'_>,
        id: &OperationId,
        idx: u32,
        plan: &TablePlan,
        wanted: &[Wanted],
        on_concurrent_insert: OnConcurrentInsert,
    ) -> TaskResult<Self> {
        Self::read(
            journal,
            id,
            idx,
            plan,
            wanted,
            Aim::Mend(on_concurrent_insert),
        )
    }

    /// Of a table of a mend, which is to be again what it was before that.
    pub(super) fn of_mended(
        journal: &JournalPort<'_>,
        id: &OperationId,
        idx: u32,
        mended: &MendPlan,
        back: &[Wanted],
        aim: Aim,
    ) -> TaskResult<Self> {
        let mut records = Self::read(journal, id, idx, &mended.plan, back, aim)?;
        // A partition holds what the mend brought or what comes back: no content is there for both.
        let mut back: HashMap<(String, Hash128), usize> = HashMap::new();
        for content in &records.brings {
            *back.entry(content.clone()).or_default() += 1;
        }
        for partition in &mended.plan.partitions {
            let fetched = partition.fetch.iter().map(|part| part.hash);
            let kept = partition.keep.iter().map(|part| part.hash);
            for hash in fetched.chain(kept) {
                let content = (partition.partition_id.clone(), hash);
                match back.get_mut(&content).filter(|count| **count > 0) {
                    Some(count) => *count -= 1,
                    None => records.brings.push(content),
                }
            }
        }
        Ok(records)
    }

    fn read(
        journal: &JournalPort<'_>,
        id: &OperationId,
        idx: u32,
        plan: &TablePlan,
        wanted: &[Wanted],
        aim: Aim,
    ) -> TaskResult<Self> {
        let brings = wanted.iter().map(|wanted| &wanted.part);
        let brings = brings.map(|part| (part.partition_id.clone(), part.hash));
        let came = plan.came.iter().filter(|came| !came.mixed);
        Ok(Self {
            before: plan.before.clone().unwrap_or_default(),
            left: journal.left_partitions(id, idx)?,
            brings: brings.collect(),
            came: came.map(|came| came.name.clone()).collect(),
            aim,
        })
    }

    /// What they come to, for a table that is like this now.
    pub(super) fn ledger(&self, live: &Inventory) -> Ledger<'_> {
        let brings = self.brings.iter().map(|(id, hash)| (id.as_str(), *hash));
        let numbers_hold =
            self.before.run.is_same(&live.run) && self.before.incarnation == live.incarnation;
        // What was done to another table that had this name says nothing of this one.
        let left = (self.left.iter()).filter(|left| left.incarnation == live.incarnation);
        Ledger::new(&self.before, left, brings, numbers_hold)
            .with_came(self.came.iter().map(String::as_str))
    }

    /// Whether what somebody brought into a partition stays.
    pub(super) fn spares(&self, ledger: &Ledger<'_>, partition_id: &str) -> bool {
        match self.aim {
            Aim::Mend(OnConcurrentInsert::Keep)
            | Aim::PlanUndo(OnConcurrentInsert::Keep)
            | Aim::TakeBack => true,
            Aim::Mend(_) => ledger.left(partition_id).is_some(),
            Aim::PlanUndo(_) => false,
        }
    }

    /// Whether nothing more is to be done about a partition.
    pub(super) fn is_done(
        &self,
        ledger: &Ledger<'_>,
        partition_id: &str,
        live: &Inventory,
    ) -> bool {
        matches!(self.aim, Aim::Mend(_)) && ledger.is_mended(partition_id, live)
    }

    /// Updates in patch parts that came since it was planned.
    pub(super) fn new_patches<'a>(
        &'a self,
        live: &'a Inventory,
    ) -> impl Iterator<Item = &'a String> {
        let is_new = |patch: &&String| !self.before.patches.contains(patch);
        live.patches.iter().filter(is_new)
    }
}
