//! The flags by which a command is about a cluster.

use clap::Args;

/// Which cluster, if the command is about one.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Clusters")]
pub struct ClusterArgs {
    /// Do it to a cluster of ClickHouse servers, by the agents beside them: a file that lists servers (it has a slash, or
    /// ends with .yml), or the name of a cluster that the target knows (system.clusters)
    #[arg(long, value_name = "FILE|NAME")]
    cluster: Option<String>,
    /// Of a cluster that the target knows, where its servers answer over HTTP, unless on the port of the target
    #[arg(long, value_name = "PORT", requires = "cluster")]
    http_port: Option<u16>,
}

impl ClusterArgs {
    /// The cluster, and the port.
    pub fn named(&self) -> Option<(&str, Option<u16>)> {
        Some((self.cluster.as_deref()?, self.http_port))
    }
}
