//! `kill -9` and SIGSTOP of an agent, of the coordinator and of both, at random moments of backups, mends and undos.
//!
//! `MENDB_CLUSTER_ROUNDS=60 cargo nextest run -p mendb --test cluster rounds` plays so many.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::agents::{Cluster, insert};
use crate::replicas::sync;

/// So many are played in each run of all tests.
const ROUNDS: u64 = 3;
/// Somebody is hit so long after the command was begun, at most, in milliseconds.
const LATEST: u64 = 2_500;
/// And stopped for so long, at most.
const LONGEST_STOP: u64 = 2_000;

const MEND: [&str; 3] = ["restore", "monday", "--in-place"];

/// A cheap sequence of numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test is about moments in time"
)]
fn wait(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

pub fn signal(process: u32, name: &str) {
    // Who has ended is hit by nothing.
    let _ = Command::new("kill")
        .args([name, &process.to_string()])
        .stderr(Stdio::null())
        .status();
}

/// Who is hit, and how.
#[derive(Debug)]
struct Hit {
    after_ms: u64,
    coordinator: bool,
    /// The agent beside a server.
    agent: Option<usize>,
    /// How long they are stopped; else they are killed.
    stop_ms: Option<u64>,
}

impl Hit {
    fn draw(numbers: &mut Numbers, agents: usize) -> Self {
        let who = numbers.below(3);
        let agent = numbers.below(agents as u64) as usize;
        let is_stop = numbers.below(2) == 0;
        Self {
            after_ms: numbers.below(LATEST),
            coordinator: who != 0,
            agent: (who != 1).then_some(agent),
            stop_ms: is_stop.then(|| numbers.below(LONGEST_STOP)),
        }
    }

    /// Hits them, and has an agent that was killed start again. The coordinator may end meanwhile.
    fn strike(&self, cluster: &mut Cluster, coordinator: &mut Child) {
        wait(self.after_ms);
        let agent = self.agent.map(|at| cluster.agent_process(at));
        let hit = agent
            .into_iter()
            .chain(self.coordinator.then(|| coordinator.id()));
        let hit: Vec<u32> = hit.collect();
        match self.stop_ms {
            None => {
                hit.iter().for_each(|process| signal(*process, "-KILL"));
                if let Some(at) = self.agent {
                    cluster.restart_agent(at);
                }
            }
            Some(stop_ms) => {
                hit.iter().for_each(|process| signal(*process, "-STOP"));
                wait(stop_ms);
                hit.iter().for_each(|process| signal(*process, "-CONT"));
            }
        }
    }
}

/// Runs a command of which somebody is hit in the middle, and goes on with what it leaves. Returns whether it had begun
/// anything.
fn run(cluster: &mut Cluster, arguments: &[&str], hit: &Hit) -> bool {
    let count = |cluster: &Cluster| {
        let listed = cluster.ok(&["operation", "list"]);
        listed.as_array().unwrap().len()
    };
    let before = count(cluster);
    let mut command = cluster.command(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut coordinator = command.spawn().unwrap();
    hit.strike(cluster, &mut coordinator);
    coordinator.wait().unwrap();
    if let Some(id) = cluster.unfinished() {
        cluster.ok(&["operation", "watch", &id]);
    }
    assert_eq!(cluster.unfinished(), None);
    count(cluster) > before
}

/// What there is beside the table itself: tables, databases, and files of parts that are not attached.
pub fn left(cluster: &Cluster) -> Vec<String> {
    let servers = cluster.shards.servers.iter();
    servers
        .map(|server| {
            let names = "SELECT database, name FROM system.tables WHERE database != 'system' ORDER BY database, name";
            let detached = server.data_path().join("data/shop/sales/detached");
            let detached = std::fs::read_dir(detached).unwrap();
            let detached = detached.map(|entry| entry.unwrap().file_name());
            format!("{}{:?}", server.query(names), detached.collect::<Vec<_>>())
        })
        .collect()
}

fn rounds() -> u64 {
    match std::env::var("MENDB_CLUSTER_ROUNDS") {
        Err(_) => ROUNDS,
        Ok(count) => count.parse().unwrap(),
    }
}

#[test]
fn whoever_dies_or_stops_at_any_moment_each_operation_ends_right_and_leaves_nothing() {
    let mut cluster = Cluster::with_replicas(2);
    for (shard, from) in [(0, 0), (2, 1000)] {
        for month in 1..=3 {
            insert(&cluster.shards.servers[shard], month, from);
        }
    }
    let clean = left(&cluster);
    sync(&cluster);
    cluster.ok(&["backup", "shop", "--label", "monday"]);
    let whole = sync(&cluster);
    let servers = cluster.shards.servers.len();
    let mut numbers = Numbers(1);
    for round in 0..rounds() {
        for server in [numbers.below(2), 2 + numbers.below(2)] {
            let server = &cluster.shards.servers[server as usize];
            match numbers.below(3) {
                0 => drop(server.query("ALTER TABLE shop.sales DROP PARTITION 202401")),
                _ => insert(server, 2, 10_000 + 100 * round),
            }
        }
        let damaged = sync(&cluster);
        let hit = Hit::draw(&mut numbers, servers);
        let what = format!("round {round}: {hit:?}");
        match round % 3 {
            0 => {
                run(&mut cluster, &["backup", "shop"], &hit);
                let listed = cluster.ok(&["list"]);
                let backups = listed.as_array().unwrap().iter();
                let is_whole = |backup: &Value| backup["complete"] == true;
                assert!(backups.clone().all(is_whole), "{what}: {listed}");
                assert_eq!(sync(&cluster), damaged, "{what}");
            }
            1 => {
                if !run(&mut cluster, &MEND, &hit) {
                    cluster.ok(&MEND);
                }
                assert_eq!(sync(&cluster), whole, "{what}");
            }
            _ => {
                let mended = cluster.ok(&MEND);
                assert_eq!(sync(&cluster), whole, "{what}");
                let undo = ["undo", mended["operation_id"].as_str().unwrap()];
                if !run(&mut cluster, &undo, &hit) {
                    cluster.ok(&undo);
                }
                assert_eq!(sync(&cluster), damaged, "{what}");
            }
        }
        assert_eq!(left(&cluster), clean, "{what}");
    }
}
