//! What a backup of a part store holds, at its end.

use mendb_model::manifest::Manifest;
use mendb_model::operation::OperationHead;
use mendb_model::part::{MissingTable, PartStoreBackup, TableName, Unmatched};
use serde::Serialize;

use super::table_record::{TableRecord, Totals};
use crate::operations::record::OperationRecord;

/// A backup that was taken, with its tables.
#[derive(Serialize)]
pub struct BackupReport {
    #[serde(flatten)]
    operation: OperationRecord,
    totals: Totals,
    tables: Vec<TableRecord>,
    /// Whether it has every table that was asked for.
    complete: bool,
    /// Tables that it lacks, with the reason.
    missing: Vec<MissingTable>,
    /// Tables that were dropped while it was taken.
    dropped: Vec<TableName>,
    /// Patterns that fitted nothing.
    unmatched: Vec<Unmatched>,
    #[serde(skip)]
    lack: String,
}

impl BackupReport {
    /// The report of an operation that made a backup.
    pub fn new(operation: &OperationHead, manifest: &Manifest) -> Self {
        let store = manifest.part_store.as_ref();
        let tables = store.map(TableRecord::all).unwrap_or_default();
        Self {
            operation: OperationRecord::new(operation),
            totals: Totals::of(&tables),
            tables,
            complete: manifest.is_complete(),
            missing: store.map(|store| store.missing.clone()).unwrap_or_default(),
            dropped: store.map(|store| store.dropped.clone()).unwrap_or_default(),
            unmatched: store
                .map(|store| store.unmatched.clone())
                .unwrap_or_default(),
            lack: store.map(describe_lack).unwrap_or_default(),
        }
    }

    /// The report for people.
    pub fn describe(&self) -> String {
        let operation = &self.operation;
        let id = operation.backup_id.as_ref().map(ToString::to_string);
        format!(
            "backup {} of {}: {}, in operation {}\n\n{}{}",
            id.unwrap_or_default(),
            operation.collection,
            self.totals.describe(),
            operation.operation_id,
            TableRecord::describe(&self.tables),
            self.lack
        )
    }
}

/// What a backup does not have, and why; nothing for one that has all.
pub fn describe_lack(store: &PartStoreBackup) -> String {
    let mut text = String::new();
    if !store.complete {
        text += "\nincomplete: it lacks\n";
        for table in &store.missing {
            text += &format!("  {}: {}\n", table.name, table.reason);
        }
    }
    for table in &store.dropped {
        text += &format!("\n{table} was dropped while the backup was taken, and is not in it\n");
    }
    for unmatched in &store.unmatched {
        text += &format!("\nnothing fitted {unmatched}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_backup_lacks_is_told_with_the_reason() {
        let mut store = PartStoreBackup::new("26.9".to_owned(), None);
        assert_eq!(describe_lack(&store), "");
        store.lack(TableName::new("d", "far"), "it is on the moon".to_owned());
        store.dropped.push(TableName::new("d", "gone"));
        assert_eq!(
            describe_lack(&store),
            "\nincomplete: it lacks\n  d.far: it is on the moon\n\nd.gone was dropped while the \
             backup was taken, and is not in it\n"
        );
    }
}
