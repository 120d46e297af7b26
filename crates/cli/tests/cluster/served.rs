//! A server that coordinates a cluster: the same commands over HTTP, and schedules.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::agents::{Cluster, insert, told};

/// A server, which is killed when dropped.
struct Served<'a> {
    cluster: &'a Cluster,
    process: Child,
    url: String,
    token: String,
}

impl<'a> Served<'a> {
    /// With this in the environment, too.
    fn start(cluster: &'a Cluster, token: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = Self::command(cluster, &["serve", "--listen", "127.0.0.1:0"]);
        let mut process = command
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("http://") {
            line.clear();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "the server ends");
        }
        let port = line.split("http://127.0.0.1:").nth(1).unwrap();
        let port: String = port.chars().take_while(char::is_ascii_digit).collect();
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self {
            cluster,
            process,
            url: format!("http://127.0.0.1:{port}"),
            token: token.to_owned(),
        }
    }

    /// A command whose target is the cluster.
    fn command(cluster: &Cluster, arguments: &[&str]) -> Command {
        let target = format!("cluster:{}", cluster.list());
        // The list of servers is the target: no flag names it.
        let mut command = cluster.command(&["operation"]);
        let environment: Vec<_> = command
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        let directory = command.get_current_dir().unwrap().to_owned();
        command = Command::new(env!("CARGO_BIN_EXE_mendb"));
        command
            .args(["--target", &target, "--repository", &cluster.repository()])
            .args(arguments)
            .envs(environment)
            .current_dir(directory)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mendb"));
        command
            .args(["--server", &self.url])
            .args(arguments)
            .args(["--output", "json"])
            .env("MENDB_TOKEN", &self.token)
            .current_dir(self.cluster.shards.path("."));
        command.output().unwrap()
    }

    /// Runs a command that must succeed, and returns what it printed as JSON.
    fn ok(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        let said = told(&output);
        assert!(output.status.success(), "{arguments:?}\n{said}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{arguments:?}\n{said}"))
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn token(cluster: &Cluster) -> String {
    let mut command = Served::command(cluster, &["token", "create", "ann", "--role", "admin"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_server_backs_a_cluster_up_mends_it_and_takes_that_back() {
    let cluster = Cluster::new();
    for (server, from) in cluster.shards.servers.iter().zip([0, 1000]) {
        for month in 1..=2 {
            insert(server, month, from);
        }
    }
    let token = token(&cluster);
    let served = Served::start(&cluster, &token, &[]);
    let shown = served.ok(&["cluster", "show"]);
    assert_eq!(shown["servers"].as_array().unwrap().len(), 2, "{shown}");

    let taken = served.ok(&["backup", "shop", "--label", "monday", "--exact"]);
    assert_eq!(taken["shards"].as_array().unwrap().len(), 2, "{taken}");
    let whole = cluster.rows();
    let two = &cluster.shards.servers[1];
    two.query("ALTER TABLE shop.sales DROP PARTITION 202401");
    let damaged = cluster.rows();

    let planned = served.ok(&["restore", "monday", "--in-place", "--dry-run"]);
    assert_eq!(planned["shards"].as_array().unwrap().len(), 2, "{planned}");
    assert_eq!(cluster.rows(), damaged);
    let mended = served.ok(&["restore", "monday", "--in-place"]);
    assert_eq!(cluster.rows(), whole);
    served.ok(&["verify", "monday", "--live", "--replicas"]);
    served.ok(&["undo", mended["operation_id"].as_str().unwrap()]);
    assert_eq!(cluster.rows(), damaged);

    // What is scheduled is the cluster's, and each backup is complete.
    served.ok(&[
        "schedule",
        "add",
        "nightly",
        "shop",
        "increment",
        "--cron",
        "0 3 * * *",
    ]);
    served.ok(&["schedule", "run", "nightly"]);
    let listed = served.ok(&["list", "shop"]);
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    let operations = served.ok(&["operation", "list"]);
    assert_eq!(operations.as_array().unwrap().len(), 4, "{operations}");

    // What is of one server, or of rows, is refused by name.
    for line in [
        &["drill", "monday"][..],
        &["diff", "monday", "live"],
        &["table", "list"],
    ] {
        let output = served.run(line);
        assert!(!output.status.success(), "{line:?}");
        assert!(
            told(&output).contains("cluster") || told(&output).contains("ClickHouse"),
            "{}",
            told(&output)
        );
    }
    // One process at a time coordinates.
    let beside = cluster.fails(&["backup", "shop"]);
    assert!(
        beside.contains("another mendb of this machine works on this cluster"),
        "{beside}"
    );
}

#[test]
fn a_server_that_dies_goes_on_with_what_it_coordinated() {
    let cluster = Cluster::backed_up();
    let whole = cluster.rows();
    cluster.shards.servers[0].query("ALTER TABLE shop.sales DROP PARTITION 202402");
    let token = token(&cluster);
    let mut served = Served::start(&cluster, &token, &[("MENDB_CRASH_AT", "9")]);
    let output = served.run(&["restore", "monday", "--in-place"]);
    assert!(!output.status.success(), "{}", told(&output));
    assert_eq!(served.process.wait().unwrap().code(), None);
    drop(served);
    let served = Served::start(&cluster, &token, &[]);
    let operations = served.ok(&["operation", "list"]);
    let mends = operations.as_array().unwrap().iter();
    let mend = mends
        .rev()
        .find(|operation| operation["kind"] == "mend")
        .unwrap();
    served.ok(&["operation", "watch", mend["operation_id"].as_str().unwrap()]);
    assert_eq!(cluster.rows(), whole);
}
