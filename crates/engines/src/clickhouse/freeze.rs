//! Freezes: hard links to the parts of tables, made by the server below `shadow/` of each disk.
//!
//! *Consistency*: the server links all active parts of one table at one moment, so what is found in the
//! freeze is what was live then, whatever merges or inserts go on: the inventory of a table is made from
//! it. Tables follow one right after another. *Crash*: a freeze counts once its record is written
//! ([`super::freeze_record`]); what an earlier attempt left without one is dropped by the next freeze of
//! that name or by dropping it. Restarts of the server do not touch it. A power failure may, since the
//! server does not make its links durable: that is found out when it is read.
//! *Hazard*: updates in patch parts are not frozen by the server, so they are applied before, which waits
//! until the server is done and does not end while its merges are stopped.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mendb_model::part::{FILES_PARTITION, Inventory, Part, PartName, ServerRun, TableName};
use serde::Deserialize;

use super::ClickHouse;
use super::client::literal;
use super::disks::is_table;
use super::freeze_record::{FreezeRecord, FrozenDirectory, TableRecord, freeze_name};
use super::inventory::PATCH;
use super::markers::unusable;
use super::part_files;
use super::plain::PlainTable;
use crate::contract::parts::{Disk, Freeze, FreezeTable, FrozenPart, FrozenTable, RefusedTable};
use crate::contract::{Lock, LockKind};
use crate::error::{EngineError, Remedy, Result};

/// How often tables are frozen again because one was created anew or the server was restarted meanwhile.
const ATTEMPTS_MAX: u32 = 3;

/// A table that is being frozen: as asked for, as the server calls it, and as it was just before.
struct Target<'a> {
    table: &'a FreezeTable,
    told_name: TableName,
    before: Inventory,
}

/// The tables of a freeze of which each succeeds or is refused alone.
#[derive(Default)]
struct Refusals {
    tables: Vec<RefusedTable>,
}

impl Refusals {
    /// What was made of a table; `None` where it is refused.
    ///
    /// # Errors
    /// What failed says nothing about this table: it passes, or the server does not answer.
    fn unless<T>(&mut self, name: &TableName, made: Result<T>) -> Result<Option<T>> {
        match made {
            Ok(made) => Ok(Some(made)),
            Err(error) if error.is_of_what_was_asked() => {
                let name = name.clone();
                self.tables.push(RefusedTable { name, error });
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl ClickHouse {
    /// Freezes tables under a name, of which nothing stays if that fails.
    pub(super) fn freeze_tables(&self, freeze: &str, tables: &[FreezeTable]) -> Result<Freeze> {
        self.remove_freeze(freeze)?;
        if tables.is_empty() {
            return Ok(Freeze {
                tables: Vec::new(),
                refused: Vec::new(),
            });
        }
        let frozen = self.try_freeze(freeze, tables);
        if frozen.is_err()
            && let Err(error) = self.remove_freeze(freeze)
        {
            tracing::warn!(%error, freeze, "what was frozen before the failure stays");
        }
        frozen
    }

    fn try_freeze(&self, freeze: &str, tables: &[FreezeTable]) -> Result<Freeze> {
        let disks = self.list_disks()?;
        for _ in 0..ATTEMPTS_MAX {
            let mut refusals = Refusals::default();
            let mut targets = Vec::with_capacity(tables.len());
            for table in tables {
                targets.extend(refusals.unless(&table.name, self.target(table))?);
            }
            let mut linked = Vec::with_capacity(targets.len());
            for target in targets {
                let frozen = self.freeze_one(freeze, &target);
                let frozen = refusals.unless(&target.table.name, frozen)?;
                linked.extend(frozen.map(|()| target));
            }
            let mut targets = Vec::with_capacity(linked.len());
            let mut are_still = true;
            let run = self.moment()?.run;
            for target in linked {
                let is_still = self.is_still(&run, &target);
                if let Some(is_still) = refusals.unless(&target.table.name, is_still)? {
                    are_still &= is_still;
                    targets.push(target);
                }
            }
            if are_still {
                let mut frozen = Vec::with_capacity(targets.len());
                let mut records = Vec::with_capacity(targets.len());
                for target in targets {
                    let name = &target.table.name;
                    let found = self.look_into(freeze, target, &disks);
                    if let Some((table, record)) = refusals.unless(name, found)? {
                        frozen.push(table);
                        records.push(record);
                    }
                }
                FreezeRecord::write(&self.state_directory, freeze, &records)?;
                return Ok(Freeze {
                    tables: frozen,
                    refused: refusals.tables,
                });
            }
            self.remove_freeze(freeze)?;
        }
        let message = format!(
            "tables were created anew or the server was restarted {ATTEMPTS_MAX} times while they were \
             being frozen"
        );
        Err(EngineError::new(Remedy::Retry, message))
    }

    fn target<'a>(&self, table: &'a FreezeTable) -> Result<Target<'a>> {
        let told_name = self.told_name(&table.name)?;
        self.apply_told_patches(&told_name)?;
        let before = self.take_inventory(&told_name)?;
        Ok(Target {
            table,
            told_name,
            before,
        })
    }

    pub(super) fn apply_told_patches(&self, name: &TableName) -> Result<()> {
        #[derive(Deserialize)]
        struct Row {}
        let patches: Vec<Row> = self.client.rows(&format!(
            "SELECT 1 AS found FROM system.parts WHERE active AND startsWith(partition_id, '{PATCH}') \
             AND {} LIMIT 1",
            is_table(name, "table")
        ))?;
        if patches.is_empty() {
            return Ok(());
        }
        let sql = format!("ALTER TABLE {} APPLY PATCHES", name.sql());
        self.client
            .execute_with(&sql, &[("mutations_sync", "1")])
            .map_err(|error| error.during(format_args!("apply the patches of {name}")))
    }

    fn freeze_one(&self, freeze: &str, target: &Target<'_>) -> Result<()> {
        let mut parts = target.before.parts.iter();
        let may_have_files = parts.all(|part| part.partition_id == FILES_PARTITION);
        if may_have_files && let Some(table) = self.plain_table(&target.told_name)? {
            return self.freeze_plain(freeze, target, &table);
        }
        let name = literal(&freeze_name(freeze));
        let table = target.told_name.sql();
        let statements = match &target.table.partitions {
            None => vec![format!("ALTER TABLE {table} FREEZE WITH NAME {name}")],
            Some(partitions) => {
                // A server of 26.9 dies when it is told to freeze a month of the deprecated syntax by its id.
                let has_days = |part: &Part| {
                    (part.name.parse::<PartName>()).is_ok_and(|name| name.days.is_some())
                };
                let is_deprecated = target.before.parts.iter().any(has_days);
                let statement = |id: &String| {
                    let partition = match is_deprecated {
                        true => id.clone(),
                        false => format!("ID {}", literal(id)),
                    };
                    format!("ALTER TABLE {table} FREEZE PARTITION {partition} WITH NAME {name}")
                };
                partitions.iter().map(statement).collect()
            }
        };
        for statement in statements {
            self.client
                .execute(&statement)
                .map_err(|error| error.during(format_args!("freeze {}", target.table.name)))?;
        }
        Ok(())
    }

    /// Copies a table that has no parts to where those of others are linked.
    fn freeze_plain(&self, freeze: &str, target: &Target<'_>, table: &PlainTable) -> Result<()> {
        let asked = target.table.partitions.as_ref();
        let is_asked = asked.is_none_or(|asked| asked.iter().any(|id| id == FILES_PARTITION));
        // What is only in memory has no directory.
        if !is_asked || !table.directory().is_dir() {
            return Ok(());
        }
        let disks = self.list_disks()?;
        let disk = disks.iter().find(|disk| disk.name == table.disk());
        let below = disk.and_then(|disk| {
            let below = table.directory().strip_prefix(&disk.path).ok()?;
            Some(
                disk.path
                    .join("shadow")
                    .join(freeze_name(freeze))
                    .join(below),
            )
        });
        let into = below.ok_or_else(|| {
            let message = format!(
                "{} is on none of the server's disks: it cannot be frozen",
                table.directory().display()
            );
            EngineError::new(Remedy::Request, message)
        })?;
        self.copy_plain(table, &into)
    }

    /// Whether names of parts still mean what they did before: in another run of the server or in a table
    /// that was created anew, numbers begin again.
    fn is_still(&self, run: &ServerRun, target: &Target<'_>) -> Result<bool> {
        let before = &target.before;
        Ok(run.is_same(&before.run) && self.incarnation(&target.told_name)? == before.incarnation)
    }

    fn look_into(
        &self,
        freeze: &str,
        target: Target<'_>,
        disks: &[Disk],
    ) -> Result<(FrozenTable, TableRecord)> {
        let directories = self.frozen_directories(freeze, &target.told_name, disks)?;
        let Target { table, before, .. } = target;
        let known: HashMap<(&str, &str), &Part> = before
            .parts
            .iter()
            .map(|part| ((part.disk.as_str(), part.name.as_str()), part))
            .collect();
        let mut frozen = Vec::new();
        for directory in &directories {
            let disk = &directory.disk;
            for name in directory.part_names(disks)? {
                frozen.push(match known.get(&(disk, &name)) {
                    Some(part) => (*part).clone(),
                    // It came after the inventory was taken.
                    None => {
                        part_files::read(&directory.path(disks)?.join(&name), &name, disk)?.part
                    }
                });
            }
        }
        let mut current_parts = Inventory {
            parts: frozen,
            ..before
        };
        current_parts.sort();
        let record = TableRecord::new(table.name.clone(), directories, &current_parts.parts);
        if let Some(asked) = &table.partitions {
            let others = before
                .parts
                .into_iter()
                .filter(|part| !asked.contains(&part.partition_id));
            current_parts.parts.extend(others);
            current_parts.sort();
        }
        self.add_partitions(&target.told_name, &mut current_parts)?;
        self.add_mutations(&target.told_name, &mut current_parts)?;
        let parts = record.frozen_parts(disks)?;
        let frozen = FrozenTable {
            name: table.name.clone(),
            current_parts,
            parts,
        };
        Ok((frozen, record))
    }

    /// Adds the values of partitions that came after the inventory was taken.
    fn add_partitions(&self, name: &TableName, inventory: &mut Inventory) -> Result<()> {
        let Inventory {
            parts, partitions, ..
        } = inventory;
        let is_known = |part: &Part| partitions.contains_key(&part.partition_id);
        if !parts.iter().all(is_known) {
            for partition in self.live_partitions(name)? {
                partitions.extend(partition.value.map(|value| (partition.id, value)));
            }
        }
        Ok(())
    }

    /// Adds mutations that began after the inventory was taken; one of them may have been frozen halfway.
    fn add_mutations(&self, name: &TableName, inventory: &mut Inventory) -> Result<()> {
        let known: HashSet<String> = inventory
            .mutations
            .iter()
            .map(|mutation| mutation.mutation_id.clone())
            .collect();
        let pending = self.pending_mutations(name)?.into_iter();
        let new = pending.filter(|mutation| !known.contains(&mutation.mutation_id));
        inventory.mutations.extend(new);
        Ok(())
    }

    /// Where the parts of a table are in a freeze, on each disk that has some.
    fn frozen_directories(
        &self,
        freeze: &str,
        name: &TableName,
        disks: &[Disk],
    ) -> Result<Vec<FrozenDirectory>> {
        let mut directories = Vec::new();
        for (disk, live) in self.table_directories(name)? {
            let Some(at) = disks.iter().find(|known| known.name == disk) else {
                continue;
            };
            let Ok(below) = live.strip_prefix(&at.path) else {
                continue;
            };
            let below = Path::new("shadow").join(freeze_name(freeze)).join(below);
            if at.path.join(&below).exists() {
                directories.push(FrozenDirectory { disk, below });
            }
        }
        Ok(directories)
    }

    /// The parts of a table in a freeze.
    pub(super) fn frozen_parts(&self, freeze: &str, name: &TableName) -> Result<Vec<FrozenPart>> {
        let record = FreezeRecord::read(&self.state_directory, freeze)?;
        let Some(table) = record.as_ref().and_then(|record| record.place_of(name)) else {
            let message = format!("there is no freeze {freeze} of table {name}");
            return Err(EngineError::new(Remedy::Refreeze, message));
        };
        let table = TableRecord::read(&self.state_directory, freeze, table)?;
        table.frozen_parts(&self.list_disks()?)
    }

    /// Whether a freeze is there, with all its directories.
    pub(super) fn has_freeze(&self, freeze: &str) -> Result<bool> {
        let Some(record) = FreezeRecord::read(&self.state_directory, freeze)? else {
            return Ok(false);
        };
        let disks = self.list_disks()?;
        for directory in record.tables.iter().flat_map(|table| &table.directories) {
            // A disk that the server has no more has taken what was frozen on it along.
            let Ok(path) = directory.path(&disks) else {
                return Ok(false);
            };
            match fs::metadata(&path) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(unusable(&path, &error)),
            }
        }
        Ok(true)
    }

    /// Tables that are frozen for a backup, as locks of its operation: startup
    /// releases those of finished operations, which drops the freeze. Freezes that let a mend be undone are kept on purpose.
    pub(super) fn freeze_locks(&self) -> Result<Vec<Lock>> {
        let records = FreezeRecord::all(&self.state_directory)?;
        let backups = records.into_iter().filter(|record| !record.is_for_undo());
        let locks = backups.flat_map(|record| {
            let tables = record.tables.into_iter();
            tables.map(move |table| Lock {
                table: table.name.to_string(),
                operation: record.freeze.clone(),
                kind: LockKind::Backup,
            })
        });
        Ok(locks.collect())
    }

    /// Removes a freeze, whole or in part, from all disks, and then its record.
    pub(super) fn remove_freeze(&self, freeze: &str) -> Result<()> {
        let record = FreezeRecord::read(&self.state_directory, freeze)?;
        for disk in self.list_disks()? {
            let shadow = disk.path.join("shadow").join(freeze_name(freeze));
            if let Err(refused) = remove_directory(&shadow) {
                // The server owns the files.
                self.unfreeze(freeze, record.as_ref());
                remove_directory(&shadow).map_err(|_| unremovable(&shadow, &refused))?;
            }
        }
        FreezeRecord::remove(&self.state_directory, freeze)
    }

    /// Has the server drop what it can of a freeze.
    fn unfreeze(&self, freeze: &str, record: Option<&FreezeRecord>) {
        for table in record.iter().flat_map(|record| &record.tables) {
            let sql = self.told_name(&table.name).map(|name| {
                let freeze = literal(&freeze_name(freeze));
                format!("ALTER TABLE {} UNFREEZE WITH NAME {freeze}", name.sql())
            });
            if let Err(error) = sql.and_then(|sql| self.client.execute(&sql)) {
                tracing::debug!(%error, table = %table.name, "the server does not unfreeze");
            }
        }
    }
}

impl FrozenDirectory {
    /// Names of the parts in it.
    fn part_names(&self, disks: &[Disk]) -> Result<Vec<String>> {
        let path = self.path(disks)?;
        let entries = fs::read_dir(&path).map_err(|error| unreadable(&path, &error))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(&path, &error))?;
            let name = entry.file_name().into_string().unwrap_or_default();
            if name.parse::<PartName>().is_ok() {
                names.push(name);
            }
        }
        Ok(names)
    }
}

impl TableRecord {
    /// Its parts with their directories.
    fn frozen_parts(&self, disks: &[Disk]) -> Result<Vec<FrozenPart>> {
        let mut found: HashMap<&str, (PathBuf, HashSet<String>)> = HashMap::new();
        for directory in &self.directories {
            let names = directory.part_names(disks)?.into_iter().collect();
            found.insert(&directory.disk, (directory.path(disks)?, names));
        }
        let parts = self.parts.iter().map(|part| {
            let directory = found
                .get(part.disk.as_str())
                .filter(|(_, names)| names.contains(&part.name))
                .map(|(directory, _)| directory.join(&part.name));
            let directory = directory.ok_or_else(|| {
                let message = format!(
                    "part {} of {} is not in its freeze any more",
                    part.name, self.name
                );
                EngineError::new(Remedy::Refreeze, message)
            })?;
            Ok(FrozenPart {
                name: part.name.clone(),
                disk: part.disk.clone(),
                directory,
                bytes: part.bytes,
            })
        });
        parts.collect()
    }
}

fn remove_directory(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> EngineError {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => Remedy::Refreeze,
        _ => Remedy::Repair,
    };
    EngineError::new(
        remedy,
        format!("{} cannot be read: {error}", path.display()),
    )
}

fn unremovable(path: &Path, error: &io::Error) -> EngineError {
    let message = format!(
        "{} cannot be removed: {error}; run mendb as the server's user or as root",
        path.display()
    );
    EngineError::new(Remedy::Repair, message)
}
