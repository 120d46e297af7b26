//! Clusters of a size for which there are no servers here: the real coordinator, and agents that are simulated.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use mendb_engines::agents::{AgentTls, Cluster, Coordinator, Rates};
use mendb_model::name::OperationId;
use mendb_model::operation::{Limits, State};
use mendb_repo::{Repository, RepositoryOptions};
use mendb_service::env::now_ms;
use mendb_service::journal::command::Command;
use mendb_service::{ClusterOrder, Service, Settings};
use serde_json::Map;

use crate::certificates::Certificates;
use crate::simulated::{Ends, Simulated};

const SHARDS: usize = 1000;
const AGENTS: usize = 200;
/// As the program has it.
const SHARDS_AT_ONCE: u32 = 256;

struct World {
    service: Service,
    agents: Simulated,
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let certificates = Certificates::new(&directory.path().join("certificates"));
        let agents = Simulated::new(&certificates, AGENTS);
        let tls = AgentTls {
            certificate: certificates.path("by-ours.crt"),
            key: certificates.path("by-ours.key"),
            ca: certificates.path("ours.crt"),
        };
        let coordinator = Coordinator {
            id: "3fa9".to_owned(),
            epoch: 1,
            name: "here".to_owned(),
        };
        let engine =
            Cluster::new(&tls, coordinator, BTreeMap::new(), None, Rates::default()).unwrap();
        let url = format!("file://{}", directory.path().join("repository").display());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let repository = Repository::open(&url, RepositoryOptions::default());
        let repository = runtime.block_on(repository).unwrap();
        let settings = Settings {
            limits: Limits {
                max_in_flight: SHARDS_AT_ONCE,
                requested_ahead: 0,
                ..Limits::default()
            },
            target_url: "cluster prod".to_owned(),
            host: None,
        };
        let journal = directory.path().join("journal");
        let service = Service::new(
            Arc::new(engine),
            repository,
            Arc::new(runtime),
            &journal,
            settings,
        )
        .unwrap();
        Self {
            service,
            agents,
            directory,
        }
    }

    fn order(&self) -> ClusterOrder {
        ClusterOrder {
            cluster: "prod".to_owned(),
            collection: "shop".to_owned(),
            shards: self.agents.shards(SHARDS),
            others: Vec::new(),
            take_over_after_ms: 0,
            arguments: Map::new(),
        }
    }

    fn state(&self, id: &OperationId) -> State {
        self.service.journal().operation_head(id).unwrap().state
    }

    /// Drives to the end, and says what it took.
    fn drive(&self, what: &str) {
        let began_ms = now_ms();
        self.service.drive(&mut |_| {}).unwrap();
        let took_ms = now_ms() - began_ms;
        let (peak, journal) = (
            peak_memory_kb(),
            size(&self.directory.path().join("journal")),
        );
        println!(
            "{what} of {SHARDS} shards: {took_ms} ms, {} of agents at work at most, journal {} KB, memory {peak} KB at most",
            self.agents.most_at_work(),
            journal / 1000,
        );
    }
}

/// The most memory that this process had, in KB.
fn peak_memory_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

fn size(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum()
}

/// So many operations of agents, none of which is open.
fn ends(done: usize, cancelled: usize) -> Ends {
    Ends {
        done,
        cancelled,
        open: 0,
    }
}

#[test]
fn a_thousand_shards_are_backed_up_and_mended_so_many_at_a_time_and_a_cancel_reaches_all() {
    let world = World::new();
    let backup = world
        .service
        .request_cluster_backup(world.order(), None, false);
    let backup = backup.unwrap();
    world.drive("backup");
    assert_eq!(world.state(&backup), State::Done);
    let head = world.service.journal().operation_head(&backup).unwrap();
    // What they have told is of no use for restores, and is used when it is named.
    let to = head.request.backups()[0].to_string();
    assert_eq!(world.agents.ends(), ends(SHARDS, 0));
    assert!(world.agents.most_at_work() <= SHARDS_AT_ONCE as usize);

    let mend = world
        .service
        .request_cluster_mend(world.order(), Some(&to))
        .unwrap();
    world.drive("mend");
    assert_eq!(world.state(&mend), State::Done);
    assert_eq!(world.agents.ends(), ends(2 * SHARDS, 0));
    assert!(world.agents.most_at_work() <= SHARDS_AT_ONCE as usize);

    // Those that work, those that wait for their turn: all of them are told, and nobody begins any more.
    world.agents.stick(true);
    let given_up = world
        .service
        .request_cluster_mend(world.order(), Some(&to))
        .unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| world.drive("a mend that is given up"));
        world
            .agents
            .wait_until(|ends| ends.open == SHARDS_AT_ONCE as usize);
        let told_ms = now_ms();
        let journal = world.service.journal();
        journal
            .insert_command(&given_up, Command::Cancel(None))
            .unwrap();
        world.agents.wait_until(|ends| ends.open == 0);
        println!(
            "a cancel reached all agents within {} ms",
            now_ms() - told_ms
        );
    });
    assert_eq!(world.state(&given_up), State::Cancelled);
    let given_up = SHARDS_AT_ONCE as usize;
    assert_eq!(world.agents.ends(), ends(2 * SHARDS, given_up));
}
