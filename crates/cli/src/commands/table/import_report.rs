//! What an import did, for people and programs.

use std::time::Duration;

use mendb_model::TableSchema;
use serde::Serialize;

use super::mode::Mode;
use crate::context::Context;
use crate::failure::Failure;
use crate::formats::csv::Dialect;
use crate::formats::infer::Learned;
use crate::human;
use crate::output::{Field, table};

/// A table that an import creates.
pub struct NewTable {
    /// What it is.
    pub schema: TableSchema,
    /// The file that says so, where none was named.
    pub from: Option<String>,
    /// The columns that were learned from the rows, where nothing else says them.
    pub learned: Vec<Learned>,
}

/// What was written.
pub struct Written {
    /// Rows of the file.
    pub rows: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Rows of the table before.
    pub rows_before: u64,
    /// Rows of the table after.
    pub rows_after: u64,
}

/// What an import did.
pub struct Report<'a> {
    /// The table.
    pub table: &'a str,
    /// What each row did.
    pub mode: Mode,
    /// The new table, if there is one.
    pub created: Option<&'a NewTable>,
    /// How a CSV file was written.
    pub dialect: Option<Dialect>,
    /// What the fields of a CSV file without a header were taken for.
    pub unnamed: Option<&'a [String]>,
    /// What was written.
    pub written: Written,
    /// How long it took.
    pub elapsed: Duration,
}

/// The report for programs.
#[derive(Serialize)]
struct Record<'a> {
    table: &'a str,
    mode: Mode,
    created: bool,
    /// Rows of the file.
    rows: u64,
    /// Rows that the table has more than before.
    rows_added: u64,
    /// Rows that the table has less.
    rows_removed: u64,
    /// Rows of the file whose key came again in it; not counted where the table had rows before.
    #[serde(skip_serializing_if = "Option::is_none")]
    rows_repeated: Option<u64>,
    bytes: u64,
    seconds: f64,
    rows_per_second: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dialect: Option<Dialect>,
    /// What the fields were taken for, where the file has no header.
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_from: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    columns: &'a [Learned],
}

impl Report<'_> {
    /// Prints it.
    pub fn print(&self, context: &Context) -> Result<(), Failure> {
        let Written {
            rows,
            bytes,
            rows_before,
            rows_after,
        } = self.written;
        let rows_added = rows_after.saturating_sub(rows_before);
        let created = self.created;
        let record = Record {
            table: self.table,
            mode: self.mode,
            created: created.is_some(),
            rows,
            rows_added,
            rows_removed: rows_before.saturating_sub(rows_after),
            rows_repeated: (rows_before == 0 && self.mode != Mode::Erase)
                .then(|| rows.saturating_sub(rows_added)),
            bytes,
            seconds: self.elapsed.as_secs_f64(),
            rows_per_second: human::rate(rows, self.elapsed),
            dialect: self.dialect,
            fields: self.unnamed,
            schema_from: created.and_then(|created| created.from.as_deref()),
            columns: created.map_or(&[], |created| &created.learned),
        };
        context.output.report(&record, |record| self.text(record))
    }

    fn text(&self, record: &Record<'_>) -> String {
        let rows = human::rows(record.rows);
        let took = human::duration(self.elapsed);
        let rate = human::count(record.rows_per_second);
        let what = match self.mode {
            Mode::Erase => {
                let there = human::count(record.rows_removed);
                format!(
                    "erased the keys of {rows} from {}, {there} of them were there,",
                    self.table
                )
            }
            Mode::Upsert | Mode::Replace => {
                let counted = match record.rows_repeated {
                    Some(0) => String::new(),
                    Some(repeated) => format!(
                        ", of which {} had the key of an earlier one,",
                        human::count(repeated)
                    ),
                    None => format!(", {} of them new,", human::count(record.rows_added)),
                };
                format!("imported {rows} into {}{counted}", self.table)
            }
        };
        let mut text = format!("{what} in {took} ({rate} rows/s)\n");
        if let Some(said) = self.dialect.and_then(Dialect::said) {
            text.push_str(&format!("{said}\n"));
        }
        if let Some(fields) = record.fields {
            text.push_str(&format!("its fields are {}\n", fields.join(", ")));
        }
        if let Some(from) = record.schema_from {
            text.push_str(&format!("its schema came from {from}\n"));
        }
        if !record.columns.is_empty() {
            let fields = [
                Field::left("column", |learned: &Learned| learned.column.name.clone()),
                Field::left("type", |learned| learned.column.column_type.to_string()),
                Field::left("because", |learned| learned.because.clone()),
            ];
            text.push('\n');
            text.push_str(&table(record.columns, &fields));
        }
        text
    }
}
