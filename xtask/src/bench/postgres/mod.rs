//! `cargo xtask bench postgres`: backups, increments and mends of a PostgreSQL table, beside the server's own tools.
//!
//! In one run: a full backup beside `pg_dump` and a bare COPY; then for each share of damage an increment and a mend in
//! place, beside a bare delete and insert of the same rows, and `pg_restore` of the table. Each mend has to bring back
//! what there was. Then the same with pgBackRest, in a cluster of its own.

mod pgbackrest;
mod table;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::machine::Machine;
use super::markdown;
use super::measure::{self, Cost};
use super::program::Program;
use super::rows::postgres::{Cluster, Postgres, Tuning};
use super::scratch::{Scratch, remove, size_bytes};
use super::units::{count, digits, megabytes, seconds, times};
use crate::run::Outcome;
use table::{CONTENT, CREATE, DATABASE, Damage};

pub const USAGE: &str = "\
usage: cargo xtask bench postgres [--rows N] [--percent P,P] [--program FILE]

  --rows N         rows of the table, 1,000 or more; without it 5,000,000
  --percent P,P    shares of the rows that are damaged; without it 0.01,0.1,1,10,100
  --program FILE   a mendb that is built already
";

const ROWS: u64 = 5_000_000;
const LEAST_ROWS: u64 = 1_000;
const PERCENT: [f64; 5] = [0.01, 0.1, 1.0, 10.0, 100.0];

/// What is measured.
struct Options {
    rows: u64,
    percent: Vec<f64>,
    program: Option<PathBuf>,
}

impl Options {
    fn parse(flags: &[&str]) -> Result<Self, String> {
        let mut options = Self {
            rows: ROWS,
            percent: PERCENT.to_vec(),
            program: None,
        };
        let mut left = flags;
        loop {
            left = match left {
                [] => return Ok(options),
                ["--rows", rows, left @ ..] => {
                    options.rows = rows.parse().map_err(|_| USAGE)?;
                    left
                }
                ["--percent", shares, left @ ..] => {
                    let shares = shares.split(',').map(str::parse::<f64>);
                    options.percent = shares.collect::<Result<_, _>>().map_err(|_| USAGE)?;
                    left
                }
                ["--program", file, left @ ..] => {
                    options.program = Some(PathBuf::from(file));
                    left
                }
                _ => return Err(USAGE.to_owned()),
            };
            let is_share = |percent: &f64| *percent > 0.0 && *percent <= 100.0;
            if options.rows < LEAST_ROWS || !options.percent.iter().all(is_share) {
                return Err(USAGE.to_owned());
            }
        }
    }
}

/// Measures everything and prints it.
///
/// # Errors
/// A step failed, or a mended table is not what it was.
pub fn run(flags: &[&str]) -> Outcome {
    let options = Options::parse(flags)?;
    let program = match options.program {
        Some(file) => Program::at(file),
        None => Program::build()?,
    };
    let postgres = Postgres::provide()?;
    let scratch = Scratch::new()?;
    println!("\n==> {}, {}", program.version()?, postgres.version()?);
    let Machine { name, date, load } = Machine::this()?;
    println!("{name}, {date}, load {load}");
    let cluster = postgres.start(scratch.path("cluster"), Tuning::Default)?;
    cluster.sql("postgres", &[&format!("create database {DATABASE}")])?;
    cluster.sql(DATABASE, CREATE)?;
    cluster.sql(DATABASE, &[&table::fill(options.rows)])?;
    cluster.sql(DATABASE, &["vacuum analyze t"])?;
    let bench = Bench {
        program: &program,
        scratch: &scratch,
        cluster: &cluster,
    };
    println!("{}", bench.full(options.rows)?);
    println!("{}", bench.mends(options.rows, &options.percent)?);
    drop(cluster);
    let measured = pgbackrest::measure(&postgres, &scratch, options.rows, &options.percent)?;
    println!("{}", of_pgbackrest(&measured));
    Ok(())
}

/// The table of what pgBackRest took.
fn of_pgbackrest(measured: &pgbackrest::Measured) -> String {
    let (cost, bytes) = &measured.full;
    let full = vec![
        "full".to_owned(),
        seconds(cost.time),
        megabytes(*bytes),
        String::new(),
    ];
    let shares = measured.shares.iter().map(|share| {
        let (cost, bytes) = &share.increment;
        vec![
            format!("{} %", share.percent),
            seconds(cost.time),
            megabytes(*bytes),
            seconds(share.down),
        ]
    });
    let lines: Vec<Vec<String>> = std::iter::once(full).chain(shares).collect();
    let heads = ["damage", "backup", "size", "restore --delta, cluster down"];
    markdown::table(&measured.version, &heads, &lines)
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
    fn full(&self, rows: u64) -> Result<String, String> {
        measure::output(&mut self.mendb(&["collection", "create", "c", "--table", "public.t"]))?;
        let mut lines = Vec::new();
        let mut line = |name: &str, cost: Cost, bytes: u64| {
            lines.push(vec![name.to_owned(), seconds(cost.time), megabytes(bytes)]);
        };
        self.cluster.settle()?;
        let full = measure::run(&mut self.mendb(&["backup", "c", "--label", "full"]))?;
        line("mendb backup", full, size_bytes(&self.repository())?);
        for (name, format, jobs) in [
            ("pg_dump -Fc", "-Fc", None),
            ("pg_dump -Fd -j2", "-Fd", Some("-j2")),
        ] {
            let to = self.dumped(format);
            let mut dump = self.cluster.client("pg_dump");
            dump.arg(format).args(jobs).arg("-f").arg(&to);
            let cost = measure::run(dump.arg(DATABASE))?;
            line(name, cost, size_bytes(&to)?);
        }
        let copy = "copy t to '/dev/null' with (format binary)";
        let bare = measure::action(|| self.cluster.sql(DATABASE, &[copy]).map(drop))?;
        line("copy to /dev/null", bare, 0);
        let title = format!("Full backups of {} rows", count(rows));
        Ok(markdown::table(&title, &["", "time", "size"], &lines))
    }

    fn dumped(&self, format: &str) -> PathBuf {
        self.cluster.directory().join(format!("dump{format}"))
    }

    /// Increments and mends, for each share of damage.
    fn mends(&self, rows: u64, percent: &[f64]) -> Result<String, String> {
        let restore = self.restore()?;
        let wanted = self.cluster.sql(DATABASE, &[CONTENT])?;
        let mut lines = Vec::new();
        for percent in percent {
            let damage = Damage::of(rows, *percent);
            // What the last mend and the bare one wrote is no part of what is measured next.
            measure::output(&mut self.mendb(&["backup", "c", "--incremental"]))?;
            self.cluster.sql(DATABASE, &damage.statements())?;
            let before = size_bytes(&self.repository())?;
            self.cluster.settle()?;
            let increment = measure::run(&mut self.mendb(&["backup", "c", "--incremental"]))?;
            let bytes = size_bytes(&self.repository())? - before;
            self.cluster.settle()?;
            let mut mend = self.mendb(&[
                "restore",
                "c",
                "--in-place",
                "--to",
                "full",
                "--output",
                "json",
            ]);
            let (mend, report) = measure::run_alone(&mut mend)?;
            if self.cluster.sql(DATABASE, &[CONTENT])? != wanted {
                return Err(format!(
                    "a mend of {percent} % did not bring back what there was"
                ));
            }
            let report: serde_json::Value =
                serde_json::from_str(&report).map_err(|error| error.to_string())?;
            let waited = report["writers_waited_ms"].as_u64().unwrap_or_default();
            self.cluster.settle()?;
            let statements = damage.rewrite();
            let bare = measure::action(|| self.cluster.sql(DATABASE, &statements).map(drop))?;
            lines.push(vec![
                format!("{percent} %"),
                seconds(increment.time),
                megabytes(bytes),
                seconds(mend.time),
                seconds(Duration::from_millis(waited)),
                seconds(bare.time),
                seconds(restore.time),
                digits(times(restore.time, mend.time)),
            ]);
            println!("{percent} %: mended in {}", seconds(mend.time));
        }
        let heads = [
            "damage",
            "increment",
            "size",
            "mend",
            "writers waited",
            "bare delete and insert",
            "pg_restore -j2",
            "times",
        ];
        Ok(markdown::table(
            "Increments and mends in place",
            &heads,
            &lines,
        ))
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
