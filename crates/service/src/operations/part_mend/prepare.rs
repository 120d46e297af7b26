//! What a mend does once for all its tables: before the first change, and at the end.

use std::collections::HashMap;

use mendb_model::operation::{MendRequest, MendSource};
use mendb_model::part::{Action, DatabaseBackup, Space, TablePlan, decide};

use super::definitions::{self, INNER, redefine, redefine_all};
use super::kept_names::aside;
use super::local::LocalFilesCache;
use super::opened_source::contents;
use super::tables::tables_with_parts;
use super::{assess, replicas, undo};
use crate::attempt::{Attempt, Counts, Tools};
use crate::journal::made::Made;
use crate::journal::mend_plan::{MendPlan, MendState};
use crate::task_error::{TaskError, TaskResult};

/// Bytes that are left free on each disk.
const RESERVE_BYTES: u64 = 64 << 20;

/// Decides how each partition is brought about and whether the state before can be kept, freezes that,
/// then creates what is missing. Refuses before the first change if a disk is too small.
pub(super) fn prepare(attempt: &Attempt<'_>, request: &MendRequest) -> TaskResult<()> {
    let tools = attempt.tools;
    let id = &attempt.request.operation_id;
    let mut plans = Vec::new();
    for record in attempt.journal.mend_plans(id)? {
        plans.push(record.plan);
    }
    let keep_undo = decide_all(tools, request, &mut plans)?;
    for (plan, (idx, _)) in plans.iter().zip(tables_with_parts(request)) {
        attempt.journal.put_mend_plan(idx, plan)?;
    }
    crate::env::crash_point();
    if keep_undo {
        for (_, table) in tables_with_parts(request).filter(|(_, table)| !table.create) {
            undo::keep(tools, id, &table.target)?;
            crate::env::crash_point();
        }
    }
    attempt.check_stopped()?;
    create_missing(attempt, request)
}

/// Decides every partition. Returns whether the state before is kept.
pub(super) fn decide_all(
    tools: &Tools,
    request: &MendRequest,
    plans: &mut [TablePlan],
) -> TaskResult<bool> {
    let engine = tools.engine.parts()?;
    let drops_parts = engine.can_drop_parts();
    let disks = engine.disks()?;
    let space = || Space {
        free: disks
            .iter()
            .map(|disk| (disk.name.clone(), disk.free_bytes))
            .collect(),
        reserve: RESERVE_BYTES,
    };
    // Whatever is kept to be undone by does not come free: so it is kept only where all fits beside it.
    let nothing = |plan: &TablePlan| {
        let mut partitions = plan.partitions.iter();
        partitions.all(|partition| partition.action == Action::Nothing)
    };
    let redefines = request.tables.iter().any(|table| table.redefine.is_some());
    let changes = redefines || !plans.iter().all(nothing);
    if request.keep_undo != Some(false) {
        let mut beside = plans.to_vec();
        let mut room = space();
        let fits = beside
            .iter_mut()
            .try_for_each(|plan| decide(plan, request.order, drops_parts, &mut room))
            .is_ok();
        if fits && !beside.iter().any(TablePlan::removes_first) {
            plans.clone_from_slice(&beside);
            return Ok(changes || request.keep_undo == Some(true));
        }
        if request.keep_undo == Some(true) {
            return Err(TaskError::Proof(
                "the disk is too small to keep the state before the mend (--keep-undo); free some, or do without"
                    .to_owned(),
            ));
        }
    }
    let mut room = space();
    for plan in plans {
        decide(plan, request.order, drops_parts, &mut room)
            .map_err(|error| TaskError::Proof(error.to_string()))?;
    }
    Ok(false)
}

/// Plans a table again with what is in it now, for when the user goes on.
pub(super) fn plan_again(
    attempt: &Attempt<'_>,
    request: &MendRequest,
    idx: u32,
) -> TaskResult<TablePlan> {
    let tools = attempt.tools;
    let mut again = assess::assessed(attempt, request, idx, &mut Counts::default())?;
    decide_all(tools, request, std::slice::from_mut(&mut again.plan))?;
    again.remember(attempt)
}

/// Puts the plan that was made again in the place of the first. What the table was before is frozen again,
/// unless it was changed.
pub(super) fn take_up(
    attempt: &Attempt<'_>,
    idx: u32,
    mut plan: TablePlan,
    is_changed: bool,
) -> TaskResult<MendPlan> {
    let tools = attempt.tools;
    let id = &attempt.request.operation_id;
    if undo::is_kept(tools, id, &plan.target)? {
        if is_changed {
            plan.notes.push(
                "what came since the mend began is not in what was kept to undo it by".to_owned(),
            );
        } else {
            undo::keep(tools, id, &plan.target)?;
            crate::env::crash_point();
        }
    }
    attempt.journal.put_mend_plan(idx, &plan)?;
    crate::env::crash_point();
    assess::planned(attempt, idx)
}

/// Creates databases and tables that are missing. A table that an attempt before this one has created
/// is there already.
fn create_missing(attempt: &Attempt<'_>, request: &MendRequest) -> TaskResult<()> {
    if request.tables.iter().all(|table| !table.create) {
        return redefine_all(attempt, request);
    }
    let engine = attempt.tools.engine.parts()?;
    let store = contents(attempt.tools, &request.source)?;
    let renamed: HashMap<String, String> = request.databases.clone().into_iter().collect();
    let (id, journal) = (&attempt.request.operation_id, &attempt.journal);
    let missing = || request.tables.iter().filter(|table| table.create);
    for database in &store.databases {
        let name = renamed.get(&database.name).unwrap_or(&database.name);
        if missing().any(|table| table.target.database == *name) {
            if !engine.has_database(name)? {
                journal.put_made(&Made::Database(name.clone()))?;
                crate::env::crash_point();
            }
            engine.create_database(&DatabaseBackup {
                name: name.clone(),
                ..database.clone()
            })?;
        }
    }
    for (idx, table) in (0u32..).zip(&request.tables) {
        attempt.check_stopped()?;
        if !table.create {
            redefine(attempt, table)?;
            continue;
        }
        let found = store.table(&table.source);
        let definition = &found
            .ok_or_else(|| TaskError::Proof(format!("the backup has no table {}", table.source)))?
            .definition;
        let aside = aside(attempt.operation(), &table.target);
        if table.replace && engine.table(&aside)?.is_none() {
            engine.rename_table(&table.target, &aside)?;
            crate::env::crash_point();
        }
        let made = Made::Table(table.target.clone());
        let is_changed = journal.mend_plan(idx)?.is_some_and(|record| record.changed);
        // The table of a materialized view comes with its view.
        let comes_along = table.target.table.starts_with(INNER);
        let ours = comes_along || is_changed || journal.made(id)?.contains(&made);
        match engine.table(&table.target)? {
            None => {
                journal.put_made(&made)?;
                journal.set_mend_state(idx, MendState::Changing)?;
                let moved = table.replica_path.as_deref();
                let moved = moved.map(|path| definition.at_replica_path(path));
                let definition = moved.as_ref().unwrap_or(definition);
                engine.create_table(definition, &table.target, &renamed)?;
                crate::env::crash_point();
            }
            Some(_) if ours => journal.set_mend_state(idx, MendState::Changing)?,
            Some(_) => {
                return Err(TaskError::Proof(format!(
                    "table {} was created by somebody since the mend was asked for; cancel it and ask again",
                    table.target
                )));
            }
        }
    }
    Ok(())
}

/// Removes what only the mend needed, and releases the tables.
pub(super) fn finish(attempt: &Attempt<'_>, request: &MendRequest) -> TaskResult<()> {
    for table in &request.tables {
        if table.replace {
            tracing::warn!(
                table = %table.target,
                "what had another schema was kept as {}",
                aside(attempt.operation(), &table.target)
            );
        }
    }
    definitions::finish(attempt, request)?;
    undo::remove_created(attempt, request)?;
    let id = &attempt.request.operation_id;
    attempt.tools.kept.of::<LocalFilesCache>().forget(id);
    attempt.tools.engine.make_live(attempt.operation())?;
    replicas::tell(attempt, request)?;
    if let MendSource::Undo { operation_id } = &request.source {
        undo::tell_databases(attempt, operation_id)?;
    }
    Ok(())
}
