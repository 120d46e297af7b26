//! Which partitions a mend is about, where its order names them by patterns.
//!
//! Patterns name ids and values. A backup keeps the values of its partitions, and the server knows those of live ones;
//! the plan that found a partition which neither has any more still knows its value.

use std::collections::{BTreeMap, BTreeSet};

use mendb_model::operation::{MendRequest, MendSource, TableMend};
use mendb_model::part::{Inventory, Partition, PartitionPatterns, Unmatched, Wanted};

use super::opened_source::OpenedSource;
use crate::attempt::Attempt;
use crate::error::Result;
use crate::front::Front;
use crate::journal::mend_plan::MendPlan;
use crate::journal_port::JournalPort;
use crate::task_error::TaskResult;
use crate::wire::TaskRequest;

/// The partitions that are looked at, by id; `None` for all. Of what it was told to leave out a backup
/// knows nothing: that stays as it is.
pub(super) fn looked_at(
    attempt: &Attempt<'_>,
    request: &MendRequest,
    table: &TableMend,
    source: &OpenedSource<'_>,
    wanted: &[Wanted],
    current_parts: Option<&Inventory>,
) -> TaskResult<Option<BTreeSet<String>>> {
    let backed_up = source.partitions(&table.source);
    let Some(patterns) = &request.partitions else {
        return Ok(backed_up.map(|ids| ids.iter().cloned().collect()));
    };
    let patterns = PartitionPatterns::new(patterns);
    let known = known(attempt, table, wanted, current_parts)?;
    let named = known
        .into_iter()
        .filter(|partition| patterns.name(partition));
    let mut ids: BTreeSet<String> = named.map(|partition| partition.id).collect();
    ids.extend(planned_before(attempt, request, table)?);
    if let Some(backed_up) = backed_up {
        ids.retain(|id| backed_up.contains(id));
    }
    Ok(Some(ids))
}

/// The partitions that the backup or the live table has, with their values as far as these are told.
fn known(
    attempt: &Attempt<'_>,
    table: &TableMend,
    wanted: &[Wanted],
    current_parts: Option<&Inventory>,
) -> TaskResult<Vec<Partition>> {
    let mut known: BTreeMap<String, Option<String>> = BTreeMap::new();
    for wanted in wanted {
        known.insert(wanted.part.partition_id.clone(), None);
    }
    for (id, value) in current_parts.iter().flat_map(|then| &then.partitions) {
        known.insert(id.clone(), Some(value.clone()));
    }
    let engine = attempt.tools.engine.parts()?;
    if engine.table(&table.target)?.is_some() {
        let live = engine.partitions(&table.target)?.into_iter();
        known.extend(live.map(|partition| (partition.id, partition.value)));
    }
    let known = known.into_iter();
    Ok(known.map(|(id, value)| Partition { id, value }).collect())
}

/// The partitions that an earlier attempt of this mend has planned, or the mend that it takes back: the
/// values of those that it has removed are told by nobody any more.
fn planned_before(
    attempt: &Attempt<'_>,
    request: &MendRequest,
    table: &TableMend,
) -> TaskResult<Vec<String>> {
    let journal = &attempt.journal;
    let mut plans = journal.mend_plans(&attempt.request.operation_id)?;
    if let MendSource::Undo { operation_id } = &request.source {
        plans.extend(journal.mend_plans(operation_id)?);
    }
    let of_table = plans
        .into_iter()
        .filter(|record: &MendPlan| record.plan.target == table.target);
    let partitions = of_table.flat_map(|record| record.plan.partitions);
    Ok(partitions.map(|partition| partition.partition_id).collect())
}

/// The patterns of partitions that fit none of any table of a mend.
pub(super) fn unmatched(front: &Front, request: &MendRequest) -> Result<Vec<Unmatched>> {
    let Some(patterns) = &request.partitions else {
        return Ok(Vec::new());
    };
    let task = TaskRequest::preview(mendb_model::operation::Request::Mend(request.clone()))?;
    let journal = JournalPort::here(&front.journal, &task);
    let attempt = Attempt::alone(&front.tools, &task, journal);
    let source = OpenedSource::open(&attempt, request)?;
    let mut partitions = Vec::new();
    for table in request.tables.iter().filter(|table| table.has_parts) {
        let current_parts = source.current_parts(&table.source)?;
        // Lists of parts are read only where nothing else tells the partitions.
        let wanted = match &current_parts {
            Some(_) => Vec::new(),
            None => source.wanted(table)?,
        };
        partitions.extend(known(&attempt, table, &wanted, current_parts.as_ref())?);
        let of_parts = current_parts.iter().flat_map(|then| &then.parts);
        partitions.extend(of_parts.map(|part| Partition {
            id: part.partition_id.clone(),
            value: None,
        }));
    }
    Ok(PartitionPatterns::new(patterns).unmatched(&partitions))
}
