//! What an increment holds, and how it was found, at its end.

use mendb_model::manifest::{ChangeMethod, Manifest};
use mendb_model::operation::Operation;
use serde::Serialize;

use crate::human;
use crate::operations::record::OperationRecord;

/// The report of an increment of a target that keeps no changes.
#[derive(Debug, Serialize)]
pub struct IncrementReport {
    #[serde(flatten)]
    operation: OperationRecord,
    tables: Vec<FoundTable>,
}

/// A table in the report.
#[derive(Debug, Serialize)]
struct FoundTable {
    table: String,
    /// Rows that changed, came or went.
    changes: u64,
    /// How they were found.
    changes_by: Option<ChangeMethod>,
    /// Why the change stream did not tell them.
    #[serde(skip_serializing_if = "Option::is_none")]
    untold: Option<String>,
}

impl IncrementReport {
    /// The report of an operation and the backup that it made.
    pub fn new(operation: &Operation, manifest: &Manifest) -> Self {
        let tables = manifest.tables.iter().map(|table| FoundTable {
            table: table.table.clone(),
            changes: table.rows.totals().rows,
            changes_by: table.changes_by.clone(),
            untold: table.untold.clone(),
        });
        Self {
            operation: OperationRecord::new(operation),
            tables: tables.collect(),
        }
    }

    /// The same for people.
    pub fn describe(&self) -> String {
        let mut text = self.operation.sentence();
        for table in &self.tables {
            let (name, changes) = (&table.table, human::count(table.changes));
            text += &match &table.changes_by {
                Some(method) => format!("{name}: {changes} changes, found by {method}\n"),
                None => format!("{name}: {changes} changes\n"),
            };
            if let Some(why) = &table.untold {
                text += &format!("{name}: the change stream did not tell them: {why}\n");
            }
        }
        text
    }
}
