//! What a server is and what it can do: told by itself, not guessed from its version.

use std::collections::HashSet;

use mendb_model::part::ServerRun;
use serde::Deserialize;

use super::ClickHouse;
use super::client::{Client, Result, integer};
use crate::contract::parts::ServerInfo;
use crate::error::{EngineError, Remedy};

/// Since this version a server makes the place of a replica in its keeper anew.
const RESTORES_REPLICAS_SINCE: (u32, u32) = (21, 7);
/// Since this version single parts can be dropped. The server does not tell: asking for it is doing it.
const DROPS_PARTS_SINCE: (u32, u32) = (20, 9);

/// Since this version a part that is dropped or detached is replaced by an empty one and its files are
/// removed as those of any other, which the part log tells. (22.10 began it; this is the first with
/// long-term support after.)
const LOGS_WHAT_WENT_SINCE: (u32, u32) = (23, 3);

/// The setting that has the server show credentials, where it is allowed to.
pub(super) const SHOW_SECRETS: &str = "format_display_secrets_in_show_and_select";

/// What answers for settings, among the tables of `system`.
const SETTINGS: &str = "settings";

/// What differs between servers of different ages.
#[derive(Debug, Clone)]
pub(super) struct Abilities {
    /// Whether it has `SYSTEM RESTORE REPLICA`.
    pub(super) restores_replicas: bool,
    /// Its version, as it prints it.
    pub(super) version: String,
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
    /// Credentials in definitions are hidden unless [`SHOW_SECRETS`] is set.
    pub(super) hides_secrets: bool,
    /// `ALTER TABLE … DROP PART` works.
    pub(super) drops_parts: bool,
    /// `system.part_log` has a line for every part whose files are removed.
    pub(super) logs_what_went: bool,
}

impl Abilities {
    /// Asks the server.
    ///
    /// # Errors
    /// It does not answer, or shows the user nothing.
    pub(super) fn of(client: &Client) -> crate::Result<Self> {
        #[derive(Deserialize)]
        struct Column {
            table: String,
            name: String,
            version: String,
        }
        let columns: Vec<Column> = client.rows(&format!(
            "SELECT table, name, version() AS version FROM system.columns WHERE database = 'system' AND table IN \
             ('parts', 'tables', 'disks', 'storage_policies', 'mutations', 'dictionaries') \
             UNION ALL SELECT '{SETTINGS}' AS table, name, version() AS version FROM system.settings \
             WHERE name = '{SHOW_SECRETS}'"
        ))?;
        let version = match columns.iter().find(|column| column.table != SETTINGS) {
            Some(column) => column.version.clone(),
            None => {
                let message = "the server shows this user no columns of its tables of parts: let the user read \
                     those of the database system (GRANT SELECT ON system.*)";
                return Err(EngineError::new(Remedy::Request, message));
            }
        };
        let columns: HashSet<(String, String)> = columns
            .into_iter()
            .map(|column| (column.table, column.name))
            .collect();
        let has = |table: &str, name: &str| columns.contains(&(table.to_owned(), name.to_owned()));
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
            hides_secrets: has(SETTINGS, SHOW_SECRETS),
            drops_parts: major_minor(&version) >= DROPS_PARTS_SINCE,
            logs_what_went: major_minor(&version) >= LOGS_WHAT_WENT_SINCE,
            restores_replicas: major_minor(&version) >= RESTORES_REPLICAS_SINCE,
            version,
        })
    }
}

/// `(20, 9)` of `20.9.1.4585`.
fn major_minor(version: &str) -> (u32, u32) {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// What a question selects that asks for the moment too, see [`ToldMoment`].
pub(super) const MOMENT: &str =
    "hostName() AS host, toInt64(toUnixTimestamp(now())) AS now_s, toInt64(uptime()) AS up_s";

/// The answer to [`MOMENT`].
#[derive(Debug, Deserialize)]
pub(super) struct ToldMoment {
    host: String,
    #[serde(deserialize_with = "integer")]
    now_s: i64,
    #[serde(deserialize_with = "integer")]
    up_s: i64,
}

impl From<ToldMoment> for Moment {
    fn from(told: ToldMoment) -> Self {
        Self {
            now_ms: u64::try_from(told.now_s).unwrap_or(0) * 1000,
            run: ServerRun {
                host: told.host,
                started_at_s: told.now_s - told.up_s,
            },
        }
    }
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
        let told: ToldMoment = self.client.row(&format!("SELECT {MOMENT}"))?;
        Ok(told.into())
    }

    pub(super) fn server_info(&self) -> Result<ServerInfo> {
        let moment = self.moment()?;
        Ok(ServerInfo {
            version: self.abilities.version.clone(),
            run: moment.run,
            now_ms: moment.now_ms,
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
