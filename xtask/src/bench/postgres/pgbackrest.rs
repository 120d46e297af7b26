//! pgBackRest on the same table, in a cluster of its own: it takes and brings back whole clusters, and needs the log
//! of the server kept.

use std::path::Path;
use std::time::Duration;

use super::table::{self, CONTENT, CREATE, DATABASE, Damage};
use crate::bench::measure::{self, Cost};
use crate::bench::rows::postgres::{Cluster, Postgres, Tuning};
use crate::bench::scratch::{Scratch, size_bytes};
use crate::run::Step;

const STANZA: &str = "bench";

/// What it took.
pub struct Measured {
    /// `pgBackRest 2.45`.
    pub version: String,
    /// A full backup, and its bytes.
    pub full: (Cost, u64),
    /// For each share of damage.
    pub shares: Vec<Share>,
}

/// What a share of damage took.
pub struct Share {
    pub percent: f64,
    /// An incremental backup, and its bytes.
    pub increment: (Cost, u64),
    /// `restore --delta` to the full backup, from when the server is stopped until it is open again.
    pub down: Duration,
}

/// Measures it.
///
/// # Errors
/// A step failed, or what was restored is not what there was.
pub fn measure(
    postgres: &Postgres,
    scratch: &Scratch,
    rows: u64,
    percent: &[f64],
) -> Result<Measured, String> {
    provide()?;
    let directory = scratch.path("archived");
    let mut cluster =
        postgres.start_with(directory.clone(), Tuning::Archived, settings(&directory))?;
    let version = measure::output(cluster.program("pgbackrest").arg("version"))?;
    run(&cluster, &["stanza-create"])?;
    cluster.sql("postgres", &[&format!("create database {DATABASE}")])?;
    cluster.sql(DATABASE, CREATE)?;
    cluster.sql(DATABASE, &[&table::fill(rows)])?;
    cluster.sql(DATABASE, &["vacuum analyze t"])?;
    let full = backup(&cluster, "full")?;
    let label = newest(&cluster)?;
    let wanted = cluster.sql(DATABASE, &[CONTENT])?;
    let mut shares = Vec::new();
    for percent in percent {
        // The first increment after a restore reads all files anew, and is not what is measured.
        run(&cluster, &["backup", "--type=incr"])?;
        cluster.sql(DATABASE, &Damage::of(rows, *percent).statements())?;
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
        shares.push(Share {
            percent: *percent,
            increment,
            down: down.time,
        });
    }
    Ok(Measured {
        version: version.trim().to_owned(),
        full,
        shares,
    })
}

/// Installs it where it is missing.
fn provide() -> Result<(), String> {
    if Step::new("pgbackrest version").output().is_some() {
        return Ok(());
    }
    Step::new("apt-get update").run()?;
    Step::new("apt-get install -y --no-install-recommends pgbackrest")
        .with("DEBIAN_FRONTEND", "noninteractive")
        .run()
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
    ]
}

fn run(cluster: &Cluster<'_>, words: &[&str]) -> Result<(), String> {
    measure::output(cluster.program("pgbackrest").args(words)).map(drop)
}

fn backup(cluster: &Cluster<'_>, kind: &str) -> Result<(Cost, u64), String> {
    let repository = cluster.directory().join("pgbackrest/backup");
    let before = match repository.exists() {
        true => size_bytes(&repository)?,
        false => 0,
    };
    cluster.settle()?;
    let mut backup = cluster.program("pgbackrest");
    let cost = measure::run(backup.args(["backup", &format!("--type={kind}")]))?;
    Ok((cost, size_bytes(&repository)? - before))
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
