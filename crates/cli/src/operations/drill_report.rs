//! What a drill has proved, at its end.

use mendb_model::operation::{Drill, OperationHead};
use serde::Serialize;

use super::record::OperationRecord;
use crate::human;

/// What a drill has proved.
#[derive(Debug, Serialize)]
pub struct DrillReport {
    #[serde(flatten)]
    operation: OperationRecord,
    /// How many of a hundred key ranges or parts of each table were restored, one at least.
    sample_percent: u8,
    tables: usize,
}

impl DrillReport {
    pub fn new(operation: &OperationHead, drill: &Drill) -> Self {
        Self {
            operation: OperationRecord::new(operation),
            sample_percent: drill.percent,
            tables: operation.request.target_tables().len(),
        }
    }

    /// In a line.
    pub fn sentence(&self) -> String {
        let operation = &self.operation;
        let backup = operation.backup_id.as_ref().map(ToString::to_string);
        let rows = match operation.rows_done {
            0 => String::new(),
            rows => format!("{} and ", human::rows(rows)),
        };
        format!(
            "backup {} of {} is restorable: {} % of {} {}, {rows}{}, restored, proved and removed in operation {}\n",
            backup.unwrap_or_default(),
            operation.collection,
            self.sample_percent,
            self.tables,
            if self.tables == 1 { "table" } else { "tables" },
            human::bytes(operation.bytes_done),
            operation.operation_id
        )
    }
}
