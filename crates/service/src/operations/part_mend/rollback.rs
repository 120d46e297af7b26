//! Takes back a mend that was cancelled.
//!
//! A table that existed gets back what was frozen before the first change, proved by content, beside what somebody
//! inserted meanwhile. Where the server merged inserted rows with rows of the mend, nobody can tell the two apart: then
//! the table and the freeze stay as they are, and the record of the operation says so.

use mendb_model::operation::{MendRequest, MendSource, TableMend, TableUndo};
use mendb_model::part::{TableName, inner};

use super::kept_names::aside;
use super::tables::tables_with_parts;
use super::{commit, definitions, undo};
use crate::attempt::{Attempt, Tools};
use crate::journal::made::Made;
use crate::journal::mend_plan::{MendPlan, MendState};
use crate::task_error::{TaskError, TaskResult};

/// Brings the tables of a mend back, as far as they were changed, and removes what the mend has made.
pub(super) fn rollback(attempt: &Attempt<'_>, request: &MendRequest) -> TaskResult<()> {
    let tools = attempt.tools;
    let engine = tools.engine.parts()?;
    let id = &attempt.request.operation_id;
    let made = made_tables(attempt, request)?;
    // What reads from tables goes before they do.
    for table in made.iter().filter(|table| !table.has_parts) {
        if engine.table(&table_of_view(&table.target))?.is_none() {
            engine.drop_table(&table.target)?;
            crate::env::crash_point();
        }
    }
    let mut left = Vec::new();
    for (idx, table) in tables_with_parts(request) {
        let record = attempt.journal.mend_plan(idx)?;
        let Some(record) = record.filter(|record| record.changed) else {
            continue;
        };
        if let Some(why) = take_back(attempt, request, table, idx, &record)? {
            tracing::warn!(table = %table.target, "{why}");
            let mut plan = record.plan;
            plan.notes.push(why);
            attempt.journal.put_mend_plan(idx, &plan)?;
            left.push(&table.target);
        } else {
            attempt.journal.set_mend_state(idx, MendState::Untouched)?;
        }
        crate::env::crash_point();
    }
    for table in request.tables.iter().filter(|table| table.replace) {
        let aside = aside(attempt.operation(), &table.target);
        if engine.table(&aside)?.is_some() && !left.contains(&&table.target) {
            engine.drop_table(&table.target)?;
            engine.rename_table(&aside, &table.target)?;
            crate::env::crash_point();
        }
    }
    let is_left = |table: &&&TableMend| left.contains(&&table.target);
    for table in made.iter().filter(|table| !is_left(table)) {
        if let Some(why) = drop_made(tools, &table.target, table.has_parts)? {
            tracing::warn!(table = %table.target, "{why}");
        }
        crate::env::crash_point();
    }
    definitions::take_back(attempt, request)?;
    for (_, table) in tables_with_parts(request) {
        if !left.contains(&&table.target) {
            undo::let_go(tools, id, &table.target)?;
        }
    }
    tools.engine.drop_staged(attempt.operation())?;
    undo::tell_databases(attempt, id)
}

/// What a mend has created that takes the place of nothing, the last one first.
fn made_tables<'r>(
    attempt: &Attempt<'_>,
    request: &'r MendRequest,
) -> TaskResult<Vec<&'r TableMend>> {
    let made = attempt.journal.made(&attempt.request.operation_id)?;
    let is_made =
        |table: &&TableMend| !table.replace && made.contains(&Made::Table(table.target.clone()));
    Ok(request.tables.iter().rev().filter(is_made).collect())
}

/// The table that a materialized view has if it was told to write to no other.
fn table_of_view(view: &TableName) -> TableName {
    TableName::new(&view.database, inner::of_view(&view.table))
}

/// Removes what a mend has created if it is still there and has no rows. Returns why it stays, if it does.
fn drop_made(tools: &Tools, made: &TableName, has_parts: bool) -> TaskResult<Option<String>> {
    let engine = tools.engine.parts()?;
    if engine.table(made)?.is_none() {
        return Ok(None);
    }
    if has_parts {
        return undo::drop_empty(tools, made);
    }
    // It would take its rows along.
    let of_view = table_of_view(made);
    if engine.table(&of_view)?.is_some()
        && let stays @ Some(_) = undo::drop_empty(tools, &of_view)?
    {
        return Ok(stays);
    }
    engine.drop_table(made)?;
    Ok(None)
}

/// Takes back what was done to a table. Returns why it is left as it is, if it is.
fn take_back(
    attempt: &Attempt<'_>,
    request: &MendRequest,
    table: &TableMend,
    idx: u32,
    record: &MendPlan,
) -> TaskResult<Option<String>> {
    let id = &attempt.request.operation_id;
    let target = &table.target;
    if !table.create && !undo::is_kept(attempt.tools, id, target)? {
        let standing = if record.incomplete {
            "is left incomplete: nothing was kept to take the mend back by; mend it again to complete it"
        } else {
            "stays as it was mended: nothing was kept to take that back by"
        };
        return Ok(Some(format!("table {target} {standing}")));
    }
    let engine = attempt.tools.engine.parts()?;
    if table.create && engine.table(target)?.is_none() {
        return Ok(None);
    }
    let back = MendRequest {
        source: MendSource::Undo {
            operation_id: id.clone(),
        },
        ..request.clone()
    };
    let was = TableMend {
        source: target.clone(),
        create: false,
        undo: table.create.then_some(TableUndo::Drop),
        ..table.clone()
    };
    match commit::bring_back(attempt, &back, &was, idx, record) {
        Ok(()) => {}
        Err(TaskError::Unclear(parts)) => {
            let standing = if record.incomplete {
                "mended in part"
            } else {
                "mended"
            };
            return Ok(Some(format!(
                "table {target} is left {standing}: rows that came since are, or may be, in parts {parts} together \
                 with rows of the mend, and cannot be told apart; what it was before stays kept, and mendb undo {id} \
                 --on-concurrent-insert remove brings it back without these parts"
            )));
        }
        // What is damaged stays kept, and the other tables are taken back.
        Err(TaskError::DamagedKept(why)) => {
            let standing = if record.incomplete {
                "is left mended in part"
            } else {
                "stays as it was mended"
            };
            return Ok(Some(format!(
                "table {target} {standing}: {why}; mendb restore --in-place brings it to what a backup holds"
            )));
        }
        Err(error) => return Err(error),
    }
    if table.create {
        return undo::drop_empty(attempt.tools, target);
    }
    Ok(None)
}
