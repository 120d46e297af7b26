//! Decides which parts of a table a mend keeps, removes and fetches.

use std::collections::{BTreeSet, HashMap, HashSet};

use mendb_engines::LivePartDamage;
use mendb_model::operation::{MendRequest, MendSource};
use mendb_model::part::{
    Action, Fetched, FileChecksum, Inventory, OnConcurrentInsert, PartRecord, TablePlan, Wanted,
    Witness, unfinished,
};

use super::local::{FILES_AT_ONCE, LocalFiles};
use super::opened_source::{Content, OpenedSource};
use super::records::{Aim, Records};
use super::tables::table_of;
use super::view::{Look, View};
use super::{damage, replicas};
use crate::attempt::{Attempt, Counts};
use crate::journal::mend_plan::MendPlan;
use crate::task_error::{TaskError, TaskResult};

/// Records whose files are looked for at once.
const RECORDS_AT_ONCE: usize = 256;

/// Plans one table and persists the plan, with what it saw: merges from then on can be told from other
/// changes. On the target nothing is changed but that, where something is to be changed and the state before to
/// be kept, updates which are kept beside the parts go into them: a freeze leaves them out.
pub(super) fn assess(
    attempt: &Attempt<'_>,
    request: &MendRequest,
    idx: u32,
    counts: &mut Counts,
) -> TaskResult<()> {
    *counts = Counts::default();
    let table = table_of(request, idx)?;
    if table.restore_place {
        // Its parts get other names by that: nothing was seen of them before.
        attempt.tools.engine.parts()?.restore_place(&table.target)?;
        crate::env::crash_point();
    }
    let mut assessed = assessed(attempt, request, idx, counts)?;
    let is_kept = request.keep_undo != Some(false) && !table.create;
    if is_kept && assessed.has_patches() && (assessed.changes() || table.redefine.is_some()) {
        let engine = attempt.tools.engine.parts()?;
        engine.apply_patches(&table.target)?;
        *counts = Counts::default();
        assessed = self::assessed(attempt, request, idx, counts)?;
    }
    if let MendSource::Undo { .. } = request.source {
        check_came(request.on_concurrent_insert, &assessed.plan)?;
    }
    assessed.persist(attempt, idx)
}

/// Refuses to undo a mend over what somebody brought since, unless it was said what becomes of that.
pub(crate) fn check_came(policy: OnConcurrentInsert, plan: &TablePlan) -> TaskResult<()> {
    let told = || {
        let told: Vec<String> = plan.came.iter().map(ToString::to_string).collect();
        told.join(", ")
    };
    let target = &plan.target;
    match policy {
        OnConcurrentInsert::Fail if !plan.came.is_empty() => {
            let is_known = plan.came.iter().any(|part| !part.mixed);
            let came = if is_known { "came" } else { "may have come" };
            Err(TaskError::Proof(format!(
                "rows {came} into table {target} since the mend, in parts {}: --on-concurrent-insert keep leaves them \
                 where they are, --on-concurrent-insert remove removes them",
                told()
            )))
        }
        OnConcurrentInsert::Keep if plan.came.iter().any(|part| part.mixed) => {
            Err(TaskError::Proof(format!(
                "rows that came into table {target} since the mend were merged with others, in parts {}, and cannot \
                 be told apart from them: --on-concurrent-insert remove removes them too",
                told()
            )))
        }
        _ => Ok(()),
    }
}

/// A plan, and what it was made of.
pub(super) struct Assessed {
    /// The plan, actions not yet decided. Everything that has to be fetched was found.
    pub plan: TablePlan,
    live: Option<Inventory>,
    wanted: Vec<Wanted>,
}

impl Assessed {
    fn changes(&self) -> bool {
        let mut partitions = self.plan.partitions.iter();
        partitions.any(|partition| partition.action != Action::Nothing)
    }

    fn has_patches(&self) -> bool {
        let mut live = self.live.iter();
        live.any(|live| !live.patches.is_empty())
    }

    /// Remembers the plan, and what was seen.
    pub(super) fn persist(self, attempt: &Attempt<'_>, idx: u32) -> TaskResult<()> {
        let plan = self.remember(attempt)?;
        attempt.journal.put_mend_plan(idx, &plan)
    }

    /// Records what the look at the table has told of its parts. Returns the plan.
    pub(super) fn remember(self, attempt: &Attempt<'_>) -> TaskResult<TablePlan> {
        if let Some(live) = self.live {
            let witness = Witness::after(live, &self.plan, &self.wanted);
            attempt.journal.put_witness(&self.plan.target, &witness)?;
        }
        Ok(self.plan)
    }
}

/// Plans one table. Counts the bytes that are read to prove what stays.
pub(super) fn assessed(
    attempt: &Attempt<'_>,
    request: &MendRequest,
    idx: u32,
    counts: &mut Counts,
) -> TaskResult<Assessed> {
    let table = table_of(request, idx)?;
    let source = OpenedSource::open(attempt, request)?;
    let wanted = source.wanted(table)?;
    let view = View {
        attempt,
        request,
        table,
        source: &source,
        wanted: &wanted,
    };
    let engine = attempt.tools.engine.parts()?;
    let lost = match table.restore_place {
        true => engine.lost_place(&table.target)?,
        false => None,
    };
    let replication = match table.create || lost.is_some() {
        true => None,
        // What others have brought is seen before it is decided what goes.
        false => engine.catch_up(&table.target)?,
    };
    let undone = undone(&view)?;
    let (look, damage) = look_closely(&view, undone.as_ref(), counts)?;
    let Look {
        mut plan,
        live,
        late,
        spared,
    } = look;
    plan.came = late;
    plan.came.extend(spared);
    measure(&view, &mut plan, live.as_ref())?;
    let missing = plan
        .partitions
        .iter()
        .flat_map(|partition| &partition.fetch);
    let missing: Vec<u32> = missing.map(|part| part.wanted).collect();
    plan.notes = source.notes(&table.source, &missing)?;
    plan.notes.extend(damage::notes(&damage));
    plan.notes.extend(replication.as_ref().map(replicas::note));
    plan.notes.extend(lost.map(|lost| {
        format!(
            "{lost}; the server makes that anew from the parts that it has (SYSTEM RESTORE REPLICA) before anything else \
             is done"
        )
    }));
    let patches = live.as_ref().map_or(0, |live| live.patches.len());
    if patches > 0 && request.keep_undo != Some(false) {
        plan.notes.push(format!(
            "{patches} patch parts go into the parts that they update before the state before is kept: parts that \
             they change then come anew"
        ));
    }
    if let Some(path) = &table.replica_path {
        let note = format!("its path in the keeper is {path}, which is not that in the backup");
        plan.notes.push(note);
    }
    let ids: BTreeSet<&str> = (plan.partitions.iter())
        .map(|partition| partition.partition_id.as_str())
        .collect();
    let parts: Vec<_> = wanted.iter().map(|wanted| &wanted.part).collect();
    let found = unfinished(source.mutations(&table.source), &parts).into_iter();
    plan.unfinished = found.filter_map(|found| found.within(&ids)).collect();
    Ok(Assessed { plan, live, wanted })
}

/// What the journal knows of the table from the mend that is undone, if one is.
fn undone(view: &View<'_>) -> TaskResult<Option<Records>> {
    let MendSource::Undo { operation_id } = &view.request.source else {
        return Ok(None);
    };
    let journal = &view.attempt.journal;
    let record = journal.mend_plan_of(operation_id, &view.table.target)?;
    let Some((idx, record)) = record else {
        return Ok(None);
    };
    let aim = Aim::PlanUndo(view.request.on_concurrent_insert);
    Records::of_mended(journal, operation_id, idx, &record, view.wanted, aim).map(Some)
}

/// Compares a table, and where that was asked for reads all that would stay: what is damaged goes.
fn look_closely(
    view: &View<'_>,
    records: Option<&Records>,
    counts: &mut Counts,
) -> TaskResult<(Look, Vec<LivePartDamage>)> {
    let mut looked = view.look(&[], records)?;
    let (mut proved, mut damage) = (HashSet::new(), Vec::new());
    while view.request.check_kept && view.source.can_replace_damaged() {
        let found = damage::of_kept(view.attempt, &looked.plan, &mut proved, counts)?;
        if found.is_empty() {
            break;
        }
        damage.extend(found);
        let suspects = (looked.live.as_ref()).map(|live| damage::as_suspects(&damage, live));
        // What was surplus may stay now in the place of what is damaged.
        looked = view.look(&suspects.unwrap_or_default(), records)?;
    }
    Ok((looked, damage))
}

/// The plan of a table as it was persisted.
pub(super) fn planned(attempt: &Attempt<'_>, idx: u32) -> TaskResult<MendPlan> {
    let id = &attempt.request.operation_id;
    let record = attempt.journal.mend_plan(idx)?;
    record.ok_or_else(|| TaskError::Proof(format!("table number {idx} of {id} has no plan")))
}

/// Finds out which files of the missing parts the server has, and fills in what has to be downloaded and
/// where parts go.
fn measure(view: &View<'_>, plan: &mut TablePlan, live: Option<&Inventory>) -> TaskResult<()> {
    let View {
        attempt,
        table,
        source,
        wanted,
        ..
    } = *view;
    let engine = attempt.tools.engine.parts()?;
    let disks = match live {
        Some(_) => engine.disks_of(&table.target)?,
        None => match source.definition(&table.source) {
            Some(definition) => engine.disks_of_policy(&definition.storage_policy)?,
            None => Vec::new(),
        },
    };
    let default_disk = match disks.first() {
        Some(disk) => disk.clone(),
        None => engine
            .disks()?
            .first()
            .map(|disk| disk.name.clone())
            .unwrap_or_default(),
    };
    let damaged = plan.damaged.clone();
    let mut missing: HashMap<u32, &mut Fetched> = HashMap::new();
    for fetched in plan
        .partitions
        .iter_mut()
        .flat_map(|partition| &mut partition.fetch)
    {
        if !disks.contains(&fetched.disk) {
            fetched.disk.clone_from(&default_disk);
        }
        (fetched.linked_bytes, fetched.download_bytes) = (0, 0);
        missing.insert(fetched.wanted, fetched);
    }
    let chosen: Vec<u32> = missing.keys().copied().collect();
    let local = LocalFiles::new(attempt, &table.target, &damaged);
    local.reset();
    let mut measured = Measured::default();
    let mut is_whole = true;
    let mut whole: Vec<(u32, bool)> = Vec::new();
    let mut batch: Vec<PartRecord> = Vec::new();
    let check = |batch: &mut Vec<PartRecord>| -> TaskResult<()> {
        let files = batch.iter().flat_map(|record| &record.files);
        attempt.wait(attempt.tools.repository.check_files_present(files))?;
        batch.clear();
        Ok(())
    };
    source.contents(&table.source, wanted, &chosen, |at, content| {
        match content {
            Content::Record(record) => {
                measured.add(at, &record);
                batch.push(record);
            }
            Content::Directory(_) => whole.push((at, true)),
            Content::Imported(_) => whole.push((at, false)),
        }
        if batch.len() >= RECORDS_AT_ONCE {
            check(&mut batch)?;
        }
        if measured.files.len() >= FILES_AT_ONCE {
            measured.settle(&local, &mut missing)?;
            is_whole = false;
        }
        Ok(())
    })?;
    check(&mut batch)?;
    measured.settle(&local, &mut missing)?;
    if is_whole {
        local.set_whole();
    }
    for (at, linked) in whole {
        if let Some(fetched) = missing.get_mut(&at) {
            let all = fetched.bytes;
            fetched.linked_bytes = if linked { all } else { 0 };
            fetched.download_bytes = all - fetched.linked_bytes;
            fetched.download_files = u64::from(!linked);
        }
    }
    Ok(())
}

/// Files of missing parts, until it is known where they are.
#[derive(Default)]
struct Measured {
    /// For each file its part, its size and, where it can be told, its identity.
    files: Vec<(u32, u64, Option<FileChecksum>)>,
}

impl Measured {
    fn add(&mut self, at: u32, record: &PartRecord) {
        let files = record.files.iter();
        self.files
            .extend(files.map(|file| (at, file.bytes, file.identity())));
    }

    /// Says of each part what can be linked.
    fn settle(
        &mut self,
        local: &LocalFiles<'_>,
        missing: &mut HashMap<u32, &mut Fetched>,
    ) -> TaskResult<()> {
        local.look_for(self.files.iter().filter_map(|(.., identity)| *identity))?;
        for (at, bytes, identity) in self.files.drain(..) {
            let Some(fetched) = missing.get_mut(&at) else {
                continue;
            };
            if identity.is_some_and(|file| local.place_of(&file).is_some()) {
                fetched.linked_bytes += bytes;
            } else {
                fetched.download_bytes += bytes;
                fetched.download_files += 1;
            }
        }
        Ok(())
    }
}
