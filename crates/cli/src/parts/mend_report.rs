//! What a mend was to do and what it has done, table by table.

use mendb_model::operation::{Operation, Request, StoppedTable};
use mendb_model::part::Tally;
use mendb_service::journal::mend_plan::MendPlan;
use serde::Serialize;

use super::mend_preview::describe_stopped;
use crate::human;
use crate::operation_record::OperationRecord;
use crate::output::{Field, table};

/// A mend with its tables, at its end or on its way.
#[derive(Serialize)]
pub struct MendReport {
    #[serde(flatten)]
    operation: OperationRecord,
    #[serde(flatten)]
    pub tables: MendTables,
}

/// The tables of a mend.
#[derive(Serialize)]
pub struct MendTables {
    /// The sums of the plans.
    planned: Tally,
    /// The sums of what was done.
    done: Tally,
    /// Each table whose parts were looked at.
    mended: Vec<MendedTable>,
    /// Tables that were asked for and are left as they are.
    stopped: Vec<StoppedTable>,
}

#[derive(Serialize)]
struct MendedTable {
    /// On the target.
    table: String,
    /// In the backup.
    source: String,
    /// Whether it did not exist before.
    created: bool,
    planned: Tally,
    done: Tally,
    /// Parts that came after planning.
    late_parts: u64,
    /// Whether it was changed and is not, or not yet, as the backup.
    incomplete: bool,
    /// Why it goes no further, if so.
    error: Option<String>,
}

impl MendReport {
    /// The report of a mend from its plans in the journal.
    pub fn new(operation: &Operation, plans: &[MendPlan]) -> Self {
        Self {
            operation: OperationRecord::new(operation),
            tables: MendTables::new(operation, plans),
        }
    }

    /// The report for people.
    pub fn describe(&self) -> String {
        self.operation.sentence() + &self.tables.describe()
    }
}

impl MendTables {
    /// The tables of a mend, from its plans in the journal.
    pub fn new(operation: &Operation, plans: &[MendPlan]) -> Self {
        let mended: Vec<_> = plans
            .iter()
            .map(|plan| MendedTable::new(operation, plan))
            .collect();
        let stopped = match &operation.request {
            Request::Mend(request) => request.stopped.clone(),
            _ => Vec::new(),
        };
        let (mut planned, mut done) = (Tally::default(), Tally::default());
        for table in &mended {
            planned += table.planned;
            done += table.done;
        }
        Self {
            planned,
            done,
            mended,
            stopped,
        }
    }

    /// The tables for people, beginning with an empty line unless there is none.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        let mut lines: Vec<Line<'_>> = self.mended.iter().flat_map(Line::of_table).collect();
        if self.mended.len() > 1 {
            let late_parts = self.mended.iter().map(|table| table.late_parts).sum();
            lines.extend(Line::pair("total", &self.planned, &self.done, late_parts));
        }
        if !lines.is_empty() {
            text.push('\n');
            text += &table(&lines, &fields());
        }
        for table in &self.mended {
            if let Some(error) = &table.error {
                text += &format!("\n{}: {error}\n", table.table);
            } else if table.incomplete {
                text += &format!("\n{}: is not yet as in the backup\n", table.table);
            }
        }
        if !self.stopped.is_empty() {
            text.push('\n');
            text += describe_stopped(&self.stopped).trim_end();
            text.push('\n');
        }
        text
    }
}

impl MendedTable {
    fn new(operation: &Operation, plan: &MendPlan) -> Self {
        let table = plan.plan.target.to_string();
        let error = operation
            .tasks
            .iter()
            .filter(|task| task.spec.table().as_ref() == Some(&table))
            .find_map(|task| task.error.clone());
        Self {
            source: plan.plan.source.to_string(),
            created: plan.plan.create,
            planned: Tally::of(&plan.plan),
            done: plan.done,
            late_parts: plan.late_parts,
            incomplete: plan.incomplete,
            error,
            table,
        }
    }
}

/// One of the two lines of a table: what was planned, and under it what was done.
struct Line<'a> {
    table: &'a str,
    what: &'static str,
    tally: &'a Tally,
    late_parts: Option<u64>,
}

impl<'a> Line<'a> {
    fn of_table(of: &'a MendedTable) -> [Self; 2] {
        Self::pair(&of.table, &of.planned, &of.done, of.late_parts)
    }

    fn pair(table: &'a str, planned: &'a Tally, done: &'a Tally, late_parts: u64) -> [Self; 2] {
        let planned = Self {
            table,
            what: "planned",
            tally: planned,
            late_parts: None,
        };
        let done = Self {
            table: "",
            what: "done",
            tally: done,
            late_parts: Some(late_parts),
        };
        [planned, done]
    }
}

fn fields<'a>() -> [Field<Line<'a>>; 10] {
    [
        Field::left("table", |l: &Line<'_>| l.table.to_owned()),
        Field::left("", |l| l.what.to_owned()),
        Field::right("kept", |l| human::count(l.tally.kept.parts)),
        Field::right("removed", |l| human::count(l.tally.removed.parts)),
        Field::right("rows", |l| human::count(l.tally.removed.rows)),
        Field::right("fetched", |l| human::count(l.tally.fetched.parts)),
        Field::right("rows", |l| human::count(l.tally.fetched.rows)),
        Field::right("linked", |l| human::bytes(l.tally.linked_bytes)),
        Field::right("downloaded", |l| human::bytes(l.tally.download_bytes)),
        Field::right("late", |l| {
            l.late_parts.map(human::count).unwrap_or_default()
        }),
    ]
}

#[cfg(test)]
mod tests {
    use mendb_model::part::{Amount, TableName};

    use super::*;

    fn tally(removed: u64, download_bytes: u64) -> Tally {
        let amount = |parts| Amount {
            parts,
            rows: parts * 10,
            bytes: 0,
        };
        Tally {
            kept: amount(4),
            removed: amount(removed),
            fetched: amount(1),
            linked_bytes: 0,
            download_bytes,
            download_files: 1,
        }
    }

    fn mended(table: &str, planned: Tally, done: Tally) -> MendedTable {
        MendedTable {
            table: table.to_owned(),
            source: table.to_owned(),
            created: false,
            planned,
            done,
            late_parts: 1,
            incomplete: false,
            error: None,
        }
    }

    #[test]
    fn planned_stands_above_done() {
        let tables = MendTables {
            planned: tally(3, 2048),
            done: tally(3, 2048),
            mended: vec![mended("a.t", tally(3, 2048), tally(4, 2048))],
            stopped: Vec::new(),
        };
        assert_eq!(
            tables.describe(),
            "\n\
             table           kept  removed  rows  fetched  rows  linked  downloaded  late\n\
             a.t    planned     4        3    30        1    10     0 B     2.0 KiB\n\
             \x20      done        4        4    40        1    10     0 B     2.0 KiB     1\n"
        );
    }

    #[test]
    fn what_was_stopped_and_what_failed_is_told_with_the_reason() {
        let mut failed = mended("a.t", tally(1, 0), Tally::default());
        failed.error = Some("2 parts were inserted meanwhile".to_owned());
        let mut half = mended("a.u", tally(1, 0), Tally::default());
        half.incomplete = true;
        let tables = MendTables {
            planned: tally(2, 0),
            done: Tally::default(),
            mended: vec![failed, half],
            stopped: vec![StoppedTable {
                target: TableName::new("a", "v"),
                reason: "it is replicated".to_owned(),
            }],
        };
        let text = tables.describe();
        assert!(text.contains("\ntotal  planned"), "{text}");
        assert!(
            text.ends_with(
                "\na.t: 2 parts were inserted meanwhile\n\
                 \na.u: is not yet as in the backup\n\
                 \nnot mended:\n  a.v: it is replicated\n"
            ),
            "{text}"
        );
    }
}
