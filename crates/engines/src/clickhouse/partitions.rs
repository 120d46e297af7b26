//! Partitions of a table, as the server tells them.

use mendb_model::part::{Partition, TableName};
use serde::Deserialize;

use super::ClickHouse;
use super::client::Result;
use super::disks::is_table;
use super::inventory::PATCH;

impl ClickHouse {
    /// The partitions that have live parts, in the order of their ids.
    pub(super) fn live_partitions(&self, name: &TableName) -> Result<Vec<Partition>> {
        #[derive(Deserialize)]
        struct Row {
            partition_id: String,
            partition: String,
        }
        let rows: Vec<Row> = self.client.rows(&format!(
            "SELECT DISTINCT partition_id, partition FROM system.parts \
             WHERE active AND {} ORDER BY partition_id",
            is_table(name, "table")
        ))?;
        let own = |row: &Row| !row.partition_id.starts_with(PATCH);
        Ok(rows
            .into_iter()
            .filter(own)
            .map(|row| Partition {
                id: row.partition_id,
                value: Some(row.partition),
            })
            .collect())
    }
}
