//! `mendb`: backs up sharded databases and mends them.
//!
//! [`cli`] says what can be asked; each command is a file under [`commands`]. A command gets a
//! [`context::Context`], prints data through [`output`] on stdout and everything else on stderr, and
//! ends in a [`failure::Verdict`] or a [`failure::Failure`], which [`failure`] turns into an exit code.

mod backup_name;
mod cli;
mod clock;
mod commands;
mod context;
mod demo_data;
mod failure;
mod formats;
mod human;
mod in_use;
mod operation_progress;
mod operation_record;
mod output;
mod parts;
mod progress;
mod rows;
mod service;
mod settings;
mod target;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
