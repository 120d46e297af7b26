//! `cargo xtask bench shards`: what operations cost with the same rows in 4 to 10,000 shards, and lists with many
//! backups. Nothing is asserted on time.

use std::path::PathBuf;
use std::process::Command;

use super::machine::Machine;
use super::markdown::table;
use super::measure::{self, Cost};
use super::program::Program;
use super::rows::data;
use super::scratch::{Scratch, size_bytes};
use super::units::{count, digits, megabytes, seconds};
use crate::run::Outcome;

/// Shards of the table; its index has as many.
const SHARDS: [u32; 4] = [4, 100, 1_000, 10_000];
const ROWS: u64 = 1_000_000;
const QUICK_ROWS: u64 = 20_000;
/// The increment is of so much of the rows.
const CHANGED_PER_MILLE: u64 = 10;
/// Backups of the repository that is listed at the end: one full, the others increments, of 4 shards.
const BACKUPS: u64 = 1_000;
const QUICK_BACKUPS: u64 = 20;

const PAGE: &str = "docs/bench-shards.md";

/// How it is called.
pub const USAGE: &str = "\
usage: cargo xtask bench shards [--quick]

  --quick       20,000 rows, up to 100 shards, 20 backups, and docs/ stays as it is
";

/// A command that is measured, and the name of its line.
const STEPS: [(&str, &[&str]); 8] = [
    ("full backup", &["backup", "bench", "--label", "full"]),
    (
        "increment",
        &["backup", "bench", "--incremental", "--label", "increment"],
    ),
    ("list", &["list", "bench"]),
    ("show", &["show", "bench/increment"]),
    (
        "plan of a mend",
        &[
            "restore",
            "bench",
            "--in-place",
            "--to",
            "full",
            "--dry-run",
        ],
    ),
    ("mend", &["restore", "bench", "--in-place", "--to", "full"]),
    ("restore", &["restore", "bench", "--to", "increment"]),
    ("list of operations", &["operation", "list"]),
];
/// Before these steps something is done that is not measured.
const INCREMENT: &str = "increment";
const RESTORE: &str = "restore";

/// A target with a table, and its repository.
struct Place<'a> {
    program: &'a Program,
    directory: PathBuf,
}

impl Place<'_> {
    fn command(&self, words: &[&str]) -> Command {
        let repository = self.directory.join("repository");
        let mut command = self
            .program
            .command(&self.directory, "mendb:target", &repository);
        command
            .env("XDG_STATE_HOME", self.directory.join("state"))
            .args(words);
        command
    }

    fn output(&self, words: &[&str]) -> Result<String, String> {
        measure::output(&mut self.command(words))
    }

    fn bytes(&self, of: &str) -> Result<u64, String> {
        size_bytes(&self.directory.join(of))
    }
}

/// What was measured with a number of shards.
struct Column {
    shards: u32,
    costs: Vec<Cost>,
    journal_bytes: u64,
    repository_bytes: u64,
}

/// Measures everything, prints it, and writes `docs/bench-shards.md`.
///
/// # Errors
/// A step failed.
pub fn run(flags: &[&str]) -> Outcome {
    let is_quick = match flags {
        [] => false,
        ["--quick"] => true,
        _ => return Err(USAGE.to_owned()),
    };
    let (rows, most, backups) = match is_quick {
        true => (QUICK_ROWS, 100, QUICK_BACKUPS),
        false => (ROWS, u32::MAX, BACKUPS),
    };
    let machine = Machine::this()?;
    let program = Program::build()?;
    let scratch = Scratch::new()?;
    let mut columns = Vec::new();
    for shards in SHARDS.into_iter().filter(|shards| *shards <= most) {
        println!("==> {} shards", count(shards.into()));
        columns.push(column(&program, &scratch, rows, shards)?);
    }
    println!("==> {} backups", count(backups));
    let listed = many_backups(&program, &scratch, backups)?;
    let tables = format!("{}\n{}", table_of(&columns), listed_table(&listed, backups));
    println!("\n{tables}");
    if is_quick {
        return Ok(());
    }
    let text = format!(
        "# Many shards, many backups\n\n\
         A table of {rows} rows of about 100 bytes with a key and one covering index, and each of these in so many \
         shards: {version} (release build). Taken {date} on {machine} with\n\n    cargo xtask bench shards\n\n\
         The load average was {load} before it began. A step is one process from its start to its end, with what it \
         took at most of memory; each was run once. The increment, and the mend back, are of {part} % of the rows. \
         The repository is a directory.\n\n{tables}",
        rows = count(rows),
        version = program.version()?,
        date = machine.date,
        machine = machine.name,
        load = machine.load,
        part = digits(CHANGED_PER_MILLE as f64 / 10.0),
    );
    std::fs::write(PAGE, text).map_err(|error| format!("cannot write {PAGE}: {error}"))
}

fn place<'a>(
    program: &'a Program,
    scratch: &Scratch,
    rows: u64,
    shards: u32,
) -> Result<Place<'a>, String> {
    let directory = scratch.path(&format!("{shards}-shards"));
    std::fs::create_dir_all(&directory)
        .map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
    let place = Place { program, directory };
    data::write_rows(&place.directory.join("rows.csv"), rows)?;
    let shards = shards.to_string();
    place.output(&[
        "table",
        "import",
        "orders",
        "rows.csv",
        "--create",
        "--key",
        "id",
        "--index",
        "by_customer=customer+amount",
        "--shards",
        &shards,
    ])?;
    place.output(&["collection", "create", "bench", "--table", "orders"])?;
    Ok(place)
}

fn column(program: &Program, scratch: &Scratch, rows: u64, shards: u32) -> Result<Column, String> {
    let place = place(program, scratch, rows, shards)?;
    let mut costs = Vec::new();
    for (name, words) in STEPS {
        match name {
            INCREMENT => change(&place, rows, 1)?,
            RESTORE => {
                place.output(&["table", "drop", "orders"])?;
            }
            _ => {}
        }
        let cost = measure::run(&mut place.command(words))?;
        println!("    {name}: {}", seconds(cost.time));
        costs.push(cost);
    }
    let column = Column {
        shards,
        costs,
        journal_bytes: place.bytes("target/journal.sqlite")?,
        repository_bytes: place.bytes("repository")?,
    };
    super::scratch::remove(&place.directory)?;
    Ok(column)
}

fn change(place: &Place<'_>, rows: u64, round: u64) -> Outcome {
    let file = place.directory.join("changes.jsonl");
    data::write_changes(&file, rows, round, CHANGED_PER_MILLE)?;
    place.output(&["table", "import", "orders", "changes.jsonl"])?;
    Ok(())
}

/// Lists and what works on all, with a repository of many backups.
fn many_backups(
    program: &Program,
    scratch: &Scratch,
    backups: u64,
) -> Result<Vec<(&'static str, Cost)>, String> {
    let rows = 1_000;
    let place = place(program, scratch, rows, SHARDS[0])?;
    place.output(&["backup", "bench"])?;
    for round in 1..backups {
        change(&place, rows, round)?;
        place.output(&["backup", "bench", "--incremental"])?;
    }
    let mut costs = Vec::new();
    for (name, words) in [
        ("list", &["list", "bench"][..]),
        ("list of operations", &["operation", "list"]),
        ("increment", &["backup", "bench", "--incremental"]),
        (
            "plan of a mend",
            &["restore", "bench", "--in-place", "--dry-run"],
        ),
        (
            "plan of a prune to the last 10",
            &["prune", "bench", "--keep-last", "10", "--dry-run"],
        ),
        (
            "prune to the last 10: all others are folded into one",
            &["prune", "bench", "--keep-last", "10"],
        ),
    ] {
        let cost = measure::run(&mut place.command(words))?;
        println!("    {name}: {}", seconds(cost.time));
        costs.push((name, cost));
    }
    Ok(costs)
}

fn cell(cost: &Cost) -> String {
    format!("{}, {}", seconds(cost.time), megabytes(cost.peak_bytes))
}

fn table_of(columns: &[Column]) -> String {
    let shards = columns
        .iter()
        .map(|column| format!("{} shards", count(column.shards.into())));
    let heads: Vec<String> = std::iter::once(String::new()).chain(shards).collect();
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let line = |name: &str, cell: &dyn Fn(&Column) -> String| {
        let cells = columns.iter().map(cell);
        std::iter::once(name.to_owned()).chain(cells).collect()
    };
    let steps = STEPS.iter().enumerate();
    let mut lines: Vec<Vec<String>> = steps
        .map(|(at, (name, _))| line(name, &|column| cell(&column.costs[at])))
        .collect();
    lines.push(line("journal", &|column| megabytes(column.journal_bytes)));
    lines.push(line("repository", &|column| {
        megabytes(column.repository_bytes)
    }));
    table("Time and peak memory", &heads, &lines)
}

fn listed_table(listed: &[(&'static str, Cost)], backups: u64) -> String {
    let lines: Vec<Vec<String>> = listed
        .iter()
        .map(|(name, cost)| vec![(*name).to_owned(), cell(cost)])
        .collect();
    let title = format!(
        "A repository of {} backups, of 4 shards each",
        count(backups)
    );
    table(&title, &["", "time and peak memory"], &lines)
}
