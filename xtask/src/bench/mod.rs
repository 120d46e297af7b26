//! `cargo xtask bench`: what the program costs, measured beside what else people use.

mod data;
mod machine;
mod measure;
mod page;
mod plot;
mod postgres;
mod processes;
mod program;
mod results;
mod rows;
mod scratch;
mod units;

use crate::run::Outcome;

/// Runs the benchmark that the words name, with their flags.
///
/// # Errors
/// There is no such benchmark, or a step of it failed.
pub fn run(words: &[&str]) -> Outcome {
    match words {
        ["rows", flags @ ..] => rows::run(flags),
        _ => Err("usage: cargo xtask bench rows [--rows N | --quick]".to_owned()),
    }
}
