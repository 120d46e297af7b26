//! What the server's part log tells of merges.

use mendb_model::part::{MergeEvent, TableName};
use serde::Deserialize;

use super::ClickHouse;
use super::client::integer;
use super::disks::is_table;
use crate::error::Result;

impl ClickHouse {
    /// Parts that came to a table after a time, in the order in which they did; nothing where the server
    /// keeps no part log. The log of an earlier table of the same name counts too where tables have no
    /// UUID.
    pub(super) fn logged_merges(&self, name: &TableName, since_ms: u64) -> Result<Vec<MergeEvent>> {
        #[derive(Deserialize)]
        struct Row {
            #[serde(deserialize_with = "integer")]
            at_s: u64,
            event: String,
            part_name: String,
            merged_from: Vec<String>,
        }
        // The log is created when it is first written.
        if let Err(error) = self.client.execute("SYSTEM FLUSH LOGS") {
            tracing::debug!(%error, "the part log is read as it is");
        }
        let incarnation = if self.abilities.uuids {
            format!(
                " AND table_uuid IN (SELECT uuid FROM system.tables WHERE {})",
                is_table(name, "name")
            )
        } else {
            String::new()
        };
        let rows = self.client.rows(&format!(
            "SELECT toUInt64(toUnixTimestamp(event_time)) AS at_s, toString(event_type) AS event, \
             part_name, merged_from FROM system.part_log \
             WHERE {}{incarnation} AND error = 0 AND event_time >= toDateTime({}) ORDER BY event_time",
            is_table(name, "table"),
            since_ms / 1000,
        ));
        let rows: Vec<Row> = match rows {
            Err(error) if error.is_missing_table() => return Ok(Vec::new()),
            rows => rows?,
        };
        let logged = rows.into_iter().filter_map(|row| {
            let is_merge = match row.event.as_str() {
                "MergeParts" | "MERGE_PARTS" => true,
                "NewPart" | "NEW_PART" | "DownloadPart" | "DOWNLOAD_PART" | "MutatePart"
                | "MUTATE_PART" => false,
                _ => return None,
            };
            Some(MergeEvent {
                at_ms: row.at_s * 1000,
                part: row.part_name,
                merged_from: row.merged_from,
                is_merge,
            })
        });
        Ok(logged.collect())
    }
}
