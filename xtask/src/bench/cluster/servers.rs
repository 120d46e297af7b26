//! Two shards of two replicas, real servers with an agent beside each, and who coordinates them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::bench::measure::{self, Cost};
use crate::bench::processes;
use crate::bench::program::Program;
use crate::bench::scratch::Scratch;
use crate::bench::servers::zookeeper::ZooKeeper;
use crate::bench::servers::{Flavor, ReplicaOptions, Server, ServerOptions};

pub const SHARDS: [&str; 2] = ["one", "two"];
pub const REPLICAS: [&str; 2] = ["a", "b"];
pub const TABLE: &str = "bench.tickets";

const CREATE: &str = "CREATE TABLE bench.tickets (bucket UInt8, ticket UInt64, passenger UInt64, fare UInt64, token UInt64) \
     ENGINE = ReplicatedMergeTree('/{shard}/bench/tickets', '{replica}') PARTITION BY bucket ORDER BY ticket";
/// Partitions of a shard: each is a hundredth of it.
pub const PARTITIONS: u64 = 100;
/// Replicas are waited for as long as this many steps of ten seconds each.
const SYNCS_MAX: u32 = 60;

/// What runs.
pub struct Servers<'a> {
    program: &'a Program,
    scratch: &'a Scratch,
    /// Shard by shard, replica by replica.
    pub servers: Vec<Server>,
    agents: Vec<Agent>,
    _keeper: ZooKeeper,
}

/// A running agent, which is killed when dropped.
struct Agent {
    process: Child,
    port: String,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl<'a> Servers<'a> {
    /// Starts them all on empty directories.
    ///
    /// # Errors
    /// An agent does not start, or there is no openssl.
    pub fn start(program: &'a Program, scratch: &'a Scratch) -> Result<Self, String> {
        let keeper = ZooKeeper::start();
        let each = SHARDS
            .iter()
            .flat_map(|shard| REPLICAS.map(|name| (*shard, name)));
        let servers = each.map(|(shard, name)| {
            let options = ServerOptions {
                replica: Some(ReplicaOptions {
                    name: name.to_owned(),
                    shard: shard.to_owned(),
                    zookeeper_port: keeper.port(),
                }),
                ..ServerOptions::default()
            };
            let server = Server::start(Flavor::V18, options);
            server.create_database("bench");
            server.query(CREATE);
            server
        });
        let mut started = Self {
            program,
            scratch,
            servers: servers.collect(),
            agents: Vec::new(),
            _keeper: keeper,
        };
        started.sign()?;
        for at in 0..started.servers.len() {
            let agent = started.agent(at)?;
            started.agents.push(agent);
        }
        started.list()?;
        Ok(started)
    }

    /// Makes what agents and coordinator know each other by.
    fn sign(&self) -> Result<(), String> {
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
        for line in [
            format!("req -x509 {key} -subj /CN=bench -keyout ca.key -out ca.crt"),
            format!(
                "req -x509 -CA ca.crt -CAkey ca.key {key} -subj /CN=us -addext subjectAltName=IP:127.0.0.1 \
                 -addext basicConstraints=critical,CA:FALSE -keyout us.key -out us.crt"
            ),
        ] {
            let mut openssl = Command::new("openssl");
            openssl.args(line.split_whitespace());
            measure::output(openssl.current_dir(self.scratch.path("")))?;
        }
        Ok(())
    }

    fn agent(&self, at: usize) -> Result<Agent, String> {
        let target = self.servers[at].target();
        let directory = self.scratch.path("");
        let mut command = self.program.on_repository(&directory, &self.repository());
        command
            .args(["--target", &target])
            .args(["agent", "--listen", "127.0.0.1:0", "--tls-cert", "us.crt"])
            .args(["--tls-key", "us.key", "--tls-client-ca", "ca.crt"])
            .env("XDG_STATE_HOME", self.scratch.path(&format!("agent-{at}")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut process = command
            .spawn()
            .map_err(|error| format!("cannot start an agent: {error}"))?;
        let mut port = None;
        if let Some(said) = process.stderr.take() {
            let mut said = BufReader::new(said);
            let mut line = String::new();
            while port.is_none() && said.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                let listens = line.split("https://127.0.0.1:").nth(1);
                let digits =
                    listens.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
                port = digits.map(str::to_owned);
                line.clear();
            }
            // Nobody stops an agent by not listening to it.
            std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        }
        match port {
            Some(port) => Ok(Agent { process, port }),
            None => Err("an agent ended before it listened".to_owned()),
        }
    }

    /// Writes which servers there are.
    fn list(&self) -> Result<(), String> {
        let mut text = "cluster: bench\nservers:\n".to_owned();
        for (at, (server, agent)) in self.servers.iter().zip(&self.agents).enumerate() {
            let (shard, replica) = (SHARDS[at / REPLICAS.len()], REPLICAS[at % REPLICAS.len()]);
            text += &format!(
                "  - shard: {shard}\n    replica: {replica}\n    target: {}\n    agent: 127.0.0.1:{}\n",
                server.target(),
                agent.port
            );
        }
        let path = self.scratch.path("cluster.yml");
        fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
    }

    fn repository(&self) -> PathBuf {
        self.scratch.path("repository")
    }

    /// Runs a command of the coordinator, and gives what it printed.
    ///
    /// # Errors
    /// It fails.
    pub fn run(&self, words: &[&str]) -> Result<(Cost, String), String> {
        let directory = self.scratch.path("");
        let mut command = self.program.on_repository(&directory, &self.repository());
        command
            .args(words)
            .args(["--quiet", "--cluster", "./cluster.yml", "--output", "json"])
            .env("XDG_STATE_HOME", self.scratch.path("coordinator"));
        for (name, file) in [("CERT", "us.crt"), ("KEY", "us.key"), ("CA", "ca.crt")] {
            command.env(format!("MENDB_CLUSTER_TLS_{name}"), file);
        }
        measure::run_alone(&mut command)
    }

    /// The most memory that an agent had at a time so far, in bytes.
    pub fn agent_bytes(&self) -> u64 {
        let peaks = self
            .agents
            .iter()
            .map(|agent| processes::peak_bytes(agent.process.id()));
        peaks.max().unwrap_or(0)
    }

    /// The server of a shard that statements go to.
    pub fn first_of(&self, shard: usize) -> &Server {
        &self.servers[shard * REPLICAS.len()]
    }

    /// The replica of a shard that only follows.
    pub fn second_of(&self, shard: usize) -> &Server {
        &self.servers[shard * REPLICAS.len() + 1]
    }

    /// Fills each shard with so many rows, and waits for the replicas.
    ///
    /// # Errors
    /// A server refuses.
    pub fn fill(&self, rows: u64) -> Result<(), String> {
        let each = rows / PARTITIONS;
        for shard in 0..SHARDS.len() {
            for bucket in 0..PARTITIONS {
                let from = (shard as u64 * PARTITIONS + bucket) * each;
                self.first_of(shard).try_query(&format!(
                    "INSERT INTO {TABLE} SELECT {bucket}, number + {from}, cityHash64(number + {from}), \
                     sipHash64(number + {from}), sipHash64(cityHash64(number + {from})) \
                     FROM system.numbers LIMIT {each}"
                ))?;
            }
        }
        self.follow()
    }

    /// Waits until every replica has what the first of its shard has.
    ///
    /// # Errors
    /// One does not get it.
    pub fn follow(&self) -> Result<(), String> {
        for shard in 0..SHARDS.len() {
            let mut synced = Err(String::new());
            for _ in 0..SYNCS_MAX {
                synced = self
                    .second_of(shard)
                    .try_query(&format!("SYSTEM SYNC REPLICA {TABLE}"));
                if synced.is_ok() {
                    break;
                }
            }
            synced?;
        }
        Ok(())
    }

    /// What each shard holds, which has to be on both of its replicas.
    ///
    /// # Errors
    /// A server refuses, or replicas differ.
    pub fn contents(&self) -> Result<Vec<String>, String> {
        let digest = format!(
            "SELECT count(), sum(ticket), groupBitXor(cityHash64(bucket, ticket, passenger, fare, token)) FROM {TABLE}"
        );
        let mut contents = Vec::new();
        for shard in 0..SHARDS.len() {
            let first = self.first_of(shard).try_query(&digest)?;
            let second = self.second_of(shard).try_query(&digest)?;
            if first != second {
                return Err(format!("replicas of shard {shard} differ: {first}{second}"));
            }
            contents.push(first);
        }
        Ok(contents)
    }

    /// Bytes of the parts of one replica of each shard together.
    ///
    /// # Errors
    /// A server refuses.
    pub fn bytes(&self) -> Result<u64, String> {
        let sql = "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'bench'";
        let mut bytes = 0;
        for shard in 0..SHARDS.len() {
            let told = self.first_of(shard).try_query(sql)?;
            bytes += told
                .trim()
                .parse::<u64>()
                .map_err(|_| format!("{sql}: {told}"))?;
        }
        Ok(bytes)
    }

    /// Drops the first partitions of a shard, so many hundredths of it.
    ///
    /// # Errors
    /// The server refuses.
    pub fn damage(&self, shard: usize, percent: u64) -> Result<(), String> {
        for bucket in 0..percent * PARTITIONS / 100 {
            self.first_of(shard)
                .try_query(&format!("ALTER TABLE {TABLE} DROP PARTITION {bucket}"))?;
        }
        Ok(())
    }

    /// Has the second replica of a shard lose all it has, and fetch it from the first.
    ///
    /// # Errors
    /// The server refuses.
    pub fn fetch_all(&self, shard: usize) -> Result<Cost, String> {
        let second = self.second_of(shard);
        second.try_query(&format!("DROP TABLE {TABLE}"))?;
        second.try_query(CREATE)?;
        measure::action(|| self.follow())
    }
}
