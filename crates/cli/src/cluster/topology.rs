//! Which servers a cluster has: told by a server that knows it, or by a file.
//!
//! ```yaml
//! cluster: prod
//! servers:
//!   - shard: 1
//!     replica: a
//!     target: clickhouse://mendb@db1.example.com:8123/
//!     agent: db1.example.com:7443
//! ```

use std::path::Path;

use mendb_engines::clickhouse::cluster_members;
use mendb_model::name::check;
use serde::Deserialize;

use crate::context::Context;
use crate::failure::{Failure, FailureKind};
use crate::target::{Server, Target};

/// The servers of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// Its name.
    pub cluster: String,
    /// Its servers, those of a shard one after the other.
    pub servers: Vec<ClusterServer>,
}

/// A server of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterServer {
    /// The name of its shard, a number mostly.
    pub shard: String,
    /// Its name in the shard.
    pub replica: String,
    /// Where it is.
    pub server: Server,
    /// Where its agent is: `https://host:port`.
    pub agent: String,
}

/// A cluster as a file lists it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    cluster: String,
    servers: Vec<ListedServer>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListedServer {
    shard: Label,
    replica: Option<Label>,
    target: String,
    agent: Option<String>,
}

/// A name that may be written as a number.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Label {
    Number(u64),
    Text(String),
}

impl Label {
    fn text(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

impl Topology {
    /// The cluster that a command names: a file where that has a slash or ends with `.yml` or `.yaml`, else the name of
    /// a cluster that the target knows, whose servers are asked over HTTP as the target is, on that port.
    ///
    /// # Errors
    /// The file cannot be read or names no servers, the target is no ClickHouse server, or it knows no such cluster.
    pub fn find(context: &Context, cluster: &str, http_port: Option<u16>) -> Result<Self, Failure> {
        let path = Path::new(cluster);
        let extension = path.extension().and_then(|extension| extension.to_str());
        if cluster.contains('/') || matches!(extension, Some("yml" | "yaml")) {
            if http_port.is_some() {
                return Err(Failure::misuse(
                    "--http-port is for a cluster that the target knows: a file names the port of each server",
                )
                .hint("leave it out"));
            }
            return Self::read(path, context.settings.cluster_agent_port);
        }
        Self::ask(context, cluster, http_port)
    }

    fn read(path: &Path, agent_port: u16) -> Result<Self, Failure> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::io(format!("cannot read the cluster {shown}"), &error))?;
        Self::parse(&text, agent_port).map_err(|failure| failure.context(format!("in {shown}")))
    }

    fn parse(text: &str, agent_port: u16) -> Result<Self, Failure> {
        let listed: Listed = serde_norway::from_str(text).map_err(|error| {
            Failure::of(FailureKind::FixInput, &error)
                .context("it does not list a cluster")
                .hint(
                    "a file has cluster: NAME, and under servers: for each a shard:, a target: clickhouse://user@host:8123/ \
                     and, where a shard has several, a replica:",
                )
        })?;
        let mut servers = Vec::new();
        for server in listed.servers {
            let ListedServer {
                shard,
                replica,
                target,
                agent,
            } = server;
            let server = Server::parse(&target)?;
            servers.push(ClusterServer {
                shard: shard.text(),
                replica: replica.map_or_else(|| "1".to_owned(), Label::text),
                agent: agent_url(agent.as_deref(), &server, agent_port),
                server,
            });
        }
        Self::checked(listed.cluster, servers)
    }

    fn ask(context: &Context, cluster: &str, http_port: Option<u16>) -> Result<Self, Failure> {
        let Target::ClickHouse(target) = context.target()? else {
            return Err(Failure::misuse(format!(
                "a ClickHouse server is to tell who is in the cluster {cluster}, and the target is none"
            ))
            .hint(
                "name one with --target clickhouse://user@host:8123/, or a file of servers: --cluster ./cluster.yml",
            ));
        };
        let members = cluster_members(&context.connection_options(&target), cluster)?;
        let agent_port = context.settings.cluster_agent_port;
        let servers = members.into_iter().map(|member| {
            let server = target.at(&member.host, http_port);
            ClusterServer {
                shard: member.shard.to_string(),
                replica: member.replica.to_string(),
                agent: agent_url(None, &server, agent_port),
                server,
            }
        });
        Self::checked(cluster.to_owned(), servers.collect())
    }

    fn checked(cluster: String, mut servers: Vec<ClusterServer>) -> Result<Self, Failure> {
        let wrong = |message: String| Failure::input(message);
        check(&cluster).map_err(|error| Failure::of(FailureKind::FixInput, &error))?;
        if servers.is_empty() {
            return Err(wrong(format!("the cluster {cluster} has no servers")));
        }
        for (at, server) in servers.iter().enumerate() {
            for name in [&server.shard, &server.replica] {
                check(name).map_err(|error| {
                    Failure::of(FailureKind::FixInput, &error)
                        .context("a shard or replica has a name that is none")
                })?;
            }
            let before = &servers[..at];
            if let Some(twice) = before
                .iter()
                .find(|other| other.server.place() == server.server.place())
            {
                return Err(wrong(format!(
                    "the server {} is in the cluster {cluster} twice: in shard {} and in shard {}",
                    server.server.place(),
                    twice.shard,
                    server.shard
                )));
            }
            if before
                .iter()
                .any(|other| other.shard == server.shard && other.replica == server.replica)
            {
                return Err(wrong(format!(
                    "shard {} of the cluster {cluster} has two servers that are replica {}",
                    server.shard, server.replica
                ))
                .hint("give each a replica: of its own"));
            }
        }
        let shards: Vec<String> = servers.iter().map(|server| server.shard.clone()).collect();
        servers.sort_by_key(|server| shards.iter().position(|shard| *shard == server.shard));
        Ok(Self { cluster, servers })
    }
}

/// Where the agent beside a server is, unless that is said.
fn agent_url(said: Option<&str>, server: &Server, port: u16) -> String {
    let host = || {
        let place = server.place();
        place.rsplit_once(':').map_or(place, |(host, _)| host)
    };
    match said {
        Some(said) => format!("https://{said}"),
        None => format!("https://{}:{port}", host()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "cluster: prod\nservers:\n\
        - {shard: 1, replica: a, target: 'clickhouse://u:hunter2@db1:8123/'}\n\
        - {shard: two, target: 'clickhouse://db3/', agent: 'db3.example.com:9'}\n\
        - {shard: 1, replica: b, target: 'clickhouse://db2/'}\n";

    #[test]
    fn a_file_lists_servers_and_those_of_a_shard_stand_together() {
        let topology = Topology::parse(TWO, 7443).unwrap();
        assert_eq!(topology.cluster, "prod");
        let places: Vec<_> = topology
            .servers
            .iter()
            .map(|it| {
                (
                    it.shard.as_str(),
                    it.replica.as_str(),
                    it.server.place().to_owned(),
                )
            })
            .collect();
        assert_eq!(
            places,
            [
                ("1", "a", "db1:8123".to_owned()),
                ("1", "b", "db2:8123".to_owned()),
                ("two", "1", "db3:8123".to_owned()),
            ]
        );
    }

    #[test]
    fn an_agent_is_beside_its_server_unless_the_file_says_otherwise() {
        let topology = Topology::parse(TWO, 7443).unwrap();
        let agents = topology.servers.iter().map(|it| it.agent.as_str());
        assert_eq!(
            agents.collect::<Vec<_>>(),
            [
                "https://db1:7443",
                "https://db2:7443",
                "https://db3.example.com:9"
            ]
        );
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named_without_passwords() {
        for (text, why) in [
            ("cluster: prod\nservers: []\n".to_owned(), "has no servers"),
            ("cluster: prod\n".to_owned(), "does not list a cluster"),
            (
                TWO.replace("db2", "db3"),
                "db3:8123 is in the cluster prod twice",
            ),
            (
                TWO.replace("replica: b", "replica: a"),
                "two servers that are replica a",
            ),
            (TWO.replace("cluster: prod", "cluster: a/b"), "a/b"),
            (
                TWO.replace("db1:8123/", "db1:8123/shop"),
                "names more than a server",
            ),
            (
                TWO.replace("replica: b", "replicas: b"),
                "does not list a cluster",
            ),
        ] {
            let failure = Topology::parse(&text, 7443).unwrap_err().to_string();
            assert!(failure.contains(why), "{failure}");
            assert!(!failure.contains("hunter2"), "{failure}");
        }
    }
}
