//! Makes what was staged live, partition by partition.
//!
//! Merges of the table are stopped while this lasts, and started again whatever comes. The inventory is
//! taken again, and just before each partition its part of it: merges of kept parts change nothing, parts
//! that came since planning are reported, and what else has changed is planned anew.

use std::collections::{HashMap, HashSet};

use mendb_engines::{Origin, PartStore, Remedy};
use mendb_model::operation::{MendRequest, TableMend};
use mendb_model::part::Witness;
use mendb_model::part::{
    Action, DamagedPart, FILES_PARTITION, Fetched, Hash128, Kept, OnConcurrentInsert, Part,
    PartitionPlan, Proof, RestoreOrder, Space, TablePlan, Tally, Wanted, decide,
};

use super::assess::{Look, look, planned};
use super::source::Source;
use super::stage::Stage;
use super::table_of;
use crate::journal::mend_plan::MendState;
use crate::worker::{Attempt, Counts, TaskError, TaskResult};

/// How often a partition that changes under our hands is planned anew.
const MOST_ROUNDS: usize = 5;

/// Commits a table as it was planned.
pub(super) fn commit(
    attempt: &Attempt<'_>,
    request: &MendRequest,
    idx: u32,
    counts: &mut Counts,
) -> TaskResult<()> {
    let record = planned(attempt, idx)?;
    let table = table_of(request, idx)?;
    if !table.create
        && record.plan.damaged.is_empty()
        && record
            .plan
            .partitions
            .iter()
            .all(|p| p.action == Action::Nothing)
    {
        return count_kept(attempt, idx, &record.plan);
    }
    let source = Source::open(attempt, request)?;
    let wanted = source.wanted(&table.source)?;
    let commit = Commit {
        attempt,
        request,
        planned: Some(&record.plan),
        mended: None,
        stage: Stage {
            attempt,
            table,
            idx,
            source: &source,
            wanted: &wanted,
            damaged: &record.plan.damaged,
        },
    };
    commit.with_merges_stopped(counts)
}

/// Brings a table back to what was frozen before a mend that was cancelled. Parts that neither were
/// there before nor came by the mend are somebody's: they stay.
pub(super) fn bring_back(
    attempt: &Attempt<'_>,
    request: &MendRequest,
    idx: u32,
    mended: &TablePlan,
) -> TaskResult<()> {
    let table = table_of(request, idx)?;
    let back = TableMend {
        source: table.target.clone(),
        ..table.clone()
    };
    let source = Source::open(attempt, request)?;
    let wanted = source.wanted(&back.source)?;
    let commit = Commit {
        attempt,
        request,
        planned: None,
        mended: Some(mended),
        stage: Stage {
            attempt,
            table: &back,
            idx,
            source: &source,
            wanted: &wanted,
            damaged: &[],
        },
    };
    let mut counts = Counts::default();
    commit.with_merges_stopped(&mut counts)
}

struct Commit<'a> {
    attempt: &'a Attempt<'a>,
    request: &'a MendRequest,
    /// The plan that is carried out; `None` when a mend is taken back.
    planned: Option<&'a TablePlan>,
    /// The plan of the mend that is taken back.
    mended: Option<&'a TablePlan>,
    stage: Stage<'a>,
}

impl Commit<'_> {
    fn with_merges_stopped(&self, counts: &mut Counts) -> TaskResult<()> {
        let engine = self.attempt.tools.engine.parts()?;
        let (operation, target) = (self.attempt.operation(), &self.stage.table.target);
        engine.stop_merges(operation, target)?;
        crate::env::crash_point();
        let outcome = self.run(engine, counts);
        // Also where the commit has failed: a table whose merges stay stopped falls ill.
        let started = engine.start_merges(operation, target);
        outcome?;
        crate::env::crash_point();
        Ok(started?)
    }

    fn run(&self, engine: &dyn PartStore, counts: &mut Counts) -> TaskResult<()> {
        let journal = &self.attempt.tools.journal;
        let id = &self.attempt.request.operation_id;
        let target = &self.stage.table.target;
        if let Some(plan) = self.planned {
            engine.kill_mutations(target, &plan.kill_mutations)?;
            crate::env::crash_point();
        }
        let mut rounds = 0;
        loop {
            self.attempt.check_stopped()?;
            let now = self.look()?;
            let late = self.late(&now);
            if !late.is_empty() {
                journal.set_mend_late(id, self.stage.idx, late.len() as u64)?;
                if self.request.on_concurrent_insert == OnConcurrentInsert::Fail {
                    return Err(late_parts(&late));
                }
            }
            let order = now.plan.work_order().into_iter();
            let open: Vec<&PartitionPlan> = order
                .map(|at| &now.plan.partitions[at])
                .filter(|partition| partition.action != Action::Nothing)
                .collect();
            let Some(first) = open.first() else {
                return self.prove(&now);
            };
            rounds += 1;
            if rounds > MOST_ROUNDS * (now.plan.partitions.len() + 1) {
                return Err(TaskError::Proof(format!(
                    "partition {} changes faster than it can be mended; stop what writes to it, then resume",
                    first.partition_id
                )));
            }
            if rounds == 1 {
                journal.set_mend_state(id, self.stage.idx, MendState::Changing)?;
                crate::env::crash_point();
            }
            self.partitions(engine, &now, &open, counts)?;
        }
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
        let target = &self.stage.table.target;
        let mut live: HashMap<&str, Vec<&Part>> = HashMap::new();
        for part in now.live.iter().flat_map(|live| &live.parts) {
            live.entry(&part.partition_id).or_default().push(part);
        }
        for (place, partition) in open.iter().enumerate() {
            let id = partition.partition_id.as_str();
            let live = live.get(id).map(Vec::as_slice).unwrap_or_default();
            // Of the first all was looked at just now.
            if place > 0 && !engine.is_unchanged(target, id, live)? {
                tracing::info!(%target, partition = %id, "has changed and is planned anew");
                return Ok(());
            }
            self.attempt.check_stopped()?;
            match self.partition(engine, partition, &now.plan.damaged, counts) {
                Err(TaskError::Engine(error)) if error.remedy == Remedy::Replan => {
                    tracing::info!(%target, %error, "is planned anew");
                    return Ok(());
                }
                outcome => outcome?,
            }
            if partition.action == Action::RemoveFirst {
                return Ok(());
            }
        }
        Ok(())
    }

    fn look(&self) -> TaskResult<Look> {
        let Stage {
            attempt,
            table,
            source,
            wanted,
            damaged,
            ..
        } = &self.stage;
        let mut now = look(attempt, self.request, table, source, wanted, damaged)?;
        if let Some(mended) = self.mended {
            spare_others(&mut now.plan, mended);
        }
        let engine = attempt.tools.engine.parts()?;
        // Room was looked for when the whole was planned; what was chosen then stays chosen.
        let disks = engine.disks()?;
        let mut room = Space {
            free: disks
                .into_iter()
                .map(|disk| (disk.name, u64::MAX))
                .collect(),
            reserve: 0,
        };
        let order = match self.request.order {
            RestoreOrder::Auto => RestoreOrder::Swap,
            chosen => chosen,
        };
        let drops_parts = engine.server()?.drops_parts;
        decide(&mut now.plan, order, drops_parts, &mut room)
            .map_err(|error| TaskError::Proof(error.to_string()))?;
        for partition in &mut now.plan.partitions {
            let planned = self.planned.and_then(|plan| {
                plan.partitions
                    .iter()
                    .find(|p| p.partition_id == partition.partition_id)
            });
            if planned.is_some_and(|planned| planned.action == Action::RemoveFirst)
                && partition.action == Action::Swap
            {
                partition.action = Action::RemoveFirst;
            }
            for fetched in &mut partition.fetch {
                let before = planned.and_then(|planned| {
                    planned
                        .fetch
                        .iter()
                        .find(|part| part.wanted == fetched.wanted)
                });
                if let Some(before) = before {
                    fetched.clone_from(before);
                }
            }
        }
        Ok(now)
    }

    /// Parts that would go and were not there when the table was planned, nor made of what was.
    fn late(&self, now: &Look) -> Vec<String> {
        let Some(plan) = self.planned else {
            return Vec::new();
        };
        let known: HashSet<Hash128> = plan.live.values().copied().collect();
        // A mutation that leaves a part alone still gives it another name.
        let renamed: HashSet<_> = (plan.live.iter())
            .filter_map(|(name, hash)| Part::new(name, 0, 0, *hash, "").ok())
            .map(|part| identity(&part))
            .collect();
        let live = now
            .live
            .as_ref()
            .map(|live| live.parts.as_slice())
            .unwrap_or_default();
        let goes: HashSet<&str> = (now.plan.partitions.iter())
            .flat_map(|partition| &partition.remove)
            .map(|part| part.name.as_str())
            .collect();
        // What was found damaged was looked at since planning.
        let damaged: HashSet<&str> = (now.plan.damaged.iter())
            .map(|part| part.name.as_str())
            .collect();
        let mut late = Vec::new();
        for (part, explained) in live.iter().zip(&now.explained) {
            let made_of_known = explained
                .iter()
                .any(|way| way.holds.iter().all(|hash| known.contains(hash)));
            let was_there = plan.live.contains_key(&part.name) || renamed.contains(&identity(part));
            let is_ours = was_there || made_of_known || damaged.contains(part.name.as_str());
            if goes.contains(part.name.as_str()) && !is_ours {
                late.push(format!("{} ({} rows)", part.name, part.rows));
            }
        }
        late
    }

    /// Brings one partition about.
    fn partition(
        &self,
        engine: &dyn PartStore,
        partition: &PartitionPlan,
        damaged: &[DamagedPart],
        counts: &mut Counts,
    ) -> TaskResult<()> {
        let target = &self.stage.table.target;
        let mut done = Tally::default();
        for part in &partition.remove {
            done.removed.add(part.rows, part.bytes);
        }
        let fetched: Vec<&Fetched> = partition.fetch.iter().collect();
        // What was staged was counted there; only what had to wait for the removal counts here.
        let mut staged_before = Counts::default();
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
                self.exchange(engine, partition, damaged, &fetched)?;
            }
            Action::RemoveFirst if !partition.remove.is_empty() => {
                if engine.server()?.drops_parts {
                    self.drop_parts(engine, partition)?;
                } else {
                    self.exchange(engine, partition, damaged, &[])?;
                }
            }
            Action::RemoveFirst => {
                self.stage.bring(&fetched, counts)?;
                self.exchange(engine, partition, damaged, &fetched)?;
            }
        }
        crate::env::crash_point();
        let id = &self.attempt.request.operation_id;
        self.attempt
            .tools
            .journal
            .add_mend_done(id, self.stage.idx, &done)?;
        self.attempt.in_progress(counts)
    }

    fn drop_parts(&self, engine: &dyn PartStore, partition: &PartitionPlan) -> TaskResult<()> {
        let names: Vec<String> = partition
            .remove
            .iter()
            .map(|part| part.name.clone())
            .collect();
        Ok(engine.drop_parts(&self.stage.table.target, &names)?)
    }

    /// Makes the partition consist of what is kept and what was fetched, in the order of the backup.
    fn exchange(
        &self,
        engine: &dyn PartStore,
        partition: &PartitionPlan,
        damaged: &[DamagedPart],
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
        let goes: Vec<String> = if partition.partition_id == FILES_PARTITION {
            (partition.remove.iter().map(|part| part.name.clone())).collect()
        } else {
            damaged.iter().map(|part| part.name.clone()).collect()
        };
        let target = &self.stage.table.target;
        Ok(engine.exchange(
            self.attempt.operation(),
            target,
            &partition.partition_id,
            &parts,
            &goes,
        )?)
    }

    /// What orders a wanted part among those of its partition.
    fn order_of(&self, wanted: Option<u32>) -> Option<(i64, i64, u32, i64)> {
        let wanted: &Wanted = self.stage.wanted.get(wanted? as usize)?;
        Some(wanted.part.order())
    }

    /// The table is what it should be: remember which part stands for what.
    fn prove(&self, now: &Look) -> TaskResult<()> {
        let Some(live) = &now.live else {
            return Err(TaskError::Proof("the table is gone".to_owned()));
        };
        let journal = &self.attempt.tools.journal;
        let witness = Witness::after(live.clone(), &now.plan, self.stage.wanted);
        journal.put_witness(&self.stage.table.target, &witness)?;
        let Some(plan) = self.planned else {
            return Ok(());
        };
        count_kept(self.attempt, self.stage.idx, plan)?;
        let id = &self.attempt.request.operation_id;
        Ok(journal.set_mend_state(id, self.stage.idx, MendState::Mended)?)
    }
}

/// Counts the parts that stayed, once the table is as it should be.
fn count_kept(attempt: &Attempt<'_>, idx: u32, plan: &TablePlan) -> TaskResult<()> {
    let id = &attempt.request.operation_id;
    let before = planned(attempt, idx)?.done;
    if before.kept.parts == 0 {
        let kept = Tally {
            kept: Tally::of(plan).kept,
            ..Tally::default()
        };
        attempt.tools.journal.add_mend_done(id, idx, &kept)?;
    }
    Ok(())
}

/// What a part keeps when a mutation passes it by.
fn identity(part: &Part) -> (String, i64, i64, u32, Hash128) {
    (
        part.partition_id.clone(),
        part.min_block,
        part.max_block,
        part.level,
        part.hash,
    )
}

/// Lets parts stay that neither were there before a mend nor came by it.
fn spare_others(plan: &mut TablePlan, mended: &TablePlan) {
    let fetched = mended
        .partitions
        .iter()
        .flat_map(|partition| &partition.fetch);
    let mut known: HashSet<Hash128> = fetched.map(|part| part.hash).collect();
    known.extend(mended.live.values());
    for partition in &mut plan.partitions {
        let (goes, stays): (Vec<_>, Vec<_>) = std::mem::take(&mut partition.remove)
            .into_iter()
            .partition(|part| known.contains(&part.hash));
        partition.remove = goes;
        // A table of files is one thing: what somebody has changed is left to them.
        if partition.partition_id == FILES_PARTITION && !stays.is_empty() {
            partition.fetch.clear();
            tracing::warn!(table = %plan.target, "was changed by somebody since: it stays as it is now");
        }
        partition.keep.extend(stays.into_iter().map(|part| Kept {
            name: part.name,
            hash: part.hash,
            holds: Vec::new(),
            rows: part.rows,
            bytes: part.bytes,
            proof: Proof::SameContent,
        }));
        if partition.remove.is_empty() && partition.fetch.is_empty() {
            partition.action = Action::Nothing;
        }
    }
}

fn late_parts(late: &[String]) -> TaskError {
    TaskError::Proof(format!(
        "parts came after the mend was planned: {}; nothing more was removed. Stop what writes to the table and mend \
         it again, or let them go with --on-concurrent-insert remove",
        late.join(", ")
    ))
}
