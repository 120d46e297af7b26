//! The proof of a mend.

use mendb_engines::RefusedPart;
use mendb_model::operation::MendRequest;
use mendb_model::part::Tally;

use super::assess::{look, planned};
use super::commit::commit;
use super::damage;
use super::source::Source;
use super::table_of;
use crate::worker::{Attempt, Counts, TaskError, TaskResult};

/// Compares the table with the backup once more: nothing may be missing, and what is there beside must
/// have come after the commit. What the server's own check finds damaged is mended here.
pub(super) fn verify(
    attempt: &Attempt<'_>,
    request: &MendRequest,
    idx: u32,
    counts: &mut Counts,
) -> TaskResult<()> {
    let table = table_of(request, idx)?;
    let source = Source::open(attempt, request)?;
    let wanted = source.wanted(&table.source)?;
    let planned = planned(attempt, idx)?.plan;
    let mut now = look(attempt, request, table, &source, &wanted, &planned.damaged)?;
    if !now.plan.damaged.is_empty() {
        // An attempt that had found it died before it was mended.
        commit(attempt, request, idx, counts)?;
        now = look(attempt, request, table, &source, &wanted, &planned.damaged)?;
    }
    let tally = Tally::of(&now.plan);
    if tally.fetched.parts > 0 {
        let missing = now
            .plan
            .partitions
            .iter()
            .flat_map(|partition| &partition.fetch);
        let names: Vec<&str> = missing.map(|part| part.name.as_str()).take(10).collect();
        return Err(TaskError::Proof(format!(
            "table {} lacks {} parts of the backup ({}): something removed or rewrote them after they were committed; \
             mend it again",
            table.target,
            tally.fetched.parts,
            names.join(", ")
        )));
    }
    let mut beside = now.plan.partitions.iter().flat_map(|p| &p.remove);
    if let Some(part) = beside.find(|part| planned.live.get(&part.name) == Some(&part.hash)) {
        return Err(TaskError::Proof(format!(
            "part {} of table {} was to go and is still live; mend it again",
            part.name, table.target
        )));
    }
    if tally.removed.parts > 0 {
        tracing::warn!(
            table = %table.target,
            parts = tally.removed.parts,
            rows = tally.removed.rows,
            "more came after the commit"
        );
    }
    if request.check_table {
        checked_by_server(attempt, request, idx, counts)?;
    }
    counts.rows = tally.kept.rows;
    Ok(())
}

/// Has the server check the table, and brings anew what it refuses.
fn checked_by_server(
    attempt: &Attempt<'_>,
    request: &MendRequest,
    idx: u32,
    counts: &mut Counts,
) -> TaskResult<()> {
    let target = &table_of(request, idx)?.target;
    let engine = attempt.tools.engine.parts()?;
    let mut refused = engine.check_table(target)?;
    if refused.is_empty() {
        return Ok(());
    }
    let can_replace = Source::open(attempt, request)?.can_replace_damaged();
    if can_replace {
        let live = engine.inventory(target)?;
        let damaged = damage::of_refused(attempt, target, &live, &refused, counts)?;
        let mut plan = planned(attempt, idx)?.plan;
        plan.damaged.retain(|known| !damaged.contains(known));
        plan.damaged.extend(damaged);
        let id = &attempt.request.operation_id;
        attempt.tools.journal.put_mend_plan(id, idx, &plan)?;
        crate::env::crash_point();
        commit(attempt, request, idx, counts)?;
        refused = engine.check_table(target)?;
    }
    if refused.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = (refused.iter())
        .map(|RefusedPart { name, why }| format!("{name} ({why})"))
        .collect();
    let advice = if can_replace {
        "they are as they should be, byte for byte: look at its log, and mend again without --check-table"
    } else {
        "cancel the undo, and mend the table from a backup with --check-kept"
    };
    Err(TaskError::Proof(format!(
        "the server's check of {target} refuses parts: {}; {advice}",
        told.join(", ")
    )))
}
