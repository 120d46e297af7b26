//! Runners of the workspace: `cargo xtask test` is what CI runs. One file a subcommand.

mod arrows;
mod bench;
mod fuzz;
mod run;
mod test;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  test    everything that must be true before a change goes in: format, lints, tests, docs, tidy
  tidy    the rules of the house that no other tool checks
  bench   rows: backup and restore of a row table beside PostgreSQL's, into docs/bench-rows.md
          clickhouse: backup and mend of a ClickHouse table beside ClickHouse's own and beside
          attaching everything anew, into docs/bench-clickhouse.md
          shards: operations with the same rows in 4 to 1,000 shards, into docs/bench-shards.md
          serve: a backup of a server beside thousands of clients, into docs/bench-serve.md
  fuzz    what reads files of others, with bytes of a fuzzer";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["test"] => test::run(),
        ["tidy"] => tidy::run(),
        ["bench", what @ ..] => bench::run(what),
        ["fuzz", what @ ..] => fuzz::run(what),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("\nxtask: {message}");
            ExitCode::FAILURE
        }
    }
}
