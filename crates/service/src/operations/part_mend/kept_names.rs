//! Names that a mend gives to what it keeps.

use mendb_model::name::OperationId;
use mendb_model::part::TableName;

/// The name of the freeze by which the mend of a table can be undone.
pub(super) fn undo_freeze(operation: &OperationId, table: &TableName) -> String {
    let name = [&table.database, &table.table].map(|name| format!("{}:{name}", name.len()));
    let hash = blake3::hash(name.concat().as_bytes()).to_hex();
    format!("undo_{operation}_{}", &hash[..16])
}

/// Where a table is put whose schema differs.
pub(super) fn aside(operation: &str, table: &TableName) -> TableName {
    let suffix = operation.rsplit('-').next().unwrap_or(operation);
    TableName::new(&table.database, format!("{}_before_{suffix}", table.table))
}
