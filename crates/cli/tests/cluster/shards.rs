//! Two shards of one server each, and the ZooKeeper of both.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::servers::zookeeper::ZooKeeper;
use crate::servers::{Flavor, ReplicaOptions, Server, ServerOptions};

/// The names of the shards, which are the macros of their servers.
pub const SHARDS: [&str; 2] = ["one", "two"];

/// A cluster.
pub struct Shards {
    pub servers: [Server; 2],
    pub keeper: ZooKeeper,
    directory: tempfile::TempDir,
}

impl Shards {
    pub fn new() -> Self {
        let keeper = ZooKeeper::start();
        let servers = SHARDS.map(|shard| {
            let options = ServerOptions {
                replica: Some(ReplicaOptions {
                    name: "r1".to_owned(),
                    shard: shard.to_owned(),
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
            servers,
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
        let servers = self.servers.iter().zip(SHARDS).map(|(server, shard)| {
            let target = server.target();
            format!("  - shard: {shard}\n    replica: r1\n    target: {target}\n")
        });
        let text = format!(
            "cluster: pair\nservers:\n{}",
            servers.collect::<Vec<_>>().concat()
        );
        let path = self.path("cluster.yml");
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
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
