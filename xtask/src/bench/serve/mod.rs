//! `cargo xtask bench serve`: what clients that watch take from an operation that runs.
//!
//! Nothing is asserted on time. What is asserted is that no idle connection was closed, and that every reader has heard
//! of the end of every operation.

mod crowd;
mod server;

use std::time::{Duration, Instant};

use super::aim::{self, Aim};
use super::machine::Machine;
use super::markdown::table;
use super::measure;
use super::program::Program;
use super::rows::data;
use super::scratch::Scratch;
use super::units::{count, megabytes, seconds};
use crate::run::Outcome;
use crowd::Crowd;
use server::Server;

const ROWS: u64 = 12_000_000;
const QUICK_ROWS: u64 = 200_000;
/// Connections that ask for nothing, and readers of `/v1/events`.
const IDLE: usize = 2_000;
const READERS: usize = 500;
const QUICK_IDLE: usize = 200;
const QUICK_READERS: usize = 50;
/// Backups of each kind.
const ROUNDS: usize = 10;
const QUICK_ROUNDS: usize = 2;
/// An operation may lose so much of its speed, by the processor time of the server.
const MOST_LOST: f64 = 0.05;

const PAGE: &str = "docs/bench-serve.md";

/// How it is called.
pub const USAGE: &str = "\
usage: cargo xtask bench serve [--quick]

  --quick       200,000 rows, 250 clients, and docs/ stays as it is
";

/// What backups cost.
#[derive(Debug, Default)]
struct Sum {
    rounds: u32,
    time: Duration,
    /// Of the server's process.
    processor_time: Duration,
    /// That readers have read.
    events: u64,
}

impl Sum {
    fn line(&self, name: &str) -> Vec<String> {
        let rounds = self.rounds.max(1);
        vec![
            name.to_owned(),
            seconds(self.time / rounds),
            seconds(self.processor_time / rounds),
            count(self.events / u64::from(rounds)),
        ]
    }
}

/// Measures, prints it, and writes `docs/bench-serve.md`.
///
/// # Errors
/// A step failed.
pub fn run(flags: &[&str]) -> Outcome {
    let is_quick = match flags {
        [] => false,
        ["--quick"] => true,
        _ => return Err(USAGE.to_owned()),
    };
    let (rows, idle, readers, rounds) = match is_quick {
        true => (QUICK_ROWS, QUICK_IDLE, QUICK_READERS, QUICK_ROUNDS),
        false => (ROWS, IDLE, READERS, ROUNDS),
    };
    let machine = Machine::this()?;
    let program = Program::build()?;
    let scratch = Scratch::new()?;
    let server = serve(&program, &scratch, rows)?;
    let (mut alone, mut beside) = (Sum::default(), Sum::default());
    // What is opened and read for the first time is not of the clients.
    back_up(&server, &mut Sum::default(), None)?;
    for round in 0..rounds {
        println!("==> round {} of {rounds}", round + 1);
        let mut with_crowd = || -> Outcome {
            let mut crowd = Crowd::of(&server, idle, readers)?;
            back_up(&server, &mut beside, Some(&mut crowd))?;
            crowd.check()
        };
        // Each comes first as often as the other.
        if round.is_multiple_of(2) {
            back_up(&server, &mut alone, None)?;
            with_crowd()?;
        } else {
            with_crowd()?;
            back_up(&server, &mut alone, None)?;
        }
    }
    let lost = lost(alone.processor_time, beside.processor_time);
    let tables = format!(
        "{}\n{}",
        table(
            "A full backup",
            &["", "time", "processor time of the server", "events read"],
            &[
                alone.line("alone"),
                beside.line(&format!(
                    "beside {} idle connections and {} readers of events",
                    count(idle as u64),
                    count(readers as u64)
                )),
            ],
        ),
        aim::table(vec![Aim {
            aim: "An operation loses at most 5 % of its speed by the processor time of the server",
            measured: format!("{:.1} %", lost * 100.0),
            met: lost <= MOST_LOST,
        }])
    );
    println!("\n{tables}");
    if is_quick {
        return Ok(());
    }
    let text = format!(
        "# A server with many clients\n\n\
         A full backup of a table of {rows} rows of about 100 bytes in 4 shards, which `mendb serve` takes: alone, and \
         beside clients that watch: {version} (release build). Taken {date} on {machine} with\n\n    \
         cargo xtask bench serve\n\n\
         The load average was {load} before it began. Each line is the mean of {rounds} backups, the two kinds in turn \
         on one server, which had {peak} of memory at most. The clients are a process of the same machine, and their \
         processor time is in the time of the second line: what the server itself does for them is in its processor \
         time. An idle connection has been answered once and asks for nothing while the backup runs; that none was \
         closed is checked after each. Every reader reads every event as it comes, and has heard of the end of each \
         backup.\n\n{tables}",
        rows = count(rows),
        version = program.version()?,
        date = machine.date,
        machine = machine.name,
        load = machine.load,
        peak = megabytes(server.peak_bytes()),
    );
    std::fs::write(PAGE, text).map_err(|error| format!("cannot write {PAGE}: {error}"))
}

/// How much of its speed an operation loses where it takes the second time instead of the first.
fn lost(alone: Duration, beside: Duration) -> f64 {
    1.0 - alone.as_secs_f64() / beside.as_secs_f64().max(1e-9)
}

/// A server with a table and its collection.
fn serve(program: &Program, scratch: &Scratch, rows: u64) -> Result<Server, String> {
    let directory = scratch.path("serve");
    std::fs::create_dir_all(&directory)
        .map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
    let command = || {
        let repository = directory.join("repository");
        let mut command = program.command(&directory, "mendb:target", &repository);
        command.env("XDG_STATE_HOME", directory.join("state"));
        command
    };
    let output = |words: &[&str]| measure::output(command().args(words));
    let file = directory.join("rows.csv");
    data::write_rows(&file, rows)?;
    output(&[
        "table", "import", "orders", "rows.csv", "--create", "--key", "id", "--shards", "4",
    ])?;
    std::fs::remove_file(&file).map_err(|error| format!("cannot remove rows.csv: {error}"))?;
    output(&["collection", "create", "bench", "--table", "orders"])?;
    let token = output(&["token", "create", "bench", "--role", "admin"])?;
    Server::start(&mut command(), token.trim())
}

/// Has the server take a backup, and remove it again, which is not measured.
fn back_up(server: &Server, sum: &mut Sum, crowd: Option<&mut Crowd>) -> Outcome {
    let reading = crowd.map(Crowd::read).transpose()?;
    let before = server.processor_time();
    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark measures the time that really passes"
    )]
    let start = Instant::now();
    let operation = server.begin("POST", "/v1/collections/bench/backups", "{}")?;
    server.done(&operation)?;
    sum.time += start.elapsed();
    if let Some(reading) = reading {
        sum.events += reading.events()?;
    }
    // Until the last reader has heard of the end the server works for them.
    sum.processor_time += server.processor_time().saturating_sub(before);
    sum.rounds += 1;
    let shown = server.ask("GET", &format!("/v1/operations/{operation}"), "")?;
    let backup = shown["backup_id"].as_str().unwrap_or_default();
    let path = format!("/v1/collections/bench/backups/{backup}");
    let removal = server.begin("DELETE", &path, "")?;
    server.done(&removal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_a_quarter_more_time_loses_a_fifth_of_its_speed() {
        let loss = lost(Duration::from_secs(4), Duration::from_secs(5));
        assert!((loss - 0.2).abs() < 1e-9, "{loss}");
    }
}
