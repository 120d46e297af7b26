//! Where the agents of a cluster were when its list was given last: `agents.json` beside the journal of its coordinator.
//!
//! An operation asks them there, also one that began when an agent was elsewhere.

use std::fs;
use std::path::Path;

use mendb_engines::agents::Addresses;
use serde::{Deserialize, Serialize};

use super::topology::Topology;
use crate::failure::{Failure, FailureKind};
use crate::target::{is_absent, replace_file};

const FILE: &str = "agents.json";

#[derive(Serialize, Deserialize)]
struct Entry {
    shard: String,
    replica: String,
    agent: String,
}

/// The addresses that a list of servers has.
pub fn of_list(topology: &Topology) -> Addresses {
    let servers = topology.servers.iter();
    let entry = |it: &super::topology::ClusterServer| {
        ((it.shard.clone(), it.replica.clone()), it.agent.clone())
    };
    servers.map(entry).collect()
}

/// Those that are kept in a directory; none where no list was given yet.
///
/// # Errors
/// The file cannot be read, or is none.
pub fn read(directory: &Path) -> Result<Addresses, Failure> {
    let path = directory.join(FILE);
    let text = match fs::read(&path) {
        Err(error) if is_absent(&error) => return Ok(Addresses::new()),
        read => {
            read.map_err(|error| Failure::io(format!("cannot read {}", path.display()), &error))?
        }
    };
    let entries: Vec<Entry> = serde_json::from_slice(&text).map_err(|error| {
        Failure::of(FailureKind::FixEnvironment, &error)
            .context(format!("{} cannot be read", path.display()))
            .hint("remove it, and give the list of servers once more, with --cluster")
    })?;
    let entries = entries.into_iter();
    Ok(entries
        .map(|it| ((it.shard, it.replica), it.agent))
        .collect())
}

/// Keeps them in a directory, in the place of those before.
///
/// # Errors
/// It cannot be written.
pub fn keep(directory: &Path, addresses: &Addresses) -> Result<(), Failure> {
    let entries = addresses.iter().map(|((shard, replica), agent)| Entry {
        shard: shard.clone(),
        replica: replica.clone(),
        agent: agent.clone(),
    });
    replace_file(directory, FILE, &entries.collect::<Vec<_>>())
        .map_err(|error| Failure::io(format!("cannot write to {}", directory.display()), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_were_kept() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path()).unwrap(), Addresses::new());
        let place = ("1".to_owned(), "a".to_owned());
        let addresses = Addresses::from([(place, "https://db1:7443".to_owned())]);
        keep(directory.path(), &addresses).unwrap();
        assert_eq!(read(directory.path()).unwrap(), addresses);
        fs::write(directory.path().join(FILE), "[{}]").unwrap();
        let failure = read(directory.path()).unwrap_err().to_string();
        assert!(failure.contains("--cluster"), "{failure}");
    }
}
