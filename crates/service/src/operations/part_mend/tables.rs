//! The tables of a mend, by their places.

use mendb_model::operation::{MendRequest, TableMend};

use crate::task_error::{TaskError, TaskResult};

/// A table of a mend.
pub(super) fn table_of(request: &MendRequest, idx: u32) -> TaskResult<&TableMend> {
    (request.tables.get(idx as usize))
        .ok_or_else(|| TaskError::Proof(format!("the mend has no table number {idx}")))
}

/// The tables of a mend that have parts, with their places.
pub(super) fn tables_with_parts(request: &MendRequest) -> impl Iterator<Item = (u32, &TableMend)> {
    (0u32..)
        .zip(&request.tables)
        .filter(|(_, table)| table.has_parts)
}
