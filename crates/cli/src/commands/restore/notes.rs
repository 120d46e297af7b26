//! What is said of a restore when it begins.

use mendb_model::name::{BackupKind, OperationId};
use mendb_model::operation::FindBy;
use mendb_service::Service;

use crate::context::Context;
use crate::failure::Failure;
use crate::human;
use crate::rows::mend_preview as row_preview;

/// Says of which tables the target does not keep the whole definition.
///
/// # Errors
/// The journal cannot be read.
pub fn say_what_stays_behind(
    context: &Context,
    service: &Service,
    id: &OperationId,
) -> Result<(), Failure> {
    let operation = service.journal().operation(id)?;
    let tables = operation.request.plain_tables();
    if !tables.is_empty() {
        context.say(&format!(
            "note: {} with columns, key and rows alone: this target does not keep defaults, constraints, sequences \
             and other indexes of the database that the backup was taken of; they stay in the backup",
            tables.join(", ")
        ));
    }
    Ok(())
}

/// Says when a mend cannot go by changes, as it may then read much with writers shut out; and how many rows it
/// takes along.
pub fn say_what_is_special(
    context: &Context,
    service: &Service,
    id: &OperationId,
) -> Result<(), Failure> {
    let operation = service.journal().operation(id)?;
    let Some(request) = operation.request.row_mend() else {
        return Ok(());
    };
    let names = request.tables.iter().map(|table| table.table.clone());
    for note in service.relatives(&names.collect::<Vec<_>>())? {
        context.say(&format!("note: {note}"));
    }
    for table in request.tables.iter().filter(|table| !table.also.is_empty()) {
        context.say(&format!(
            "of {} also {} outside of the range",
            table.table,
            human::rows(table.also.len() as u64)
        ));
    }
    for note in row_preview::not_known(&request.tables, &request.untold, &request.before.collection)
    {
        context.say(&note);
    }
    let mut tables = request.tables.iter();
    if let FindBy::Digests { reason } = &request.find_by
        && tables.all(|table| table.scope.rewind.is_none())
    {
        let backup = match request.before.backup_id.kind() {
            BackupKind::Full => "; the state before is kept as a full backup",
            BackupKind::Incremental => "",
        };
        context.say(&format!("compares digests of key ranges: {reason}{backup}"));
    }
    Ok(())
}
