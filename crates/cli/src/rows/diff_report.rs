//! What differs between two states of row tables, in counts.

use mendb_service::{DiffMethod, DiffReport, RowsDiffer, TableDiff};

use crate::human;
use crate::output::{Field, table};

/// The report for people: a line a table, then how schemas differ.
pub fn describe(report: &DiffReport) -> String {
    let after = report.after.as_ref();
    let after = after.map_or_else(|| "live".to_owned(), ToString::to_string);
    let mut text = format!("{} -> {after}\n", report.before);
    let of = [
        (Some(&report.before), &report.before_of),
        (report.after.as_ref(), &report.after_of),
    ];
    for (backup, target) in of {
        if let (Some(backup), Some(target)) = (backup, target) {
            text += &format!("{backup} is of another target, {target}\n");
        }
    }
    text += &table(&report.tables, &fields());
    for diff in &report.tables {
        for difference in &diff.schema {
            text += &format!("{}: {difference}\n", diff.table);
        }
    }
    text
}

/// Why rows of a table were read that may be the same in both, if so.
pub fn why_rows_were_read(diff: &TableDiff) -> Option<String> {
    match &diff.method {
        Some(DiffMethod::Rows { reason }) => Some(format!(
            "{}: all rows were read where digests differ, because {reason}",
            diff.table
        )),
        _ => None,
    }
}

fn fields() -> [Field<TableDiff>; 7] {
    [
        Field::left("table", |t: &TableDiff| t.table.clone()),
        Field::right("rows before", |t| rows(t.rows_before)),
        Field::right("after", |t| rows(t.rows_after)),
        Field::right("added", |t| differing(t, |rows| rows.added)),
        Field::right("changed", |t| differing(t, |rows| rows.changed)),
        Field::right("removed", |t| differing(t, |rows| rows.removed)),
        Field::left("result", |t| result(t).to_owned()),
    ]
}

fn rows(rows: Option<u64>) -> String {
    rows.map_or_else(|| "-".to_owned(), human::count)
}

fn differing(diff: &TableDiff, which: fn(&RowsDiffer) -> u64) -> String {
    rows(diff.rows.as_ref().map(which))
}

fn result(diff: &TableDiff) -> &'static str {
    match (diff.rows_before, diff.rows_after, &diff.rows) {
        _ if diff.is_equal() => "equal",
        (_, None, _) => "only in the first",
        (None, _, _) => "only in the second",
        (_, _, None) => "another schema",
        (_, _, Some(_)) if !diff.schema.is_empty() => "different, with another schema",
        _ => "different",
    }
}
