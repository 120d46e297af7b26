//! What a mend would do, table by table and partition by partition.

use mendb_model::operation::{DifferentTable, StoppedTable, TableUndo};
use mendb_model::part::{
    Action, CamePart, PartitionPlan, Redefining, SinceBackup, TablePlan, Tally, Unfinished,
};
use mendb_service::{MendOrder, MendPreview, Service, UndoneTable};

use crate::failure::Failure;
use crate::human;
use crate::output::{Field, table};
use crate::progress::Progress;

/// One line of a table's plan: a partition, or all those of which nothing changes.
struct Line {
    partition: String,
    action: &'static str,
    tally: Tally,
}

impl Line {
    fn new(partition: String, action: Action, plans: &[&PartitionPlan]) -> Self {
        let mut tally = Tally::default();
        for plan in plans {
            tally += Tally::of_partition(plan);
        }
        Self {
            partition,
            action: action_name(action),
            tally,
        }
    }

    fn of(plan: &PartitionPlan) -> Self {
        Self::new(plan.partition_id.clone(), plan.action, &[plan])
    }
}

/// Asks what a mend would do, and shows progress while parts are read for it.
///
/// # Errors
/// As [`Service::plan_mend`].
pub fn plan(service: &Service, order: &MendOrder, quiet: bool) -> Result<MendPreview, Failure> {
    let progress = Progress::start("reading parts", None, quiet || !order.check_kept);
    let mut done = 0;
    let preview = service.plan_mend(order, &mut |bytes| {
        done += bytes;
        progress.update(done, &human::bytes(done));
    })?;
    progress.finish();
    Ok(preview)
}

/// The plan for people.
pub fn describe(preview: &MendPreview) -> String {
    let mut text = String::new();
    if let Some(target) = &preview.of_target {
        text += &format!("the backup is of another target, {target}\n\n");
    }
    for plan in &preview.tables {
        text += &describe_table(plan, preview.apply_mutations);
        text.push('\n');
    }
    if !preview.created.is_empty() {
        let created: Vec<String> = preview.created.iter().map(ToString::to_string).collect();
        text += &format!("created without parts: {}\n\n", created.join(", "));
    }
    for UndoneTable { target, undo } in &preview.undone {
        let becomes = match undo {
            TableUndo::Drop => "would go: the mend had created it".to_owned(),
            TableUndo::PutBack { aside } => {
                format!("would go, and {aside} would get its name back")
            }
        };
        text += &format!("{target} {becomes}\n\n");
    }
    if !preview.different.is_empty() {
        text += &describe_different(&preview.different, Tense::Planned);
        text.push('\n');
    }
    if !preview.stopped.is_empty() {
        text += &describe_stopped(&preview.stopped);
        text.push('\n');
    }
    text += &format!("total: {}\n", sentence(&preview.total));
    let redefines = preview
        .different
        .iter()
        .any(|table| table.mended_by.is_some());
    let moves = preview.total.removed.parts + preview.total.fetched.parts > 0;
    text += if !moves && !redefines {
        "nothing would be moved or removed\n"
    } else if preview.keep_undo {
        "the state before would be kept on the server's disks: mendb undo can take the mend back\n"
    } else {
        "the state before would not be kept: the mend could not be undone\n"
    };
    text
}

fn describe_table(plan: &TablePlan, apply_mutations: bool) -> String {
    let mut text = plan.target.to_string();
    if plan.source != plan.target {
        text += &format!(" from {}", plan.source);
    }
    if plan.create {
        text += ": is created";
    }
    text.push('\n');
    match &plan.since_backup {
        Some(since) if !plan.create => {
            text += &format!("  since the backup: {}\n", happened(since));
        }
        None if !plan.create => {
            text +=
                "  the backup does not tell what was live then: compared with what is live now\n";
        }
        _ => {}
    }
    if !plan.kill_mutations.is_empty() {
        text += &format!(
            "  mutations that are not finished and will be killed: {}\n",
            plan.kill_mutations.join(", ")
        );
    }
    if !plan.came.is_empty() {
        text += &format!("  came since the mend: {}\n", came(&plan.came));
    }
    for note in &plan.notes {
        text += &format!("  note: {note}\n");
    }
    for mutation in &plan.unfinished {
        let becomes = Becomes::planned(apply_mutations);
        text += &format!("  {}\n", describe_mutation(mutation, becomes));
    }
    if plan.partitions.is_empty() {
        text += "  no partition\n";
        return text;
    }
    for line in table(&lines(plan), &fields()).lines() {
        text += &format!("  {line}\n");
    }
    text
}

/// `2 parts with 30 rows: they stop the undo unless --on-concurrent-insert says what becomes of them`
fn came(parts: &[CamePart]) -> String {
    format!(
        "{} with {}: they stop the undo unless --on-concurrent-insert says what becomes of them",
        human::parts(parts.len() as u64),
        human::rows(parts.iter().map(|part| part.rows).sum())
    )
}

/// What happens to each partition that changes, and to the others together.
fn lines(plan: &TablePlan) -> Vec<Line> {
    let (same, changed): (Vec<_>, Vec<_>) = plan
        .partitions
        .iter()
        .partition(|partition| partition.action == Action::Nothing);
    let mut lines: Vec<Line> = changed.into_iter().map(Line::of).collect();
    match same.as_slice() {
        [] => {}
        [only] => lines.push(Line::of(only)),
        many => {
            let others = if lines.is_empty() { "all" } else { "others:" };
            let which = format!("{others} {}", many.len());
            lines.push(Line::new(which, Action::Nothing, many));
        }
    }
    lines
}

fn fields() -> [Field<Line>; 9] {
    [
        Field::left("partition", |l: &Line| l.partition.clone()),
        Field::left("action", |l| l.action.to_owned()),
        Field::right("keep", |l| human::count(l.tally.kept.parts)),
        Field::right("remove", |l| human::count(l.tally.removed.parts)),
        Field::right("rows", |l| human::count(l.tally.removed.rows)),
        Field::right("fetch", |l| human::count(l.tally.fetched.parts)),
        Field::right("rows", |l| human::count(l.tally.fetched.rows)),
        Field::right("link", |l| human::bytes(l.tally.linked_bytes)),
        Field::right("download", |l| human::bytes(l.tally.download_bytes)),
    ]
}

fn action_name(action: Action) -> &'static str {
    match action {
        Action::Nothing => "nothing",
        Action::Attach => "attach",
        Action::Drop => "drop",
        Action::Swap => "swap",
        Action::RemoveFirst => "remove first",
    }
}

/// `12 parts unchanged, 3 merged`
fn happened(since: &SinceBackup) -> String {
    let counts = [
        (since.unchanged, "unchanged"),
        (since.merged, "merged"),
        (since.mutated, "mutated"),
        (since.dropped, "dropped"),
        (since.inserted, "inserted"),
    ];
    let told: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", human::parts(*count)))
        .collect();
    if told.is_empty() {
        "there was and is no part".to_owned()
    } else {
        told.join(", ")
    }
}

/// `keep 24 parts; remove 3 parts, 70 rows; fetch 2 parts, 50 rows: link 1.2 MiB, download 3.4 MiB in 5
/// files`
fn sentence(tally: &Tally) -> String {
    format!(
        "keep {}; remove {}, {}; fetch {}, {}: link {}, download {} in {}",
        human::parts(tally.kept.parts),
        human::parts(tally.removed.parts),
        human::rows(tally.removed.rows),
        human::parts(tally.fetched.parts),
        human::rows(tally.fetched.rows),
        human::bytes(tally.linked_bytes),
        human::bytes(tally.download_bytes),
        human::files(tally.download_files),
    )
}

/// What becomes of mutations that a backup lacks.
#[derive(Debug, Clone, Copy)]
pub enum Becomes {
    Left,
    WouldBeApplied,
    Applied,
}

impl Becomes {
    fn planned(apply: bool) -> Self {
        if apply {
            Self::WouldBeApplied
        } else {
            Self::Left
        }
    }
}

/// A mutation that was not finished when the backup was made.
pub fn describe_mutation(mutation: &Unfinished, becomes: Becomes) -> String {
    let mut text = format!(
        "mutation {} was not finished when the backup was made: {}",
        mutation.mutation_id, mutation.command
    );
    let whole = mutation.partitions.join(", ");
    if !mutation.partitions.is_empty() {
        text += &match becomes {
            Becomes::Left => {
                format!(
                    "; rows of partitions {whole} are as before it: --apply-mutations applies it"
                )
            }
            Becomes::WouldBeApplied => format!("; it would be applied to partitions {whole}"),
            Becomes::Applied => format!("; it was applied to partitions {whole}"),
        };
    }
    if !mutation.partly.is_empty() {
        text += &format!(
            "; in partitions {} it was through some parts and not through others: it cannot be applied there",
            mutation.partly.join(", ")
        );
    }
    text
}

/// Whether a mend is to be or has been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tense {
    Planned,
    Done,
}

/// Tables whose definition is not that of the backup, with each difference and what becomes of it.
pub fn describe_different(different: &[DifferentTable], tense: Tense) -> String {
    let mut text = "definitions that differ:\n".to_owned();
    for table in different {
        let planned = tense == Tense::Planned;
        let becomes = match table.mended_by {
            None if planned => "would be left as it is (--schema restores it)",
            None => "is left as it is: --schema restores it",
            Some(Redefining::Alter) if planned => "would be restored by ALTER",
            Some(Redefining::Alter) => "was restored by ALTER",
            Some(Redefining::Recreate) if planned => {
                "would be dropped and created as in the backup"
            }
            Some(Redefining::Recreate) => "was created anew as in the backup",
            Some(Redefining::Aside) if planned => "would be renamed aside and created anew",
            Some(Redefining::Aside) => "was renamed aside and created anew",
        };
        text += &format!("  {} {becomes}\n", table.target);
        for found in &table.differences {
            text += &format!("    {found} ({})\n", found.grade.describe());
        }
    }
    text
}

/// Tables that are not mended, with the reason of each.
pub fn describe_stopped(stopped: &[StoppedTable]) -> String {
    let lines: Vec<String> = stopped
        .iter()
        .map(|table| format!("  {}: {}\n", table.target, table.reason))
        .collect();
    format!("not mended:\n{}", lines.concat())
}

#[cfg(test)]
mod tests {
    use mendb_model::part::{
        Amount, Aspect, Difference, Fetched, Grade, Hash128, Kept, Proof, Removed, TableName,
    };

    use super::*;

    fn kept(name: &str) -> Kept {
        Kept {
            name: name.to_owned(),
            hash: Hash128([1; 16]),
            holds: vec![0],
            rows: 10,
            bytes: 100,
            proof: Proof::SameContent,
        }
    }

    fn partition(id: &str, action: Action, keep: usize) -> PartitionPlan {
        PartitionPlan {
            partition_id: id.to_owned(),
            action,
            keep: (0..keep)
                .map(|n| kept(&format!("{id}_{n}_{n}_0")))
                .collect(),
            remove: Vec::new(),
            fetch: Vec::new(),
        }
    }

    fn preview() -> MendPreview {
        let mut damaged = partition("202402", Action::Swap, 1);
        damaged.remove.push(Removed {
            name: "202402_9_9_0".to_owned(),
            hash: Hash128([2; 16]),
            rows: 7,
            bytes: 70,
            disk: "default".to_owned(),
        });
        damaged.fetch.push(Fetched {
            wanted: 3,
            name: "202402_2_2_0".to_owned(),
            hash: Hash128([3; 16]),
            rows: 1234,
            bytes: 4096,
            linked_bytes: 1024,
            download_bytes: 3072,
            download_files: 2,
            disk: "default".to_owned(),
        });
        let amount = |parts, rows| Amount {
            parts,
            rows,
            bytes: 0,
        };
        MendPreview {
            changes: true,
            of_target: None,
            tables: vec![TablePlan {
                source: TableName::new("analytics", "flights"),
                target: TableName::new("copy", "flights"),
                create: false,
                order_sensitive: false,
                since_backup: Some(SinceBackup {
                    unchanged: 4,
                    dropped: 1,
                    inserted: 1,
                    ..SinceBackup::default()
                }),
                before: None,
                came: Vec::new(),
                again: None,
                kill_mutations: vec!["mutation_7.txt".to_owned()],
                damaged: Vec::new(),
                notes: vec!["its TTL would remove rows again".to_owned()],
                unfinished: Vec::new(),
                partitions: vec![
                    partition("202401", Action::Nothing, 2),
                    damaged,
                    partition("202403", Action::Nothing, 1),
                ],
            }],
            created: vec![TableName::new("analytics", "latest")],
            undone: Vec::new(),
            different: vec![DifferentTable {
                target: TableName::new("copy", "flights"),
                differences: vec![Difference {
                    aspect: Aspect::ColumnDefault,
                    name: "price".to_owned(),
                    grade: Grade::Answers,
                    backup: Some("DEFAULT 10".to_owned()),
                    live: Some("DEFAULT 99".to_owned()),
                }],
                mended_by: None,
            }],
            unmatched: Vec::new(),
            stopped: vec![StoppedTable {
                advice: String::new(),
                target: TableName::new("analytics", "planes"),
                reason: "its schema differs: column year \"UInt16\" in the backup, \"absent\" now"
                    .to_owned(),
            }],
            keep_undo: true,
            apply_mutations: false,
            total: Tally {
                kept: amount(4, 40),
                removed: amount(1, 7),
                fetched: amount(1, 1234),
                linked_bytes: 1024,
                download_bytes: 3072,
                download_files: 2,
            },
        }
    }

    #[test]
    fn a_plan_names_what_changes_and_sums_what_does_not() {
        assert_eq!(
            describe(&preview()),
            "copy.flights from analytics.flights\n\
             \x20 since the backup: 4 parts unchanged, 1 part dropped, 1 part inserted\n\
             \x20 mutations that are not finished and will be killed: mutation_7.txt\n\
             \x20 note: its TTL would remove rows again\n\
             \x20 partition  action   keep  remove  rows  fetch   rows     link  download\n\
             \x20 202402     swap        1       1     7      1  1,234  1.0 KiB   3.0 KiB\n\
             \x20 others: 2  nothing     3       0     0      0      0      0 B       0 B\n\
             \n\
             created without parts: analytics.latest\n\
             \n\
             definitions that differ:\n\
             \x20 copy.flights would be left as it is (--schema restores it)\n\
             \x20   default of column price: DEFAULT 10 in the backup, DEFAULT 99 now (changes answers)\n\
             \n\
             not mended:\n\
             \x20 analytics.planes: its schema differs: column year \"UInt16\" in the backup, \"absent\" now\n\
             \n\
             total: keep 4 parts; remove 1 part, 7 rows; fetch 1 part, 1,234 rows: \
             link 1.0 KiB, download 3.0 KiB in 2 files\n\
             the state before would be kept on the server's disks: mendb undo can take the mend back\n"
        );
    }

    #[test]
    fn a_plan_that_changes_nothing_is_one_line() {
        let mut preview = preview();
        preview.tables[0].partitions.remove(1);
        let text = describe(&preview);
        assert!(text.contains("  all 2      nothing     3"), "{text}");
    }
}
