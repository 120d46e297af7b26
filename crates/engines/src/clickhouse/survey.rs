//! What a server says about itself and about the clusters that it knows, for those who look at a cluster from elsewhere: no
//! file of the server is read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ConnectionOptions;
use super::client::{Client, integer, literal};
use crate::error::{EngineError, Remedy, Result};

/// A server of a cluster, as another one names it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ClusterMember {
    /// The number of its shard, from 1 on.
    #[serde(rename = "shard_num", deserialize_with = "integer")]
    pub shard: u32,
    /// Its number in the shard, from 1 on.
    #[serde(rename = "replica_num", deserialize_with = "integer")]
    pub replica: u32,
    /// Its host.
    #[serde(rename = "host_name")]
    pub host: String,
}

/// What a server says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerSurvey {
    /// Its version.
    pub version: String,
    /// Its host as it calls that itself, and the directory of its data: no two servers of a cluster have the same. In
    /// ASCII: what is not is escaped.
    pub place: String,
    /// What stands for `{shard}` and the like in definitions of tables.
    pub macros: BTreeMap<String, String>,
    /// Its disks; none where the server is too old to tell.
    pub disks: Vec<DiskSpace>,
    /// Its replicated tables.
    pub replicated: Vec<ReplicatedTable>,
}

/// A disk of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSpace {
    /// Its name.
    pub name: String,
    /// Bytes that are free.
    #[serde(deserialize_with = "integer")]
    pub free_bytes: u64,
    /// Bytes that it has.
    #[serde(deserialize_with = "integer")]
    pub total_bytes: u64,
}

/// A table of which the server has a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplicatedTable {
    /// `database.table`.
    pub table: String,
    /// The name of the replica.
    pub replica: String,
    /// Whether it takes no inserts: it has lost its keeper, or was not let in.
    pub is_read_only: bool,
    /// Seconds that it is behind the others.
    pub delay_s: u64,
    /// Steps that it has to do.
    pub queue: u64,
}

/// The servers of a cluster that a server knows, by shard and replica.
///
/// # Errors
/// It does not answer, or knows no cluster of the name: then those that it knows are named.
pub fn cluster_members(options: &ConnectionOptions, cluster: &str) -> Result<Vec<ClusterMember>> {
    #[derive(Deserialize)]
    struct Known {
        cluster: String,
    }
    let client = client(options)?;
    let members: Vec<ClusterMember> = client.rows(&format!(
        "SELECT shard_num, replica_num, host_name FROM system.clusters WHERE cluster = {} \
         ORDER BY shard_num, replica_num",
        literal(cluster)
    ))?;
    if !members.is_empty() {
        return Ok(members);
    }
    let known: Vec<Known> =
        client.rows("SELECT DISTINCT cluster FROM system.clusters ORDER BY cluster")?;
    let known: Vec<String> = known.into_iter().map(|known| known.cluster).collect();
    let known = match known.is_empty() {
        true => "it knows none".to_owned(),
        false => format!("it knows {}", known.join(", ")),
    };
    Err(EngineError::new(
        Remedy::Request,
        format!(
            "the server at {} knows no cluster {cluster}: {known}",
            options.url
        ),
    ))
}

/// Asks a server about itself.
///
/// # Errors
/// It does not answer, or refuses the user.
pub fn survey(options: &ConnectionOptions) -> Result<ServerSurvey> {
    #[derive(Deserialize)]
    struct About {
        version: String,
        host: String,
        data: String,
    }
    #[derive(Deserialize)]
    struct Macro {
        name: String,
        substitution: String,
    }
    #[derive(Deserialize)]
    struct Replica {
        database: String,
        table: String,
        replica_name: String,
        #[serde(deserialize_with = "integer")]
        is_read_only: u8,
        #[serde(deserialize_with = "integer")]
        delay_s: u64,
        #[serde(deserialize_with = "integer")]
        queue: u64,
    }
    #[derive(Deserialize)]
    struct Table {
        name: String,
    }
    let client = client(options)?;
    let about: About = client.row(
        "SELECT version() AS version, hostName() AS host, data_path AS data FROM system.databases WHERE name = 'system'",
    )?;
    let tables: Vec<Table> = client.rows(
        "SELECT name FROM system.tables WHERE database = 'system' AND name IN ('macros', 'disks', 'replicas')",
    )?;
    let has = |name: &str| tables.iter().any(|table| table.name == name);
    let macros: Vec<Macro> = match has("macros") {
        true => client.rows("SELECT macro AS name, substitution FROM system.macros")?,
        false => Vec::new(),
    };
    let disks: Vec<DiskSpace> = match has("disks") {
        true => client.rows(
            "SELECT name, free_space AS free_bytes, total_space AS total_bytes FROM system.disks ORDER BY name",
        )?,
        false => Vec::new(),
    };
    let replicas: Vec<Replica> = match has("replicas") {
        true => client.rows(
            "SELECT database, table, replica_name, is_readonly OR is_session_expired AS is_read_only, \
             absolute_delay AS delay_s, queue_size AS queue FROM system.replicas ORDER BY database, table",
        )?,
        false => Vec::new(),
    };
    let replicated = replicas.into_iter().map(|replica| ReplicatedTable {
        table: format!("{}.{}", replica.database, replica.table),
        replica: replica.replica_name,
        is_read_only: replica.is_read_only != 0,
        delay_s: replica.delay_s,
        queue: replica.queue,
    });
    Ok(ServerSurvey {
        version: about.version,
        place: format!("{}:{}", about.host, about.data)
            .escape_default()
            .to_string(),
        macros: macros
            .into_iter()
            .map(|told| (told.name, told.substitution))
            .collect(),
        disks,
        replicated: replicated.collect(),
    })
}

fn client(options: &ConnectionOptions) -> Result<Client> {
    Client::new(&options.url, &options.user, &options.password)
}
