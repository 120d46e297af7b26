//! What a diff finds.

use mendb_model::key;
use mendb_model::name::BackupId;
use mendb_model::row::RowReader;
use mendb_model::schema::{ColumnPosition, TableSchema};
use mendb_model::{Malformed, TargetMark, Value};
use serde::Serialize;

/// What differs between two states of a collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiffReport {
    /// The first.
    pub before: BackupId,
    /// The second; `None` for what is live.
    pub after: Option<BackupId>,
    /// The target that the first is of, if that is known to be another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_of: Option<TargetMark>,
    /// The same of the second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_of: Option<TargetMark>,
    /// Of each table that one of them has.
    pub tables: Vec<TableDiff>,
}

impl DiffReport {
    /// Whether nothing differs.
    pub fn is_equal(&self) -> bool {
        self.tables.iter().all(TableDiff::is_equal)
    }
}

/// What differs in a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableDiff {
    /// Its name.
    pub table: String,
    /// How many rows the first has of it; `None` where it does not have the table.
    pub rows_before: Option<u64>,
    /// How many rows the second has of it, likewise.
    pub rows_after: Option<u64>,
    /// How its schema differs, in words.
    pub schema: Vec<String>,
    /// How many rows differ. `None` of a table that only one has, and of one whose schemas are too
    /// different for rows to be compared.
    pub rows: Option<RowsDiffer>,
    /// How that was found.
    #[serde(rename = "road", skip_serializing_if = "Option::is_none")]
    pub method: Option<DiffMethod>,
}

impl TableDiff {
    /// Whether nothing differs.
    pub fn is_equal(&self) -> bool {
        self.schema.is_empty() && self.rows == Some(RowsDiffer::default())
    }
}

/// How many rows differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RowsDiffer {
    /// Only the second has them.
    pub added: u64,
    /// They have other values.
    pub changed: u64,
    /// Only the first has them.
    pub removed: u64,
}

/// How rows that differ were found, in the key ranges whose digests do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum DiffMethod {
    /// By looking up the keys that changed between.
    Changes {
        /// In these increments …
        increments: Vec<BackupId>,
        /// … and in the change stream of the live table after them.
        live: bool,
    },
    /// By reading all rows of both.
    Rows {
        /// Why that was needed.
        reason: String,
    },
}

/// A row that differs.
#[derive(Debug, Clone, Copy)]
pub struct RowDiff<'a> {
    /// Its table.
    pub table: &'a str,
    /// The schema of the table in the first.
    pub schema_before: &'a TableSchema,
    /// The schema of the table in the second.
    pub schema_after: &'a TableSchema,
    /// Its key, encoded.
    pub key: &'a [u8],
    /// What the first has under the key, encoded.
    pub before: Option<&'a [u8]>,
    /// What the second has.
    pub after: Option<&'a [u8]>,
}

impl RowDiff<'_> {
    /// The values of all columns in the first, in the order of its schema.
    ///
    /// # Errors
    /// What was stored is no row.
    pub fn values_before(&self) -> Result<Option<Vec<Value>>, Malformed> {
        let row = self.before;
        row.map(|row| row_values(self.schema_before, self.key, row))
            .transpose()
    }

    /// The values of all columns in the second, likewise.
    ///
    /// # Errors
    /// What was stored is no row.
    pub fn values_after(&self) -> Result<Option<Vec<Value>>, Malformed> {
        let row = self.after;
        row.map(|row| row_values(self.schema_after, self.key, row))
            .transpose()
    }
}

/// The values of all columns of a row, in the order of its schema.
///
/// # Errors
/// It is no row of the schema.
pub fn row_values(schema: &TableSchema, key: &[u8], row: &[u8]) -> Result<Vec<Value>, Malformed> {
    let keys = key::decode(key, &schema.key_types())?;
    let mut cells = RowReader::new(row)?;
    let mut values = Vec::with_capacity(schema.columns.len());
    for (place, column) in schema.column_positions().into_iter().zip(&schema.columns) {
        values.push(match place {
            ColumnPosition::Key(at) => keys.get(at).cloned().ok_or_else(|| Malformed {
                what: "key",
                detail: "cut off".to_owned(),
            })?,
            ColumnPosition::Slot(_) => cells.next(column.column_type)?.to_owned(),
        });
    }
    cells.finish()?;
    Ok(values)
}
