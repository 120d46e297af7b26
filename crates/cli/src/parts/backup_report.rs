//! What a backup of a part store holds, at its end.

use mendb_model::manifest::Manifest;
use mendb_model::operation::Operation;
use serde::Serialize;

use super::table_record::{TableRecord, Totals};
use crate::operation_record::OperationRecord;

/// A backup that was taken, with its tables.
#[derive(Serialize)]
pub struct BackupReport {
    #[serde(flatten)]
    operation: OperationRecord,
    totals: Totals,
    tables: Vec<TableRecord>,
}

impl BackupReport {
    /// The report of an operation that made a backup.
    pub fn new(operation: &Operation, manifest: &Manifest) -> Self {
        let tables = manifest.part_store.iter().flat_map(TableRecord::all);
        let tables: Vec<_> = tables.collect();
        Self {
            operation: OperationRecord::new(operation),
            totals: Totals::of(&tables),
            tables,
        }
    }

    /// The report for people.
    pub fn describe(&self) -> String {
        let operation = &self.operation;
        let id = operation.backup_id.as_ref().map(ToString::to_string);
        format!(
            "backup {} of {}: {}, in operation {}\n\n{}",
            id.unwrap_or_default(),
            operation.collection,
            self.totals.describe(),
            operation.operation_id,
            TableRecord::describe(&self.tables)
        )
    }
}
