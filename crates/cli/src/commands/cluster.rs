//! `mendb cluster`: which servers a cluster has, and how they are.

use clap::{Args, Subcommand};
use mendb_engines::clickhouse::{ReplicatedTable, ServerSurvey};

use crate::cluster::survey::{ClusterSurvey, Found, SurveyedServer};
use crate::cluster::topology::Topology;
use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::human;
use crate::output::{Field, table};

/// Look at clusters of ClickHouse servers.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Say which servers a cluster has, and how each is
    ///
    /// Each server is asked over HTTP for its version, its macros, its disks, and how far its replicas of tables are
    /// behind; servers of before 19.15 do not tell of disks. Nothing is changed. Exit code 3 when a server does not
    /// answer, or has a replica that is read-only.
    Show(ShowArgs),
}

/// Which cluster.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// A file that lists servers (it has a slash, or ends with .yml), or the name of a cluster that the target knows
    /// (system.clusters). Without, the target, where that is a cluster
    #[arg(long, value_name = "FILE|NAME")]
    cluster: Option<String>,
    /// Of a cluster that the target knows, where its servers answer over HTTP, unless on the port of the target
    #[arg(long, value_name = "PORT")]
    http_port: Option<u16>,
}

impl ClusterCommand {
    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        let Self::Show(args) = self;
        let topology = match (&args.cluster, context.target_cluster()?) {
            (Some(cluster), _) => Topology::find(context, cluster, args.http_port)?,
            (None, Some(cluster)) => cluster,
            (None, None) => {
                return Err(Failure::misuse("no cluster is named").hint(
                    "name a list of servers, --cluster ./cluster.yml, or a cluster that the target knows",
                ));
            }
        };
        let found = ClusterSurvey::of(context, &topology)?;
        context.output.record(&found, describe)?;
        Ok(match found.is_well() {
            true => Verdict::Done,
            false => Verdict::Drift,
        })
    }
}

fn describe(found: &ClusterSurvey) -> String {
    let mut text = format!(
        "cluster {}: {} in {}\n\n",
        found.cluster,
        human::servers(found.servers.len() as u64),
        human::shards(found.shards as u64)
    );
    text += &table(
        &found.servers,
        &[
            Field::left("shard", |it: &SurveyedServer| it.shard.clone()),
            Field::left("replica", |it| it.replica.clone()),
            Field::left("server", |it| it.server.clone()),
            Field::left("version", |it| of(it, |told| told.version.clone())),
            Field::left("macros", |it| of(it, macros)),
            Field::left("disks", |it| of(it, disks)),
            Field::left("replicated tables", |it| of(it, lag)),
        ],
    );
    for server in &found.servers {
        match &server.found {
            Found::Unreachable { unreachable } => {
                text += &format!("\n{} is not reachable: {unreachable}\n", server.server);
            }
            Found::Told(told) => {
                let is_read_only = |table: &&ReplicatedTable| table.is_read_only;
                for table in told.replicated.iter().filter(is_read_only) {
                    text += &format!(
                        "\n{}: replica {} of {} is read-only\n",
                        server.server, table.replica, table.table
                    );
                }
            }
        }
    }
    text
}

fn of(server: &SurveyedServer, tell: impl Fn(&ServerSurvey) -> String) -> String {
    match &server.found {
        Found::Told(told) => tell(told),
        Found::Unreachable { .. } => "?".to_owned(),
    }
}

fn macros(told: &ServerSurvey) -> String {
    let macros = told.macros.iter();
    let macros: Vec<String> = macros.map(|(name, it)| format!("{name}={it}")).collect();
    macros.join(" ")
}

fn disks(told: &ServerSurvey) -> String {
    if told.disks.is_empty() {
        return "not told".to_owned();
    }
    let disks: Vec<String> = (told.disks.iter())
        .map(|disk| {
            let (free, total) = (
                human::bytes(disk.free_bytes),
                human::bytes(disk.total_bytes),
            );
            format!("{} {free} free of {total}", disk.name)
        })
        .collect();
    disks.join(", ")
}

/// How many there are, and how far the last one is behind.
fn lag(told: &ServerSurvey) -> String {
    let tables = &told.replicated;
    let delay_s = tables.iter().map(|table| table.delay_s).max().unwrap_or(0);
    let queue: u64 = tables.iter().map(|table| table.queue).sum();
    let mut text = tables.len().to_string();
    if delay_s > 0 || queue > 0 {
        text += &format!(", {delay_s} s behind, {queue} steps to do");
    }
    text
}
