//! `cargo xtask fuzz`: has a fuzzer look for bytes at which a reader of files panics, hangs or takes too
//! much memory.
//!
//! | directory | what is in it | in git |
//! |---|---|---|
//! | `fuzz/corpus/<target>` | files that were chosen: each fuzzer begins with them, the tests replay them | yes |
//! | `fuzz/found/<target>` | bytes that led the fuzzer into other code; the next run goes on with them | no |
//! | `fuzz/artifacts/<target>` | bytes at which a reader failed | no |
//!
//! How a find becomes a file of the corpus:
//!
//! 1. `cargo +nightly fuzz tmin --sanitizer none TARGET fuzz/artifacts/TARGET/crash-…` makes it small.
//! 2. It goes to `fuzz/corpus/TARGET`, under a name that says what is wrong with it, as in
//!    `dictionary-of-too-many-values`. `cargo nextest run -p mendb what_fuzzers_found` fails now.
//! 3. The reader is mended, with a test beside it that says what it answers to such files.
//!
//! What lies in `fuzz/found` fails nowhere. One of those goes the same way only where it is of a kind that
//! the corpus lacks.

use std::fs;

use crate::run::{Outcome, Step, root};

const TARGETS: [&str; 5] = ["csv", "jsonl", "parquet", "plan", "settings"];
const SECONDS: &str = "3600";
/// Where the fuzzer writes what leads it on; not in git.
const FOUND: &str = "fuzz/found";
/// What it begins with.
const CORPUS: &str = "fuzz/corpus";

const USAGE: &str = "\
usage: cargo xtask fuzz [TARGET [SECONDS]]

  TARGET    csv, jsonl, parquet, plan or settings; without it all of them, one after the other
  SECONDS   how long each, an hour if not said

It begins with fuzz/corpus and with what earlier runs left in fuzz/found. Bytes at which a reader failed lie
in fuzz/artifacts; the head of xtask/src/fuzz.rs says how they become files of the corpus.

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
        let found = root().join(FOUND).join(target);
        fs::create_dir_all(&found)
            .map_err(|error| format!("cannot make {}: {error}", found.display()))?;
        line(target, seconds).run()?;
    }
    Ok(())
}

/// The fuzzer writes into the first directory and reads them all.
fn line(target: &str, seconds: &str) -> Step {
    // 1 MB is far more than any of these needs to be wrong.
    Step::new(&format!(
        "cargo +nightly fuzz run --sanitizer none {target} {FOUND}/{target} {CORPUS}/{target} -- \
         -max_total_time={seconds} -max_len=1048576 -rss_limit_mb=2048 -timeout=20"
    ))
}

fn one(name: &str) -> Result<&'static [&'static str], String> {
    let at = TARGETS.iter().position(|target| *target == name);
    at.map(|at| &TARGETS[at..=at])
        .ok_or_else(|| USAGE.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fuzzer_writes_nothing_that_is_in_git() {
        let line = line("csv", "1").to_string();
        let directories = format!(" csv {FOUND}/csv {CORPUS}/csv -- ");
        assert!(line.contains(&directories), "{line}");
        let ignored = fs::read_to_string(root().join("fuzz/.gitignore")).unwrap();
        for directory in [FOUND, "fuzz/artifacts"] {
            let rule = directory.strip_prefix("fuzz").unwrap();
            assert!(ignored.lines().any(|line| line == rule), "{ignored}");
        }
    }
}
