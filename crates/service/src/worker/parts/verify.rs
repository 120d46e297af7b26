//! The proof of a mend.

use mendb_model::operation::MendRequest;
use mendb_model::part::Tally;

use super::assess::{look, planned};
use super::source::Source;
use super::table_of;
use crate::worker::{Attempt, Counts, TaskError, TaskResult};

/// Compares the table with the backup once more: nothing may be missing, and what is there beside must
/// have come after the commit.
pub(super) fn verify(
    attempt: &Attempt<'_>,
    request: &MendRequest,
    idx: u32,
    counts: &mut Counts,
) -> TaskResult<()> {
    let table = table_of(request, idx)?;
    let source = Source::open(attempt, request)?;
    let wanted = source.wanted(&table.source)?;
    let now = look(attempt, request, table, &source, &wanted)?;
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
    let planned = planned(attempt, idx)?.plan;
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
        attempt.tools.engine.parts()?.check_table(&table.target)?;
    }
    counts.rows = tally.kept.rows;
    Ok(())
}
