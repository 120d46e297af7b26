//! Finds out what of a table is to be kept, removed and fetched.

use std::collections::{BTreeSet, HashMap};

use mendb_model::name::matches;
use mendb_model::operation::{MendRequest, StepKind, TableMend};
use mendb_model::part::lineage::{Explained, explain};
use mendb_model::part::{
    Comparison, Fetched, Inventory, PartFile, PartRecord, TableDefinition, TableName, TablePlan,
    Wanted, compare, unfinished,
};
use mendb_model::part::{MergeTraits, Witness};

use super::source::{Content, Source};
use super::stage::local_files;
use super::table_of;
use crate::journal::mend_plan::MendPlan;
use crate::worker::{Attempt, TaskError, TaskResult};

/// Records whose files are looked for at once.
const RECORDS_AT_ONCE: usize = 256;

/// Plans one table and persists the plan, with what it saw: merges from then on can be told from other
/// changes. Nothing is changed on the target.
pub(super) fn assess(attempt: &Attempt<'_>, request: &MendRequest, idx: u32) -> TaskResult<()> {
    let assessed = assessed(attempt, request, idx)?;
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

/// Plans one table.
pub(super) fn assessed(
    attempt: &Attempt<'_>,
    request: &MendRequest,
    idx: u32,
) -> TaskResult<Assessed> {
    let table = table_of(request, idx)?;
    let source = Source::open(attempt, request)?;
    let wanted = source.wanted(&table.source)?;
    let Look { mut plan, live, .. } = look(attempt, request, table, &source, &wanted)?;
    measure(attempt, table, &source, &wanted, &mut plan, live.as_ref())?;
    let missing = plan
        .partitions
        .iter()
        .flat_map(|partition| &partition.fetch);
    let missing: Vec<u32> = missing.map(|part| part.wanted).collect();
    plan.notes = source.notes(&table.source, &missing)?;
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

/// Compares a table with what it should be, from metadata.
pub(super) fn look(
    attempt: &Attempt<'_>,
    request: &MendRequest,
    table: &TableMend,
    source: &Source<'_>,
    wanted: &[Wanted],
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
    let mut partitions = match &request.partitions {
        Some(patterns) => {
            // Values of partitions are known only of live ones; all have an id.
            let of_backup = wanted.iter().map(|wanted| &wanted.part.partition_id);
            let mut ids: BTreeSet<String> = of_backup
                .filter(|id| matches(patterns, id))
                .cloned()
                .collect();
            if definition.is_some() {
                ids.extend(engine.partition_ids(&table.target, patterns)?);
            }
            Some(ids)
        }
        None => None,
    };
    // Of what it was told to leave out a backup knows nothing: that stays as it is.
    if let Some(backed_up) = source.partitions(&table.source) {
        let all = || backed_up.iter().cloned().collect();
        partitions
            .get_or_insert_with(all)
            .retain(|id| backed_up.contains(id));
    }
    let plan = compare(&Comparison {
        source: &table.source,
        target: &table.target,
        wanted,
        current_parts: current_parts.as_ref(),
        live: live.as_ref(),
        explained: &explained,
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
    let mut missing: HashMap<u32, &mut Fetched> = HashMap::new();
    for fetched in plan
        .partitions
        .iter_mut()
        .flat_map(|partition| &mut partition.fetch)
    {
        if !disks.contains(&fetched.disk) {
            fetched.disk.clone_from(&default_disk);
        }
        missing.insert(fetched.wanted, fetched);
    }
    let chosen: Vec<u32> = missing.keys().copied().collect();
    let mut batch: Vec<(u32, PartRecord)> = Vec::new();
    let mut flush = |batch: &mut Vec<(u32, PartRecord)>| -> TaskResult<()> {
        let local = local_files(engine, table, batch.iter().map(|(_, record)| record))?;
        let files = batch.iter().flat_map(|(_, record)| &record.files);
        attempt.wait(attempt.tools.repository.check_files_present(files))?;
        for (at, record) in batch.drain(..) {
            let Some(fetched) = missing.get_mut(&at) else {
                continue;
            };
            let is_local = |file: &&PartFile| {
                file.identity()
                    .is_some_and(|identity| local.contains_key(&identity))
            };
            let (linked, downloaded): (Vec<_>, Vec<_>) = record.files.iter().partition(is_local);
            let bytes = |files: &[&PartFile]| files.iter().map(|file| file.bytes).sum::<u64>();
            fetched.linked_bytes = bytes(&linked);
            fetched.download_bytes = bytes(&downloaded);
            fetched.download_files = downloaded.len() as u64;
        }
        Ok(())
    };
    let mut whole: Vec<(u32, bool)> = Vec::new();
    source.contents(&table.source, wanted, &chosen, |at, content| {
        match content {
            Content::Record(record) => batch.push((at, record)),
            Content::Directory(_) => whole.push((at, true)),
            Content::Imported(_) => whole.push((at, false)),
        }
        if batch.len() >= RECORDS_AT_ONCE {
            flush(&mut batch)?;
        }
        Ok(())
    })?;
    flush(&mut batch)?;
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
