//! Replicas whose place in the keeper is gone: somebody has removed it there, or the keeper was lost and is another one.
//!
//! What was seen on 18.16: a server that runs does not notice. `is_readonly` stays 0, selects and freezes go on, and inserts
//! fail. `DROP TABLE` goes; a table that is created again at its path makes the place anew, or joins the replicas that are
//! there. One that is started again does not start, over the definition of the table, until that is moved away by hand.
//! *Not tried*: later servers make the table read-only, and have `SYSTEM RESTORE REPLICA`, which detaches all parts and
//! attaches them to a new place.

use mendb_model::part::TableName;
use serde::Deserialize;

use super::ClickHouse;
use super::client::literal;
use super::disks::is_table;
use super::replica::Node;
use crate::contract::replicas::LostPlace;
use crate::error::Result;

impl ClickHouse {
    /// What is not in the keeper any more of the replica that this server has.
    pub(super) fn find_lost_place(&self, told: &TableName) -> Result<Option<LostPlace>> {
        #[derive(Deserialize)]
        struct Row {
            zookeeper_path: String,
            replica_name: String,
            is_session_expired: u8,
        }
        // No column that the keeper would have to be asked for.
        let rows: Vec<Row> = self.client.rows(&format!(
            "SELECT zookeeper_path, replica_name, is_session_expired FROM system.replicas WHERE {}",
            is_table(told, "table")
        ))?;
        let Some(row) = rows.into_iter().next() else {
            return Ok(None);
        };
        if row.is_session_expired != 0 {
            return Ok(None);
        }
        let replicas = format!("{}/replicas", row.zookeeper_path);
        let found = self.client.rows::<Node>(&format!(
            "SELECT name, value FROM system.zookeeper WHERE path = {}",
            literal(&replicas)
        ));
        let place = match found {
            Ok(nodes) if nodes.iter().any(|node| node.name == row.replica_name) => return Ok(None),
            Ok(nodes) if nodes.is_empty() => row.zookeeper_path,
            Ok(_) => format!("{replicas}/{}", row.replica_name),
            Err(error) if error.is_missing_node() => row.zookeeper_path,
            // The keeper does not answer, or the server has none.
            Err(error) if error.is_of_keeper() || error.is_missing_table() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(LostPlace {
            replica: row.replica_name,
            table: told.clone(),
            place,
            can_be_restored: self.abilities.restores_replicas,
        }))
    }

    /// Has the server make it anew.
    pub(super) fn make_place_anew(&self, told: &TableName) -> Result<()> {
        if self.find_lost_place(told)?.is_none() {
            return Ok(());
        }
        // A server that has not noticed makes the table read-only now, without which it refuses.
        for verb in ["RESTART", "RESTORE"] {
            let sql = format!("SYSTEM {verb} REPLICA {}", told.sql());
            let done = self.client.execute(&sql);
            done.map_err(|error| error.during(format_args!("restore the replica of {told}")))?;
        }
        Ok(())
    }
}
