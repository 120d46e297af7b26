//! A table of a part store in a backup.

use mendb_model::part::{PartStoreBackup, PartTable};
use serde::Serialize;

use crate::human;
use crate::output::{Field, table};

/// A table, view or dictionary with what a backup has of it.
#[derive(Debug, Serialize)]
pub struct TableRecord {
    /// Of the backup of a cluster, the shard that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<String>,
    table: String,
    engine: String,
    parts: u64,
    rows: u64,
    /// Of all files of its parts.
    bytes: u64,
    /// Of these, bytes that the repository did not have before.
    new_bytes: u64,
    /// Its partitions that were backed up; null for all.
    partitions: Option<Vec<String>>,
    /// Mutations that were not finished.
    mutations: u64,
    /// Whether it may have had rows, of which the backup has none.
    only_definition: bool,
}

/// The sums of a backup.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Tables, views and dictionaries.
    pub tables: u64,
    /// Parts of the tables.
    pub parts: u64,
    /// Their rows.
    pub rows: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Of these, bytes that the repository did not have before.
    pub new_bytes: u64,
}

impl TableRecord {
    /// The records of a backup, in its order.
    pub fn all(store: &PartStoreBackup) -> Vec<Self> {
        let shards = store.shards.iter();
        let mut owners = shards.flat_map(|it| std::iter::repeat_n(&it.shard, it.tables));
        let tables = store.tables.iter();
        tables
            .map(|table| Self::new(table, owners.next()))
            .collect()
    }

    fn new(table: &PartTable, shard: Option<&String>) -> Self {
        Self {
            shard: shard.cloned(),
            table: table.name().to_string(),
            engine: table.definition.engine.clone(),
            parts: table.lists.iter().map(|list| list.parts).sum(),
            rows: table.rows(),
            bytes: table.data_bytes(),
            new_bytes: table.lists.iter().map(|list| list.new_bytes).sum(),
            partitions: table.partitions.clone(),
            mutations: table.mutations.len() as u64,
            only_definition: table.is_only_defined(),
        }
    }

    /// Records as lines.
    pub fn describe(records: &[Self]) -> String {
        let mut fields = vec![
            Field::left("table", |r: &Self| r.table.clone()),
            Field::left("engine", |r| r.engine.clone()),
            Field::right("parts", |r| human::count(r.parts)),
            Field::right("rows", |r| human::count(r.rows)),
            Field::right("bytes", |r| human::bytes(r.bytes)),
            Field::right("new", |r| human::bytes(r.new_bytes)),
            Field::left("note", Self::note),
        ];
        if records.iter().any(|record| record.shard.is_some()) {
            let shard = |r: &Self| r.shard.clone().unwrap_or_default();
            fields.insert(0, Field::left("shard", shard));
        }
        table(records, &fields)
    }

    /// What sets it apart, in a few words.
    fn note(&self) -> String {
        let partitions = self
            .partitions
            .as_ref()
            .map(|ids| format!("only partitions {}", ids.join(", ")));
        let mutations = match self.mutations {
            0 => None,
            1 => Some("1 mutation was not finished".to_owned()),
            several => Some(format!("{several} mutations were not finished")),
        };
        let definition = self
            .only_definition
            .then(|| "only the definition is kept".to_owned());
        let notes = partitions.into_iter().chain(mutations).chain(definition);
        let notes: Vec<String> = notes.collect();
        notes.join("; ")
    }
}

impl Totals {
    /// The sums of tables.
    pub fn of(records: &[TableRecord]) -> Self {
        let mut totals = Self::default();
        for record in records {
            totals.tables += 1;
            totals.parts += record.parts;
            totals.rows += record.rows;
            totals.bytes += record.bytes;
            totals.new_bytes += record.new_bytes;
        }
        totals
    }

    /// `4 tables, 37 parts, 1,010,328 rows, 45.6 MiB, 12.3 MiB of them new in the repository`
    pub fn describe(&self) -> String {
        format!(
            "{}, {}, {}, {}, {} of them new in the repository",
            human::tables(self.tables),
            human::parts(self.parts),
            human::rows(self.rows),
            human::bytes(self.bytes),
            human::bytes(self.new_bytes),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(table: &str, engine: &str) -> TableRecord {
        TableRecord {
            shard: None,
            table: table.to_owned(),
            engine: engine.to_owned(),
            parts: 2,
            rows: 1000,
            bytes: 2048,
            new_bytes: 1024,
            partitions: None,
            mutations: 0,
            only_definition: false,
        }
    }

    #[test]
    fn a_backup_is_shown_by_table_and_in_sum() {
        let mut part = record("a.t", "MergeTree");
        part.partitions = Some(vec!["202401".to_owned(), "202402".to_owned()]);
        part.mutations = 1;
        let mut memory = record("a.v", "ReplacingMergeTree");
        memory.only_definition = true;
        let records = [part, memory];
        assert_eq!(
            TableRecord::describe(&records),
            "table  engine              parts   rows    bytes      new  note\n\
             a.t    MergeTree               2  1,000  2.0 KiB  1.0 KiB  only partitions 202401, 202402; 1 mutation was not finished\n\
             a.v    ReplacingMergeTree      2  1,000  2.0 KiB  1.0 KiB  only the definition is kept\n"
        );
        let of_shard = TableRecord {
            shard: Some("two".to_owned()),
            ..record("a.t", "Log")
        };
        let shown = TableRecord::describe(&[of_shard]);
        assert!(shown.contains("two    a.t    Log"), "{shown}");
        assert_eq!(
            Totals::of(&records).describe(),
            "2 tables, 4 parts, 2,000 rows, 4.0 KiB, 2.0 KiB of them new in the repository"
        );
    }
}
