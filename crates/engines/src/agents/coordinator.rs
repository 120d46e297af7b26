//! Who gives orders to agents, and by what they tell.

use std::fmt;
use std::path::PathBuf;

use mendb_model::name::OperationId;
use serde::{Deserialize, Serialize};

/// The header field in which a coordinator says who it is.
pub const COORDINATOR: &str = "mendb-coordinator";
/// The header field that names the server which the agent is to be beside: its place, as that tells it.
pub const SERVER: &str = "mendb-server";
/// The header field by which an order with a key is asked for, and not given.
pub const KNOWN_ONLY: &str = "mendb-known-only";

/// What a coordinator and its agents know each other by.
#[derive(Debug, Clone)]
pub struct AgentTls {
    /// The certificate of the coordinator, in PEM.
    pub certificate: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
    /// The certificates of who signed those of the agents, in PEM.
    pub ca: PathBuf,
}

/// Who gives orders to the agents of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coordinator {
    /// Drawn at random for the journal of the cluster, and kept with it.
    pub id: String,
    /// Raised by each process before it gives an order: agents refuse one that is lower than they have seen.
    pub epoch: u64,
    /// Which it is, for people: the host of the process, and the cluster as its list names it.
    pub name: String,
}

/// As it stands in the header field.
impl fmt::Display for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/');
        let name: String = self.name.chars().filter(is_plain).collect();
        write!(f, "{};{};{name}", self.id, self.epoch)
    }
}

impl Coordinator {
    /// Reads a header field; `None` of what is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ';');
        let (id, epoch, name) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self {
            id: (!id.is_empty()).then(|| id.to_owned())?,
            epoch: epoch.parse().ok()?,
            name: name.to_owned(),
        })
    }
}

/// The key of what an operation of a cluster has the agent of a shard do.
pub fn order_key(operation: &OperationId, what: &str, shard: &str) -> String {
    format!("{operation}.{what}.{shard}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinator_is_read_as_it_is_written() {
        let coordinator = Coordinator {
            id: "3fa9".to_owned(),
            epoch: 7,
            name: "ops-1.example/prod".to_owned(),
        };
        assert_eq!(
            Coordinator::parse(&coordinator.to_string()),
            Some(coordinator)
        );
        for wrong in ["", "a", "a;b;c", ";1;c", "a;1"] {
            assert_eq!(Coordinator::parse(wrong), None, "{wrong}");
        }
    }
}
