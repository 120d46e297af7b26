//! A part of a table in a backup.

use mendb_model::part::{Hash128, Part, TableName};
use mendb_repo::clickhouse_backup::ImportedPart;
use serde::Serialize;

use crate::human;
use crate::output::{Field, table};

/// A part, without the names of its files.
#[derive(Debug, Serialize)]
pub struct PartRecord {
    table: String,
    part: String,
    partition_id: String,
    /// Null where they would have to be counted.
    rows: Option<u64>,
    bytes: u64,
    /// Its identity: a hash of all its files, as the server tells it.
    hash: Hash128,
    disk: String,
    /// The backup that has its files, in a chain of clickhouse-backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    backup: Option<String>,
    /// Whether a chain of clickhouse-backup tells only the name of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ambiguous: bool,
}

impl PartRecord {
    /// The record of a part.
    pub fn new(table: &TableName, part: Part) -> Self {
        Self {
            table: table.to_string(),
            part: part.name,
            partition_id: part.partition_id,
            rows: Some(part.rows),
            bytes: part.bytes,
            hash: part.hash,
            disk: part.disk,
            backup: None,
            ambiguous: false,
        }
    }

    /// The record of a part that clickhouse-backup keeps.
    pub fn imported(table: &TableName, imported: ImportedPart) -> Self {
        let rows = imported.rows_known.then_some(imported.part.rows);
        Self {
            rows,
            backup: Some(imported.backup),
            ambiguous: imported.ambiguous,
            ..Self::new(table, imported.part)
        }
    }

    /// Records as lines.
    pub fn describe(records: &[Self]) -> String {
        let mut fields = vec![
            Field::left("table", |r: &Self| r.table.clone()),
            Field::left("partition", |r| r.partition_id.clone()),
            Field::left("part", |r| r.part.clone()),
            Field::right("rows", |r| r.rows.map_or("?".to_owned(), human::count)),
            Field::right("bytes", |r| human::bytes(r.bytes)),
            Field::left("hash", |r| r.hash.to_string()),
            Field::left("disk", |r| r.disk.clone()),
        ];
        if records.iter().any(|record| record.backup.is_some()) {
            fields.push(Field::left("in", |r| r.backup.clone().unwrap_or_default()));
            fields.push(Field::left("", |r| {
                let told = if r.ambiguous { "told by name only" } else { "" };
                told.to_owned()
            }));
        }
        table(records, &fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_shown_with_its_content_hash() {
        let part = Part::new("202401_1_4_2", 1234, 2048, Hash128([0xab; 16]), "default").unwrap();
        let records = [PartRecord::new(&TableName::new("a", "t"), part)];
        assert_eq!(
            PartRecord::describe(&records),
            "table  partition  part           rows    bytes  hash                              disk\n\
             a.t    202401     202401_1_4_2  1,234  2.0 KiB  abababababababababababababababab  default\n"
        );
    }
}
