//! `cargo xtask bench rows`: backup and restore of a row table beside PostgreSQL's, in one run on one
//! machine.
//!
//! Nothing is asserted on time. What is asserted is that every restored table has the digests, or with
//! PostgreSQL the number of rows, of the table that was backed up.

pub(super) mod data;
mod page;
mod plot;
pub(super) mod postgres;
mod results;
pub(super) mod store;

use super::machine::Machine;
use super::program::Program;
use super::scratch::Scratch;
use super::units::{count, seconds};
use crate::run::Outcome;
use postgres::{Postgres, Tuning};
use results::{Increment, Mendb, ROUND_PER_MILLE, ROUNDS, Results, Server, TableSize};
use store::{MERGED, SEQUENTIAL, SHARDS, Store};

const ROWS: u64 = 5_000_000;
const QUICK_ROWS: u64 = 500_000;
/// Fewer rows would measure the starting of programs.
const MIN_ROWS: u64 = 10_000;
/// The smaller tables have the number of rows divided by these.
const DIVISORS: [u64; 2] = [5, 2];
/// What changes in the increments behind the chain, of a thousand.
const OTHER_PER_MILLE: [u64; 2] = [1, 100];

/// How it is called.
pub const USAGE: &str = "\
usage: cargo xtask bench rows [--rows N | --quick]

  --rows N   rows of the table, 10,000 or more; without it 5,000,000
  --quick    500,000 rows, and docs/ stays as it is
";

/// What the flags ask for.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    rows: u64,
    /// Whether the page and the plot in `docs/` are written.
    writes_page: bool,
}

impl Options {
    fn parse(flags: &[&str]) -> Result<Self, String> {
        let (rows, writes_page) = match flags {
            [] => (Some(ROWS), true),
            ["--quick"] => (Some(QUICK_ROWS), false),
            ["--rows", rows] => (rows.replace(['_', ','], "").parse().ok(), true),
            _ => (None, false),
        };
        match rows {
            Some(rows) if rows >= MIN_ROWS => Ok(Self { rows, writes_page }),
            _ => Err(USAGE.to_owned()),
        }
    }

    fn command(&self) -> String {
        match self.rows {
            ROWS => "cargo xtask bench rows".to_owned(),
            rows => format!("cargo xtask bench rows --rows {rows}"),
        }
    }
}

/// Measures everything, prints it, and writes `docs/bench-rows.md` and `docs/bench-rows.svg`.
///
/// # Errors
/// A step failed, or a restored table is not what it was.
pub fn run(flags: &[&str]) -> Outcome {
    let options = Options::parse(flags)?;
    let machine = Machine::this()?;
    let program = Program::build()?;
    let postgres = Postgres::provide()?;
    let scratch = Scratch::new()?;
    let csv = scratch.path("rows.csv");

    let rows = options.rows;
    println!("\n==> {} rows as CSV", count(rows));
    let csv_bytes = data::write_rows(&csv, rows)?;
    let mendb = measure_mendb(&program, &scratch, rows)?;
    let postgres = [
        measure_postgres(&postgres, &scratch, Tuning::Default, rows)?,
        measure_postgres(&postgres, &scratch, Tuning::Loading, rows)?,
    ];
    let smaller = DIVISORS
        .iter()
        .map(|divisor| measure_smaller(&program, &scratch, rows / divisor))
        .collect::<Result<_, _>>()?;
    let results = Results {
        machine,
        command: options.command(),
        rows,
        csv_bytes,
        mendb,
        smaller,
        postgres,
    };
    println!("\n{}", page::tables(&results));
    if options.writes_page {
        page::write(&results)?;
    }
    Ok(())
}

fn measure_mendb(program: &Program, scratch: &Scratch, rows: u64) -> Result<Mendb, String> {
    println!("\n==> mendb: {} rows", count(rows));
    let store = Store::new(program, scratch.path("mendb"))?;
    let import = store.import(&scratch.path("rows.csv"), SHARDS)?;
    println!("import {}", seconds(import.time));
    let database_bytes = store.database_bytes()?;
    let digests_of_full = store.digests()?;
    let (full, full_bytes) = store.back_up("full", false)?;
    println!("full backup {}", seconds(full.time));

    let mut increments = Vec::new();
    for round in 1..=ROUNDS {
        increments.push(measure_increment(
            &store,
            scratch,
            rows,
            round,
            ROUND_PER_MILLE,
        )?);
    }
    let digests_of_chain = store.digests()?;
    for (round, per_mille) in (ROUNDS + 1..).zip(OTHER_PER_MILLE) {
        increments.push(measure_increment(&store, scratch, rows, round, per_mille)?);
    }

    let restore_full = store.restore("full", SEQUENTIAL, &digests_of_full)?;
    println!("restore of the full backup {}", seconds(restore_full.time));
    let restore_chain = |strategy| store.restore(&label(ROUNDS), strategy, &digests_of_chain);
    let (restore_sequential, restore_merged) = (restore_chain(SEQUENTIAL)?, restore_chain(MERGED)?);
    println!(
        "restore of the full backup and {ROUNDS} increments, one after the other {}, merged {}",
        seconds(restore_sequential.time),
        seconds(restore_merged.time)
    );
    Ok(Mendb {
        version: program.version()?,
        import,
        database_bytes,
        full,
        full_bytes,
        increments,
        restore_full,
        restore_sequential,
        restore_merged,
    })
}

fn measure_increment(
    store: &Store<'_>,
    scratch: &Scratch,
    rows: u64,
    round: u64,
    per_mille: u64,
) -> Result<Increment, String> {
    let changes = scratch.path("changes.jsonl");
    let changed = data::write_changes(&changes, rows, round, per_mille)?;
    let change = store.change(&changes)?;
    let (backup, bytes) = store.back_up(&label(round), true)?;
    println!(
        "{} rows changed {}, increment {}",
        count(changed),
        seconds(change.time),
        seconds(backup.time)
    );
    Ok(Increment {
        per_mille,
        rows: changed,
        change,
        backup,
        bytes,
    })
}

fn label(round: u64) -> String {
    format!("round-{round}")
}

fn measure_smaller(program: &Program, scratch: &Scratch, rows: u64) -> Result<TableSize, String> {
    println!("\n==> mendb: {} rows", count(rows));
    let csv = scratch.path("fewer-rows.csv");
    data::write_rows(&csv, rows)?;
    let store = Store::new(program, scratch.path("mendb"))?;
    let import = store.import(&csv, SHARDS)?;
    let digests = store.digests()?;
    let (full, _) = store.back_up("full", false)?;
    let restore = store.restore("full", SEQUENTIAL, &digests)?;
    println!(
        "backup {}, restore {}",
        seconds(full.time),
        seconds(restore.time)
    );
    Ok(TableSize {
        rows,
        import,
        full,
        restore,
    })
}

fn measure_postgres(
    postgres: &Postgres,
    scratch: &Scratch,
    tuning: Tuning,
    rows: u64,
) -> Result<Server, String> {
    let version = postgres.version()?;
    println!("\n==> {version}: {tuning:?}");
    let cluster = postgres.start(scratch.path("postgres"), tuning)?;
    let import = cluster.import(&scratch.path("rows.csv"))?;
    println!("import {}", seconds(import.time));
    let (fast_dump, fast_dump_bytes) = cluster.dump(&["-Z1"])?;
    let (dump, dump_bytes) = cluster.dump(&[])?;
    println!(
        "pg_dump {}, with -Z1 {}",
        seconds(dump.time),
        seconds(fast_dump.time)
    );
    let restore = cluster.restore(rows)?;
    println!("pg_restore {}", seconds(restore.time));
    Ok(Server {
        version,
        settings: tuning.shown(),
        import,
        table_bytes: cluster.table_bytes()?,
        dump,
        dump_bytes,
        fast_dump,
        fast_dump_bytes,
        restore,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_say_how_many_rows_and_a_wrong_one_is_answered_with_the_usage() {
        let rows = |flags: &[&str]| Options::parse(flags).map(|options| options.rows);
        assert_eq!(rows(&[]), Ok(ROWS));
        assert_eq!(rows(&["--quick"]), Ok(QUICK_ROWS));
        assert_eq!(rows(&["--rows", "1_000_000"]), Ok(1_000_000));
        for wrong in [
            ["--rows", "many"].as_slice(),
            &["--rows"],
            &["--rows", "5"],
            &["--fast"],
        ] {
            assert!(rows(wrong).unwrap_err().starts_with("usage:"), "{wrong:?}");
        }
        assert!(!Options::parse(&["--quick"]).unwrap().writes_page);
    }
}
