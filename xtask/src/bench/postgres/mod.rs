//! `cargo xtask bench postgres`: backups, increments and mends of a PostgreSQL table, beside the server's own tools.
//!
//! In one run, for each size of the table: a full backup beside `pg_dump` and bare COPYs; then for each share of damage
//! an increment and a mend in place, beside a bare delete and insert of the same rows, and `pg_restore` of the table.
//! Then the same with pgBackRest, in a cluster of its own. Nothing is asserted on time. What is asserted is that each
//! mend and restore brings back what there was.

mod page;
mod pgbackrest;
mod plot;
mod results;
mod table;

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::machine::Machine;
use super::measure::{self, Cost};
use super::program::Program;
use super::rows::postgres::{Cluster, Postgres, Tuning};
use super::scratch::{Scratch, remove, size_bytes};
use super::units::{count, seconds};
use crate::run::Outcome;
use results::{Full, Mend, Results, Size, Stored};
use table::{CONTENT, DATABASE, Damage};

const MILLIONS: [u64; 2] = [5, 20];
const QUICK_ROWS: u64 = 200_000;
/// Shares of the rows that are damaged.
const PERCENT: [f64; 5] = [0.01, 0.1, 1.0, 10.0, 100.0];

/// How it is called.
pub const USAGE: &str = "\
usage: cargo xtask bench postgres [--millions M,M | --quick]

  --millions M,M   million rows of each table, 1 to 64, the smallest first; without it 5,20
  --quick          200,000 rows, and docs/ stays as it is
";

/// What the flags ask for.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    rows: Vec<u64>,
    writes_page: bool,
}

impl Options {
    fn parse(flags: &[&str]) -> Result<Self, String> {
        let millions = match flags {
            ["--quick"] => {
                return Ok(Self {
                    rows: vec![QUICK_ROWS],
                    writes_page: false,
                });
            }
            [] => Some(MILLIONS.to_vec()),
            ["--millions", numbers] => {
                let numbers = numbers.split(',').map(str::parse);
                numbers.collect::<Result<Vec<u64>, _>>().ok()
            }
            _ => None,
        };
        match millions {
            Some(millions) if millions.iter().all(|number| (1..=64).contains(number)) => Ok(Self {
                rows: millions.iter().map(|number| number * 1_000_000).collect(),
                writes_page: true,
            }),
            _ => Err(USAGE.to_owned()),
        }
    }

    fn command(&self) -> String {
        let millions: Vec<u64> = self.rows.iter().map(|rows| rows / 1_000_000).collect();
        if millions == MILLIONS {
            return "cargo xtask bench postgres".to_owned();
        }
        let millions: Vec<String> = millions.iter().map(u64::to_string).collect();
        format!(
            "cargo xtask bench postgres --millions {}",
            millions.join(",")
        )
    }
}

/// Measures everything, prints it, and writes `docs/bench-postgres.md` and `docs/bench-postgres.svg`.
///
/// # Errors
/// A step failed, or a mended or restored table is not what it was.
pub fn run(flags: &[&str]) -> Outcome {
    let options = Options::parse(flags)?;
    let machine = Machine::this()?;
    let program = Program::build()?;
    let postgres = Postgres::provide()?;
    let pgbackrest = pgbackrest::provide()?;
    let mut sizes = Vec::new();
    for rows in &options.rows {
        println!("\n==> {} rows", count(*rows));
        let scratch = Scratch::new()?;
        sizes.push(measure_size(&program, &postgres, &scratch, *rows)?);
    }
    let results = Results {
        machine,
        command: options.command(),
        version: program.version()?,
        postgres: postgres.version()?,
        pgbackrest,
        sizes,
    };
    println!("\n{}", page::tables(&results));
    if options.writes_page {
        page::write(&results)?;
    }
    Ok(())
}

/// Everything, of a table of so many rows.
fn measure_size(
    program: &Program,
    postgres: &Postgres,
    scratch: &Scratch,
    rows: u64,
) -> Result<Size, String> {
    let cluster = postgres.start(scratch.path("cluster"), Tuning::Default)?;
    table::create(&cluster, rows)?;
    let bench = Bench {
        program,
        scratch,
        cluster: &cluster,
    };
    let full = bench.full()?;
    let pg_restore = bench.restore()?;
    println!(
        "backed up in {}, pg_restore in {}",
        seconds(full.mendb.cost.time),
        seconds(pg_restore.time)
    );
    let wanted = cluster.sql(DATABASE, &[CONTENT])?;
    let mends = PERCENT.map(|percent| bench.mend(rows, percent, &wanted));
    let mends = mends.into_iter().collect::<Result<_, _>>()?;
    drop(cluster);
    Ok(Size {
        rows,
        full,
        pg_restore,
        mends,
        pgbackrest: pgbackrest::measure(postgres, scratch, rows)?,
    })
}

struct Bench<'a> {
    program: &'a Program,
    scratch: &'a Scratch,
    cluster: &'a Cluster<'a>,
}

impl Bench<'_> {
    fn mendb(&self, arguments: &[&str]) -> Command {
        let directory = self.scratch.path("");
        let target = format!(
            "postgres://postgres@/{DATABASE}?host={}&port={}",
            self.cluster.directory().display(),
            self.cluster.port()
        );
        let mut command = self
            .program
            .command(&directory, &target, &self.repository());
        command
            .env("XDG_STATE_HOME", self.scratch.path("state"))
            .args(arguments);
        command
    }

    fn repository(&self) -> PathBuf {
        self.scratch.path("repository")
    }

    /// Full backups of all kinds.
    fn full(&self) -> Result<Full, String> {
        measure::output(&mut self.mendb(&["collection", "create", "c", "--table", "public.t"]))?;
        self.cluster.settle()?;
        let (cost, _) = measure::run_alone(&mut self.mendb(&["backup", "c", "--label", "full"]))?;
        let mendb = Stored {
            cost,
            bytes: size_bytes(&self.repository())?,
        };
        let dump = |format: &str, jobs: &[&str]| -> Result<Stored, String> {
            self.cluster.settle()?;
            let to = self.dumped(format);
            let mut dump = self.cluster.client("pg_dump");
            dump.arg(format).args(jobs).arg("-f").arg(&to);
            Ok(Stored {
                cost: measure::run(dump.arg(DATABASE))?,
                bytes: size_bytes(&to)?,
            })
        };
        Ok(Full {
            mendb,
            dump_file: dump("-Fc", &[])?,
            dump_directory: dump("-Fd", &["-j2"])?,
            copy: self.copy()?,
        })
    }

    /// A COPY of all rows that are thrown away, by two sessions at once: what reading them takes at least.
    fn copy(&self) -> Result<Cost, String> {
        let middle = "select pg_relation_size('t') / current_setting('block_size')::int / 2";
        let middle = self.cluster.sql(DATABASE, &[middle])?;
        let copy = |of: &str| {
            let middle = middle.trim();
            let rows = format!("select * from t where ctid {of} '({middle},0)'");
            let copy = format!("copy ({rows}) to '/dev/null' with (format binary)");
            self.cluster.sql(DATABASE, &[copy]).map(drop)
        };
        measure::action(|| {
            thread::scope(|scope| {
                let other = scope.spawn(|| copy(">="));
                copy("<")?;
                let other = other.join();
                other.map_err(|_| "a session of the bare COPY ended".to_owned())?
            })
        })
    }

    fn dumped(&self, format: &str) -> PathBuf {
        self.cluster.directory().join(format!("dump{format}"))
    }

    /// An increment and a mend after damage, and a bare rewrite of the same rows.
    fn mend(&self, rows: u64, percent: f64, wanted: &str) -> Result<Mend, String> {
        let damage = Damage::of(rows, percent);
        // What the last mend and the bare one wrote is no part of what is measured next.
        measure::output(&mut self.mendb(&["backup", "c", "--incremental"]))?;
        self.cluster.sql(DATABASE, &damage.statements())?;
        let before = size_bytes(&self.repository())?;
        self.cluster.settle()?;
        let (cost, _) = measure::run_alone(&mut self.mendb(&["backup", "c", "--incremental"]))?;
        let increment = Stored {
            cost,
            bytes: size_bytes(&self.repository())? - before,
        };
        self.cluster.settle()?;
        let in_place = ["restore", "c", "--in-place", "--to", "full"];
        let mut mend = self.mendb(&in_place);
        let (cost, report) = measure::run_alone(mend.args(["--output", "json"]))?;
        if self.cluster.sql(DATABASE, &[CONTENT])? != wanted {
            return Err(format!(
                "a mend of {percent} % did not bring back what there was"
            ));
        }
        println!("{percent} %: mended in {}", seconds(cost.time));
        let report: serde_json::Value =
            serde_json::from_str(&report).map_err(|error| error.to_string())?;
        let waited = report["writers_waited_ms"].as_u64();
        let waited = waited.ok_or("the report of a mend does not tell how long writers waited")?;
        self.cluster.settle()?;
        let statements = damage.rewrite();
        let bare = measure::action(|| self.cluster.sql(DATABASE, &statements).map(drop))?;
        Ok(Mend {
            percent,
            increment,
            cost,
            waited: Duration::from_millis(waited),
            bare: bare.time,
        })
    }

    /// `pg_restore` of the table into a database beside.
    fn restore(&self) -> Result<Cost, String> {
        self.cluster.sql("postgres", &["create database beside"])?;
        let mut restore = self.cluster.client("pg_restore");
        restore
            .args(["-j2", "-d", "beside"])
            .arg(self.dumped("-Fd"));
        let cost = measure::run(&mut restore)?;
        self.cluster.sql("postgres", &["drop database beside"])?;
        remove(&self.dumped("-Fd"))?;
        Ok(cost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_repeats_it_is_the_shortest() {
        let options = |flags: &[&str]| Options::parse(flags).unwrap();
        assert_eq!(options(&[]).command(), "cargo xtask bench postgres");
        let five = options(&["--millions", "5"]);
        assert_eq!(five.rows, [5_000_000]);
        assert_eq!(five.command(), "cargo xtask bench postgres --millions 5");
        assert!(!options(&["--quick"]).writes_page);
        for wrong in ["0", "65", "5,", "many"] {
            assert_eq!(
                Options::parse(&["--millions", wrong]),
                Err(USAGE.to_owned())
            );
        }
    }
}
