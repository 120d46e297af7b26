//! Record `left_partition`: how a mend left a partition. By it a later step tells the parts of the mend, and those that
//! the server made of them, from parts that somebody else inserted.

use mendb_model::name::OperationId;
use mendb_model::part::LeftPartition;
use rusqlite::params;

use super::Journal;
use super::to_json;
use crate::error::Result;

pub(super) const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS left_partition (
    operation_id TEXT NOT NULL,
    table_idx    INTEGER NOT NULL,
    partition_id TEXT NOT NULL,
    record       TEXT NOT NULL,               -- JSON
    PRIMARY KEY (operation_id, table_idx, partition_id)
) STRICT, WITHOUT ROWID;";

impl Journal {
    /// Writes what a partition was left as, in the place of what it was left as before.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn put_left_partition(
        &self,
        id: &OperationId,
        table_idx: u32,
        left: &LeftPartition,
    ) -> Result<()> {
        self.write("write what a partition was left as", |tx| {
            tx.execute(
                "INSERT OR REPLACE INTO left_partition (operation_id, table_idx, partition_id, record)
                 VALUES (?1, ?2, ?3, ?4)",
                params![id.as_str(), table_idx, left.partition_id, to_json(left)?],
            )
        })?;
        Ok(())
    }

    /// What the partitions of a table were left as, those that were changed.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn left_partitions(&self, id: &OperationId, table_idx: u32) -> Result<Vec<LeftPartition>> {
        let records: Vec<String> =
            self.read("read what partitions were left as", |connection| {
                connection
                    .prepare(
                        "SELECT record FROM left_partition
                     WHERE operation_id = ?1 AND table_idx = ?2 ORDER BY partition_id",
                    )?
                    .query_map(params![id.as_str(), table_idx], |row| row.get(0))?
                    .collect()
            })?;
        let read = |record: String| {
            let bad = |error| self.unreadable(format!("left partition of {id}: {error}"));
            serde_json::from_str(&record).map_err(bad)
        };
        records.into_iter().map(read).collect()
    }
}
