//! `cargo xtask fuzz`: has a fuzzer look for bytes at which a reader of files panics, hangs or takes too
//! much memory. What it finds worth keeping stays in `fuzz/corpus/<target>`, which the tests replay.

use crate::run::{Outcome, Step};

const TARGETS: [&str; 5] = ["csv", "jsonl", "parquet", "plan", "settings"];
const SECONDS: &str = "3600";

const USAGE: &str = "\
usage: cargo xtask fuzz [TARGET [SECONDS]]

  TARGET    csv, jsonl, parquet, plan or settings; without it all of them, one after the other
  SECONDS   how long each, an hour if not said

Needs a nightly toolchain and cargo-fuzz: rustup toolchain install nightly; cargo install cargo-fuzz";

/// Runs one target or all of them.
///
/// # Errors
/// The fuzzer is missing, or has found something: it prints how to see that again.
pub fn run(arguments: &[&str]) -> Outcome {
    let (targets, seconds) = match arguments {
        [] => (&TARGETS[..], SECONDS),
        [target] => (one(target)?, SECONDS),
        [target, seconds] if seconds.parse::<u32>().is_ok() => (one(target)?, *seconds),
        _ => return Err(USAGE.to_owned()),
    };
    if !Step::new("cargo +nightly fuzz --version").succeeds() {
        return Err(USAGE.to_owned());
    }
    for target in targets {
        // 1 MB is far more than any of these needs to be wrong.
        Step::new(&format!(
            "cargo +nightly fuzz run --sanitizer none {target} -- -max_total_time={seconds} \
             -max_len=1048576 -rss_limit_mb=2048 -timeout=20"
        ))
        .run()?;
    }
    Ok(())
}

fn one(name: &str) -> Result<&'static [&'static str], String> {
    let at = TARGETS.iter().position(|target| *target == name);
    at.map(|at| &TARGETS[at..=at])
        .ok_or_else(|| USAGE.to_owned())
}
