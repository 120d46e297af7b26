//! A table as it is, compared with what it should be.

use std::collections::BTreeSet;

use mendb_model::operation::{MendRequest, StepKind, TableMend};
use mendb_model::part::lineage::explain;
use mendb_model::part::{
    CamePart, Comparison, DamagedPart, Inventory, MergeTraits, PartLog, Provenance,
    TableDefinition, TableName, TablePlan, Wanted, Witness, compare,
};

use super::opened_source::OpenedSource;
use super::records::Records;
use super::{damage, partitions};
use crate::attempt::Attempt;
use crate::task_error::TaskResult;

/// What a table is compared with.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub attempt: &'a Attempt<'a>,
    pub request: &'a MendRequest,
    pub table: &'a TableMend,
    pub source: &'a OpenedSource<'a>,
    pub wanted: &'a [Wanted],
}

/// What a look at a table tells.
pub(super) struct Look {
    /// What is to be done, in partitions with which the mend is not through.
    pub plan: TablePlan,
    /// `None` where the table is to be created.
    pub live: Option<Inventory>,
    /// Parts that would go although somebody brought them, or may have.
    pub late: Vec<CamePart>,
    /// Parts that somebody brought and that stay.
    pub spared: Vec<CamePart>,
}

impl View<'_> {
    /// Compares from metadata; of what was found damaged, the bytes are read again. With records it tells what
    /// somebody brought.
    pub(super) fn look(
        &self,
        suspects: &[DamagedPart],
        records: Option<&Records>,
    ) -> TaskResult<Look> {
        let Self {
            attempt,
            request,
            table,
            source,
            wanted,
        } = *self;
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
        let mut witnesses: Vec<Witness> =
            current_parts.iter().cloned().map(Witness::plain).collect();
        witnesses.extend(attempt.journal.witness(&table.target)?);
        let traits = definition.as_ref().map(MergeTraits::of).unwrap_or_default();
        let explained = match &live {
            Some(live) => {
                let taken_at = witnesses
                    .iter()
                    .map(|witness| witness.inventory.taken_at_ms);
                let log = match taken_at.min() {
                    Some(since) => engine.part_log(&table.target, since)?,
                    None => PartLog::default(),
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
        let known = match (&live, records) {
            (Some(live), Some(records)) => Known::new(live, records),
            _ => Known::default(),
        };
        let mut plan = compare(&Comparison {
            source: &table.source,
            target: &table.target,
            wanted,
            current_parts: current_parts.as_ref(),
            live: live.as_ref(),
            explained: &explained,
            damaged: &damaged,
            order_sensitive: order_sensitive(definition.as_ref(), source, &table.source),
            only_partitions: partitions.as_ref(),
            spared: &known.spared,
        });
        plan.partitions.retain(|partition| {
            // What is damaged is never kept.
            let mut goes = partition.remove.iter();
            let has_damage =
                goes.any(|part| damaged.iter().any(|damaged| damaged.name == part.name));
            has_damage || !known.done.contains(&partition.partition_id)
        });
        let goes: BTreeSet<&str> = (plan.partitions.iter())
            .flat_map(|partition| &partition.remove)
            .map(|part| part.name.as_str())
            .collect();
        let (spared, others): (Vec<CamePart>, Vec<CamePart>) =
            (known.came.into_iter()).partition(|part| known.spared.contains(&part.name));
        let late = others
            .into_iter()
            .filter(|part| goes.contains(part.name.as_str()));
        let late = late.collect();
        Ok(Look {
            plan,
            live,
            late,
            spared,
        })
    }
}

/// What records say about the live parts.
#[derive(Default)]
struct Known {
    /// Those that somebody brought, or may have.
    came: Vec<CamePart>,
    /// Names of those that stay.
    spared: BTreeSet<String>,
    /// Partitions that are mended.
    done: BTreeSet<String>,
}

impl Known {
    fn new(live: &Inventory, records: &Records) -> Self {
        let ledger = records.ledger(live);
        let mut known = Self::default();
        for (part, provenance) in live.parts.iter().zip(ledger.provenances(live)) {
            if provenance == Provenance::Known {
                continue;
            }
            known.came.push(CamePart {
                name: part.name.clone(),
                rows: part.rows,
                mixed: provenance == Provenance::Mixed,
            });
            if provenance == Provenance::Came && records.spares(&ledger, &part.partition_id) {
                known.spared.insert(part.name.clone());
            }
        }
        known.done = (ledger.left_partitions())
            .filter(|id| records.is_done(&ledger, id, live))
            .map(str::to_owned)
            .collect();
        known
    }
}

/// Whether the order of parts matters: as the live table says, or the backup where there is none.
fn order_sensitive(
    live: Option<&TableDefinition>,
    source: &OpenedSource<'_>,
    table: &TableName,
) -> bool {
    let definition = live.or_else(|| source.definition(table));
    definition.is_none_or(TableDefinition::is_order_sensitive)
}
