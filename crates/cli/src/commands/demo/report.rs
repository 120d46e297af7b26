//! What a demo proved and how long it took.

use std::time::Duration;

use mendb_model::Digest;
use mendb_model::name::TablePath;
use mendb_service::proof::BackupProof;
use serde::Serialize;

use crate::human;
use crate::output::{Field, table};

/// How long one step took.
#[derive(Debug, Serialize)]
pub struct Timing {
    step: String,
    /// Rows or changes, those of indexes counted too.
    rows: u64,
    bytes: Option<u64>,
    seconds: f64,
    rows_per_second: u64,
}

impl Timing {
    pub fn new(step: impl Into<String>, rows: u64, bytes: Option<u64>, elapsed: Duration) -> Self {
        Self {
            step: step.into(),
            rows,
            bytes,
            seconds: elapsed.as_secs_f64(),
            rows_per_second: human::rate(rows, elapsed),
        }
    }

    /// The sum of steps.
    fn total(steps: &[Self]) -> Self {
        let seconds = steps.iter().map(|step| step.seconds).sum();
        let rows = steps.iter().map(|step| step.rows).sum();
        Self::new("all", rows, None, Duration::from_secs_f64(seconds))
    }
}

/// A table or index before the disaster and after the restore.
#[derive(Debug, Serialize)]
pub struct TableProof {
    /// The sharded table.
    pub table: TablePath,
    /// The digest of its rows before, by reading each.
    pub before: Digest,
    /// The digest of its rows after, by reading each; null when it is not there.
    pub after: Option<Digest>,
    /// Whether both are the same, and the same as the newest backup says.
    pub equal: bool,
}

/// Where the restore was killed.
#[derive(Debug, Serialize)]
pub struct Kill {
    /// How far it was.
    pub percent: f64,
    /// The step it was in.
    pub step: String,
}

/// Everything there is to say at the end.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The scale factor.
    pub scale: f64,
    /// Whether every proof below holds.
    pub equal: bool,
    /// Where the restore was killed; null when it was done before that.
    pub killed: Option<Kill>,
    /// The tables and their indexes.
    pub tables: Vec<TableProof>,
    /// The backups, each read to the last byte.
    pub backups: Vec<BackupProof>,
    /// The steps in order.
    pub timings: Vec<Timing>,
}

impl Report {
    /// The tables of the report as text.
    pub fn describe(&self) -> String {
        let mut text = table(
            &self.tables,
            &[
                Field::left("table", |r: &TableProof| r.table.to_string()),
                Field::right("rows", |r| human::count(r.before.rows)),
                Field::left("digest before", |r| format!("{:032x}", r.before.sum)),
                Field::left("after", |r| match (r.equal, r.after) {
                    (true, _) => "equal".to_owned(),
                    (false, Some(after)) => format!("different: {after}"),
                    (false, None) => "missing".to_owned(),
                }),
            ],
        );
        let fields = [
            Field::left("step", |r: &Timing| r.step.clone()),
            Field::right("rows", |r| human::count(r.rows)),
            Field::right("bytes", |r| r.bytes.map(human::bytes).unwrap_or_default()),
            Field::right("time", |r| {
                human::duration(Duration::from_secs_f64(r.seconds))
            }),
            Field::right("rows/s", |r| human::count(r.rows_per_second)),
        ];
        text += "\n";
        text += &table(&self.timings, &fields);
        let total = Timing::total(&self.timings);
        text += &format!(
            "\n{} in {}. Rows of indexes count; a restore counts what it loads, changes and checks.\n",
            human::rows(total.rows),
            human::duration(Duration::from_secs_f64(total.seconds))
        );
        text
    }

    /// The end of the story in a sentence.
    pub fn verdict(&self) -> String {
        let indexes = self.tables.iter().filter(|t| t.table.index.is_some());
        let indexes = indexes.count();
        let tables = self.tables.len() - indexes;
        if self.equal {
            format!(
                "\nProved: all rows of {tables} tables and {indexes} indexes are what they were."
            )
        } else {
            "\nNOT proved: tables or backups are not what they should be; see above.".to_owned()
        }
    }
}
