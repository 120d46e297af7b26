//! What a mend was to do and what it has done, table by table.

use mendb_model::operation::{
    DifferentTable, MendRequest, Operation, State, StoppedTable, TaskSpec,
};
use mendb_model::part::{DamagedPart, Tally, Unfinished, Unmatched};
use mendb_service::journal::mend_plan::MendPlan;
use serde::Serialize;

use super::mend_preview::{
    Becomes, Tense, describe_different, describe_mutation, describe_stopped,
};
use crate::human;
use crate::operations::record::OperationRecord;
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
    /// Tables, views and dictionaries that did not exist and bring no parts.
    created: Vec<String>,
    /// Tables that were asked for and are left as they are.
    stopped: Vec<StoppedTable>,
    /// Patterns that fitted nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unmatched: Vec<Unmatched>,
    /// Tables, views and dictionaries whose definition was another one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    different: Vec<DifferentTable>,
    /// Whether mutations that the backup lacks were applied.
    applied_mutations: bool,
}

#[derive(Serialize)]
struct MendedTable {
    /// On the target.
    table: String,
    /// In the backup.
    source: String,
    /// Whether it did not exist before.
    created: bool,
    /// Whether a table of its name with another schema was renamed aside.
    replaced: bool,
    planned: Tally,
    done: Tally,
    /// Parts that came after planning.
    late_parts: u64,
    /// Live parts that were found damaged and came anew.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    damaged: Vec<DamagedPart>,
    /// Whether it was changed and is not, or not yet, as the backup.
    incomplete: bool,
    /// Whether it stays mended, in part or as a whole, although the mend was cancelled.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    left_mended: bool,
    /// What is to be known of it beside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    /// Mutations that were not finished when the backup was made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unfinished: Vec<Unfinished>,
    /// Why it goes no further, if so.
    error: Option<String>,
}

impl MendReport {
    /// The report of a mend from its plans in the journal.
    pub fn new(operation: &Operation, request: &MendRequest, plans: &[MendPlan]) -> Self {
        Self {
            operation: OperationRecord::new(operation),
            tables: MendTables::new(operation, request, plans),
        }
    }

    /// The report for people. Which tables are not mended is left to the failure that it ends in.
    pub fn describe(&self) -> String {
        self.operation.sentence() + &self.tables.describe()
    }
}

impl MendTables {
    /// The tables of a mend, from its plans in the journal.
    pub fn new(operation: &Operation, request: &MendRequest, plans: &[MendPlan]) -> Self {
        let mended: Vec<_> = plans
            .iter()
            .map(|plan| MendedTable::new(operation, request, plan))
            .collect();
        let without_parts = request
            .tables
            .iter()
            .filter(|table| table.create && !(table.has_parts && request.data));
        let created = without_parts.map(|table| table.target.to_string());
        let (mut planned, mut done) = (Tally::default(), Tally::default());
        for table in &mended {
            planned += table.planned;
            done += table.done;
        }
        Self {
            planned,
            done,
            mended,
            created: created.collect(),
            stopped: request.stopped.clone(),
            unmatched: request.unmatched.clone(),
            different: request.different.clone(),
            applied_mutations: request.apply_mutations && operation.state == State::Done,
        }
    }

    /// The tables that were mended or created, beginning with an empty line unless there is none.
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
            for part in &table.damaged {
                text += &format!("\n{}: {}", table.table, damage(part));
            }
            if !table.damaged.is_empty() {
                text.push('\n');
            }
        }
        for table in &self.mended {
            for note in &table.notes {
                text += &format!("\n{}: {note}\n", table.table);
            }
        }
        if !self.created.is_empty() {
            text += &format!("\ncreated without parts: {}\n", self.created.join(", "));
        }
        for table in &self.mended {
            for mutation in &table.unfinished {
                let becomes = if self.applied_mutations {
                    Becomes::Applied
                } else {
                    Becomes::Left
                };
                let told = describe_mutation(mutation, becomes);
                text += &format!("\n{}: {told}\n", table.table);
            }
        }
        for unmatched in &self.unmatched {
            text += &format!("\nnothing fitted {unmatched}\n");
        }
        if !self.different.is_empty() {
            text.push('\n');
            text += &describe_different(&self.different, Tense::Done);
        }
        text
    }

    /// The tables that were left as they are, beginning with an empty line unless there is none.
    pub fn describe_stopped(&self) -> String {
        if self.stopped.is_empty() {
            return String::new();
        }
        format!("\n{}", describe_stopped(&self.stopped))
    }
}

/// `part all_1_1_0 was damaged and comes anew: s.bin`
fn damage(part: &DamagedPart) -> String {
    let by = match part.files.as_slice() {
        [] => "the server's check refused it".to_owned(),
        files => files.join(", "),
    };
    format!("part {} was damaged and comes anew: {by}", part.name)
}

impl MendedTable {
    fn new(operation: &Operation, request: &MendRequest, plan: &MendPlan) -> Self {
        let target = &plan.plan.target;
        let error = operation
            .tasks
            .iter()
            .filter(|task| matches!(&task.spec, TaskSpec::Mend { target: of, .. } if of == target))
            .find_map(|task| task.error.clone());
        let mut tables = request.tables.iter();
        Self {
            table: target.to_string(),
            source: plan.plan.source.to_string(),
            created: plan.plan.create,
            replaced: tables.any(|table| table.replace && table.target == *target),
            planned: Tally::of(&plan.plan),
            done: plan.done,
            late_parts: plan.late_parts,
            damaged: plan.plan.damaged.clone(),
            incomplete: plan.incomplete,
            left_mended: plan.changed && operation.state == State::Cancelled,
            notes: plan.plan.notes.clone(),
            unfinished: plan.plan.unfinished.clone(),
            error,
        }
    }

    /// What sets it apart, in a word or two.
    fn note(&self) -> &'static str {
        match self {
            Self { error: Some(_), .. } => "failed",
            Self {
                incomplete: true, ..
            } => "incomplete",
            Self { replaced: true, .. } => "created anew",
            Self { created: true, .. } => "created",
            _ => "",
        }
    }
}

/// One of the two lines of a table: what was planned, and under it what was done.
struct Line<'a> {
    table: &'a str,
    what: &'static str,
    tally: &'a Tally,
    late_parts: Option<u64>,
    note: &'static str,
}

impl<'a> Line<'a> {
    fn of_table(of: &'a MendedTable) -> [Self; 2] {
        let [planned, done] = Self::pair(&of.table, &of.planned, &of.done, of.late_parts);
        let note = of.note();
        [planned, Self { note, ..done }]
    }

    fn pair(table: &'a str, planned: &'a Tally, done: &'a Tally, late_parts: u64) -> [Self; 2] {
        let planned = Self {
            table,
            what: "planned",
            tally: planned,
            late_parts: None,
            note: "",
        };
        let done = Self {
            table: "",
            what: "done",
            tally: done,
            late_parts: Some(late_parts),
            note: "",
        };
        [planned, done]
    }
}

fn fields<'a>() -> [Field<Line<'a>>; 11] {
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
        Field::left("", |l| l.note.to_owned()),
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
            replaced: false,
            planned,
            done,
            late_parts: 1,
            damaged: Vec::new(),
            incomplete: false,
            left_mended: false,
            notes: Vec::new(),
            unfinished: Vec::new(),
            error: None,
        }
    }

    fn tables(mended: Vec<MendedTable>) -> MendTables {
        MendTables {
            unmatched: Vec::new(),
            planned: tally(3, 2048),
            done: tally(3, 2048),
            mended,
            created: Vec::new(),
            stopped: Vec::new(),
            different: Vec::new(),
            applied_mutations: false,
        }
    }

    #[test]
    fn planned_stands_above_done() {
        let tables = tables(vec![mended("a.t", tally(3, 2048), tally(4, 2048))]);
        assert_eq!(
            tables.describe(),
            "\n\
             table           kept  removed  rows  fetched  rows  linked  downloaded  late\n\
             a.t    planned     4        3    30        1    10     0 B     2.0 KiB\n\
             \x20      done        4        4    40        1    10     0 B     2.0 KiB     1\n"
        );
    }

    #[test]
    fn what_is_not_as_it_should_be_is_told_of_each_table() {
        let mut failed = mended("a.t", tally(1, 0), Tally::default());
        failed.error = Some("2 parts were inserted meanwhile".to_owned());
        let mut half = mended("a.u", tally(1, 0), Tally::default());
        half.incomplete = true;
        let mut tables = tables(vec![failed, half]);
        tables.created.push("a.w".to_owned());
        tables.stopped.push(StoppedTable {
            target: TableName::new("a", "v"),
            reason: "it is replicated".to_owned(),
            advice: String::new(),
        });
        let text = tables.describe();
        let notes: Vec<&str> = text
            .lines()
            .filter(|line| line.trim_start().starts_with("done"))
            .filter_map(|line| line.split_whitespace().last())
            .collect();
        assert_eq!(notes, ["failed", "incomplete", "2"], "{text}");
        assert!(text.contains("\ntotal  planned"), "{text}");
        assert!(text.ends_with("\ncreated without parts: a.w\n"), "{text}");
        assert_eq!(
            tables.describe_stopped(),
            "\nnot mended:\n  a.v: it is replicated\n"
        );
    }
}
