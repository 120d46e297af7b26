//! Two shards of one or more servers each, and the ZooKeeper of all.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::servers::zookeeper::ZooKeeper;
use crate::servers::{Flavor, ReplicaOptions, Server, ServerOptions};

/// The names of the shards, which are the macros of their servers.
pub const SHARDS: [&str; 2] = ["one", "two"];

/// A cluster.
pub struct Shards {
    /// Shard by shard.
    pub servers: Vec<Server>,
    /// So many servers of each shard.
    pub replicas: usize,
    pub keeper: ZooKeeper,
    directory: tempfile::TempDir,
}

impl Shards {
    pub fn new(replicas: usize) -> Self {
        let keeper = ZooKeeper::start();
        let each = SHARDS.iter().flat_map(|shard| {
            let names = (1..=replicas).map(|number| format!("r{number}"));
            names.map(|name| ((*shard).to_owned(), name))
        });
        let servers = each.map(|(shard, name)| {
            let options = ServerOptions {
                replica: Some(ReplicaOptions {
                    name,
                    shard,
                    zookeeper_port: keeper.port(),
                }),
                ..ServerOptions::default()
            };
            let server = Server::start(Flavor::V18, options);
            server.create_database("shop");
            server.query(
                "CREATE TABLE shop.sales (day Date, id UInt64, v Int64) ENGINE = \
                 ReplicatedMergeTree('/{shard}/shop/sales', '{replica}') PARTITION BY toYYYYMM(day) ORDER BY id",
            );
            server
        });
        Self {
            servers: servers.collect(),
            replicas,
            keeper,
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// A file of this directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes the list of the servers, and says where.
    pub fn list(&self) -> String {
        let servers = (0..self.servers.len()).map(|at| self.listed(at, SHARDS));
        let text = format!("cluster: pair\nservers:\n{}", servers.collect::<String>());
        let path = self.path("cluster.yml");
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// What a list of servers says of one, with these names of shards.
    pub fn listed(&self, at: usize, names: [&str; 2]) -> String {
        let (shard, replica) = (names[at / self.replicas], at % self.replicas + 1);
        let target = self.servers[at].target();
        format!("  - shard: {shard}\n    replica: r{replica}\n    target: {target}\n")
    }

    /// A command of the program, without a target.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mendb"));
        command
            .env("XDG_STATE_HOME", self.path("home"))
            .current_dir(self.directory.path())
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must end with this exit code, and returns what it printed and said.
    pub fn ends(&self, code: i32, arguments: &[&str]) -> (String, String) {
        let output = self.run(arguments);
        let [printed, said] = [&output.stdout, &output.stderr]
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}\n{printed}\n{said}"
        );
        (printed, said)
    }
}
