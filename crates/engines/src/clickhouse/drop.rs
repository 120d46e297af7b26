//! Removing parts, partitions and tables.
//!
//! *Space*: what is dropped is removed from the disk before the server answers, on every version: a part
//! leaves an empty one behind that covers it, of a few hundred bytes. What an exchange replaces stays,
//! until the server gets round to it or [`ClickHouse::release`] has it done at once.
//! *Hazard*: servers refuse to drop more than 50 GB at once unless told to. A mend has shown what it
//! removes before it began, so it tells them: by settings, or where there are none by the flag file that
//! the server looks for and removes. Until then another client's drop may use the flag up.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use mendb_model::part::{FILES_PARTITION, PartName, TableName};

use super::ClickHouse;
use super::client::{self, literal};
use super::markers::{ignore_missing, unusable};
use crate::error::{EngineError, Remedy, Result};

/// A part of this name is not active.
const NO_SUCH_PART: u32 = 232;
/// More than the server drops without being told twice.
const TOO_LARGE_TO_DROP: u32 = 359;
/// What is to be dropped as a table is a dictionary.
pub(super) const IS_A_DICTIONARY: u32 = 520;
/// Lifts the limit on servers that know these.
const NO_LIMIT: [(&str, &str); 2] = [
    ("max_table_size_to_drop", "0"),
    ("max_partition_size_to_drop", "0"),
];
/// Lifts it once on the others.
const FLAG: &str = "flags/force_drop_table";
/// An id that no partition has: they are `all`, digits with `-`, or 32 hex digits.
const NO_PARTITION: &str = "mendb";

impl ClickHouse {
    /// Removes live parts, one after the other.
    pub(super) fn drop_parts(&self, name: &TableName, parts: &[String]) -> Result<()> {
        if !self.abilities.drops_parts && !parts.is_empty() {
            let message = format!(
                "this server cannot drop single parts of {name}: exchange their partitions"
            );
            return Err(EngineError::new(Remedy::Request, message));
        }
        let told = self.told_name(name)?;
        for part in parts {
            let parsed = part.parse::<PartName>();
            if parsed.is_ok_and(|name| name.partition_id == FILES_PARTITION) {
                self.empty_plain(&told, part)?;
                continue;
            }
            let sql = format!("ALTER TABLE {} DROP PART {}", told.sql(), literal(part));
            self.execute_unlimited(&sql)?.map_err(|error| {
                if error.code() == Some(NO_SUCH_PART) {
                    let message = format!(
                        "part {part} of {name} is not there any more: it was merged or dropped meanwhile"
                    );
                    return EngineError::new(Remedy::Replan, message);
                }
                error.during(format_args!("drop part {part} of {name}"))
            })?;
        }
        Ok(())
    }

    /// Removes all parts of a partition; one without parts is no error.
    pub(super) fn drop_partition(&self, told: &TableName, partition_id: &str) -> Result<()> {
        let sql = format!(
            "ALTER TABLE {} DROP PARTITION ID {}",
            told.sql(),
            literal(partition_id)
        );
        let dropped = self.execute_unlimited(&sql)?;
        dropped
            .map_err(|error| error.during(format_args!("drop partition {partition_id} of {told}")))
    }

    /// Removes a table, view or dictionary, if it is there. Its files are gone then.
    pub(super) fn drop_table(&self, name: &TableName) -> Result<()> {
        self.drop_told_table(&self.told_name(name)?)
    }

    pub(super) fn drop_told_table(&self, told: &TableName) -> Result<()> {
        // Databases that keep a dropped table for a while have to be told not to.
        let at_once = if self.abilities.uuids { " SYNC" } else { "" };
        let drop = |kind: &str| {
            let sql = format!("DROP {kind} IF EXISTS {}{at_once}", told.sql());
            self.execute_unlimited(&sql)
        };
        let mut dropped = drop("TABLE")?;
        if dropped
            .as_ref()
            .is_err_and(|error| error.code() == Some(IS_A_DICTIONARY))
        {
            dropped = drop("DICTIONARY")?;
        }
        match dropped {
            Err(error) if !error.is_missing_table() => {
                Err(error.during(format_args!("drop {told}")))
            }
            _ => Ok(()),
        }
    }

    /// Runs a statement that drops or replaces, however much that is.
    pub(super) fn execute_unlimited(&self, sql: &str) -> Result<client::Result<()>> {
        let run = || self.client.execute_with(sql, &NO_LIMIT);
        match run() {
            Err(error) if error.code() == Some(TOO_LARGE_TO_DROP) => self.with_flag(run),
            result => Ok(result),
        }
    }

    fn with_flag(&self, run: impl Fn() -> client::Result<()>) -> Result<client::Result<()>> {
        let disks = self.list_disks()?;
        let Some(default) = disks.first() else {
            return Ok(run());
        };
        let flag = default.path.join(FLAG);
        let set = || {
            fs::create_dir_all(flag.parent().unwrap_or(&default.path))?;
            File::create(&flag)?;
            // The server removes it, by its name or through the file.
            fs::set_permissions(&flag, Permissions::from_mode(0o666))
        };
        set().map_err(|error| unusable(&flag, &error))?;
        let result = run();
        ignore_missing(fs::remove_file(&flag)).map_err(|error| unusable(&flag, &error))?;
        Ok(result)
    }

    /// Has the server remove the files of replaced parts now. It does so whenever a partition is dropped,
    /// also one that is not there; if it will not, it does so by itself some minutes later.
    pub(super) fn release(&self, told: &TableName) {
        if let Err(error) = self.drop_partition(told, NO_PARTITION) {
            tracing::debug!(%error, table = %told, "replaced parts stay on disk until the server removes them");
        }
    }
}
