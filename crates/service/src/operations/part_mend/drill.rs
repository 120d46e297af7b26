//! A drill: parts of a backup are brought into tables of their own, proved, and removed again with their tables.

use mendb_model::operation::{Drill, MendRequest};
use mendb_model::part::{TableName, Wanted};

use super::local::LocalFilesCache;
use super::undo;
use crate::attempt::Attempt;
use crate::journal::made::Made;
use crate::journal::mend_plan::MendState;
use crate::task_error::TaskResult;

/// The parts of a table that a drill brings.
pub(super) fn sample(drill: &Drill, table: &TableName, wanted: Vec<Wanted>) -> Vec<Wanted> {
    let chosen = drill.chosen(&table.spelled(), wanted.len());
    let mut wanted: Vec<Option<Wanted>> = wanted.into_iter().map(Some).collect();
    let chosen = chosen
        .into_iter()
        .filter_map(|at| wanted.get_mut(at)?.take());
    chosen.collect()
}

/// Removes the tables that a drill has created, with all that is in them: they were made for it alone. Doing it again
/// removes what is left.
pub(super) fn remove(attempt: &Attempt<'_>, request: &MendRequest) -> TaskResult<()> {
    let tools = attempt.tools;
    let engine = tools.engine.parts()?;
    let id = &attempt.request.operation_id;
    let made = attempt.journal.made(id)?;
    for (idx, table) in (0u32..).zip(&request.tables) {
        let is_made = made.contains(&Made::Table(table.target.clone()));
        if is_made && engine.table(&table.target)?.is_some() {
            engine.drop_table(&table.target)?;
            crate::env::crash_point();
        }
        attempt.journal.set_mend_state(idx, MendState::Untouched)?;
    }
    tools.kept.of::<LocalFilesCache>().forget(id);
    tools.engine.drop_staged(attempt.operation())?;
    undo::tell_databases(attempt, id)
}
