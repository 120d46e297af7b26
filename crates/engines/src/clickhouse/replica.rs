//! A table as one replica of several: whether it can be changed, and whether it has what the others brought.
//!
//! This server is asked all of it: `system.replicas` describes its own replica, `system.zookeeper` shows what every
//! replica has written in the keeper. No other server is spoken to.
//!
//! *Hazard*: what another replica inserts is here only when this one has taken it over, but its number is given at
//! once, and a replacement of a partition takes all numbers that were given before. So this replica catches up right
//! before a partition is looked at for the last time; what comes after that look is in [`super::unseen`].

use std::collections::HashSet;
use std::time::Duration;

use mendb_model::part::{TableDefinition, TableName};
use serde::Deserialize;

use super::ClickHouse;
use super::client::{Client, literal};
use super::disks::is_table;
use super::replica_log::{LOG, LogEntry, number};
use crate::contract::replicas::Replication;
use crate::error::{EngineError, Remedy, Result};

/// Between the first two looks at what replicas have done, and at most between two: each time twice as long.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));
/// Of so many steps or parts a message tells the names.
const NAMES_MAX: usize = 5;
/// The version on which mends of replicas are tested.
const TRIED: &str = "18.16.";

/// The replica that this server has of a table.
#[derive(Debug, Clone)]
pub(super) struct OwnReplica {
    pub(super) name: String,
    /// Where the table is in the keeper.
    path: String,
}

impl OwnReplica {
    /// Something of the table in the keeper.
    pub(super) fn node(&self, below: &str) -> String {
        format!("{}/{below}", self.path)
    }
}

/// What a node of the keeper has below it.
#[derive(Debug, Deserialize)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) value: String,
}

impl ClickHouse {
    /// What was not tried with a table on servers such as this one.
    pub(super) fn untried_of(&self, definition: &TableDefinition) -> Option<String> {
        let version = &self.abilities.version;
        let is_untried = definition.is_replicated() && !version.starts_with(TRIED);
        is_untried.then(|| format!("mending a replicated table on ClickHouse {version}"))
    }

    /// The replica of a table that this server has; `None` of a table that is not replicated.
    ///
    /// # Errors
    /// It cannot be changed: it has lost its keeper.
    pub(super) fn own_replica(&self, told: &TableName) -> Result<Option<OwnReplica>> {
        #[derive(Deserialize)]
        struct Row {
            zookeeper_path: String,
            replica_name: String,
            is_readonly: u8,
            is_session_expired: u8,
        }
        // No column that the keeper would have to be asked for.
        let rows: Vec<Row> = self.client.rows(&format!(
            "SELECT zookeeper_path, replica_name, is_readonly, is_session_expired FROM system.replicas WHERE {}",
            is_table(told, "table")
        ))?;
        let Some(row) = rows.into_iter().next() else {
            return Ok(None);
        };
        if row.is_readonly != 0 || row.is_session_expired != 0 {
            let message = format!(
                "replica {} of {told} is read-only: its server has lost ZooKeeper or Keeper, or has not found {} \
                 there; bring that back (system.replicas tells when it is), then go on",
                row.replica_name, row.zookeeper_path
            );
            return Err(EngineError::new(Remedy::Retry, message));
        }
        Ok(Some(OwnReplica {
            name: row.replica_name,
            path: row.zookeeper_path,
        }))
    }

    /// Waits until all is here that other replicas have brought by now, however long merges wait. Returns how far
    /// the shared log went then; `None` of a table that is not replicated.
    pub(super) fn wait_for_others(&self, told: &TableName) -> Result<Option<u64>> {
        let Some(own) = self.own_replica(told)? else {
            return Ok(None);
        };
        let log_end = self.log_end(&own)?;
        // What is in the queue when the log was read so far. What comes later is not waited for.
        let mut awaited: Option<HashSet<String>> = None;
        let mut open = Vec::new();
        let mut looks = self.replica_looks();
        loop {
            if self.log_pointer(&own, &own.name)? >= log_end {
                let queue = self.queue(&own, &own.name)?.into_iter();
                open = queue.filter(LogEntry::brings_or_takes).collect();
                let awaited = awaited
                    .get_or_insert_with(|| open.iter().map(|entry| entry.node.clone()).collect());
                open.retain(|entry| awaited.contains(&entry.node));
                if open.is_empty() {
                    return Ok(Some(log_end));
                }
            }
            if !looks.pause(&self.client)? {
                break;
            }
        }
        let mut open: Vec<String> = (open.iter())
            .map(|entry| format!("{} {} of replica {}", entry.kind, entry.part, entry.source))
            .collect();
        let more = open.len().saturating_sub(NAMES_MAX);
        open.truncate(NAMES_MAX);
        let waits_for = match open.as_slice() {
            [] => format!("entries of the log before {LOG}{log_end:010}"),
            open if more == 0 => open.join(", "),
            open => format!("{} and {more} more", open.join(", ")),
        };
        let message = format!(
            "replica {} of {told} does not catch up with the others: it waits for {waits_for} (system.replication_queue \
             tells why), which was waited for during {} s (clickhouse.replica_wait_s); its partitions are not changed, as \
             that would take what the others have",
            own.name,
            self.replica_wait.as_secs()
        );
        Err(EngineError::new(Remedy::Retry, message))
    }

    /// As [`Self::wait_for_others`]. Returns which replicas there are.
    pub(super) fn catch_up_with_others(&self, told: &TableName) -> Result<Option<Replication>> {
        let Some(own) = self.own_replica(told)? else {
            return Ok(None);
        };
        self.wait_for_others(told)?;
        let mut replication = Replication {
            own: own.name.clone(),
            active: Vec::new(),
            inactive: Vec::new(),
        };
        for name in self.replica_names(&own)? {
            if name == own.name {
                continue;
            }
            match self.is_active(&own, &name)? {
                true => replication.active.push(name),
                false => replication.inactive.push(name),
            }
        }
        Ok(Some(replication))
    }

    pub(super) fn replica_names(&self, own: &OwnReplica) -> Result<Vec<String>> {
        let nodes = self.nodes(&own.node("replicas"))?;
        Ok(nodes.into_iter().map(|node| node.name).collect())
    }

    pub(super) fn is_active(&self, own: &OwnReplica, replica: &str) -> Result<bool> {
        let nodes = self.nodes(&own.node(&format!("replicas/{replica}")))?;
        Ok(nodes.iter().any(|node| node.name == "is_active"))
    }

    /// The number that the next entry of the shared log gets, as far as its entries tell.
    pub(super) fn log_end(&self, own: &OwnReplica) -> Result<u64> {
        let nodes = self.nodes(&own.node("log"))?;
        let numbers = nodes.iter().filter_map(|node| number(&node.name));
        Ok(numbers.max().map_or(0, |last| last + 1))
    }

    /// Entries of the log before this one a replica has in its queue, or has done.
    pub(super) fn log_pointer(&self, own: &OwnReplica, replica: &str) -> Result<u64> {
        let nodes = self.nodes(&own.node(&format!("replicas/{replica}")))?;
        let pointer = nodes.iter().find(|node| node.name == "log_pointer");
        let pointer = pointer.map(|node| node.value.as_str()).unwrap_or_default();
        // A replica that has read no entry has none.
        if pointer.is_empty() {
            return Ok(0);
        }
        pointer.parse().map_err(|_| {
            let message = format!(
                "replica {replica} at {} has {pointer:?} as its place in the log, which is no number",
                own.path
            );
            EngineError::new(Remedy::Request, message)
        })
    }

    pub(super) fn queue(&self, own: &OwnReplica, replica: &str) -> Result<Vec<LogEntry>> {
        self.entries(&own.node(&format!("replicas/{replica}/queue")))
    }

    pub(super) fn entries(&self, path: &str) -> Result<Vec<LogEntry>> {
        let nodes = self.nodes(path)?.into_iter();
        let mut entries: Vec<LogEntry> = nodes
            .map(|node| LogEntry::read(&node.name, &node.value))
            .collect();
        entries.sort_by(|a, b| a.node.cmp(&b.node));
        Ok(entries)
    }

    pub(super) fn nodes(&self, path: &str) -> Result<Vec<Node>> {
        Ok(self.client.rows(&format!(
            "SELECT name, value FROM system.zookeeper WHERE path = {}",
            literal(path)
        ))?)
    }

    /// Looks until replicas are through, for as long as the settings say.
    pub(super) fn replica_looks(&self) -> ReplicaLooks {
        ReplicaLooks {
            apart: PAUSES.0,
            left: self.replica_wait,
        }
    }
}

/// Looks at what replicas have done, the further apart the longer it takes.
pub(super) struct ReplicaLooks {
    apart: Duration,
    left: Duration,
}

impl ReplicaLooks {
    /// Waits until the next one, which is the server's to do; `false` where there is no time for another.
    pub(super) fn pause(&mut self, client: &Client) -> Result<bool> {
        let apart = self.apart.min(self.left);
        if apart.is_zero() {
            return Ok(false);
        }
        self.left -= apart;
        self.apart = (self.apart * 2).min(PAUSES.1);
        client.execute(&format!("SELECT sleep({})", apart.as_secs_f32()))?;
        Ok(true)
    }
}
