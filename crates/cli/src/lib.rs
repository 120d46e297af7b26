//! `mendb`: backs up sharded databases and mends them.
//!
//! `cli` says what can be asked; each command is a file under `commands`. A command gets a `Context`,
//! prints data through `output` on stdout and everything else on stderr, and ends in a `Verdict` or a
//! `Failure`, which `failure` turns into an exit code.
//!
//! It is a library so that its readers can be fuzzed ([`fuzz`]); programs embed the row store instead.

mod backup_name;
mod cli;
mod clock;
mod cluster;
mod commands;
mod context;
mod demo_data;
mod driving;
mod failure;
mod formats;
pub mod fuzz;
mod human;
mod journal_place;
mod journals;
mod log;
mod maintenance;
mod operations;
mod orphan;
mod output;
mod output_format;
mod owner;
mod parts;
mod program_of_user;
mod progress;
mod proven;
mod remote;
mod rows;
mod serve;
mod service;
mod settings;
mod shared;
mod target;

use std::process::ExitCode;

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    cli::main()
}
