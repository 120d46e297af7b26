//! `cargo xtask bench mend`: mends of a live table of rows after damage of several sizes, beside restores
//! of the chain and `pg_restore`, in one run on one machine.
//!
//! Nothing is asserted on time. What is asserted is that every mended and restored table has the digests
//! of the table that was backed up.

mod page;
mod plot;
mod results;

use serde_json::Value;

use super::machine::Machine;
use super::measure::Cost;
use super::program::Program;
use super::rows::data;
use super::rows::postgres::{Postgres, Tuning};
use super::rows::store::{MERGED, SEQUENTIAL, Store};
use super::scratch::{Scratch, warm};
use super::units::{count, seconds};
use crate::run::Outcome;
use results::{Mend, Restores, Results, Size};

/// The largest table has so many million rows, the others a quarter and a sixteenth of it.
const MILLIONS: u64 = 16;
const QUICK_ROWS: u64 = 160_000;
const PARTS: [u64; 3] = [16, 4, 1];
/// Shards of each table; of the middle one also these.
const SHARDS: u32 = 4;
const OTHER_SHARDS: [u32; 2] = [1, 16];
/// How much is damaged, of a hundred thousand rows.
const DAMAGES: [u64; 5] = [10, 100, 1_000, 10_000, 100_000];
/// The damage that sizes and numbers of shards are compared at.
const USUAL: u64 = 1_000;
/// Of so many runs the medium one counts, up to that damage.
const RUNS: usize = 3;
/// Increments behind the full backup, each of a hundredth of the rows.
const ROUNDS: u64 = 3;
const ROUND_PER_MILLE: u64 = 10;

/// How it is called.
pub const USAGE: &str = "\
usage: cargo xtask bench mend [--largest M | --quick]

  --largest M   million rows of the largest of three tables, 1 to 64; without it 16
  --quick       160,000 rows, and docs/ stays as it is
";

/// What the flags ask for.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    rows: u64,
    writes_page: bool,
}

impl Options {
    fn parse(flags: &[&str]) -> Result<Self, String> {
        let millions = match flags {
            ["--quick"] => {
                return Ok(Self {
                    rows: QUICK_ROWS,
                    writes_page: false,
                });
            }
            [] => Some(MILLIONS),
            ["--largest", number] => number.parse().ok(),
            _ => None,
        };
        match millions {
            Some(millions @ 1..=64) => Ok(Self {
                rows: millions * 1_000_000,
                writes_page: true,
            }),
            _ => Err(USAGE.to_owned()),
        }
    }

    fn command(&self) -> String {
        match self.rows / 1_000_000 {
            MILLIONS => "cargo xtask bench mend".to_owned(),
            millions => format!("cargo xtask bench mend --largest {millions}"),
        }
    }
}

/// Measures everything, prints it, and writes `docs/bench-mend.md` and `docs/bench-mend.svg`.
///
/// # Errors
/// A step failed, or a mended table is not what it was.
pub fn run(flags: &[&str]) -> Outcome {
    let options = Options::parse(flags)?;
    let machine = Machine::this()?;
    let program = Program::build()?;
    let postgres = Postgres::provide()?;
    let scratch = Scratch::new()?;
    let mut sizes = Vec::new();
    let mut shards = Vec::new();
    for part in PARTS {
        let rows = options.rows / part;
        println!("\n==> {} rows in {SHARDS} shards", count(rows));
        let (store, full_backup) = filled(&program, &scratch, rows, SHARDS)?;
        let mends = DAMAGES
            .iter()
            .map(|damage| mend(&store, &scratch, rows, *damage, true))
            .collect::<Result<_, _>>()?;
        let scattered = mend(&store, &scratch, rows, USUAL, false)?;
        let restores = restores(&store, &postgres, &scratch, rows)?;
        drop(store);
        sizes.push(Size {
            rows,
            full_backup,
            mends,
            scattered,
            restores,
        });
        if part == PARTS[1] {
            for other in OTHER_SHARDS {
                println!("\n==> {} rows in {other} shards", count(rows));
                let (store, _) = filled(&program, &scratch, rows, other)?;
                shards.push((other, mend(&store, &scratch, rows, USUAL, true)?));
            }
        }
    }
    let results = Results {
        machine,
        command: options.command(),
        version: program.version()?,
        postgres: postgres.version()?,
        sizes,
        shards,
    };
    println!("\n{}", page::tables(&results));
    if options.writes_page {
        page::write(&results)?;
    }
    Ok(())
}

/// A table with a full backup, whose cost is returned, and some increments, the last of which is `base`.
fn filled<'a>(
    program: &'a Program,
    scratch: &Scratch,
    rows: u64,
    shards: u32,
) -> Result<(Store<'a>, Cost), String> {
    let csv = scratch.path("rows.csv");
    data::write_rows(&csv, rows)?;
    let store = Store::new(program, scratch.path("mendb"))?;
    store.import(&csv, shards)?;
    let (full_backup, _) = store.back_up("full", false)?;
    println!("full backup {}", seconds(full_backup.time));
    for round in 1..=ROUNDS {
        let changes = scratch.path("changes.jsonl");
        data::write_changes(&changes, rows, round, ROUND_PER_MILLE)?;
        store.change(&changes)?;
        let label = if round == ROUNDS { "base" } else { "" };
        let label = match label {
            "" => format!("round-{round}"),
            label => label.to_owned(),
        };
        store.back_up(&label, true)?;
    }
    Ok((store, full_backup))
}

/// Damages a copy of the table, of neighbouring rows or of rows all over it, and mends it; several times
/// where that is short.
fn mend(
    base: &Store<'_>,
    scratch: &Scratch,
    rows: u64,
    of_100_000: u64,
    neighbours: bool,
) -> Result<Mend, String> {
    let runs = if of_100_000 <= USUAL { RUNS } else { 1 };
    let runs = (0..runs).map(|_| mend_once(base, scratch, rows, of_100_000, neighbours));
    let runs: Vec<Mend> = runs.collect::<Result<_, _>>()?;
    let mend = Mend {
        cost: Cost::medium(runs.iter().map(|run| run.cost).collect()),
        ..runs[0]
    };
    println!(
        "{} rows damaged{}, mended in {}",
        count(mend.damaged),
        if neighbours { "" } else { " all over" },
        seconds(mend.cost.time)
    );
    Ok(mend)
}

fn mend_once(
    base: &Store<'_>,
    scratch: &Scratch,
    rows: u64,
    of_100_000: u64,
    neighbours: bool,
) -> Result<Mend, String> {
    let digests = base.digests()?;
    let store = base.copy(scratch.path("damaged"))?;
    let changes = scratch.path("damage.jsonl");
    let round = ROUNDS + 1;
    let damaged = if neighbours {
        data::write_neighbours(&changes, rows, round, of_100_000)?
    } else {
        data::write_changes(&changes, rows, round, of_100_000 / 100)?
    };
    store.change(&changes)?;
    warm(&scratch.path("damaged"))?;
    let (cost, report) = store.mend("base", &digests)?;
    let number = |name: &str| {
        let number = report.pointer(name).and_then(Value::as_u64);
        number.ok_or_else(|| format!("the report of the mend has no {name}"))
    };
    Ok(Mend {
        of_100_000,
        damaged,
        cost,
        fetched_bytes: number("/total/fetched_bytes")?,
        written: number("/total/upserted")? + number("/total/erased")?,
    })
}

fn restores(
    base: &Store<'_>,
    postgres: &Postgres,
    scratch: &Scratch,
    rows: u64,
) -> Result<Restores, String> {
    let digests = base.digests()?;
    let by = |strategy: &str| -> Result<Cost, String> {
        let store = base.copy(scratch.path("restored"))?;
        warm(&scratch.path("restored"))?;
        let cost = store.restore("base", strategy, &digests)?;
        println!("{strategy} restore of the chain {}", seconds(cost.time));
        Ok(cost)
    };
    let (sequential, merged) = (by(SEQUENTIAL)?, by(MERGED)?);
    let cluster = postgres.start(scratch.path("postgres"), Tuning::Loading)?;
    cluster.import(&scratch.path("rows.csv"))?;
    cluster.dump(&["-Z1"])?;
    let pg_restore = cluster.restore(rows)?;
    println!("pg_restore {}", seconds(pg_restore.time));
    Ok(Restores {
        bytes: base.repository_bytes()?,
        sequential,
        merged,
        pg_restore,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_say_how_large_and_a_wrong_one_is_answered_with_the_usage() {
        let rows = |flags: &[&str]| Options::parse(flags).map(|options| options.rows);
        assert_eq!(rows(&[]), Ok(16_000_000));
        assert_eq!(rows(&["--largest", "4"]), Ok(4_000_000));
        for wrong in [["--largest"].as_slice(), &["--largest", "0"], &["--rows"]] {
            assert!(rows(wrong).unwrap_err().starts_with("usage:"), "{wrong:?}");
        }
    }
}
