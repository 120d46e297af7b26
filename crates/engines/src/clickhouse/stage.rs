//! Where a mend puts parts before they are live, and how all of that goes away again.
//!
//! ```text
//! <disk>/mendb/<operation>/<database.table>/…       parts that are written, then sealed; see `held` too
//! <database>.<table>__mendb_<end of operation>      the staging table of an exchange
//! <table>/detached/<partition>_<number>_<number>_… numbers from FIRST_OWN_BLOCK on: parts between the
//!                                                   staging directory and the server
//! ```
//!
//! *Crash*: a marker names all three before they are there ([`super::markers`]), and they are of no
//! use to anybody else, so the end of the operation removes them; nothing live is touched.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use mendb_model::part::{PartName, TableName};

use super::ClickHouse;
use super::disks::missing;
use super::left;
use super::links;
use super::markers::{Found, Marker, file_name, sync, table_directory, unusable};
use super::staging_root::staging_root;
use crate::contract::{Lock, LockKind};
use crate::error::{EngineError, Remedy, Result};

/// What comes between the name of a table and the operation in that of its staging table.
const STAGING: &str = "__mendb_";
/// The longest name that a staging table may have: the server makes names of files from it.
const STAGING_BYTES_MAX: usize = 180;
/// The number of the first block of our own in `detached/`. No insert will ever reach it.
const FIRST_OWN_BLOCK: i64 = 1 << 62;
/// Files that are made durable at the same time.
const SYNCS_AT_ONCE: usize = 16;
/// What the server puts before the name of a part while it attaches it.
pub(super) const ATTACHING: &str = "attaching_";

/// A part that was written, and is to get its name.
pub(super) struct WrittenPart {
    /// The directory it was written to.
    pub written: PathBuf,
    /// The directory, on the same file system, that it is to have.
    pub sealed: PathBuf,
}

impl ClickHouse {
    /// The directory of an operation for parts of a table on a disk.
    pub(super) fn stage_directory(
        &self,
        operation: &str,
        name: &TableName,
        disk: &str,
    ) -> Result<PathBuf> {
        let disks = self.list_disks()?;
        let Some(disk) = disks.iter().find(|d| d.name == disk) else {
            let message =
                format!("the server has no local disk {disk} that parts of {name} could go to");
            return Err(EngineError::new(Remedy::Request, message));
        };
        self.markers().set(operation, name, Marker::Stage)?;
        let directory = staged_on(&disk.path, operation).join(table_directory(name));
        fs::create_dir_all(&directory).map_err(|error| unusable(&directory, &error))?;
        Ok(directory)
    }

    /// Makes written parts such as the server can take, durable, and gives them their names.
    pub(super) fn seal_parts(&self, name: &TableName, parts: &[WrittenPart]) -> Result<()> {
        let is_sealed = |part: &WrittenPart| part.sealed.exists() && !part.written.exists();
        let parts: Vec<&WrittenPart> = parts.iter().filter(|part| !is_sealed(part)).collect();
        let directories = self.table_directories(&self.told_name(name)?)?;
        let (_, directory) = directories.first().ok_or_else(|| missing(name))?;
        let table = fs::metadata(directory).map_err(|error| unusable(directory, &error))?;
        let mut own = Vec::new();
        for part in &parts {
            let given = give_directory(&part.written, &table, &mut own);
            given.map_err(|error| unusable(&part.written, &error))?;
        }
        sync_all(&own)?;
        let mut parents = BTreeSet::new();
        for part in &parts {
            let rename = || {
                links::remove(&part.sealed)?;
                fs::rename(&part.written, &part.sealed)
            };
            rename().map_err(|error| unusable(&part.sealed, &error))?;
            parents.extend(part.sealed.parent());
        }
        for parent in parents {
            sync(parent).map_err(|error| unusable(parent, &error))?;
        }
        Ok(())
    }

    /// Removes what an operation staged for a table.
    pub(super) fn drop_stage(&self, operation: &str, name: &TableName) -> Result<()> {
        let told = self.told_name(name)?;
        let staging = staging_table(operation, &told);
        self.drop_aside(&told, &staging)?;
        self.drop_staging(&staging)?;
        if self.find_table(name, &told)?.is_some() {
            self.bring_all_held_back(operation, name, &told)?;
            self.drop_detached(&told)?;
        }
        for disk in self.list_disks()? {
            let directory = staged_on(&disk.path, operation).join(table_directory(name));
            links::remove(&directory).map_err(|error| unusable(&directory, &error))?;
        }
        self.markers().unset(operation, name, Marker::Stage)
    }

    /// Removes a staging table, and its files where the server has forgotten it and not them: old ones
    /// that die while they drop a table do.
    pub(super) fn drop_staging(&self, staging: &TableName) -> Result<()> {
        self.drop_told_table(staging)?;
        for disk in self.list_disks()? {
            let database = disk
                .path
                .join("data")
                .join(told_file_name(&staging.database));
            let directory = database.join(told_file_name(&staging.table));
            links::remove(&directory).map_err(|error| unusable(&directory, &error))?;
        }
        Ok(())
    }

    /// Removes parts of ours that never became live from where the server would attach them.
    fn drop_detached(&self, told: &TableName) -> Result<()> {
        for (_, directory) in self.table_directories(told)? {
            let detached = directory.join("detached");
            let entries = match fs::read_dir(&detached) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(|error| unusable(&detached, &error))?,
            };
            for entry in entries {
                let entry = entry.map_err(|error| unusable(&detached, &error))?;
                if is_own(&entry.file_name().to_string_lossy()) {
                    let path = entry.path();
                    links::remove(&path).map_err(|error| unusable(&path, &error))?;
                }
            }
        }
        Ok(())
    }

    /// The tables that mends have changed or begun to stage for.
    pub(super) fn stage_locks(&self) -> Result<Vec<Lock>> {
        let found = self.markers().find(None)?;
        let mut locks: Vec<Lock> = found
            .into_iter()
            .map(|found| Lock {
                table: found.table.to_string(),
                operation: found.operation,
                kind: LockKind::Restore,
            })
            .collect();
        locks.dedup();
        Ok(locks)
    }

    /// Ends a mend that is done: starts merges again and removes what it staged. Goes on after an error,
    /// and ends with the first.
    pub(super) fn finish(&self, operation: &str) -> Result<()> {
        let markers = self.markers();
        let mut found = markers.find(Some(operation))?;
        if found.is_empty() {
            found = self.found_on_disks(operation)?;
        }
        let mut ended = Ok(());
        for found in &found {
            let undone = match found.marker {
                Marker::Merges => self.start_merges(operation, &found.table),
                Marker::Stage => self.drop_stage(operation, &found.table),
            };
            ended = ended.and(undone);
        }
        ended?;
        if found.is_empty() {
            return Ok(());
        }
        for disk in self.list_disks()? {
            let directory = staged_on(&disk.path, operation);
            links::remove(&directory).map_err(|error| unusable(&directory, &error))?;
            // Fails while other operations use it.
            let _ = fs::remove_dir(staging_root(&disk.path));
        }
        markers.forget(operation)
    }

    /// What an operation has done whose markers are lost, going by what it has staged.
    fn found_on_disks(&self, operation: &str) -> Result<Vec<Found>> {
        let staged = left::staged(&self.list_disks()?, operation)?.into_iter();
        let of_table = staged.flat_map(|table| {
            let found = move |marker| Found {
                operation: operation.to_owned(),
                table: table.clone(),
                marker,
            };
            [Marker::Merges, Marker::Stage].map(found)
        });
        Ok(of_table.collect())
    }

    /// Ends a mend that was given up. What it made live stays: its safety freeze tells what was before.
    pub(super) fn undo_stage(&self, operation: &str) -> Result<()> {
        self.finish(operation)
    }
}

/// The directory of an operation on a disk.
pub(super) fn staged_on(disk: &Path, operation: &str) -> PathBuf {
    staging_root(disk).join(file_name(operation))
}

/// The staging table of an operation, by the name that the server has for the live one.
pub(super) fn staging_table(operation: &str, told: &TableName) -> TableName {
    let end: String = operation
        .rsplit('-')
        .next()
        .unwrap_or_default()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    let mut table = told.table.clone();
    // A character that is no letter becomes three in the name of a file.
    let bytes: usize = table
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() { 1 } else { 3 })
        .sum();
    if bytes + STAGING.len() + end.len() > STAGING_BYTES_MAX {
        table = blake3::hash(table.as_bytes()).to_hex().to_string();
    }
    TableName::new(&told.database, format!("{table}{STAGING}{end}"))
}

/// A name as the server makes one of a file of it.
pub(super) fn told_file_name(name: &str) -> String {
    let mut told = String::new();
    for byte in name.bytes() {
        match byte {
            b'_' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => told.push(char::from(byte)),
            _ => told.push_str(&format!("%{byte:02X}")),
        }
    }
    told
}

/// The name in `detached/` of a part that was staged in a directory: always the same, and no other's.
/// Of its name in the backup only partition, days and level matter: a mutation number would have later
/// mutations leave the part out.
pub(super) fn own_name(directory: &Path, in_backup: PartName) -> PartName {
    let hash = blake3::hash(directory.as_os_str().as_encoded_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.as_bytes()[..8]);
    let block = FIRST_OWN_BLOCK | (i64::from_le_bytes(bytes) & (FIRST_OWN_BLOCK - 1));
    PartName {
        min_block: block,
        max_block: block,
        mutation: 0,
        ..in_backup
    }
}

/// Whether something in `detached/` is ours.
fn is_own(name: &str) -> bool {
    let name = name.strip_prefix(ATTACHING).unwrap_or(name);
    let name = name.parse::<PartName>();
    name.is_ok_and(|name| name.min_block >= FIRST_OWN_BLOCK)
}

/// Gives a directory and its files the owner of the table and modes as its server makes them, and adds
/// them to `own`. Files that have other names too are the server's: they are as they must be.
fn give_directory(
    directory: &Path,
    table: &fs::Metadata,
    own: &mut Vec<PathBuf>,
) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            give_directory(&entry.path(), table, own)?;
        } else if entry.metadata()?.nlink() == 1 {
            give(&entry.path(), table, table.mode() & 0o666)?;
            own.push(entry.path());
        }
    }
    give(directory, table, table.mode() & 0o777)?;
    own.push(directory.to_owned());
    Ok(())
}

fn give(path: &Path, table: &fs::Metadata, mode: u32) -> io::Result<()> {
    links::give(path, table)?;
    if fs::metadata(path)?.mode() & 0o777 != mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Makes files durable, several at a time: the file system then shares what each of them waits for.
fn sync_all(paths: &[PathBuf]) -> Result<()> {
    let next = AtomicUsize::new(0);
    let sync_some = || {
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            sync(path).map_err(|error| unusable(path, &error))?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..SYNCS_AT_ONCE.min(paths.len()))
            .map(|_| scope.spawn(sync_some))
            .collect();
        let ends = threads.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        ends.collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staging_table_is_told_from_others_and_fits() {
        let staging = |table: &str| {
            let told = TableName::new("d", table);
            staging_table("restore-20261121101500-3fa9c1", &told)
        };
        assert_eq!(staging("events").to_string(), "d.events__mendb_3fa9c1");
        let long = staging(&"é".repeat(100));
        assert_eq!(long.table.len(), 64 + "__mendb_3fa9c1".len());
        assert_ne!(long, staging(&"è".repeat(100)));
    }

    #[test]
    fn our_names_in_detached_are_known_from_those_of_others() {
        let own = |directory: &str, in_backup: &str| {
            own_name(Path::new(directory), in_backup.parse().unwrap())
        };
        for in_backup in ["202401_1_4_3_5", "20240101_20240131_1_4_3"] {
            let name = own("/disk/mendb/o/t/0", in_backup);
            assert_eq!(name, own("/disk/mendb/o/t/0", in_backup));
            assert_ne!(name, own("/disk/mendb/o/t/1", in_backup));
            assert!(name.to_string().ends_with("_3"), "{name}");
            assert!(is_own(&name.to_string()));
            assert!(is_own(&format!("{ATTACHING}{name}")));
        }
        for other in [
            "202401_1_1_0",
            "attaching_202401_1_1_0",
            "ignored_x",
            "broken_all_1_1_0",
        ] {
            assert!(!is_own(other), "{other}");
        }
    }

    #[test]
    fn a_sealed_part_has_the_modes_of_the_table_except_where_it_shares_files() {
        let root = tempfile::tempdir().unwrap();
        let set = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        let (table, part) = (root.path().join("table"), root.path().join("part"));
        fs::create_dir(&table).unwrap();
        set(&table, 0o750);
        fs::create_dir_all(part.join("p.proj")).unwrap();
        for name in ["data.bin", "p.proj/data.bin"] {
            fs::write(part.join(name), "x").unwrap();
            set(&part.join(name), 0o600);
        }
        let live = table.join("live.bin");
        fs::write(&live, "x").unwrap();
        set(&live, 0o604);
        fs::hard_link(&live, part.join("shared.bin")).unwrap();
        let mut own = Vec::new();
        give_directory(&part, &fs::metadata(&table).unwrap(), &mut own).unwrap();
        own.sort();
        let names = ["", "data.bin", "p.proj", "p.proj/data.bin"];
        assert_eq!(own, names.map(|name| part.join(name)));
        for name in ["data.bin", "p.proj/data.bin"] {
            assert_eq!(mode(&part.join(name)), 0o640, "{name}");
        }
        assert_eq!(mode(&part), 0o750);
        assert_eq!(mode(&part.join("p.proj")), 0o750);
        assert_eq!(mode(&live), 0o604);
    }
}
