//! How a mend changes the definitions of existing tables and takes that back, and which dictionaries are stale after it.

use mendb_engines::Moment;
use mendb_model::describe_error;
use mendb_model::operation::{MendRequest, OperationHead, TableMend};
use mendb_model::part::TableName;

use super::kept_names::aside;
use crate::attempt::Attempt;
use crate::error::Result;
use crate::front::Front;
use crate::task_error::{TaskError, TaskResult};

/// What names of tables begin with that belong to a materialized view.
pub(super) const INNER: &str = ".inner.";

/// The materialized view that a table belongs to.
pub(super) fn view_of_inner(table: &TableName) -> Option<TableName> {
    let view = table.table.strip_prefix(INNER)?;
    Some(TableName::new(&table.database, view))
}

/// Brings the definitions of all tables of a mend to what they are to be, before parts come.
pub(super) fn redefine_all(attempt: &Attempt<'_>, request: &MendRequest) -> TaskResult<()> {
    let mut tables = request.tables.iter();
    tables.try_for_each(|table| redefine(attempt, table))
}

/// Brings the definition of a table to what it is to be, as far as no part is rewritten.
pub(super) fn redefine(attempt: &Attempt<'_>, table: &TableMend) -> TaskResult<()> {
    let Some(redefine) = &table.redefine else {
        return Ok(());
    };
    let engine = attempt.tools.engine.parts()?;
    engine.redefine(&table.target, &redefine.to, Moment::Before)?;
    crate::env::crash_point();
    Ok(())
}

/// Completes and proves definitions, then has dictionaries read again that stand on what was changed.
pub(super) fn finish(attempt: &Attempt<'_>, request: &MendRequest) -> TaskResult<()> {
    let engine = attempt.tools.engine.parts()?;
    for table in &request.tables {
        let Some(redefine) = &table.redefine else {
            continue;
        };
        attempt.check_stopped()?;
        engine.redefine(&table.target, &redefine.to, Moment::After)?;
        crate::env::crash_point();
        let live = engine.table(&table.target)?;
        let differences = live.map(|live| redefine.to.differences(&live));
        let is_proved = differences.as_ref().is_some_and(Vec::is_empty);
        if !is_proved {
            let found = differences
                .into_iter()
                .flatten()
                .map(|found| found.to_string());
            let found: Vec<String> = found.collect();
            return Err(TaskError::Proof(format!(
                "the definition of {} is not that of the backup after it was altered: {}; mend it again",
                table.target,
                if found.is_empty() {
                    "it does not exist".to_owned()
                } else {
                    found.join("; ")
                }
            )));
        }
    }
    if request.apply_mutations {
        apply_mutations(attempt, request)?;
    }
    reload(attempt, request)
}

/// Applies mutations that the backup lacks, in their order. What there was before is on disk first: done
/// again after a crash, none is applied twice.
fn apply_mutations(attempt: &Attempt<'_>, request: &MendRequest) -> TaskResult<()> {
    let engine = attempt.tools.engine.parts()?;
    let journal = &attempt.journal;
    for (idx, table) in (0u32..).zip(&request.tables) {
        let Some(mut plan) = journal.mend_plan(idx)?.map(|record| record.plan) else {
            continue;
        };
        for at in 0..plan.unfinished.len() {
            attempt.check_stopped()?;
            if plan.unfinished[at].partitions.is_empty() {
                continue;
            }
            if plan.unfinished[at].known.is_none() {
                plan.unfinished[at].known = Some(engine.mutation_ids(&table.target)?);
                journal.put_mend_plan(idx, &plan)?;
                crate::env::crash_point();
            }
            let mutation = &plan.unfinished[at];
            let is_all = mutation.partly.is_empty() && request.partitions.is_none();
            let in_all = plan.partitions.len() == mutation.partitions.len();
            let partitions = (!(is_all && in_all)).then_some(&mutation.partitions[..]);
            let known = mutation.known.as_deref().unwrap_or_default();
            engine.mutate(&table.target, &mutation.command, partitions, known)?;
            crate::env::crash_point();
        }
    }
    Ok(())
}

/// Has dictionaries read again. One that cannot be read is told: it may have failed before as well, and the
/// tables are mended.
fn reload(attempt: &Attempt<'_>, request: &MendRequest) -> TaskResult<()> {
    let mut changed = Vec::new();
    for (idx, table) in (0u32..).zip(&request.tables) {
        let record = attempt.journal.mend_plan(idx)?;
        let is_changed = record.is_some_and(|record| record.changed);
        if is_changed || table.create || table.redefine.is_some() {
            changed.push(table.target.clone());
        }
    }
    if changed.is_empty() {
        return Ok(());
    }
    for (dictionary, read) in attempt.tools.engine.parts()?.reload_dependents(&changed)? {
        match read {
            Ok(()) => tracing::info!(dictionary, "was read again"),
            Err(error) => tracing::warn!(
                dictionary,
                error = describe_error(&error),
                "stands on what was mended and could not be read again: SYSTEM RELOAD DICTIONARY has it read"
            ),
        }
    }
    Ok(())
}

/// Takes changes of definitions back, the last one first.
pub(super) fn take_back(attempt: &Attempt<'_>, request: &MendRequest) -> TaskResult<()> {
    let engine = attempt.tools.engine.parts()?;
    for table in request.tables.iter().rev() {
        let Some(redefine) = &table.redefine else {
            continue;
        };
        engine.redefine(&table.target, &redefine.before, Moment::Before)?;
        engine.redefine(&table.target, &redefine.before, Moment::After)?;
        crate::env::crash_point();
    }
    reload(attempt, request)
}

/// Whether a mend has changed no table, view or dictionary of the target, or has taken all back.
pub(super) fn is_untouched(
    front: &Front,
    operation: &OperationHead,
    request: &MendRequest,
) -> Result<bool> {
    let id = &operation.operation_id;
    let plans = front.journal.mend_plans(id)?;
    if plans.iter().any(|record| record.changed) {
        return Ok(false);
    }
    let engine = front.tools.engine.parts()?;
    for table in &request.tables {
        let is_as_before = if table.replace {
            engine.table(&aside(id.as_str(), &table.target))?.is_none()
        } else if table.create {
            // The table of a view goes with its view.
            view_of_inner(&table.target).is_some() || engine.table(&table.target)?.is_none()
        } else if let Some(redefine) = &table.redefine {
            let live = engine.table(&table.target)?;
            live.is_some_and(|live| redefine.before.differences(&live).is_empty())
        } else {
            true
        };
        if !is_as_before {
            return Ok(false);
        }
    }
    Ok(true)
}
