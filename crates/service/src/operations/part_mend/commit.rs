//! Makes staged parts live, partition by partition, and proves each partition.
//!
//! Merges of the table are stopped meanwhile. The end of the attempt, its failure or the next process starts them
//! again; in a long commit they also run for a moment on the way. The step compares the table anew first, and each
//! partition again just before it exchanges it. It proves a partition right after the change, while nothing can merge
//! its parts, and records how it left the partition ([`super::records`]): so what the server makes of these parts
//! later, and what somebody inserts, stays told apart from what the mend may remove.
//!
//! *Crash*: the next attempt goes by what it finds in a partition, not by what was planned. It does not touch a
//! partition that is recorded as mended, unless the server died since and undid the change.

use std::collections::HashSet;

use mendb_engines::{Exchange, Origin, PartStore, Remedy};
use mendb_model::operation::{MendRequest, TableMend};
use mendb_model::part::{
    Action, CamePart, Fetched, Inventory, Kept, LeftPartition, OnConcurrentInsert, PartitionMethod,
    PartitionPlan, Space, TablePlan, Tally, Wanted, Witness, decide,
};

use super::assess::planned;
use super::opened_source::OpenedSource;
use super::prepare::{plan_again, take_up};
use super::proof::proved;
use super::records::Records;
use super::stage::Stage;
use super::tables::table_of;
use super::view::{Look, View};
use crate::attempt::{Attempt, Counts};
use crate::journal::mend_plan::{MendPlan, MendState};
use crate::task_error::{TaskError, TaskResult};

/// How often a partition that changes under our hands is planned anew.
const MOST_ROUNDS: usize = 5;

/// After so long merges may run for a moment between two partitions: a table without them falls ill.
const MERGES_STOPPED_MS_MAX: u64 = 15 * 60 * 1000;

/// Commits a table as it was planned. Where an attempt before has stopped over what somebody brought, and
/// told of it, what it planned then is carried out.
pub(super) fn commit(
    attempt: &Attempt<'_>,
    request: &MendRequest,
    idx: u32,
    counts: &mut Counts,
) -> TaskResult<()> {
    let mut record = planned(attempt, idx)?;
    if request.on_concurrent_insert == OnConcurrentInsert::Fail
        && let Some(again) = record.plan.again.take()
    {
        record = take_up(attempt, idx, *again, record.changed)?;
    }
    let table = table_of(request, idx)?;
    let source = OpenedSource::open(attempt, request)?;
    let wanted = source.wanted(table)?;
    let commit = Commit {
        purpose: Purpose::CarryOut(&record.plan),
        stage: Stage {
            view: View {
                attempt,
                request,
                table,
                source: &source,
                wanted: &wanted,
            },
            idx,
            damaged: &record.plan.damaged,
        },
    };
    commit.run(counts)
}

/// Brings a table back to what was frozen before a mend that was given up. What somebody brought stays.
pub(super) fn bring_back(
    attempt: &Attempt<'_>,
    request: &MendRequest,
    back: &TableMend,
    idx: u32,
    mended: &MendPlan,
) -> TaskResult<()> {
    let source = OpenedSource::open(attempt, request)?;
    let wanted = source.wanted(back)?;
    let commit = Commit {
        purpose: Purpose::TakeBack(mended),
        stage: Stage {
            view: View {
                attempt,
                request,
                table: back,
                source: &source,
                wanted: &wanted,
            },
            idx,
            damaged: &[],
        },
    };
    commit.run(&mut Counts::default())
}

/// What a table is changed for.
#[derive(Clone, Copy)]
enum Purpose<'a> {
    /// To carry a plan out.
    CarryOut(&'a TablePlan),
    /// To take back what a mend has done.
    TakeBack(&'a MendPlan),
}

struct Commit<'a> {
    purpose: Purpose<'a>,
    stage: Stage<'a>,
}

impl Commit<'_> {
    fn run(&self, counts: &mut Counts) -> TaskResult<()> {
        let attempt = self.stage.view.attempt;
        let engine = attempt.tools.engine.parts()?;
        let (operation, target) = (attempt.operation(), &self.stage.view.table.target);
        if self.is_as_planned()? {
            return Ok(());
        }
        // A replica that cannot be changed, or lacks what others have, is refused before anything is.
        engine.catch_up(target)?;
        engine.stop_merges(operation, target)?;
        crate::env::crash_point();
        let outcome = self.change(engine, counts);
        // Also where the commit has failed: a table whose merges stay stopped falls ill.
        let started = engine.start_merges(operation, target);
        outcome?;
        crate::env::crash_point();
        Ok(started?)
    }

    /// Whether a table of which nothing was to be changed is as it should be: then it is left alone.
    fn is_as_planned(&self) -> TaskResult<bool> {
        let Purpose::CarryOut(plan) = self.purpose else {
            return Ok(false);
        };
        let is_idle = |plan: &TablePlan| {
            let mut partitions = plan.partitions.iter();
            partitions.all(|partition| partition.action == Action::Nothing)
        };
        if self.stage.view.table.create || !is_idle(plan) || !plan.damaged.is_empty() {
            return Ok(false);
        }
        let now = self.stage.view.look(&[], None)?;
        let is_as_planned = now.live.is_some() && is_idle(&now.plan);
        if is_as_planned {
            self.count_kept(plan)?;
        }
        Ok(is_as_planned)
    }

    fn change(&self, engine: &dyn PartStore, counts: &mut Counts) -> TaskResult<()> {
        let attempt = self.stage.view.attempt;
        let journal = &attempt.journal;
        let target = &self.stage.view.table.target;
        let stopped_at_ms = crate::env::now_ms();
        let mut rounds = 0;
        loop {
            attempt.check_stopped()?;
            if rounds > 0 {
                self.let_merges_run(engine, stopped_at_ms)?;
                // A server that was started again has forgotten it.
                engine.stop_merges(attempt.operation(), target)?;
            }
            let now = self.look()?;
            self.check_late(&now)?;
            engine.kill_mutations(target, &now.plan.kill_mutations)?;
            let order = now.plan.work_order().into_iter();
            let open: Vec<&PartitionPlan> = order
                .map(|at| &now.plan.partitions[at])
                .filter(|partition| partition.action != Action::Nothing)
                .collect();
            let Some(first) = open.first() else {
                return self.finish(&now);
            };
            rounds += 1;
            if rounds > MOST_ROUNDS * (now.plan.partitions.len() + 1) {
                return Err(TaskError::Proof(format!(
                    "partition {} changes faster than it can be mended; stop what writes to it, then resume",
                    first.partition_id
                )));
            }
            if rounds == 1 && matches!(self.purpose, Purpose::CarryOut(_)) {
                journal.set_mend_state(self.stage.idx, MendState::Changing)?;
                crate::env::crash_point();
            }
            self.partitions(engine, &now, &open, counts)?;
        }
    }

    /// Lets merges run for a moment where they have been stopped for long.
    fn let_merges_run(&self, engine: &dyn PartStore, stopped_at_ms: u64) -> TaskResult<()> {
        let stopped_ms = crate::env::now_ms().saturating_sub(stopped_at_ms);
        if stopped_ms > MERGES_STOPPED_MS_MAX {
            let View { attempt, table, .. } = self.stage.view;
            engine.start_merges(attempt.operation(), &table.target)?;
        }
        Ok(())
    }

    /// Brings about partitions, until one is not any more what it was when all were looked at, or is
    /// done only by half.
    fn partitions(
        &self,
        engine: &dyn PartStore,
        now: &Look,
        open: &[&PartitionPlan],
        counts: &mut Counts,
    ) -> TaskResult<()> {
        let View { attempt, table, .. } = self.stage.view;
        let stopped_at_ms = crate::env::now_ms();
        for partition in open {
            attempt.check_stopped()?;
            match self.partition(engine, now, partition, counts) {
                Err(TaskError::Engine(error)) if error.remedy == Remedy::Replan => {
                    tracing::info!(target = %table.target, %error, "is planned anew");
                    return Ok(());
                }
                outcome => outcome?,
            }
            let is_long = crate::env::now_ms() - stopped_at_ms > MERGES_STOPPED_MS_MAX;
            if partition.action == Action::RemoveFirst || is_long {
                return Ok(());
            }
        }
        Ok(())
    }

    fn look(&self) -> TaskResult<Look> {
        let view = &self.stage.view;
        let records = self.records()?;
        let mut now = view.look(self.stage.damaged, Some(&records))?;
        let engine = view.attempt.tools.engine.parts()?;
        // Room was looked for when the whole was planned; what was chosen then stays chosen.
        let disks = engine.disks()?;
        let mut room = Space {
            free: disks
                .into_iter()
                .map(|disk| (disk.name, u64::MAX))
                .collect(),
            reserve: 0,
        };
        let order = match view.request.order {
            PartitionMethod::Auto => PartitionMethod::Swap,
            chosen => chosen,
        };
        let drops_parts = engine.can_drop_parts();
        decide(&mut now.plan, order, drops_parts, &mut room)
            .map_err(|error| TaskError::Proof(error.to_string()))?;
        match self.purpose {
            Purpose::CarryOut(plan) => stay_with(plan, &mut now.plan),
            Purpose::TakeBack(mended) => leave_untouched(&mended.plan, &mut now),
        }
        Ok(now)
    }

    fn records(&self) -> TaskResult<Records> {
        let View {
            attempt,
            request,
            wanted,
            ..
        } = self.stage.view;
        let (journal, id) = (&attempt.journal, &attempt.request.operation_id);
        let idx = self.stage.idx;
        match self.purpose {
            Purpose::CarryOut(plan) => {
                let policy = request.on_concurrent_insert;
                Records::of_plan(journal, id, idx, plan, wanted, policy)
            }
            Purpose::TakeBack(mended) => {
                let aim = super::records::Aim::TakeBack;
                Records::of_mended(journal, id, idx, mended, wanted, aim)
            }
        }
    }

    /// Refuses to take away what somebody brought, unless that was asked for.
    fn check_late(&self, now: &Look) -> TaskResult<()> {
        let Purpose::CarryOut(plan) = self.purpose else {
            return match now.late.as_slice() {
                [] => Ok(()),
                late => Err(TaskError::Unclear(list(late))),
            };
        };
        let View {
            attempt, request, ..
        } = self.stage.view;
        let changes = self.late_changes(plan, now)?;
        let count = now.late.len() + changes.len();
        let journal = &attempt.journal;
        let id = &attempt.request.operation_id;
        if count > 0 {
            journal.set_mend_late(self.stage.idx, count as u64)?;
        }
        let refused = match request.on_concurrent_insert {
            OnConcurrentInsert::Fail => count > 0,
            OnConcurrentInsert::Keep => !now.late.is_empty(),
            OnConcurrentInsert::Remove => false,
        };
        if !refused {
            return Ok(());
        }
        if request.on_concurrent_insert == OnConcurrentInsert::Keep {
            return Err(TaskError::Proof(format!(
                "rows came after the mend was planned and were merged with others, in parts {}: they cannot be told \
                 apart; nothing more was removed. mendb operation resume {id} --on-concurrent-insert remove removes \
                 them with what else the backup does not have",
                list(&now.late)
            )));
        }
        let mut plan = plan.clone();
        plan.again = Some(Box::new(plan_again(attempt, request, self.stage.idx)?));
        // All that the new plan knows of is told, and what came while it was made.
        let now = self.look()?;
        let changes = self.late_changes(&plan, &now)?;
        plan.came = [&now.late[..], &changes[..]].concat();
        let error = TaskError::Proof(format!(
            "parts came after the mend was planned: {}; nothing more was removed. Stop what writes to the table, then \
             mendb operation resume {id} removes them with what else the backup does not have, and what came after them \
             stops it again; \
             with --on-concurrent-insert keep they stay",
            list(&plan.came)
        ));
        journal.put_mend_plan(self.stage.idx, &plan)?;
        Err(error)
    }

    /// Mutations and updates that somebody began since, and that would change parts which stay.
    fn late_changes(&self, plan: &TablePlan, now: &Look) -> TaskResult<Vec<CamePart>> {
        let records = self.records()?;
        let patches = now.live.iter().flat_map(|live| records.new_patches(live));
        let mutations = now.plan.kill_mutations.iter();
        let mutations = mutations.filter(|id| !plan.kill_mutations.contains(id));
        let change = |name: &String| CamePart {
            name: name.clone(),
            rows: 0,
            mixed: false,
        };
        Ok(mutations.chain(patches).map(change).collect())
    }

    /// Brings one partition about, and proves it.
    fn partition(
        &self,
        engine: &dyn PartStore,
        now: &Look,
        partition: &PartitionPlan,
        counts: &mut Counts,
    ) -> TaskResult<()> {
        let target = &self.stage.view.table.target;
        let mut done = Tally::default();
        for part in &partition.remove {
            done.removed.add(part.rows, part.bytes);
        }
        let fetched: Vec<&Fetched> = partition.fetch.iter().collect();
        // What was staged was counted there; only what had to wait for the removal counts here.
        let mut staged_before = Counts::default();
        let mut brought = &fetched[..];
        match partition.action {
            Action::Nothing => return Ok(()),
            Action::Drop => self.drop_parts(engine, partition)?,
            Action::Attach => {
                self.stage.bring(&fetched, &mut staged_before)?;
                let staged = fetched.iter().map(|part| self.stage.staged(part));
                engine.attach(target, &staged.collect::<TaskResult<Vec<_>>>()?)?;
            }
            Action::Swap => {
                self.stage.bring(&fetched, &mut staged_before)?;
                self.exchange(engine, now, partition, &fetched)?;
            }
            Action::RemoveFirst if !partition.remove.is_empty() => {
                brought = &[];
                if engine.can_drop_parts() {
                    self.drop_parts(engine, partition)?;
                } else {
                    self.exchange(engine, now, partition, &[])?;
                }
            }
            Action::RemoveFirst => {
                self.stage.bring(&fetched, counts)?;
                self.exchange(engine, now, partition, &fetched)?;
            }
        }
        crate::env::crash_point();
        self.leave(engine, now, partition, brought)?;
        let attempt = self.stage.view.attempt;
        let journal = &attempt.journal;
        journal.add_mend_done(self.stage.idx, &done)?;
        attempt.in_progress(counts)
    }

    fn drop_parts(&self, engine: &dyn PartStore, partition: &PartitionPlan) -> TaskResult<()> {
        let names: Vec<String> = partition
            .remove
            .iter()
            .map(|part| part.name.clone())
            .collect();
        Ok(engine.drop_parts(&self.stage.view.table.target, &names)?)
    }

    /// Makes the partition consist of what is kept and what was fetched, in the order of the backup.
    fn exchange(
        &self,
        engine: &dyn PartStore,
        now: &Look,
        partition: &PartitionPlan,
        fetched: &[&Fetched],
    ) -> TaskResult<()> {
        let mut parts = Vec::new();
        for kept in &partition.keep {
            let Kept { name, hash, .. } = kept;
            let origin = Origin::Live {
                name: name.clone(),
                hash: *hash,
            };
            parts.push((self.order_of(kept.holds.first().copied()), origin));
        }
        for part in fetched {
            let origin = Origin::Staged(self.stage.staged(part)?);
            parts.push((self.order_of(Some(part.wanted)), origin));
        }
        // Parts that the source does not know came last.
        parts.sort_by_key(|(order, _)| (order.is_none(), *order));
        let parts: Vec<Origin> = parts.into_iter().map(|(_, origin)| origin).collect();
        let damaged = now.plan.damaged.iter();
        let damaged: Vec<String> = damaged.map(|part| part.name.clone()).collect();
        let View {
            attempt,
            request,
            table,
            ..
        } = self.stage.view;
        let exchange = Exchange {
            partition_id: &partition.partition_id,
            parts: &parts,
            seen: &live_names(now, &partition.partition_id).collect(),
            damaged: &damaged,
            on_concurrent_insert: match self.purpose {
                Purpose::CarryOut(_) => request.on_concurrent_insert,
                Purpose::TakeBack(_) => OnConcurrentInsert::Keep,
            },
        };
        Ok(engine.exchange(attempt.operation(), &table.target, &exchange)?)
    }

    /// What orders a wanted part among those of its partition.
    fn order_of(&self, wanted: Option<u32>) -> Option<(i64, i64, u32, i64)> {
        let wanted: &Wanted = self.stage.view.wanted.get(wanted? as usize)?;
        Some(wanted.part.order())
    }

    /// Proves by content that a partition has all that it should, and remembers what it was left as.
    ///
    /// # Errors
    /// Remedy replan: it has not; the server was started again, or somebody changed it.
    fn leave(
        &self,
        engine: &dyn PartStore,
        now: &Look,
        partition: &PartitionPlan,
        brought: &[&Fetched],
    ) -> TaskResult<()> {
        let View { attempt, table, .. } = self.stage.view;
        let target = &table.target;
        let parts = engine.partition(target, &partition.partition_id)?;
        let kept = partition.keep.iter().filter(|kept| !kept.holds.is_empty());
        let expected = kept.map(|kept| kept.hash);
        let expected = expected.chain(brought.iter().map(|part| part.hash));
        let gone: HashSet<&str> = partition
            .remove
            .iter()
            .map(|part| part.name.as_str())
            .collect();
        let parts = proved(parts, expected, &gone).ok_or_else(|| {
            TaskError::Engine(mendb_engines::EngineError::new(
                Remedy::Replan,
                format!(
                    "partition {} of {target} is not what it was made to be",
                    partition.partition_id
                ),
            ))
        })?;
        let is_mended = brought.len() == partition.fetch.len();
        let live = now.live.as_ref();
        let numbers = parts.iter().map(|left| left.part.highest_number());
        let before = live
            .iter()
            .filter_map(|live| live.numbers_to(&partition.partition_id));
        let numbers = numbers.chain(before);
        let left = LeftPartition {
            partition_id: partition.partition_id.clone(),
            is_mended: is_mended && matches!(self.purpose, Purpose::CarryOut(_)),
            incarnation: live
                .map(|live| live.incarnation.clone())
                .unwrap_or_default(),
            run: live.map(|live| live.run.clone()).unwrap_or_default(),
            numbers_to: numbers.max().unwrap_or(0),
            parts,
        };
        let journal = &attempt.journal;
        journal.put_left_partition(self.stage.idx, &left)?;
        crate::env::crash_point();
        Ok(())
    }

    /// Every partition is what it should be: remember which part stands for what.
    fn finish(&self, now: &Look) -> TaskResult<()> {
        let Some(live) = &now.live else {
            return Err(TaskError::Proof(format!(
                "table {} is gone",
                self.stage.view.table.target
            )));
        };
        let View {
            attempt,
            table,
            wanted,
            ..
        } = self.stage.view;
        let journal = &attempt.journal;
        let witness = Witness::after(live.clone(), &now.plan, wanted);
        journal.put_witness(&table.target, &witness)?;
        let Purpose::CarryOut(plan) = self.purpose else {
            return Ok(());
        };
        self.count_kept(plan)?;
        journal.set_mend_state(self.stage.idx, MendState::Mended)
    }

    /// Counts the parts that stayed, once the table is as it should be.
    fn count_kept(&self, plan: &TablePlan) -> TaskResult<()> {
        let attempt = self.stage.view.attempt;
        let before = planned(attempt, self.stage.idx)?.done;
        if before.kept.parts == 0 {
            let kept = Tally {
                kept: Tally::of(plan).kept,
                ..Tally::default()
            };
            let journal = &attempt.journal;
            journal.add_mend_done(self.stage.idx, &kept)?;
        }
        Ok(())
    }
}

/// Lets what was decided about a partition when there was time to stand: where it is cleared first, and on
/// which disks parts come.
fn stay_with(plan: &TablePlan, now: &mut TablePlan) {
    for partition in &mut now.partitions {
        let mut planned = plan.partitions.iter();
        let planned = planned.find(|planned| planned.partition_id == partition.partition_id);
        let Some(planned) = planned else {
            continue;
        };
        if planned.action == Action::RemoveFirst && partition.action == Action::Swap {
            partition.action = Action::RemoveFirst;
        }
        for fetched in &mut partition.fetch {
            let mut before = planned.fetch.iter();
            if let Some(before) = before.find(|part| part.wanted == fetched.wanted) {
                fetched.clone_from(before);
            }
        }
    }
}

/// Leaves alone what the mend that is taken back did not touch: what has become of that is others' doing.
fn leave_untouched(mended: &TablePlan, now: &mut Look) {
    let touched = mended.partitions.iter();
    let touched = touched.filter(|partition| partition.action != Action::Nothing);
    let touched: HashSet<&str> = touched
        .map(|partition| partition.partition_id.as_str())
        .collect();
    let partitions = &mut now.plan.partitions;
    partitions.retain(|partition| touched.contains(partition.partition_id.as_str()));
    let goes = partitions.iter().flat_map(|partition| &partition.remove);
    let goes: HashSet<&str> = goes.map(|part| part.name.as_str()).collect();
    now.late.retain(|part| goes.contains(part.name.as_str()));
}

/// Names of the live parts of a partition.
fn live_names<'a>(now: &'a Look, partition_id: &'a str) -> impl Iterator<Item = String> + 'a {
    let live = now.live.iter().flat_map(|live: &Inventory| &live.parts);
    let of_it = live.filter(move |part| part.partition_id == partition_id);
    of_it.map(|part| part.name.clone())
}

fn list(came: &[CamePart]) -> String {
    let names: Vec<String> = came.iter().map(ToString::to_string).collect();
    names.join(", ")
}
