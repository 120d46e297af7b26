//! Disks of the server, as this process sees them.
//!
//! Only disks whose files are those of the parts are taken: on one of object storage they are stubs that
//! point to objects, on an encrypted one their sizes and hashes are not those that the parts tell of.
//! Tables that have parts on such a disk, or may get some by their policy, are told with the reason.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mendb_model::part::TableName;
use serde::Deserialize;

use super::ClickHouse;
use super::client::{self, Client, integer, literal};
use super::definition::ToldTable;
use crate::contract::parts::Disk;
use crate::error::{EngineError, Remedy, Result};

/// The disk of servers that know no others.
const DEFAULT: &str = "default";

/// What the server says about a disk.
#[derive(Debug, Deserialize)]
pub(super) struct ToldDisk {
    name: String,
    path: String,
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    is_encrypted: u8,
    #[serde(default)]
    object_storage_type: String,
    #[serde(default, deserialize_with = "integer")]
    keep_free_space: u64,
}

impl ToldDisk {
    /// Why its files are not those of parts, if they are not.
    fn foreign(&self) -> Option<String> {
        if self.is_encrypted != 0 {
            return Some("encrypted".to_owned());
        }
        // Servers of before 21.1 do not tell; they had object storage only as a trial.
        let is_local = self.r#type.is_empty() || self.r#type.eq_ignore_ascii_case("local");
        let objects = &self.object_storage_type;
        let has_objects = !objects.is_empty() && !objects.eq_ignore_ascii_case("none");
        (!is_local || has_objects).then(|| {
            let kind = if has_objects { objects } else { &self.r#type };
            format!("of object storage ({kind})")
        })
    }
}

/// Names of disks, as the server tells them.
#[derive(Debug, Deserialize)]
struct DisksRow {
    disks: Vec<String>,
}

/// Where the server has its default disk, and where this process sees it.
pub(super) struct Places {
    /// As the server names it, with a slash at its end.
    told: String,
    /// Here.
    seen: PathBuf,
}

impl Places {
    /// Asks the server, and has the path be somewhere else if `data_path` is given.
    pub(super) fn of(
        client: &Client,
        has_disks: bool,
        data_path: Option<&Path>,
    ) -> client::Result<Self> {
        #[derive(Deserialize)]
        struct Row {
            path: String,
        }
        let told = if has_disks {
            let sql = format!("SELECT path FROM system.disks WHERE name = '{DEFAULT}'");
            client.row::<Row>(&sql)?.path
        } else {
            let sql = "SELECT data_path AS path FROM system.databases WHERE name = 'system'";
            let database = client.row::<Row>(sql)?.path;
            let root = database.strip_suffix("data/system/");
            root.unwrap_or(&database).to_owned()
        };
        let told = format!("{}/", told.trim_end_matches('/'));
        let seen = data_path.map_or_else(|| PathBuf::from(&told), Path::to_owned);
        Ok(Self { told, seen })
    }

    /// Where this process sees what the server has at a path, which may be relative to its data.
    pub(super) fn below(&self, told: &str) -> PathBuf {
        if Path::new(told).is_relative() {
            return self.seen.join(told);
        }
        self.seen(told)
    }

    /// The directory of the default disk, as this process sees it.
    pub(super) fn data_directory(&self) -> &Path {
        &self.seen
    }

    /// Where this process sees what the server has at a path.
    pub(super) fn seen(&self, told: &str) -> PathBuf {
        match told.strip_prefix(&self.told) {
            // Old servers tell two slashes of a table that was renamed: what begins with one is no path below.
            Some(below) => self.seen.join(below.trim_start_matches('/')),
            None => PathBuf::from(told),
        }
    }
}

impl ClickHouse {
    /// The disks that policies name, the default one first.
    pub(super) fn list_disks(&self) -> Result<Vec<Disk>> {
        let told = self.told_disks()?;
        let local = told.iter().filter(|disk| disk.foreign().is_none());
        let mut disks: Vec<Disk> = local
            .map(|disk| self.look_at(disk))
            .collect::<Result<_>>()?;
        disks.sort_by_key(|disk| disk.name != DEFAULT);
        Ok(disks)
    }

    /// Asked once: a disk that is added to the configuration later is known to later processes.
    fn told_disks(&self) -> Result<&[ToldDisk]> {
        if let Some(told) = self.disks.get() {
            return Ok(told);
        }
        let told = self.ask_for_disks()?;
        Ok(self.disks.get_or_init(|| told))
    }

    fn ask_for_disks(&self) -> client::Result<Vec<ToldDisk>> {
        if !self.abilities.disks {
            return Ok(vec![ToldDisk {
                name: DEFAULT.to_owned(),
                path: self.places.told.clone(),
                r#type: String::new(),
                is_encrypted: 0,
                object_storage_type: String::new(),
                keep_free_space: 0,
            }]);
        }
        // A disk that no policy names holds no parts.
        let of_policies = if self.abilities.policies {
            format!(
                "WHERE name = '{DEFAULT}' OR name IN \
                 (SELECT arrayJoin(disks) FROM system.storage_policies)"
            )
        } else {
            String::new()
        };
        self.client
            .rows(&format!("SELECT * FROM system.disks {of_policies}"))
    }

    fn look_at(&self, disk: &ToldDisk) -> Result<Disk> {
        let path = self.places.seen(&disk.path);
        let space = fs::read_dir(&path).and_then(|_| Ok(rustix::fs::statvfs(&path)?));
        let space = space.map_err(|error| not_here(&disk.name, &path, &error))?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        Ok(Disk {
            name: disk.name.clone(),
            path,
            free_bytes: free.saturating_sub(disk.keep_free_space),
            total_bytes: space.f_blocks.saturating_mul(space.f_frsize),
        })
    }

    /// Names of the disks of a table: of its policy, in its order, then others that have parts of it.
    pub(super) fn disk_names(&self, name: &TableName) -> Result<Vec<String>> {
        let policy = is_table(name, "name");
        let policy = format!("SELECT storage_policy FROM system.tables WHERE {policy}");
        let mut names = self.policy_disks(&policy)?;
        if self.abilities.part_disks {
            let rows: Vec<DisksRow> = self.client.rows(&format!(
                "SELECT groupUniqArray(disk_name) AS disks FROM system.parts WHERE active AND {}",
                is_table(name, "table")
            ))?;
            names.extend(rows.into_iter().flat_map(|row| row.disks));
        }
        if names.is_empty() {
            names.push(DEFAULT.to_owned());
        }
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        Ok(names)
    }

    /// Names of the disks of a storage policy, in its order: of that which an expression or a query names.
    pub(super) fn policy_disks(&self, policy: &str) -> client::Result<Vec<String>> {
        if !self.abilities.policies {
            return Ok(Vec::new());
        }
        let rows: Vec<DisksRow> = self.client.rows(&format!(
            "SELECT disks FROM system.storage_policies WHERE policy_name IN ({policy}) \
             ORDER BY volume_priority"
        ))?;
        Ok(rows.into_iter().flat_map(|row| row.disks).collect())
    }

    /// Why a table cannot be backed up or mended: it is on a disk whose files are not those of parts.
    pub(super) fn foreign_disk(&self, table: &ToldTable) -> Result<Option<String>> {
        let told = self.told_disks()?;
        if !table.has_parts() || told.iter().all(|disk| disk.foreign().is_none()) {
            return Ok(None);
        }
        let foreign = |name: &String| {
            let kind = told.iter().find(|disk| disk.name == *name)?.foreign()?;
            Some(format!(
                "it is on the disk {name}, which is {kind}: mendb backs up and mends only what is in \
                 files of local disks; leave it out: --exclude-tables {table} or --exclude-disks {name}",
                table = table.name
            ))
        };
        let disks = self.disk_names(&table.told_name)?;
        Ok(disks.iter().find_map(foreign))
    }

    /// The names of all disks that policies name.
    pub(super) fn all_disk_names(&self) -> Result<Vec<String>> {
        let told = self.told_disks()?.iter();
        Ok(told.map(|disk| disk.name.clone()).collect())
    }

    /// The directories of a table's parts with the names of their disks.
    pub(super) fn table_directories(&self, name: &TableName) -> Result<Vec<(String, PathBuf)>> {
        let directories = self.find_directories(name)?;
        directories.ok_or_else(|| missing(name))
    }

    /// As [`Self::table_directories`], or `None` for a table that is not there.
    pub(super) fn find_directories(
        &self,
        name: &TableName,
    ) -> Result<Option<Vec<(String, PathBuf)>>> {
        #[derive(Deserialize)]
        struct Row {
            paths: Vec<String>,
        }
        let paths = if self.abilities.data_paths {
            "data_paths"
        } else {
            "[data_path]"
        };
        let rows: Vec<Row> = self.client.rows(&format!(
            "SELECT {paths} AS paths FROM system.tables WHERE {}",
            is_table(name, "name")
        ))?;
        let Some(row) = rows.into_iter().next() else {
            return Ok(None);
        };
        let disks = self.told_disks()?;
        let directories = row.paths.iter().filter(|path| !path.is_empty());
        let directories = directories.map(|path| {
            if let Some(found) = self.find_relative(path, disks) {
                return found;
            }
            let on = disks
                .iter()
                .filter(|disk| path.starts_with(&disk.path))
                .max_by_key(|disk| disk.path.len());
            let disk = on.map_or(DEFAULT, |disk| &disk.name);
            (disk.to_owned(), self.places.seen(path))
        });
        Ok(Some(directories.collect()))
    }
}

impl ClickHouse {
    /// Where a directory is of which the server tells only its place on a disk, as of those of Join and Set.
    fn find_relative(&self, path: &str, disks: &[ToldDisk]) -> Option<(String, PathBuf)> {
        if Path::new(path).is_absolute() {
            return None;
        }
        let mut places = disks.iter().map(|disk| {
            let told = Path::new(&disk.path).join(path);
            (disk.name.clone(), self.places.seen(&told.to_string_lossy()))
        });
        places.find(|(_, directory)| directory.is_dir())
    }
}

/// The condition that a row of a system table is about a table.
pub(super) fn is_table(name: &TableName, column: &str) -> String {
    format!(
        "database = {} AND {column} = {}",
        literal(&name.database),
        literal(&name.table)
    )
}

/// A table that should be there is not.
pub(super) fn missing(name: &TableName) -> EngineError {
    let message = format!("there is no table {name} on the server");
    EngineError::new(Remedy::Request, message)
}

fn not_here(disk: &str, path: &Path, error: &io::Error) -> EngineError {
    let message = format!(
        "the server's disk {disk} should be in {}, which cannot be read here: {error}; run mendb on \
         the host of the server as a user who may read its files, or say where they are with data_path",
        path.display()
    );
    EngineError::new(Remedy::Repair, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foreign(told: &str) -> Option<String> {
        let disk: ToldDisk = serde_json::from_str(told).unwrap();
        disk.foreign()
    }

    #[test]
    fn only_disks_whose_files_are_those_of_parts_are_taken() {
        let plain = r#"{"name":"d","path":"/d/","type":"Local","object_storage_type":"None","is_encrypted":0}"#;
        assert_eq!(foreign(plain), None);
        assert_eq!(foreign(r#"{"name":"d","path":"/d/"}"#), None);
        assert_eq!(foreign(r#"{"name":"d","path":"/d/","type":"local"}"#), None);
        for (told, kind) in [
            (plain.replace(":0", ":1"), "encrypted"),
            (plain.replace("None", "S3"), "of object storage (S3)"),
            (plain.replace("Local", "s3"), "of object storage (s3)"),
        ] {
            assert_eq!(foreign(&told).as_deref(), Some(kind));
        }
    }

    #[test]
    fn only_the_default_disk_is_seen_elsewhere() {
        let places = Places {
            told: "/var/lib/clickhouse/".to_owned(),
            seen: PathBuf::from("/mnt"),
        };
        let seen = |told: &str| places.seen(told).to_str().unwrap().to_owned();
        assert_eq!(seen("/var/lib/clickhouse/store/a/"), "/mnt/store/a/");
        assert_eq!(seen("/other/store/a"), "/other/store/a");
        // Of a table that was renamed.
        assert_eq!(seen("/var/lib/clickhouse//data/d/t/"), "/mnt/data/d/t/");
    }
}
