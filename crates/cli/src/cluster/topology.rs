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

use std::collections::BTreeMap;
use std::path::Path;

use mendb_engines::clickhouse::cluster_members;
use mendb_model::name::check;
use serde::Deserialize;
use serde_norway::Value;
use url::Url;

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
    shard: Value,
    replica: Option<Value>,
    target: String,
    agent: Option<String>,
}

/// A name that may be written as a whole number.
fn label(what: &str, value: &Value) -> Result<String, Failure> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    match value.as_u64() {
        Some(number) => Ok(number.to_string()),
        None => {
            let shown = serde_norway::to_string(value).unwrap_or_default();
            Err(Failure::input(format!(
                "a server has {what}: {}, which is neither a text nor a whole number",
                shown.trim()
            ))
            .hint(format!(
                "write what is no number in quotes: {what}: \"1.5\""
            )))
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
        if cluster.is_empty() {
            return Err(Failure::misuse("--cluster is empty").hint(
                "name a file of servers, --cluster ./cluster.yml, or a cluster that the target knows",
            ));
        }
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

    /// The cluster that a file lists, with its agents on a port where the file names none.
    ///
    /// # Errors
    /// It cannot be read, or lists none.
    pub fn read(path: &Path, agent_port: u16) -> Result<Self, Failure> {
        let shown = path.display();
        let bytes = std::fs::read(path)
            .map_err(|error| Failure::io(format!("cannot read the cluster {shown}"), &error))?;
        let text = String::from_utf8(bytes).map_err(|_| {
            Failure::input(format!("{shown} is no text of UTF-8")).hint("save it as UTF-8")
        })?;
        Self::parse(&text, agent_port).map_err(|failure| failure.context(format!("in {shown}")))
    }

    fn parse(text: &str, agent_port: u16) -> Result<Self, Failure> {
        // Some editors put a mark of the encoding before it.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
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
                shard: label("shard", &shard)?,
                replica: match replica {
                    None => "1".to_owned(),
                    Some(replica) => label("replica", &replica)?,
                },
                agent: agent_url(agent.as_deref(), &server, agent_port)?,
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
        let mut servers = Vec::new();
        for member in members {
            let server = target.at(&member.host, http_port);
            servers.push(ClusterServer {
                shard: member.shard.to_string(),
                replica: member.replica.to_string(),
                agent: agent_url(None, &server, agent_port)?,
                server,
            });
        }
        Self::checked(cluster.to_owned(), servers)
    }

    /// Refuses an agent that stands with two servers: it works beside one of them.
    ///
    /// # Errors
    /// There is one.
    pub fn check_agents(&self) -> Result<(), Failure> {
        let mut seen: BTreeMap<String, &ClusterServer> = BTreeMap::new();
        for server in &self.servers {
            let agent = without_loopback(&server.agent);
            if let Some(twice) = seen.insert(agent, server) {
                return Err(Failure::input(format!(
                    "the agent {} stands with two servers of the cluster {}: {} and {}",
                    server.agent,
                    self.cluster,
                    twice.server.place(),
                    server.server.place()
                ))
                .hint(
                    "an agent works beside one server: agent: says where the one of each listens",
                ));
            }
        }
        Ok(())
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
            let place = |it: &ClusterServer| without_loopback(it.server.place());
            if let Some(twice) = before.iter().find(|other| place(other) == place(server)) {
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

/// Where the agent beside a server is: as is said, or on the host of the server.
fn agent_url(said: Option<&str>, server: &Server, port: u16) -> Result<String, Failure> {
    let Some(said) = said else {
        let place = server.place();
        let host = place.rsplit_once(':').map_or(place, |(host, _)| host);
        return Ok(format!("https://{host}:{port}"));
    };
    let wrong = |why: &str| {
        Failure::input(format!("agent: {said} is no address of an agent: {why}"))
            .hint("write its host and its port: agent: db1.example.com:7443")
    };
    if said.contains("://") {
        return Err(wrong(
            "an agent is always asked by https, which is not written",
        ));
    }
    let url = Url::parse(&format!("https://{said}")).map_err(|error| wrong(&error.to_string()))?;
    let is_more = !url.username().is_empty()
        || url.password().is_some()
        || url.path() != "/"
        || url.query().is_some()
        || url.fragment().is_some();
    if is_more || said.contains('/') {
        return Err(wrong("it is more than a host and a port"));
    }
    let host = url.host_str().ok_or_else(|| wrong("it has no host"))?;
    // That of https is not told apart from none.
    let port = match said.ends_with(":443") {
        true => 443,
        false => url.port().unwrap_or(port),
    };
    Ok(format!("https://{host}:{port}"))
}

/// An address in which this machine has one name.
fn without_loopback(address: &str) -> String {
    let (scheme, place) = match address.split_once("://") {
        Some((scheme, place)) => (scheme, place),
        None => ("", address),
    };
    let (host, port) = place.rsplit_once(':').unwrap_or((place, ""));
    let host = match host {
        "localhost" | "[::1]" => "127.0.0.1",
        host => host,
    };
    format!("{scheme}://{host}:{port}")
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
    fn a_mark_of_the_encoding_and_an_agent_without_a_port_are_taken() {
        let text = format!("\u{feff}{}", TWO.replace("db3.example.com:9", "[::2]"));
        let topology = Topology::parse(&text, 7443).unwrap();
        assert_eq!(topology.servers[2].agent, "https://[::2]:7443");
    }

    #[test]
    fn an_agent_that_stands_with_two_servers_is_refused_where_agents_are_asked() {
        Topology::parse(TWO, 7443).unwrap().check_agents().unwrap();
        let text = TWO.replace("db3.example.com:9", "db1:7443");
        let topology = Topology::parse(&text, 7443).unwrap();
        let failure = topology.check_agents().unwrap_err().to_string();
        assert!(
            failure.contains("the agent https://db1:7443 stands with two servers"),
            "{failure}"
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
            (
                TWO.replace("db1:8123", "localhost:8123")
                    .replace("//db2/", "//127.0.0.1:8123/"),
                "127.0.0.1:8123 is in the cluster prod twice",
            ),
            (
                TWO.replace("db3.example.com:9", "https://db3:9"),
                "agent: https://db3:9 is no address of an agent",
            ),
            (
                TWO.replace("db3.example.com:9", "db3:9/v1"),
                "it is more than a host and a port",
            ),
            (
                TWO.replace("shard: 1, replica: b", "shard: 1.5, replica: b"),
                "shard: 1.5, which is neither a text nor a whole number",
            ),
            (
                TWO.replace("replica: b", "replica: true"),
                "replica: true, which is neither",
            ),
        ] {
            let failure = Topology::parse(&text, 7443).unwrap_err().to_string();
            assert!(failure.contains(why), "{failure}");
            assert!(!failure.contains("hunter2"), "{failure}");
        }
    }
}
