//! `cargo xtask bench`: what the program costs, measured beside what else people use.
//!
//! A benchmark has a room of its own here; what they share is beside them.

mod aim;
mod clickhouse;
mod cluster;
mod machine;
mod markdown;
mod measure;
mod mend;
mod postgres;
mod processes;
mod program;
mod rows;
mod scale;
mod scratch;
mod serve;
#[path = "../../../crates/engines/tests/servers/mod.rs"]
mod servers;
mod shards;
mod svg;
mod units;

use crate::run::Outcome;

/// Runs the benchmark that the words name, with their flags.
///
/// # Errors
/// There is no such benchmark, or a step of it failed.
pub fn run(words: &[&str]) -> Outcome {
    match words {
        ["rows", flags @ ..] => rows::run(flags),
        ["mend", flags @ ..] => mend::run(flags),
        ["shards", flags @ ..] => shards::run(flags),
        ["serve", flags @ ..] => serve::run(flags),
        ["postgres", flags @ ..] => postgres::run(flags),
        ["clickhouse", flags @ ..] => clickhouse::run(flags),
        ["cluster", flags @ ..] => cluster::run(flags),
        _ => Err([
            rows::USAGE,
            mend::USAGE,
            shards::USAGE,
            serve::USAGE,
            postgres::USAGE,
            clickhouse::USAGE,
            cluster::USAGE,
        ]
        .join("\n")),
    }
}
