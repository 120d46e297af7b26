//! What a server is and what it can do: told by itself, not guessed from its version.

use std::collections::HashSet;

use mendb_model::part::ServerRun;
use serde::Deserialize;

use super::ClickHouse;
use super::client::{Client, Result, integer};
use crate::contract::parts::ServerInfo;

/// Since this version single parts can be dropped. The server does not tell: asking for it is doing it.
const DROPS_PARTS_SINCE: (u32, u32) = (20, 9);

/// Since this version a part that is dropped or detached is replaced by an empty one and its files are
/// removed as those of any other, which the part log tells. (22.10 began it; this is the first with
/// long-term support after.)
const LOGS_WHAT_WENT_SINCE: (u32, u32) = (23, 3);

/// What differs between servers of different ages.
#[derive(Debug, Clone)]
pub(super) struct Abilities {
    /// `system.parts` tells the hash of a part.
    pub(super) part_hashes: bool,
    /// `system.parts` names the disk of a part: there are several.
    pub(super) part_disks: bool,
    /// There is `system.disks`.
    pub(super) disks: bool,
    /// There is `system.storage_policies`, and tables name theirs.
    pub(super) policies: bool,
    /// There is `system.mutations`.
    pub(super) mutations: bool,
    /// Tables may have UUIDs.
    pub(super) uuids: bool,
    /// Tables are on several disks and `system.tables` names a directory for each.
    pub(super) data_paths: bool,
    /// `system.tables` tells what a table needs to be loaded.
    pub(super) loading_dependencies: bool,
    /// `system.dictionaries` tells whether a dictionary was read.
    pub(super) dictionary_status: bool,
    /// `system.tables` names the file that has a definition relative to the server's data, or whole.
    pub(super) metadata_paths: bool,
    /// `ALTER TABLE … DROP PART` works.
    pub(super) drops_parts: bool,
    /// `system.part_log` tells of every part whose files are removed.
    pub(super) logs_what_went: bool,
}

impl Abilities {
    /// Asks the server.
    pub(super) fn of(client: &Client) -> Result<Self> {
        #[derive(Deserialize)]
        struct Column {
            table: String,
            name: String,
        }
        let columns: Vec<Column> = client.rows(
            "SELECT table, name FROM system.columns WHERE database = 'system' AND table IN \
             ('parts', 'tables', 'disks', 'storage_policies', 'mutations', 'dictionaries')",
        )?;
        let columns: HashSet<(String, String)> = columns
            .into_iter()
            .map(|column| (column.table, column.name))
            .collect();
        let has = |table: &str, name: &str| columns.contains(&(table.to_owned(), name.to_owned()));
        let version = version(client)?;
        Ok(Self {
            part_hashes: has("parts", "hash_of_all_files"),
            part_disks: has("parts", "disk_name"),
            disks: has("disks", "path"),
            policies: has("storage_policies", "disks") && has("tables", "storage_policy"),
            mutations: has("mutations", "is_done"),
            uuids: has("tables", "uuid"),
            data_paths: has("tables", "data_paths"),
            loading_dependencies: has("tables", "loading_dependencies_table"),
            dictionary_status: has("dictionaries", "database") && has("dictionaries", "status"),
            metadata_paths: has("tables", "metadata_path"),
            drops_parts: major_minor(&version) >= DROPS_PARTS_SINCE,
            logs_what_went: major_minor(&version) >= LOGS_WHAT_WENT_SINCE,
        })
    }
}

fn version(client: &Client) -> Result<String> {
    #[derive(Deserialize)]
    struct Row {
        version: String,
    }
    let row: Row = client.row("SELECT version() AS version")?;
    Ok(row.version)
}

/// `(20, 9)` of `20.9.1.4585`.
fn major_minor(version: &str) -> (u32, u32) {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The clock of the server and the run of its process.
pub(super) struct Moment {
    /// Milliseconds since 1970.
    pub(super) now_ms: u64,
    /// The process.
    pub(super) run: ServerRun,
}

impl ClickHouse {
    pub(super) fn moment(&self) -> Result<Moment> {
        #[derive(Deserialize)]
        struct Row {
            host: String,
            #[serde(deserialize_with = "integer")]
            now_s: i64,
            #[serde(deserialize_with = "integer")]
            up_s: i64,
        }
        let row: Row = self.client.row(
            "SELECT hostName() AS host, toInt64(toUnixTimestamp(now())) AS now_s, toInt64(uptime()) AS up_s",
        )?;
        Ok(Moment {
            now_ms: u64::try_from(row.now_s).unwrap_or(0) * 1000,
            run: ServerRun {
                host: row.host,
                started_at_s: row.now_s - row.up_s,
            },
        })
    }

    pub(super) fn server_info(&self) -> Result<ServerInfo> {
        let moment = self.moment()?;
        Ok(ServerInfo {
            version: version(&self.client)?,
            run: moment.run,
            now_ms: moment.now_ms,
            drops_parts: self.abilities.drops_parts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(major_minor("26.9.2.1") >= DROPS_PARTS_SINCE);
        assert!(major_minor("20.10.1.1") >= DROPS_PARTS_SINCE);
        assert!(major_minor("18.16.1") < DROPS_PARTS_SINCE);
        assert!(major_minor("unknown") < DROPS_PARTS_SINCE);
    }
}
