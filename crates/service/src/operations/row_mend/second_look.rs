//! Rows that came to stand in the way of a mend since it was ordered.

use mendb_model::operation::RowMendRequest;

use super::conflicts::is_needed;
use super::preview::look;
use crate::attempt::Attempt;
use crate::task_error::{TaskError, TaskResult};

/// Looks once more, when the tables are closed to writers: somebody may have written since the mend was
/// ordered.
///
/// # Errors
/// There is a conflict; nothing is staged yet.
pub(super) fn check(attempt: &Attempt<'_>, request: &RowMendRequest) -> TaskResult<()> {
    let unheard = attempt.unheard();
    for table in &request.tables {
        if !is_needed(attempt, request, table)? {
            continue;
        }
        let found = look(&unheard, request, table, false)?.conflicts;
        if let Some(first) = found.rows.first() {
            return Err(TaskError::Proof(format!(
                "since the mend was ordered, rows came into its way, {} of them; the first: {first}; nothing was \
                 changed: cancel it and order it again",
                found.count
            )));
        }
    }
    Ok(())
}
