//! Finds out what of a table is to be kept, removed and fetched.

use std::collections::{HashMap, HashSet};

use mendb_engines::LivePartDamage;
use mendb_model::operation::{MendRequest, StepKind, TableMend};
use mendb_model::part::lineage::{Explained, explain};
use mendb_model::part::{
    Comparison, DamagedPart, Fetched, FileChecksum, Inventory, PartRecord, TableDefinition,
    TableName, TablePlan, Wanted, compare,
};
use mendb_model::part::{MergeTraits, Witness};

use super::damage;
use super::local::{FILES_AT_ONCE, LocalFiles};
use super::source::{Content, Source};
use super::{partitions, table_of};
use crate::journal::mend_plan::MendPlan;
use crate::worker::{Attempt, Counts, TaskError, TaskResult};

/// Records whose files are looked for at once.
const RECORDS_AT_ONCE: usize = 256;

/// Plans one table and persists the plan, with what it saw: merges from then on can be told from other
/// changes. Nothing is changed on the target.
pub(super) fn assess(
    attempt: &Attempt<'_>,
    request: &MendRequest,
    idx: u32,
    counts: &mut Counts,
) -> TaskResult<()> {
    *counts = Counts::default();
    let assessed = assessed(attempt, request, idx, counts)?;
    let journal = &attempt.tools.journal;
    if let Some(live) = assessed.live {
        let witness = Witness::after(live, &assessed.plan, &assessed.wanted);
        journal.put_witness(&assessed.plan.target, &witness)?;
    }
    Ok(journal.put_mend_plan(&attempt.request.operation_id, idx, &assessed.plan)?)
}

/// A plan, and what it was made of.
pub(super) struct Assessed {
    /// The plan, actions not yet decided. Everything that has to be fetched was found.
    pub plan: TablePlan,
    live: Option<Inventory>,
    wanted: Vec<Wanted>,
}

/// Plans one table. Counts the bytes that are read to prove what stays.
pub(super) fn assessed(
    attempt: &Attempt<'_>,
    request: &MendRequest,
    idx: u32,
    counts: &mut Counts,
) -> TaskResult<Assessed> {
    let table = table_of(request, idx)?;
    let source = Source::open(attempt, request)?;
    let wanted = source.wanted(&table.source)?;
    let (Look { mut plan, live, .. }, damage) =
        look_closely(attempt, request, table, &source, &wanted, counts)?;
    measure(attempt, table, &source, &wanted, &mut plan, live.as_ref())?;
    let missing = plan
        .partitions
        .iter()
        .flat_map(|partition| &partition.fetch);
    let missing: Vec<u32> = missing.map(|part| part.wanted).collect();
    plan.notes = source.notes(&table.source, &missing)?;
    plan.notes.extend(damage::notes(&damage));
    Ok(Assessed { plan, live, wanted })
}

/// Compares a table, and where that was asked for reads all that would stay: what is damaged goes.
fn look_closely(
    attempt: &Attempt<'_>,
    request: &MendRequest,
    table: &TableMend,
    source: &Source<'_>,
    wanted: &[Wanted],
    counts: &mut Counts,
) -> TaskResult<(Look, Vec<LivePartDamage>)> {
    let mut looked = look(attempt, request, table, source, wanted, &[])?;
    let (mut proved, mut damage) = (HashSet::new(), Vec::new());
    while request.check_kept && source.can_replace_damaged() {
        let found = damage::of_kept(attempt, &looked.plan, &mut proved, counts)?;
        if found.is_empty() {
            break;
        }
        damage.extend(found);
        let suspects = (looked.live.as_ref()).map(|live| damage::as_suspects(&damage, live));
        // What was surplus may stay now in the place of what is damaged.
        let suspects = suspects.unwrap_or_default();
        looked = look(attempt, request, table, source, wanted, &suspects)?;
    }
    Ok((looked, damage))
}

/// The plan of a table as it was persisted.
pub(super) fn planned(attempt: &Attempt<'_>, idx: u32) -> TaskResult<MendPlan> {
    let id = &attempt.request.operation_id;
    let record = attempt.tools.journal.mend_plan(id, idx)?;
    record.ok_or_else(|| TaskError::Proof(format!("table number {idx} of {id} has no plan")))
}

/// A table compared with what it should be.
pub(super) struct Look {
    pub plan: TablePlan,
    /// `None` where the table is to be created.
    pub live: Option<Inventory>,
    /// For each live part what it is known to hold beside itself.
    pub explained: Vec<Vec<Explained>>,
}

/// Compares a table with what it should be, from metadata; of what was found damaged the bytes are read
/// again.
pub(super) fn look(
    attempt: &Attempt<'_>,
    request: &MendRequest,
    table: &TableMend,
    source: &Source<'_>,
    wanted: &[Wanted],
    suspects: &[DamagedPart],
) -> TaskResult<Look> {
    let engine = attempt.tools.engine.parts()?;
    let definition = engine.table(&table.target)?;
    // A table that is to be put aside and created anew is compared as if it did not exist.
    let assessing = attempt.request.step_kind == StepKind::Assess;
    let definition = definition.filter(|_| !(table.replace && assessing));
    let live = match &definition {
        Some(_) => Some(engine.inventory(&table.target)?),
        None => None,
    };
    let current_parts = source.current_parts(&table.source)?;
    let mut witnesses: Vec<Witness> = current_parts.iter().cloned().map(Witness::plain).collect();
    witnesses.extend(attempt.tools.journal.witness(&table.target)?);
    let traits = definition.as_ref().map(MergeTraits::of).unwrap_or_default();
    let explained = match &live {
        Some(live) => {
            let since = witnesses
                .iter()
                .map(|witness| witness.inventory.taken_at_ms)
                .min();
            let log = match since {
                Some(since) => engine.merge_log(&table.target, since)?,
                None => Vec::new(),
            };
            explain(live, &witnesses, &log, traits)
        }
        None => Vec::new(),
    };
    let partitions = partitions::looked_at(
        attempt,
        request,
        table,
        source,
        wanted,
        current_parts.as_ref(),
    )?;
    let damaged = match &live {
        Some(live) if source.can_replace_damaged() => {
            damage::still_damaged(attempt, &table.target, live, suspects)?
        }
        _ => Vec::new(),
    };
    let plan = compare(&Comparison {
        source: &table.source,
        target: &table.target,
        wanted,
        current_parts: current_parts.as_ref(),
        live: live.as_ref(),
        explained: &explained,
        damaged: &damaged,
        order_sensitive: order_sensitive(definition.as_ref(), source, &table.source),
        only_partitions: partitions.as_ref(),
    });
    Ok(Look {
        plan,
        live,
        explained,
    })
}

/// Whether the order of parts matters: as the live table says, or the backup where there is none.
fn order_sensitive(live: Option<&TableDefinition>, source: &Source<'_>, table: &TableName) -> bool {
    let definition = live.or_else(|| source.definition(table));
    definition.is_none_or(TableDefinition::is_order_sensitive)
}

/// Finds out which files of the missing parts the server has, and fills in what has to be downloaded and
/// where parts go.
fn measure(
    attempt: &Attempt<'_>,
    table: &TableMend,
    source: &Source<'_>,
    wanted: &[Wanted],
    plan: &mut TablePlan,
    live: Option<&Inventory>,
) -> TaskResult<()> {
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
