//! How the servers of a cluster are: each is asked by a thread of its own, and one that does not answer is told as such.

use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use mendb_engines::clickhouse::{ServerSurvey, survey};
use mendb_model::describe_error;
use serde::Serialize;

use super::topology::{ClusterServer, Topology};
use crate::clock::Stopwatch;
use crate::context::Context;
use crate::failure::Failure;

/// Servers that have not answered by then are told as such. A connection alone is waited for 10 seconds.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);

/// A cluster and its servers.
#[derive(Debug, Serialize)]
pub struct ClusterSurvey {
    /// Its name.
    pub cluster: String,
    /// How many shards it has.
    pub shards: usize,
    /// Its servers, those of a shard one after the other.
    pub servers: Vec<SurveyedServer>,
}

/// A server of a cluster.
#[derive(Debug, Serialize)]
pub struct SurveyedServer {
    /// Its shard.
    pub shard: String,
    /// Its name in the shard.
    pub replica: String,
    /// Its host and port.
    pub server: String,
    /// What it told.
    #[serde(flatten)]
    pub found: Found,
}

/// What became of asking a server.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Found {
    /// It told this.
    Told(ServerSurvey),
    /// It told nothing.
    Unreachable {
        /// Why.
        unreachable: String,
    },
}

impl ClusterSurvey {
    /// Asks every server of a cluster, all at once.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn of(context: &Context, topology: &Topology) -> Result<Self, Failure> {
        let (answer, answers) = channel();
        for (at, member) in topology.servers.iter().enumerate() {
            let options = context.connection_options(&member.server);
            let answer = answer.clone();
            let asking = std::thread::Builder::new().name("survey".to_owned());
            asking
                .spawn(move || drop(answer.send((at, survey(&options)))))
                .map_err(|error| Failure::io("cannot start threads", &error))?;
        }
        drop(answer);
        let late = || Found::Unreachable {
            unreachable: format!("it does not answer within {} s", ANSWERS_WITHIN.as_secs()),
        };
        let surveyed = |member: &ClusterServer| SurveyedServer {
            shard: member.shard.clone(),
            replica: member.replica.clone(),
            server: member.server.place().to_owned(),
            found: late(),
        };
        let mut servers: Vec<SurveyedServer> = topology.servers.iter().map(surveyed).collect();
        let since = Stopwatch::start();
        loop {
            let left = ANSWERS_WITHIN.saturating_sub(since.elapsed());
            match answers.recv_timeout(left) {
                Ok((at, Ok(told))) => servers[at].found = Found::Told(told),
                Ok((at, Err(error))) => {
                    servers[at].found = Found::Unreachable {
                        unreachable: describe_error(&error),
                    };
                }
                Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => break,
            }
        }
        let mut shards: Vec<&str> = topology
            .servers
            .iter()
            .map(|it| it.shard.as_str())
            .collect();
        shards.dedup();
        Ok(Self {
            cluster: topology.cluster.clone(),
            shards: shards.len(),
            servers,
        })
    }

    /// Refuses two servers that are one: the rows of a shard would be stored, or changed, twice.
    ///
    /// # Errors
    /// There are such.
    pub fn check_each_is_another(&self) -> Result<(), Failure> {
        let mut seen: BTreeMap<&str, &SurveyedServer> = BTreeMap::new();
        for server in &self.servers {
            let Found::Told(told) = &server.found else {
                continue;
            };
            if let Some(twice) = seen.insert(&told.place, server) {
                return Err(Failure::input(format!(
                    "{} and {} of the cluster {} are one server: each says that it is {}",
                    twice.server, server.server, self.cluster, told.place
                ))
                .hint("give the list another server for one of them; servers that have one host name and one directory of \
                       data need other host names"));
            }
        }
        Ok(())
    }

    /// Whether every server has answered and every replica of a table takes inserts.
    pub fn is_well(&self) -> bool {
        self.servers.iter().all(|server| match &server.found {
            Found::Unreachable { .. } => false,
            Found::Told(told) => !told.replicated.iter().any(|table| table.is_read_only),
        })
    }
}
