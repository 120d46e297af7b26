//! What the server's part log has of the parts of a table.

use mendb_model::part::{PartEvent, PartEventKind, PartLog, TableName};
use serde::Deserialize;

use super::ClickHouse;
use super::client::integer;
use super::disks::is_table;
use crate::error::Result;

impl ClickHouse {
    /// What happened to parts of a table after a time, in order; nothing where the server keeps no part log.
    /// The log of an earlier table of the same name counts too where tables have no UUID.
    pub(super) fn read_part_log(&self, name: &TableName, since_ms: u64) -> Result<PartLog> {
        #[derive(Deserialize)]
        struct Column {
            name: String,
        }
        #[derive(Deserialize)]
        struct Begin {
            #[serde(deserialize_with = "integer")]
            events: u64,
            #[serde(deserialize_with = "integer")]
            begins_at_ms: u64,
        }
        #[derive(Deserialize)]
        struct Row {
            #[serde(deserialize_with = "integer")]
            at_ms: u64,
            event: String,
            part_name: String,
            merged_from: Vec<String>,
        }
        // The log is created when it is first written.
        if let Err(error) = self.client.execute("SYSTEM FLUSH LOGS") {
            tracing::debug!(%error, "the part log is read as it is");
        }
        let columns: Vec<Column> = self.client.rows(
            "SELECT name FROM system.columns WHERE database = 'system' AND table = 'part_log'",
        )?;
        if columns.is_empty() {
            return Ok(PartLog::default());
        }
        let is_fine = |column: &Column| column.name == "event_time_microseconds";
        let at_ms = if columns.iter().any(is_fine) {
            "toUInt64(toUnixTimestamp64Milli(event_time_microseconds))"
        } else {
            "toUInt64(toUnixTimestamp(event_time)) * 1000"
        };
        let begin: Begin = self.client.row(&format!(
            "SELECT count() AS events, min({at_ms}) AS begins_at_ms FROM system.part_log"
        ))?;
        let incarnation = if self.abilities.uuids {
            format!(
                " AND table_uuid IN (SELECT uuid FROM system.tables WHERE {})",
                is_table(name, "name")
            )
        } else {
            String::new()
        };
        let rows: Vec<Row> = self.client.rows(&format!(
            "SELECT {at_ms} AS at_ms, toString(event_type) AS event, part_name, merged_from \
             FROM system.part_log \
             WHERE {}{incarnation} AND error = 0 AND event_time >= toDateTime({}) ORDER BY at_ms",
            is_table(name, "table"),
            since_ms / 1000,
        ))?;
        let events = rows.into_iter().filter_map(|row| {
            let kind = match row.event.as_str() {
                "MergeParts" | "MERGE_PARTS" => PartEventKind::Merged(row.merged_from),
                "NewPart" | "NEW_PART" | "DownloadPart" | "DOWNLOAD_PART" | "MutatePart"
                | "MUTATE_PART" => PartEventKind::Came,
                "RemovePart" | "REMOVE_PART" => PartEventKind::Went,
                _ => return None,
            };
            Some(PartEvent {
                at_ms: row.at_ms,
                part: row.part_name,
                kind,
            })
        });
        Ok(PartLog {
            begins_at_ms: (begin.events > 0).then_some(begin.begins_at_ms),
            tells_what_went: self.abilities.logs_what_went,
            events: events.collect(),
        })
    }
}
