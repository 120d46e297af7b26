//! What a backup of a part store holds, at its end.

use std::time::Duration;

use mendb_model::manifest::Manifest;
use mendb_model::operation::OperationHead;
use mendb_model::part::{MissingTable, PartStoreBackup, PartTable, TableName, Unmatched};
use serde::Serialize;

use super::table_record::{TableRecord, Totals};
use crate::human;
use crate::operations::record::OperationRecord;
use crate::output::{Field, table};

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
    /// Of the backup of a cluster its shards.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shards: Vec<ShardRecord>,
    /// And the milliseconds from the first freeze to the last, by the clocks of their servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    skew_ms: Option<u64>,
    /// Whether all of it is proved to be of one moment.
    exact: bool,
    #[serde(skip)]
    lack: String,
}

/// A shard in the backup of a cluster.
#[derive(Debug, Serialize)]
pub struct ShardRecord {
    shard: String,
    replica: String,
    server: String,
    version: String,
    tables: usize,
    rows: u64,
    bytes: u64,
    frozen_at: String,
}

impl ShardRecord {
    /// The shards of a backup.
    pub fn all(store: &PartStoreBackup) -> Vec<Self> {
        let records = store.shards.iter().map(|shard| {
            let own = store.of_shard(&shard.shard);
            let tables = || own.iter().flat_map(|own| &own.tables);
            Self {
                shard: shard.shard.clone(),
                replica: shard.replica.clone(),
                server: shard.target.to_string(),
                version: shard.server_version.clone(),
                tables: shard.tables,
                rows: tables().map(PartTable::rows).sum(),
                bytes: tables().map(PartTable::data_bytes).sum(),
                frozen_at: human::time(shard.frozen_at_ms),
            }
        });
        records.collect()
    }

    /// The milliseconds from the first freeze of a shard to the last; `None` of the backup of one server.
    pub fn skew_ms(store: &PartStoreBackup) -> Option<u64> {
        (!store.shards.is_empty()).then(|| store.skew_ms())
    }

    /// Shards for people; nothing of the backup of one server.
    pub fn describe(shards: &[Self], skew_ms: Option<u64>) -> String {
        let Some(skew_ms) = skew_ms else {
            return String::new();
        };
        let shown = table(
            shards,
            &[
                Field::left("shard", |it: &Self| it.shard.clone()),
                Field::left("replica", |it| it.replica.clone()),
                Field::left("server", |it| it.server.clone()),
                Field::left("version", |it| it.version.clone()),
                Field::right("tables", |it| it.tables.to_string()),
                Field::right("rows", |it| human::count(it.rows)),
                Field::right("bytes", |it| human::bytes(it.bytes)),
                Field::left("frozen at", |it| it.frozen_at.clone()),
            ],
        );
        let skew = human::duration(Duration::from_millis(skew_ms));
        let empty = shards.iter().filter(|shard| shard.tables == 0);
        let empty = empty.map(|shard| format!("shard {} has none of the tables\n", shard.shard));
        format!(
            "{shown}{}shards were frozen within {skew}, by the clocks of their servers\n\n",
            empty.collect::<String>()
        )
    }
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
            shards: store.map(ShardRecord::all).unwrap_or_default(),
            skew_ms: store.and_then(ShardRecord::skew_ms),
            exact: store.is_some_and(|store| store.exact),
            lack: store.map(describe_lack).unwrap_or_default(),
        }
    }

    /// The report for people.
    pub fn describe(&self) -> String {
        let operation = &self.operation;
        let id = operation.backup_id.as_ref().map(ToString::to_string);
        format!(
            "backup {} of {}: {}, in operation {}\n\n{}{}{}{}",
            id.unwrap_or_default(),
            operation.collection,
            self.totals.describe(),
            operation.operation_id,
            ShardRecord::describe(&self.shards, self.skew_ms),
            describe_moment(self.exact),
            TableRecord::describe(&self.tables),
            self.lack
        )
    }
}

/// Says of a backup that all of it is of one moment, if it is.
pub fn describe_moment(exact: bool) -> &'static str {
    match exact {
        true => "all of it is of one moment: no row came or went while it was frozen\n\n",
        false => "",
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
