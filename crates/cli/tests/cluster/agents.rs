//! An agent beside each server of a cluster, and the coordinator.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::certificates::Certificates;
use crate::servers::Server;
use crate::shards::{SHARDS, Shards};

/// A running agent, which is killed when dropped.
pub struct Agent {
    process: Child,
    pub port: String,
}

impl Agent {
    /// Starts one, and waits until it listens.
    pub fn start(command: &mut Command) -> Self {
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        // It may have notes before.
        while !line.contains("https://") {
            line.clear();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "the agent ends");
        }
        let port = line.split("https://127.0.0.1:").nth(1).unwrap_or_else(|| {
            panic!("the agent says {line:?}");
        });
        let port = port.split(',').next().unwrap().to_owned();
        // Nobody stops an agent by not listening to it.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self { process, port }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Two shards with their agents.
pub struct Cluster {
    agents: Vec<Agent>,
    /// What the list of servers calls the shards.
    pub names: [&'static str; 2],
    pub certificates: Certificates,
    pub shards: Shards,
}

impl Cluster {
    pub fn new() -> Self {
        Self::with_replicas(1)
    }

    /// With so many servers of each shard.
    pub fn with_replicas(replicas: usize) -> Self {
        let shards = Shards::new(replicas);
        let certificates = Certificates::new(&shards.path("certificates"));
        let mut cluster = Self {
            agents: Vec::new(),
            names: SHARDS,
            certificates,
            shards,
        };
        for at in 0..cluster.shards.servers.len() {
            let agent = cluster.agent(at, "0");
            cluster.agents.push(agent);
        }
        cluster
    }

    /// Two months with rows on each shard, and a backup of both.
    pub fn backed_up() -> Self {
        let cluster = Self::new();
        for (server, from) in cluster.shards.servers.iter().zip([0, 1000]) {
            for month in 1..=2 {
                insert(server, month, from);
            }
        }
        cluster.ok(&["backup", "shop", "--label", "monday"]);
        cluster
    }

    /// The command of an agent.
    pub fn agent_command(&self, at: usize, port: &str) -> Command {
        self.agent_command_through(&self.shards.servers[at].target(), at, port)
    }

    /// The command of an agent that asks its server at this address.
    fn agent_command_through(&self, target: &str, at: usize, port: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mendb"));
        command
            .args(["--target", target, "--repository", &self.repository()])
            .args(["agent", "--listen", &format!("127.0.0.1:{port}")]);
        for (flag, name) in [
            ("--tls-cert", "by-ours.crt"),
            ("--tls-key", "by-ours.key"),
            ("--tls-client-ca", "ours.crt"),
        ] {
            command.arg(flag).arg(self.certificates.path(name));
        }
        command
            .env("XDG_STATE_HOME", self.shards.path(&format!("agent-{at}")))
            .stdin(Stdio::null());
        command
    }

    fn agent(&self, at: usize, port: &str) -> Agent {
        Agent::start(&mut self.agent_command(at, port))
    }

    /// Whether an operation of an agent waits for the other shards.
    pub fn holds(&self, at: usize) -> bool {
        let server = &self.shards.servers[at];
        let output = Command::new(env!("CARGO_BIN_EXE_mendb"))
            .args(["--target", &server.target()])
            .args(["--repository", &self.repository()])
            .args(["operation", "list", "--output", "json"])
            .env("XDG_STATE_HOME", self.shards.path(&format!("agent-{at}")))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", told(&output));
        let operations: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        operations.iter().any(|operation| operation["held"] == true)
    }

    /// The id of the process of an agent.
    pub fn agent_process(&self, at: usize) -> u32 {
        self.agents[at].process.id()
    }

    /// Ends the agent of a shard as `kill -9` does.
    pub fn kill_agent(&mut self, at: usize) {
        let _ = self.agents[at].process.kill();
        let _ = self.agents[at].process.wait();
    }

    /// Ends the agent of a shard as `kill -9` does, and starts it again at the same place.
    pub fn restart_agent(&mut self, at: usize) {
        let port = self.agents[at].port.clone();
        let _ = self.agents[at].process.kill();
        let _ = self.agents[at].process.wait();
        self.agents[at] = self.agent(at, &port);
    }

    /// As [`Self::restart_agent`], with one that stops at a persisted step.
    pub fn restart_agent_to_stop(&mut self, at: usize, point: u64) {
        let port = self.agents[at].port.clone();
        let _ = self.agents[at].process.kill();
        let _ = self.agents[at].process.wait();
        let mut command = self.agent_command(at, &port);
        command.env("MENDB_STOP_AT", point.to_string());
        self.agents[at] = Agent::start(&mut command);
    }

    /// As [`Self::restart_agent`], with one that asks its server at another address, and what else is to be so of its
    /// process.
    pub fn restart_agent_through(
        &mut self,
        target: &str,
        at: usize,
        change: impl FnOnce(&mut Command),
    ) {
        let port = self.agents[at].port.clone();
        let _ = self.agents[at].process.kill();
        let _ = self.agents[at].process.wait();
        let mut command = self.agent_command_through(target, at, &port);
        change(&mut command);
        self.agents[at] = Agent::start(&mut command);
    }

    /// Whether the agent of a shard stands still.
    pub fn is_stopped(&self, at: usize) -> bool {
        let stat = format!("/proc/{}/stat", self.agent_process(at));
        let stat = std::fs::read_to_string(stat).unwrap();
        let after_name = stat.rsplit(") ").next().unwrap();
        after_name.starts_with('T')
    }

    /// Ends the agent of a shard as `kill -9` does, and starts it again at another place.
    pub fn move_agent(&mut self, at: usize) {
        let before = self.agents[at].port.clone();
        let _ = self.agents[at].process.kill();
        let _ = self.agents[at].process.wait();
        self.agents[at] = self.agent(at, "0");
        assert_ne!(self.agents[at].port, before);
    }

    /// Has the list of servers name each agent with the server of the other.
    pub fn swap_agents(&mut self) {
        self.agents.swap(0, 1);
    }

    pub fn repository(&self) -> String {
        format!("file://{}", self.shards.path("repository").display())
    }

    /// Writes the list of the servers with their agents, and says where.
    pub fn list(&self) -> String {
        let servers = self.agents.iter().enumerate().map(|(at, agent)| {
            let listed = self.shards.listed(at, self.names);
            format!("{listed}    agent: 127.0.0.1:{}\n", agent.port)
        });
        let text = format!("cluster: pair\nservers:\n{}", servers.collect::<String>());
        let path = self.shards.path("agents.yml");
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// A command of a coordinator that keeps what it knows in a directory.
    pub fn command_in(&self, state: &Path, arguments: &[&str]) -> Command {
        let mut command = self.shards.command(&["--repository", &self.repository()]);
        command.args(arguments).env("XDG_STATE_HOME", state);
        if ["backup", "restore", "undo", "verify"].contains(&arguments[0]) {
            command.args(["--cluster", &self.list()]);
        }
        self.identify(&mut command);
        command
    }

    /// Gives a command the certificates of the coordinator.
    fn identify(&self, command: &mut Command) {
        for (name, file) in [
            ("CERT", "by-ours.crt"),
            ("KEY", "by-ours.key"),
            ("CA", "ours.crt"),
        ] {
            command.env(
                format!("MENDB_CLUSTER_TLS_{name}"),
                self.certificates.path(file),
            );
        }
    }

    /// What comes of a command of the coordinator that names a list of its own.
    pub fn with_certificates(&self, mut command: Command, arguments: &[&str]) -> Output {
        self.identify(&mut command);
        command.args(arguments).output().unwrap()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_in(&self.shards.path("home"), arguments)
    }

    /// Runs a command that must succeed, and returns what it printed as JSON.
    pub fn ok(&self, arguments: &[&str]) -> Value {
        let output = self
            .command(&[arguments, &["--output", "json"]].concat())
            .output();
        let output = output.unwrap();
        let said = told(&output);
        assert!(output.status.success(), "{arguments:?}\n{said}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{arguments:?}\n{said}"))
    }

    /// Runs a command that must fail with exit code 1, and returns what it said.
    pub fn fails(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        told(&output)
    }

    /// The rows of each server.
    pub fn rows(&self) -> Vec<String> {
        let sums = "SELECT toYYYYMM(day) AS month, count(), sum(id), sum(v) FROM shop.sales GROUP BY month ORDER BY month";
        let servers = self.shards.servers.iter();
        servers.map(|server| server.query(sums)).collect()
    }

    /// The names of the live parts of a shard.
    pub fn parts(&self, at: usize) -> String {
        let sql = "SELECT name FROM system.parts WHERE active AND database = 'shop' ORDER BY name";
        self.shards.servers[at].query(sql)
    }

    /// The operation of the coordinator that is not over.
    pub fn unfinished(&self) -> Option<String> {
        let output = self
            .command(&["operation", "list", "--output", "json"])
            .output()
            .unwrap();
        let operations: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let is_open = |operation: &&Value| {
            !["done", "cancelled"].contains(&operation["state"].as_str().unwrap())
        };
        let operation = operations.iter().find(is_open)?;
        Some(operation["operation_id"].as_str().unwrap().to_owned())
    }

    /// Runs a command that is stopped at a persisted step of the coordinator. Returns whether it was.
    pub fn stopped_at(&self, arguments: &[&str], point: u64) -> bool {
        let mut command = self.command(arguments);
        let output = command
            .env("MENDB_CRASH_AT", point.to_string())
            .output()
            .unwrap();
        let is_stopped = output.status.code().is_none();
        assert!(is_stopped || output.status.success(), "{}", told(&output));
        is_stopped
    }
}

pub fn told(output: &Output) -> String {
    let [printed, said] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    printed + &said
}

/// Inserts a block of ten rows.
pub fn insert(server: &Server, month: u32, from: u64) {
    server.query(&format!(
        "INSERT INTO shop.sales SELECT toDate('2024-{month:02}-05'), number + {from}, number FROM system.numbers LIMIT 10"
    ));
}
