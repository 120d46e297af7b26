//! Where the journal of the target is.

use std::path::{Path, PathBuf};

use crate::cluster::topology::Topology;
use crate::context::Context;
use crate::failure::Failure;
use crate::target::Target;

impl Context {
    /// The directory of the journal, for those who only look.
    ///
    /// # Errors
    /// The URL of the target is wrong, or it cannot be found out where a server's journal is.
    pub fn journal_directory(&self) -> Result<PathBuf, Failure> {
        self.check_journal_is_here()?;
        match self.target()? {
            Target::Rows(directory) => Ok(directory),
            Target::ClickHouse(server) => self.server_directory(&server),
            Target::Postgres(address) => {
                self.check_not_shared(&address)?;
                Ok(self.postgres_directory(&address))
            }
            Target::Cluster(list) => Ok(self.cluster_directory(&self.listed(&list)?)),
        }
    }

    /// The cluster that is the target, if that is one.
    ///
    /// # Errors
    /// Its list cannot be read.
    pub fn target_cluster(&self) -> Result<Option<Topology>, Failure> {
        match self.target()? {
            Target::Cluster(list) => self.listed(&list).map(Some),
            Target::Rows(_) | Target::ClickHouse(_) | Target::Postgres(_) => Ok(None),
        }
    }

    fn listed(&self, list: &Path) -> Result<Topology, Failure> {
        Topology::read(list, self.settings.cluster_agent_port)
    }

    /// Where the journal of a cluster is.
    pub fn cluster_directory(&self, topology: &Topology) -> PathBuf {
        self.settings.cluster_state.join(&topology.cluster)
    }
}
