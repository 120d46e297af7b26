//! `cargo xtask bench clickhouse`: backup of a table and its restore after damage of several sizes, by
//! mendb, by ClickHouse itself and by attaching everything anew, in one run on one machine.
//!
//! Nothing is asserted on time. What is asserted is that after every restore the table holds the rows
//! that it held when it was backed up. Each restore starts from the same state of the server, whose
//! engine runs in a process of its own below this one: see [`start_state`].

mod dataset;
mod files;
mod measured;
mod mendb;
mod native;
mod page;
mod part_directories;
mod plot;
mod report;
mod results;
mod start_state;

use super::machine::Machine;
use super::measure::Cost;
use super::program::Program;
use super::scratch::{Scratch, warm};
use super::servers;
use super::units::{count, megabytes, seconds};
use crate::run::Outcome;
use dataset::Dataset;
use measured::Measured;
use mendb::Mendb;
use native::Native;
use results::{Backups, Method, Restores, Results};
use start_state::StartState;

const GIGABYTES: u64 = 1;
const GIGABYTES_MAX: u64 = 16;
const QUICK_BYTES: u64 = 50_000_000;
/// Of so many runs of the same the medium one counts.
const REPEATS: u32 = 3;
/// How much of the table is lost before it is restored.
const DAMAGES_PERCENT: [u64; 4] = [0, 1, 10, 100];

/// How it is called.
pub const USAGE: &str = "\
usage: cargo xtask bench clickhouse [--gb N [--alone] | --quick]

  --gb N     gigabytes of parts, 1 to 16, of which the disk needs eight times as much; without it 1
  --alone    mendb without what it is compared with, for large tables; docs/ stays as it is
  --quick    0.05 gigabytes, everything once, and docs/ stays as it is
";

/// What the flags ask for.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    bytes: u64,
    repeats: u32,
    /// Whether the page and the plot in `docs/` are written.
    writes_page: bool,
    /// Whether mendb alone is measured.
    alone: bool,
}

impl Options {
    fn parse(flags: &[&str]) -> Result<Self, String> {
        let gigabytes = match flags {
            ["--quick"] => {
                return Ok(Self {
                    bytes: QUICK_BYTES,
                    repeats: 1,
                    writes_page: false,
                    alone: false,
                });
            }
            [] => Some(GIGABYTES),
            ["--gb", number] | ["--gb", number, "--alone"] => number.parse().ok(),
            _ => None,
        };
        match gigabytes {
            Some(gigabytes @ 1..=GIGABYTES_MAX) => Ok(Self {
                bytes: gigabytes * 1_000_000_000,
                repeats: REPEATS,
                writes_page: flags.len() < 3,
                alone: flags.len() == 3,
            }),
            _ => Err(USAGE.to_owned()),
        }
    }

    fn command(&self) -> String {
        match self.bytes / 1_000_000_000 {
            GIGABYTES => "cargo xtask bench clickhouse".to_owned(),
            gigabytes => format!("cargo xtask bench clickhouse --gb {gigabytes}"),
        }
    }
}

/// Measures everything, prints it, and writes `docs/bench-clickhouse.md` and its plot.
///
/// # Errors
/// A step failed, or a restored table is not what it was.
pub fn run(flags: &[&str]) -> Outcome {
    let options = Options::parse(flags)?;
    let machine = Machine::this()?;
    let program = Program::build()?;
    let scratch = Scratch::new()?;

    println!("\n==> a table of {}", megabytes(options.bytes));
    let mut state = StartState::start(&scratch)?;
    let dataset = Dataset::load(state.server(), options.bytes)?;
    println!(
        "{} rows in {} parts, {}",
        count(dataset.rows),
        count(dataset.parts),
        megabytes(dataset.bytes)
    );
    state.keep()?;
    let bench = Bench {
        program: &program,
        scratch: &scratch,
        dataset: &dataset,
        repeats: options.repeats,
    };
    if options.alone {
        return bench.run_alone(&mut state);
    }
    let backups = bench.back_up(&mut state)?;
    let restores = bench.restore_all(&mut state)?;
    let mutated = bench.back_up_mutated(&mut state)?;
    let results = Results {
        machine,
        command: options.command(),
        mendb_version: program.version()?,
        server_version: dataset::version(state.server())?,
        repeats: options.repeats,
        dataset,
        backups,
        mutated,
        restores,
    };
    println!("\n{}", page::tables(&results));
    if options.writes_page {
        page::write(&results)?;
    }
    Ok(())
}

/// What every measure needs beside the server.
struct Bench<'a> {
    program: &'a Program,
    scratch: &'a Scratch,
    dataset: &'a Dataset,
    repeats: u32,
}

impl Bench<'_> {
    /// Backs up by every method, the first time and again. The last ones stay, to be restored from.
    fn back_up(&self, state: &mut StartState<'_>) -> Result<Backups, String> {
        println!("\n==> backups");
        let server = state.server();
        let table = dataset::directory(server)?;
        let (mendb, native) = (self.mendb(state), Native::new(server, self.scratch));
        let mut runs: [Vec<Measured>; 6] = Default::default();
        for repeat in 1..=self.repeats {
            warm(&table)?;
            let measured = [
                files::copy(&table, &self.scratch.path(files::COPY), files::Flush::No)?,
                files::copy(&table, &self.scratch.path(files::COPY), files::Flush::Yes)?,
                native.first()?,
                mendb.first()?,
                native.increment(&format!("again-{repeat}"))?,
                mendb.back_up(&format!("again-{repeat}"))?,
            ];
            for (runs, measured) in runs.iter_mut().zip(measured) {
                runs.push(measured);
            }
        }
        let [copy, copy_flushed, native, mendb, native_again, mendb_again] =
            runs.map(Measured::medium);
        for (what, measured) in [
            ("cp -r", copy),
            ("cp -r and sync", copy_flushed),
            ("BACKUP", native),
            ("BACKUP again", native_again),
            ("mendb", mendb),
            ("mendb again", mendb_again),
        ] {
            println!("{what} {}", seconds(measured.cost.time));
        }
        state.keep_journal()?;
        Ok(Backups {
            copy: copy.cost,
            copy_flushed: copy_flushed.cost,
            native,
            mendb,
            native_again,
            mendb_again,
        })
    }

    /// Restores after damage of every size, by every method.
    fn restore_all(&self, state: &mut StartState<'_>) -> Result<Vec<Restores>, String> {
        DAMAGES_PERCENT
            .into_iter()
            .map(|percent| self.restore(state, percent))
            .collect()
    }

    fn restore(&self, state: &mut StartState<'_>, percent: u64) -> Result<Restores, String> {
        println!("\n==> restores with {percent} % lost");
        let mut lost_bytes = 0;
        let mut runs: [Vec<Measured>; Method::ALL.len()] = Default::default();
        for _ in 0..self.repeats {
            for (method, runs) in Method::ALL.into_iter().zip(&mut runs) {
                let (lost, measured) = self.restore_once(method, state, percent)?;
                lost_bytes = lost;
                runs.push(measured);
            }
        }
        let by_method = runs.map(Measured::medium);
        for (method, measured) in Method::ALL.into_iter().zip(by_method) {
            println!("{} {}", method.name(), seconds(measured.cost.time));
        }
        Ok(Restores {
            percent,
            lost_bytes,
            by_method,
        })
    }

    /// The bytes that were lost, and what it took to bring them back.
    fn restore_once(
        &self,
        method: Method,
        state: &mut StartState<'_>,
        percent: u64,
    ) -> Result<(u64, Measured), String> {
        state.return_to()?;
        let lost_bytes = self.dataset.damage(state.server(), percent)?;
        let measured = self.restore_by(method, state)?;
        let found = dataset::contents(state.server())?;
        if found == self.dataset.contents {
            return Ok((lost_bytes, measured));
        }
        Err(format!(
            "{}, with {percent} % lost: the table holds {found}, it held {}",
            method.name(),
            self.dataset.contents
        ))
    }

    /// Backs up and mends by mendb alone, and prints what that took.
    fn run_alone(&self, state: &mut StartState<'_>) -> Outcome {
        let table = dataset::directory(state.server())?;
        let (mut first, mut again) = (Vec::new(), Vec::new());
        for repeat in 1..=self.repeats {
            warm(&table)?;
            let mendb = self.mendb(state);
            first.push(mendb.first()?);
            again.push(mendb.back_up(&format!("again-{repeat}"))?);
        }
        let [first, again] = [first, again].map(|runs| Measured::medium(runs).cost);
        println!("first backup {}", seconds(first.time));
        println!(
            "backup without change {}, {} of the first",
            seconds(again.time),
            results::percent(again.time.as_secs_f64() / first.time.as_secs_f64())
        );
        state.keep_journal()?;
        let mut mends = Vec::new();
        for percent in DAMAGES_PERCENT {
            let runs = (0..self.repeats).map(|_| {
                let (_, measured) = self.restore_once(Method::Mendb, state, percent)?;
                Ok(measured)
            });
            let runs = runs.collect::<Result<Vec<_>, String>>()?;
            mends.push((percent, Measured::medium(runs).cost.time));
        }
        let whole = mends
            .last()
            .map_or(f64::NAN, |(_, time)| time.as_secs_f64());
        for (percent, time) in mends {
            println!(
                "mend of {percent} % {}, {} of the whole",
                seconds(time),
                results::percent(time.as_secs_f64() / whole)
            );
        }
        Ok(())
    }

    fn restore_by(&self, method: Method, state: &StartState<'_>) -> Result<Measured, String> {
        let server = state.server();
        let native = Native::new(server, self.scratch);
        let copy = self.scratch.path(files::COPY);
        let whole = |cost: Cost| Measured {
            cost,
            bytes: self.dataset.bytes,
        };
        warm(&dataset::directory(server)?)?;
        match method {
            Method::Mendb => {
                let mendb = self.mendb(state);
                warm(&mendb.repository())?;
                mendb.mend()
            }
            Method::Native => {
                warm(&native.first_directory())?;
                native.restore().map(whole)
            }
            Method::Copied => {
                warm(&copy)?;
                files::attach_all(server, &copy, files::Way::Copy).map(whole)
            }
            Method::Linked => {
                warm(&copy)?;
                files::attach_all(server, &copy, files::Way::Link).map(whole)
            }
        }
    }

    /// Backs up again after one column was changed in every row.
    fn back_up_mutated(&self, state: &mut StartState<'_>) -> Result<results::Mutated, String> {
        println!("\n==> backups after a mutation of one column");
        state.return_to()?;
        let server = state.server();
        let column_bytes = dataset::mutate(server)?;
        warm(&dataset::directory(server)?)?;
        let native = Native::new(server, self.scratch).increment("mutated")?;
        let mendb = self.mendb(state).back_up("mutated")?;
        println!("BACKUP {}", seconds(native.cost.time));
        println!("mendb {}", seconds(mendb.cost.time));
        Ok(results::Mutated {
            column_bytes,
            native,
            mendb,
        })
    }

    fn mendb(&self, state: &StartState<'_>) -> Mendb<'_> {
        Mendb::new(self.program, self.scratch, state.server().target())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_say_how_much_and_a_wrong_one_is_answered_with_the_usage() {
        let bytes = |flags: &[&str]| Options::parse(flags).map(|options| options.bytes);
        assert_eq!(bytes(&[]), Ok(1_000_000_000));
        assert_eq!(bytes(&["--gb", "4"]), Ok(4_000_000_000));
        assert_eq!(bytes(&["--quick"]), Ok(QUICK_BYTES));
        assert_eq!(bytes(&["--gb", "8", "--alone"]), Ok(8_000_000_000));
        for wrong in [["--gb"].as_slice(), &["--gb", "0"], &["--gb", "17"], &["4"]] {
            assert!(bytes(wrong).unwrap_err().starts_with("usage:"), "{wrong:?}");
        }
    }

    #[test]
    fn the_command_on_the_page_repeats_the_run() {
        for gigabytes in ["1", "4"] {
            let options = Options::parse(&["--gb", gigabytes]).unwrap();
            let command = options.command();
            let flags: Vec<&str> = command.split(' ').skip(4).collect();
            assert_eq!(Options::parse(&flags), Ok(options));
        }
    }
}
