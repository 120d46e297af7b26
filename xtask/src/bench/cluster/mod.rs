//! `cargo xtask bench cluster`: backup and mends of a cluster of two shards with two replicas each, beside restoring all
//! of it and beside a replica that fetches everything from its peer.
//!
//! Nothing is asserted on time. What is asserted is that after each mend both replicas of each shard hold the rows that
//! were backed up.

mod servers;

use std::time::Duration;

use serde_json::Value;

use super::aim::{self, Aim};
use super::machine::Machine;
use super::markdown::table;
use super::measure::Cost;
use super::program::Program;
use super::scratch::Scratch;
use super::units::{count, megabytes, seconds};
use crate::run::Outcome;
use servers::{SHARDS, Servers};

/// Rows of a shard.
const ROWS: u64 = 60_000_000;
const QUICK_ROWS: u64 = 200_000;
/// Of so many runs of the same the medium one counts.
const REPEATS: usize = 3;
const DAMAGES_PERCENT: [u64; 4] = [0, 1, 10, 100];
/// A mend of a hundredth of one shard may take so much of a restore of the cluster.
const MOST: f64 = 0.05;

const PAGE: &str = "docs/bench-cluster.md";

/// How it is called.
pub const USAGE: &str = "\
usage: cargo xtask bench cluster [--quick]

  --quick       200,000 rows a shard, everything once, and docs/ stays as it is
";

/// What a mend took.
#[derive(Debug, Clone, Copy)]
struct Mended {
    percent: u64,
    shards: usize,
    cost: Cost,
    /// From the repository.
    downloaded_bytes: u64,
    /// Of parts that servers had.
    linked_bytes: u64,
}

impl Mended {
    fn line(&self, whole: Duration) -> Vec<String> {
        vec![
            format!("{} %", self.percent),
            self.shards.to_string(),
            seconds(self.cost.time),
            percent(self.cost.time, whole),
            seconds(self.cost.processor_time),
            megabytes(self.downloaded_bytes),
            megabytes(self.linked_bytes),
            megabytes(self.cost.peak_bytes),
        ]
    }
}

/// Measures, prints it, and writes `docs/bench-cluster.md`.
///
/// # Errors
/// A step failed, or a shard does not hold what it held.
pub fn run(flags: &[&str]) -> Outcome {
    let (rows, repeats, is_quick) = match flags {
        [] => (ROWS, REPEATS, false),
        ["--quick"] => (QUICK_ROWS, 1, true),
        _ => return Err(USAGE.to_owned()),
    };
    let machine = Machine::this()?;
    let program = Program::build()?;
    let scratch = Scratch::new()?;
    println!(
        "\n==> {} rows on each of {} shards",
        count(rows),
        SHARDS.len()
    );
    let servers = Servers::start(&program, &scratch)?;
    servers.fill(rows)?;
    let (contents, bytes) = (servers.contents()?, servers.bytes()?);
    let (first, _) = servers.run(&["backup", "bench", "--label", "first"])?;
    println!("backup of {} {}", megabytes(bytes), seconds(first.time));
    let (again, _) = servers.run(&["backup", "bench", "--label", "again"])?;
    println!("backup without change {}", seconds(again.time));

    let mut mends = Vec::new();
    for percent in DAMAGES_PERCENT {
        for shards in 1..=SHARDS.len() {
            // Nothing lost on one shard is nothing lost on all.
            if percent == 0 && shards > 1 {
                continue;
            }
            let mut runs = Vec::new();
            for _ in 0..repeats {
                runs.push(mend(&servers, percent, shards, &contents)?);
            }
            runs.sort_by_key(|run| run.cost.time);
            let medium = runs[(runs.len() - 1) / 2];
            println!(
                "mend of {percent} % on {shards} of {} {}",
                SHARDS.len(),
                seconds(medium.cost.time)
            );
            mends.push(medium);
        }
    }
    let fetched = servers.fetch_all(0)?;
    println!("a replica fetches all {}", seconds(fetched.time));
    if servers.contents()? != contents {
        return Err("a replica that has fetched all holds other rows".to_owned());
    }

    let whole = mends.last().map_or(Duration::ZERO, |mend| mend.cost.time);
    let hundredth = mends.iter().find(|mend| mend.percent == 1);
    let hundredth = hundredth.map_or(Duration::ZERO, |mend| mend.cost.time);
    let lines: Vec<Vec<String>> = mends.iter().map(|mend| mend.line(whole)).collect();
    let tables = [
        aim::table(vec![Aim {
            aim: "A mend of 1 % of one of two shards costs at most 5 % of restoring the cluster",
            measured: percent(hundredth, whole),
            met: hundredth.as_secs_f64() <= MOST * whole.as_secs_f64(),
        }]),
        table(
            "Beside restoring everything",
            &["", "time"],
            &[
                vec!["backup of the cluster".to_owned(), seconds(first.time)],
                vec!["backup without change".to_owned(), seconds(again.time)],
                vec![
                    "all partitions of all shards dropped, and brought back".to_owned(),
                    seconds(whole),
                ],
                vec![
                    "one replica of one shard fetches all parts from its peer".to_owned(),
                    seconds(fetched.time),
                ],
            ],
        ),
        table(
            "Mends",
            &[
                "lost",
                "on shards",
                "time",
                "of a whole restore",
                "processor time",
                "from the repository",
                "from parts that are there",
                "memory of the coordinator",
            ],
            &lines,
        ),
    ]
    .join("\n");
    println!("\n{tables}");
    if is_quick {
        return Ok(());
    }
    let text = format!(
        "# A cluster\n\n\
         Two shards of two replicas each, {rows} rows and a hundred partitions a shard, {bytes} in all without the second \
         replicas: four servers of ClickHouse 18.16 and a ZooKeeper, an agent beside each, on one machine with one disk: \
         {version} (release build). Taken {date} on {machine} with\n\n    \
         cargo xtask bench cluster\n\n\
         The load average was {load} before it began. Partitions of one replica are dropped, which its peer follows; then \
         one command mends the cluster from its start to its end, and afterwards both replicas of each shard were waited \
         for and held the rows of the backup. Of {repeats} runs of each mend the medium one is shown; the others were run once. \
         Processor time is of all processes, servers and agents too. An agent had {agent} of memory at most.\n\n{tables}",
        rows = count(rows),
        bytes = megabytes(bytes),
        version = program.version()?,
        date = machine.date,
        machine = machine.name,
        load = machine.load,
        agent = megabytes(servers.agent_bytes()),
    );
    std::fs::write(PAGE, text).map_err(|error| format!("cannot write {PAGE}: {error}"))
}

/// Damages so much of the first shards and mends the cluster.
fn mend(
    servers: &Servers<'_>,
    percent: u64,
    shards: usize,
    contents: &[String],
) -> Result<Mended, String> {
    for shard in 0..shards {
        servers.damage(shard, percent)?;
    }
    servers.follow()?;
    let (cost, said) = servers.run(&["restore", "first", "--in-place", "--no-undo"])?;
    servers.follow()?;
    let found = servers.contents()?;
    if found != contents {
        return Err(format!(
            "after a mend of {percent} % the shards hold {found:?}, they held {contents:?}"
        ));
    }
    let report: Value = serde_json::from_str(&said)
        .map_err(|error| format!("mendb has printed no JSON: {error}\n{said}"))?;
    let sum = |what: &str| {
        sum_of(&report, what).ok_or_else(|| format!("no {what} of each shard:\n{said}"))
    };
    Ok(Mended {
        percent,
        shards,
        cost,
        downloaded_bytes: sum("download_bytes")?,
        linked_bytes: sum("linked_bytes")?,
    })
}

/// What was done on all shards together. A shard with nothing to do tells nothing; `None` where another does not tell it.
fn sum_of(report: &Value, what: &str) -> Option<u64> {
    let shards = report["shards"].as_array()?;
    let told = shards.iter().map(|shard| &shard["told"]);
    let done = told.filter(|told| !told.is_null());
    done.map(|told| told["done"][what].as_u64()).sum()
}

fn percent(part: Duration, whole: Duration) -> String {
    format!(
        "{:.1} %",
        100.0 * part.as_secs_f64() / whole.as_secs_f64().max(1e-9)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shards_did_is_summed_and_what_one_does_not_tell_is_no_zero() {
        let report = serde_json::json!({"shards": [
            {"told": null},
            {"told": {"done": {"download_bytes": 3}}},
            {"told": {"done": {"download_bytes": 4}}},
        ]});
        assert_eq!(sum_of(&report, "download_bytes"), Some(7));
        assert_eq!(sum_of(&report, "linked_bytes"), None);
        assert_eq!(sum_of(&serde_json::json!({}), "download_bytes"), None);
    }
}
