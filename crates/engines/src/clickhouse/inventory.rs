//! The active parts of a table, by the server's metadata.
//!
//! *Consistency*: parts are those of one moment. Where the server does not tell their hashes, these are
//! read from `checksums.txt`; a part that a merge takes away meanwhile has the question asked again, at
//! most [`ATTEMPTS_MAX`] times. *Cost*: three queries, whatever the number of parts.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;

use mendb_model::part::{Hash128, Inventory, Mutation, Part, TableName, has_files};
use serde::Deserialize;

use super::ClickHouse;
use super::client::integer;
use super::disks::{is_table, missing};
use super::part_files;
use super::server::{MOMENT, Moment, ToldMoment};
use crate::error::{EngineError, Remedy, Result};

const ATTEMPTS_MAX: u32 = 5;
/// What the partition of a part begins with that holds nothing but updates of other parts.
pub(super) const PATCH: &str = "patch-";
/// `patch-`, a hash of the columns that it updates, and `-`, before the partition that it is for.
const PATCH_PREFIX_BYTES: usize = PATCH.len() + 32 + 1;

/// A part as `system.parts` has it.
#[derive(Debug, Deserialize)]
struct ToldPart {
    name: String,
    partition_id: String,
    partition: String,
    path: String,
    #[serde(deserialize_with = "integer")]
    rows: u64,
    #[serde(deserialize_with = "integer")]
    bytes_on_disk: u64,
    #[serde(deserialize_with = "integer")]
    max_block_number: i64,
    #[serde(deserialize_with = "integer")]
    data_version: i64,
    #[serde(deserialize_with = "integer")]
    modified_at_s: i64,
    #[serde(default)]
    hash_of_all_files: String,
    #[serde(default)]
    disk_name: String,
}

/// A table as `system.tables` has it.
#[derive(Debug, Deserialize)]
struct ToldTable {
    engine: String,
    #[serde(default)]
    uuid: String,
    #[serde(flatten)]
    moment: ToldMoment,
}

impl ClickHouse {
    /// The active parts of a table, by the name that the server has for it.
    pub(super) fn take_inventory(&self, name: &TableName) -> Result<Inventory> {
        for _ in 0..ATTEMPTS_MAX {
            if let Some(inventory) = self.try_inventory(name)? {
                return Ok(inventory);
            }
        }
        let message = format!(
            "parts of {name} went away {ATTEMPTS_MAX} times while they were looked at: too many merges"
        );
        Err(EngineError::new(Remedy::Retry, message))
    }

    /// `None` if a part went away in between.
    fn try_inventory(&self, name: &TableName) -> Result<Option<Inventory>> {
        let table = self.told_table(name)?;
        let incarnation = self.incarnation_of(name, &table)?;
        let moment = Moment::from(table.moment);
        if has_files(&table.engine) {
            let table = self.plain_table(name)?.ok_or_else(|| missing(name))?;
            return Ok(Some(Inventory {
                taken_at_ms: moment.now_ms,
                incarnation,
                run: moment.run,
                parts: self.plain_part(&table)?.into_iter().collect(),
                mutations: Vec::new(),
                patches: Vec::new(),
                partitions: BTreeMap::new(),
                is_replicated: false,
            }));
        }
        let mutations = self.pending_mutations(name)?;
        let told = self.told_parts(name)?;
        let patches = unapplied(&told);
        let mut parts = Vec::with_capacity(told.len());
        let mut partitions = BTreeMap::new();
        for told in told {
            if told.partition_id.starts_with(PATCH) {
                continue;
            }
            match self.part(name, &told)? {
                Some(part) => parts.push(part),
                None => return Ok(None),
            }
            partitions.insert(told.partition_id, told.partition);
        }
        let mut inventory = Inventory {
            taken_at_ms: moment.now_ms,
            incarnation,
            run: moment.run,
            parts,
            mutations,
            patches,
            partitions,
            is_replicated: table.engine.starts_with("Replicated"),
        };
        inventory.sort();
        Ok(Some(inventory))
    }

    fn told_parts(&self, name: &TableName) -> Result<Vec<ToldPart>> {
        let hash = if self.abilities.part_hashes {
            ", hash_of_all_files"
        } else {
            ""
        };
        let disk = if self.abilities.part_disks {
            ", disk_name"
        } else {
            ""
        };
        Ok(self.client.rows(&format!(
            "SELECT name, partition_id, partition, path, rows, bytes_on_disk, max_block_number, \
             toInt64(data_version) AS data_version, \
             toInt64(toUnixTimestamp(modification_time)) AS modified_at_s{hash}{disk} \
             FROM system.parts WHERE active AND {}",
            is_table(name, "table")
        ))?)
    }

    /// `None` if it went away.
    fn part(&self, table: &TableName, told: &ToldPart) -> Result<Option<Part>> {
        let unidentified = |why: &dyn std::fmt::Display| {
            let message = format!(
                "part {} of {table} cannot be identified: {why}; leave the table out: --exclude-tables {table}",
                told.name
            );
            EngineError::new(Remedy::Request, message)
        };
        let hash: Hash128 = if self.abilities.part_hashes {
            let hash = told.hash_of_all_files.parse();
            hash.map_err(|error| unidentified(&error))?
        } else {
            match part_files::hash_of_live(&self.places.seen(&told.path)) {
                Ok(hash) => hash,
                Err(error) if error.is_gone() => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        };
        let disk = match told.disk_name.as_str() {
            "" => "default",
            disk => disk,
        };
        let part = Part::new(&told.name, told.rows, told.bytes_on_disk, hash, disk);
        let mut part = part.map_err(|error| unidentified(&error))?;
        part.modified_at_s = Some(told.modified_at_s);
        Ok(Some(part))
    }

    /// Mutations that are not through all parts.
    ///
    /// Of a replicated table the parts themselves tell: 18.16 counts a range of numbers that was replaced as a part which
    /// no mutation ever reaches, and never calls the mutation done.
    pub(super) fn pending_mutations(&self, name: &TableName) -> Result<Vec<Mutation>> {
        #[derive(Deserialize)]
        struct Row {
            mutation_id: String,
            command: String,
            #[serde(deserialize_with = "integer")]
            parts_to_do: i64,
            partition_ids: Vec<String>,
            numbers: Vec<String>,
        }
        if !self.abilities.mutations {
            return Ok(Vec::new());
        }
        let rows: Vec<Row> = self.client.rows(&format!(
            "SELECT mutation_id, command, parts_to_do, block_numbers.partition_id AS partition_ids, \
             arrayMap(number -> toString(number), block_numbers.number) AS numbers \
             FROM system.mutations WHERE NOT is_done AND {}",
            is_table(name, "table")
        ))?;
        // A mutation of a table that is not replicated has one number for all partitions.
        let is_of_replicas = |row: &Row| !row.partition_ids.iter().any(String::is_empty);
        let parts = match rows.iter().any(is_of_replicas) {
            true => self.told_parts(name)?,
            false => Vec::new(),
        };
        let mut mutations = Vec::new();
        for row in rows {
            let mut parts_to_do = u64::try_from(row.parts_to_do).unwrap_or(0);
            if is_of_replicas(&row) {
                let mut numbers = HashMap::new();
                for (partition_id, number) in row.partition_ids.iter().zip(&row.numbers) {
                    let number: i64 = number.parse().map_err(|_| {
                        let id = &row.mutation_id;
                        let message =
                            format!("mutation {id} of {name} has {number:?} as its number");
                        EngineError::new(Remedy::Request, message)
                    })?;
                    numbers.insert(partition_id.as_str(), number);
                }
                let is_to_do = |part: &&ToldPart| {
                    let number = numbers.get(part.partition_id.as_str());
                    number.is_some_and(|number| part.data_version < *number)
                };
                parts_to_do = parts.iter().filter(is_to_do).count() as u64;
                if parts_to_do == 0 {
                    continue;
                }
            }
            mutations.push(Mutation {
                mutation_id: row.mutation_id,
                command: row.command,
                parts_to_do,
            });
        }
        Ok(mutations)
    }

    /// What tells a table from another of its name: its UUID, or the directory that was made for it.
    pub(super) fn incarnation(&self, name: &TableName) -> Result<String> {
        self.incarnation_of(name, &self.told_table(name)?)
    }

    fn told_table(&self, name: &TableName) -> Result<ToldTable> {
        let uuid = if self.abilities.uuids {
            ", toString(uuid) AS uuid"
        } else {
            ""
        };
        let rows: Vec<ToldTable> = self.client.rows(&format!(
            "SELECT engine{uuid}, {MOMENT} FROM system.tables WHERE {}",
            is_table(name, "name")
        ))?;
        rows.into_iter().next().ok_or_else(|| missing(name))
    }

    fn incarnation_of(&self, name: &TableName, table: &ToldTable) -> Result<String> {
        if table.uuid.bytes().any(|byte| !matches!(byte, b'0' | b'-')) {
            return Ok(table.uuid.clone());
        }
        if has_files(&table.engine) {
            let table = self.plain_table(name)?.ok_or_else(|| missing(name))?;
            return table.incarnation();
        }
        let directories = self.table_directories(name)?;
        let Some((_, directory)) = directories.first() else {
            return Err(missing(name));
        };
        // Written once, when the table is created; a number of an inode alone may be used again.
        let marker = directory.join("format_version.txt");
        let identity = fs::metadata(directory).and_then(|of| Ok((of, fs::metadata(&marker)?)));
        match identity {
            Ok((directory, marker)) => Ok(format!(
                "{}-{}-{}-{}.{:09}",
                directory.dev(),
                directory.ino(),
                marker.ino(),
                marker.mtime(),
                marker.mtime_nsec()
            )),
            Err(error) => {
                let message = format!(
                    "{} cannot be read: {error}; run mendb on the host of the server as a user who may \
                     read its files, or say where they are with data_path",
                    marker.display()
                );
                Err(EngineError::new(Remedy::Repair, message))
            }
        }
    }
}

/// Names of the patch parts that are not in all parts of their partition yet. Those that are stay for a
/// while.
fn unapplied(parts: &[ToldPart]) -> Vec<String> {
    let patches = parts.iter().filter_map(|patch| {
        let partition = patch.partition_id.strip_prefix(PATCH)?;
        let partition = partition.get(PATCH_PREFIX_BYTES - PATCH.len()..)?;
        let is_pending = parts.iter().any(|part| {
            part.partition_id == partition && part.data_version < patch.max_block_number
        });
        is_pending.then(|| patch.name.clone())
    });
    patches.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, partition_id: &str, max_block_number: i64, data_version: i64) -> ToldPart {
        ToldPart {
            name: name.to_owned(),
            partition_id: partition_id.to_owned(),
            partition: String::new(),
            path: String::new(),
            rows: 1,
            bytes_on_disk: 1,
            max_block_number,
            data_version,
            modified_at_s: 1,
            hash_of_all_files: String::new(),
            disk_name: String::new(),
        }
    }

    #[test]
    fn a_patch_counts_until_every_part_before_it_has_it() {
        let patch = "patch-cf14b749ab54d61846c9320e36c08e85-0";
        let mut parts = vec![
            part("0_1_8_1_10", "0", 8, 10),
            part("0_9_9_0", "0", 9, 9),
            part("1_1_1_0", "1", 1, 1),
            part("patch", patch, 7, 5),
        ];
        assert!(unapplied(&parts).is_empty());
        parts.push(part("0_2_2_0", "0", 2, 2));
        assert_eq!(unapplied(&parts), ["patch"]);
    }
}
