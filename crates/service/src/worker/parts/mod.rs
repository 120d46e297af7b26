//! The steps of operations on part stores.
//!
//! A backup freezes, and its shard workers write what is frozen. A mend decides what to do with each
//! table ([`assess`]), brings what is missing beside the live parts ([`stage`]), makes it live partition by
//! partition and proves each ([`commit`]). A mend is taken back by the freeze of before ([`rollback`],
//! [`undo`]). Each step begins by looking at what is there: whatever an attempt
//! before it has done is found done.

mod assess;
mod backup;
mod commit;
mod damage;
mod definitions;
mod known;
mod local;
mod partitions;
mod prepare;
mod proof;
mod records;
mod rollback;
mod source;
mod stage;
mod tasks;
mod unchanged;
mod undo;
mod verify;
mod view;

use mendb_model::name::OperationId;
use mendb_model::operation::{MendRequest, Request, StepKind, TaskSpec};
use mendb_model::part::TableName;

use super::{Attempt, Counts, TaskError, TaskResult, no_such_step};

pub(crate) use assess::check_came;
pub(crate) use definitions::{is_untouched, view_of_inner};
pub use known::KnownFilesCache;
pub use local::LocalFilesCache;
pub(crate) use partitions::unmatched as unmatched_partitions;
pub(crate) use prepare::preview;
pub(crate) use source::contents;
pub(crate) use tasks::{backup_tasks, mend_tasks};
pub(crate) use undo::{forget, undo_tables};

/// Runs one task of an operation on a part store.
pub(super) fn run(attempt: &Attempt<'_>, counts: &mut Counts) -> TaskResult<()> {
    match (
        attempt.request.request.as_ref(),
        &attempt.request.spec,
        attempt.request.step_kind,
    ) {
        (Request::PartBackup(request), TaskSpec::Whole, step) => match step {
            StepKind::Cut => backup::cut(attempt, request, counts),
            StepKind::Seal => backup::seal(attempt),
            StepKind::Release => Ok(attempt.tools.engine.thaw(attempt.operation())?),
            StepKind::Rollback => backup::rollback(attempt, request),
            _ => Err(no_such_step(&attempt.request.request)),
        },
        (
            Request::PartBackup(request),
            TaskSpec::CopyParts {
                table,
                chunk,
                parts,
                ..
            },
            StepKind::Copy,
        ) => backup::copy(attempt, request, table, *chunk, parts, counts),
        (Request::Mend(request), TaskSpec::Whole, step) => match step {
            StepKind::Prepare => prepare::prepare(attempt, request),
            StepKind::Finish => prepare::finish(attempt, request),
            StepKind::Rollback => rollback::rollback(attempt, request),
            _ => Err(no_such_step(&attempt.request.request)),
        },
        (Request::Mend(request), TaskSpec::Mend { table_idx, .. }, step) => {
            let idx = *table_idx;
            match step {
                StepKind::Assess => assess::assess(attempt, request, idx, counts),
                StepKind::Stage => stage::stage(attempt, request, idx, counts),
                StepKind::Commit => commit::commit(attempt, request, idx, counts),
                StepKind::Verify => verify::verify(attempt, request, idx, counts),
                _ => Err(no_such_step(&attempt.request.request)),
            }
        }
        _ => Err(no_such_step(&attempt.request.request)),
    }
}

/// The name of the freeze by which the mend of a table can be undone.
fn undo_freeze(operation: &OperationId, table: &TableName) -> String {
    let name = [&table.database, &table.table].map(|name| format!("{}:{name}", name.len()));
    let hash = blake3::hash(name.concat().as_bytes()).to_hex();
    format!("undo_{operation}_{}", &hash[..16])
}

/// A table of a mend.
fn table_of(request: &MendRequest, idx: u32) -> TaskResult<&mendb_model::operation::TableMend> {
    (request.tables.get(idx as usize))
        .ok_or_else(|| TaskError::Proof(format!("the mend has no table number {idx}")))
}
