//! pgBackRest on the same table, in a cluster of its own: it takes and brings back whole clusters, and needs the log
//! of the server kept.

use std::path::Path;

use super::PERCENT;
use super::results::{Delta, PgBackRest, Stored};
use super::table::{self, CONTENT, DATABASE, Damage};
use crate::bench::measure;
use crate::bench::rows::postgres::{Cluster, Postgres, Tuning};
use crate::bench::scratch::{Scratch, size_bytes};
use crate::bench::units::seconds;
use crate::run::Step;

const STANZA: &str = "bench";

/// Installs it where it is missing, and gives its version: `pgBackRest 2.45`.
///
/// # Errors
/// It is missing and cannot be installed.
pub fn provide() -> Result<String, String> {
    let version = || Step::new("pgbackrest version").output();
    if version().is_none() {
        Step::new("apt-get update").run()?;
        Step::new("apt-get install -y --no-install-recommends pgbackrest")
            .with("DEBIAN_FRONTEND", "noninteractive")
            .run()?;
    }
    let version = version().ok_or("pgBackRest was installed, but does not run")?;
    Ok(version.trim().to_owned())
}

/// Measures what it takes with a table of the same size and the same damages.
///
/// # Errors
/// A step failed, or what was restored is not what there was.
pub fn measure(postgres: &Postgres, scratch: &Scratch, rows: u64) -> Result<PgBackRest, String> {
    let directory = scratch.path("archived");
    let mut cluster =
        postgres.start_with(directory.clone(), Tuning::Archived, settings(&directory))?;
    run(&cluster, &["stanza-create"])?;
    table::create(&cluster, rows)?;
    let full = backup(&cluster, "full")?;
    let label = newest(&cluster)?;
    let wanted = cluster.sql(DATABASE, &[CONTENT])?;
    let mut shares = Vec::new();
    for percent in PERCENT {
        // The first increment after a restore reads all files anew, and is not what is measured.
        run(&cluster, &["backup", "--type=incr"])?;
        cluster.sql(DATABASE, &Damage::of(rows, percent).statements())?;
        let increment = backup(&cluster, "incr")?;
        let set = format!("--set={label}");
        let down = measure::action(|| {
            cluster.while_stopped(|stopped| {
                let to = [
                    "restore",
                    "--delta",
                    &set,
                    "--type=immediate",
                    "--target-action=promote",
                ];
                run(stopped, &to)
            })
        })?;
        if cluster.sql(DATABASE, &[CONTENT])? != wanted {
            return Err("pgBackRest did not bring back what there was".to_owned());
        }
        println!("{percent} %: pgBackRest in {}", seconds(down.time));
        shares.push(Delta {
            increment,
            down: down.time,
        });
    }
    Ok(PgBackRest { full, shares })
}

/// What it is told, by itself and by the server: two processes, as the others have two jobs.
fn settings(directory: &Path) -> Vec<(&'static str, String)> {
    let below = |name: &str| directory.join(name).display().to_string();
    vec![
        ("PGBACKREST_STANZA", STANZA.to_owned()),
        ("PGBACKREST_PG1_PATH", below("data")),
        (
            "PGBACKREST_PG1_SOCKET_PATH",
            directory.display().to_string(),
        ),
        (
            "PGBACKREST_PG1_PORT",
            crate::bench::rows::postgres::PORT.to_owned(),
        ),
        ("PGBACKREST_PG1_USER", "postgres".to_owned()),
        ("PGBACKREST_REPO1_PATH", below("pgbackrest")),
        ("PGBACKREST_LOG_PATH", below("log")),
        ("PGBACKREST_LOCK_PATH", below("lock")),
        ("PGBACKREST_SPOOL_PATH", below("spool")),
        ("PGBACKREST_LOG_LEVEL_FILE", "off".to_owned()),
        ("PGBACKREST_PROCESS_MAX", "2".to_owned()),
        ("PGBACKREST_START_FAST", "y".to_owned()),
        // The log of a large table has to be kept before a backup ends.
        ("PGBACKREST_ARCHIVE_TIMEOUT", "1800".to_owned()),
    ]
}

fn run(cluster: &Cluster<'_>, words: &[&str]) -> Result<(), String> {
    measure::output(cluster.program("pgbackrest").args(words)).map(drop)
}

fn backup(cluster: &Cluster<'_>, kind: &str) -> Result<Stored, String> {
    let repository = cluster.directory().join("pgbackrest/backup");
    let before = match repository.exists() {
        true => size_bytes(&repository)?,
        false => 0,
    };
    cluster.settle()?;
    // What was written before is kept by now, and is no part of what is measured.
    run(cluster, &["check"])?;
    let mut backup = cluster.program("pgbackrest");
    let cost = measure::run(backup.args(["backup", &format!("--type={kind}")]))?;
    Ok(Stored {
        cost,
        bytes: size_bytes(&repository)? - before,
    })
}

/// The label of the newest backup.
fn newest(cluster: &Cluster<'_>) -> Result<String, String> {
    let info = measure::output(
        cluster
            .program("pgbackrest")
            .args(["info", "--output=json"]),
    )?;
    let info: serde_json::Value = serde_json::from_str(&info).map_err(|error| error.to_string())?;
    let backups = info[0]["backup"].as_array();
    let label = backups.and_then(|backups| backups.last()?["label"].as_str());
    let label = label.ok_or_else(|| format!("pgBackRest knows of no backup: {info}"))?;
    Ok(label.to_owned())
}
