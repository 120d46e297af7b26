//! The server's own check of mended tables, where the order asks for it. The commit step has already proved, partition
//! by partition, that a table has what the backup holds; what merges, mutations and other clients made of it since is
//! theirs.

use mendb_engines::{RefusedPart, Remedy};
use mendb_model::operation::MendRequest;

use super::assess::planned;
use super::commit::commit;
use super::damage;
use super::opened_source::OpenedSource;
use super::tables::table_of;
use crate::attempt::{Attempt, Counts};
use crate::task_error::{TaskError, TaskResult};

/// Has the server check the table, and brings anew what it refuses.
pub(super) fn verify(
    attempt: &Attempt<'_>,
    request: &MendRequest,
    idx: u32,
    counts: &mut Counts,
) -> TaskResult<()> {
    let target = &table_of(request, idx)?.target;
    if !planned(attempt, idx)?.plan.damaged.is_empty() {
        // An attempt that had found it may have died before it was mended.
        commit(attempt, request, idx, counts)?;
    }
    let engine = attempt.tools.engine.parts()?;
    let mut refused = match engine.check_table(target) {
        // An old server has no such check. Each byte was proved when its part was put together.
        Err(error) if request.drill.is_some() && error.remedy == Remedy::Request => {
            return Ok(());
        }
        checked => checked?,
    };
    if refused.is_empty() {
        return Ok(());
    }
    let can_replace = OpenedSource::open(attempt, request)?.can_replace_damaged();
    if can_replace {
        let live = engine.inventory(target)?;
        let damaged = damage::of_refused(attempt, target, &live, &refused, counts)?;
        let mut plan = planned(attempt, idx)?.plan;
        plan.damaged.retain(|known| !damaged.contains(known));
        plan.damaged.extend(damaged);
        attempt.journal.put_mend_plan(idx, &plan)?;
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
