//! What a mend keeps of tables so that it can be undone, and what an undo does to tables that the mend created.

use mendb_engines::FreezeTable;
use mendb_model::name::OperationId;
use mendb_model::operation::{
    MendRequest, OperationHead, Redefinition, State, TableMend, TableUndo,
};
use mendb_model::part::TableName;

use super::kept_names::{aside, undo_freeze};
use crate::attempt::{Attempt, Tools};
use crate::error::{Error, Result};
use crate::front::Front;
use crate::journal::made::Made;
use crate::task_error::TaskResult;

/// Keeps what a table is now, in the place of what was kept of it before.
pub(super) fn keep(tools: &Tools, id: &OperationId, table: &TableName) -> TaskResult<()> {
    let freeze = FreezeTable {
        name: table.clone(),
        partitions: None,
    };
    let engine = tools.engine.parts()?;
    engine.freeze(&undo_freeze(id, table), &[freeze])?;
    Ok(())
}

/// Whether something is kept of a table.
pub(super) fn is_kept(
    tools: &Tools,
    id: &OperationId,
    table: &TableName,
) -> mendb_engines::Result<bool> {
    tools.engine.is_frozen(&undo_freeze(id, table))
}

/// Releases what is kept of a table.
pub(super) fn let_go(tools: &Tools, id: &OperationId, table: &TableName) -> TaskResult<()> {
    let engine = tools.engine.parts()?;
    Ok(engine.drop_freeze(&undo_freeze(id, table))?)
}

/// Releases all that a mend has kept for its undo.
pub(super) fn forget(tools: &Tools, id: &OperationId, request: &MendRequest) -> TaskResult<()> {
    let mut tables = request.tables.iter();
    tables.try_for_each(|table| let_go(tools, id, &table.target))
}

/// The tables of a mend as an undo has them: those that existed are brought back, those that it created go.
/// Of a mend that was cancelled these are the tables that could not be taken back then.
///
/// # Errors
/// Of a table that existed nothing is kept.
pub(super) fn undo_tables(
    front: &Front,
    operation: &OperationHead,
    mended: &MendRequest,
) -> Result<Vec<TableMend>> {
    let id = &operation.operation_id;
    let mut tables = Vec::new();
    for table in &mended.tables {
        let target = &table.target;
        if operation.state == State::Cancelled {
            let record = front.journal.mend_plan_of(id, target)?;
            if !record.is_some_and(|(_, record)| record.changed) {
                continue;
            }
        }
        if table.undo.is_some() {
            return Err(Error::refused(
                format!(
                    "operation {id} has removed table {target}, which a mend had created, and keeps no definition of it"
                ),
                "restore it from the backup",
            ));
        }
        let undo = match (table.replace, table.create) {
            (true, _) => Some(TableUndo::PutBack {
                aside: aside(id.as_str(), target),
            }),
            (false, true) => Some(TableUndo::Drop),
            (false, false) => None,
        };
        let is_changed = (table.has_parts && mended.data) || table.redefine.is_some();
        if undo.is_none() && !is_changed {
            continue;
        }
        if undo.is_none() && table.has_parts && mended.data && !is_kept(&front.tools, id, target)? {
            return Err(Error::refused(
                format!("operation {id} has kept nothing of table {target} to be undone by"),
                "a mend keeps its state before only where something is to be changed and the disk has room, until it is \
                 forgotten",
            ));
        }
        tables.push(TableMend {
            source: target.clone(),
            create: false,
            replace: false,
            redefine: table.redefine.as_ref().map(Redefinition::reversed),
            undo,
            ..table.clone()
        });
    }
    Ok(tables)
}

/// Removes what the mend that is undone had created, the last one first, and gives what it put aside its name
/// back. A table in which rows stay that somebody brought stays too, and that is told.
pub(super) fn remove_created(attempt: &Attempt<'_>, request: &MendRequest) -> TaskResult<()> {
    let tools = attempt.tools;
    let engine = tools.engine.parts()?;
    for table in request.tables.iter().rev() {
        let target = &table.target;
        let Some(undo) = &table.undo else {
            continue;
        };
        attempt.check_stopped()?;
        // After a crash the name may be given back already.
        if let TableUndo::PutBack { aside } = undo
            && engine.table(aside)?.is_none()
        {
            continue;
        }
        let stays = match engine.table(target)? {
            None => None,
            Some(_) if table.has_parts => drop_empty(tools, target)?,
            Some(_) => {
                engine.drop_table(target)?;
                None
            }
        };
        crate::env::crash_point();
        if let Some(why) = stays {
            tracing::warn!(table = %target, "{why}");
            let id = &attempt.request.operation_id;
            if let Some((idx, record)) = attempt.journal.mend_plan_of(id, target)? {
                let mut plan = record.plan;
                plan.notes.push(why);
                attempt.journal.put_mend_plan(idx, &plan)?;
            }
            continue;
        }
        if let TableUndo::PutBack { aside } = undo {
            engine.rename_table(aside, target)?;
            crate::env::crash_point();
        }
    }
    Ok(())
}

/// Removes a table if it has no rows. Returns why it stays, if it does.
pub(super) fn drop_empty(tools: &Tools, table: &TableName) -> TaskResult<Option<String>> {
    let engine = tools.engine.parts()?;
    let rows = engine.inventory(table)?.rows();
    if rows > 0 {
        return Ok(Some(format!(
            "table {table}, which the mend had created, stays: {rows} rows came into it since"
        )));
    }
    engine.drop_table(table)?;
    Ok(None)
}

/// Names the databases that a mend has created and that are left when it was taken back: to drop one would drop
/// what somebody puts into it at that moment.
pub(super) fn tell_databases(attempt: &Attempt<'_>, id: &OperationId) -> TaskResult<()> {
    let engine = attempt.tools.engine.parts()?;
    for made in attempt.journal.made(id)? {
        if let Made::Database(database) = made
            && engine.has_database(&database)?
        {
            tracing::warn!(
                database,
                "which operation {id} had created, stays: DROP DATABASE removes it, with all that is in it by then"
            );
        }
    }
    Ok(())
}
