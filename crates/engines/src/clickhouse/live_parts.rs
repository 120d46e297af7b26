//! The parts of one partition, with where they are.

use std::path::PathBuf;

use mendb_model::part::{Hash128, Part, PartName, TableName};
use serde::Deserialize;

use super::ClickHouse;
use super::client::{integer, literal};
use super::disks::is_table;
use super::part_files;
use crate::error::{EngineError, Remedy, Result};

/// How often the question is asked again because a part went away meanwhile.
const ATTEMPTS_MAX: u32 = 5;

/// A part that the server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FoundPart {
    pub(super) name: PartName,
    /// Queries read it; else it was replaced and its files go in a while.
    pub(super) is_live: bool,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) hash: Hash128,
    pub(super) disk: String,
    pub(super) directory: PathBuf,
}

impl From<FoundPart> for Part {
    fn from(found: FoundPart) -> Self {
        let name = found.name.to_string();
        Self::new(&name, found.rows, found.bytes, found.hash, &found.disk)
            .expect("the name of a part is read as it is printed")
    }
}

/// A part as `system.parts` has it.
#[derive(Debug, Deserialize)]
struct ToldPart {
    name: String,
    path: String,
    active: u8,
    #[serde(deserialize_with = "integer")]
    rows: u64,
    #[serde(deserialize_with = "integer")]
    bytes_on_disk: u64,
    #[serde(default)]
    disk_name: String,
    #[serde(default)]
    hash_of_all_files: String,
}

impl ClickHouse {
    /// The parts of a partition that queries read, in the order of their blocks.
    pub(super) fn live_parts(
        &self,
        told: &TableName,
        partition_id: &str,
    ) -> Result<Vec<FoundPart>> {
        let mut parts = self.parts_of(told, partition_id)?;
        parts.retain(|part| part.is_live);
        Ok(parts)
    }

    /// All parts of a partition, in the order of their blocks. None if there is no such table.
    pub(super) fn parts_of(&self, told: &TableName, partition_id: &str) -> Result<Vec<FoundPart>> {
        for _ in 0..ATTEMPTS_MAX {
            if let Some(mut parts) = self.try_parts_of(told, partition_id)? {
                parts.sort_by_key(|part| {
                    let name = &part.name;
                    (name.min_block, name.max_block, name.level, name.mutation)
                });
                return Ok(parts);
            }
        }
        let message = format!(
            "parts of {told} went away {ATTEMPTS_MAX} times while they were looked at: too many merges"
        );
        Err(EngineError::new(Remedy::Retry, message))
    }

    /// `None` if a live part went away.
    fn try_parts_of(&self, told: &TableName, partition_id: &str) -> Result<Option<Vec<FoundPart>>> {
        let newer = [
            (self.abilities.part_hashes, ", hash_of_all_files"),
            (self.abilities.part_disks, ", disk_name"),
        ];
        let newer: String = newer
            .iter()
            .filter(|(has, _)| *has)
            .map(|(_, sql)| *sql)
            .collect();
        let parts: Vec<ToldPart> = self.client.rows(&format!(
            "SELECT name, path, toUInt8(active) AS active, rows, bytes_on_disk{newer} FROM system.parts \
             WHERE {} AND partition_id = {}",
            is_table(told, "table"),
            literal(partition_id)
        ))?;
        let mut found = Vec::with_capacity(parts.len());
        for part in parts {
            match self.found(&part)? {
                Some(part) => found.push(part),
                None if part.active == 0 => {}
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    /// `None` if it went away.
    fn found(&self, told: &ToldPart) -> Result<Option<FoundPart>> {
        let unknown = |error: &dyn std::fmt::Display| {
            let message = format!("part {} cannot be identified: {error}", told.name);
            EngineError::new(Remedy::Request, message)
        };
        let directory = self.places.seen(told.path.trim_end_matches('/'));
        let hash = if self.abilities.part_hashes {
            let hash = told.hash_of_all_files.parse();
            hash.map_err(|error| unknown(&error))?
        } else {
            match part_files::hash_of_live(&directory) {
                Ok(hash) => hash,
                Err(error) if error.is_gone() => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        };
        let disk = match told.disk_name.as_str() {
            "" => "default",
            disk => disk,
        };
        Ok(Some(FoundPart {
            name: told.name.parse().map_err(|error| unknown(&error))?,
            is_live: told.active != 0,
            rows: told.rows,
            bytes: told.bytes_on_disk,
            hash,
            disk: disk.to_owned(),
            directory,
        }))
    }

    /// Whether updates that are kept beside the parts of a partition may still change what queries read.
    pub(super) fn has_patches(&self, told: &TableName, partition_id: &str) -> Result<bool> {
        #[derive(Deserialize)]
        struct Row {
            #[serde(deserialize_with = "integer")]
            patches: u64,
        }
        let row: Row = self.client.row(&format!(
            "SELECT count() AS patches FROM system.parts WHERE active AND {} \
             AND match(partition_id, '^patch-[0-9a-f]+-') AND substring(partition_id, 40) = {}",
            is_table(told, "table"),
            literal(partition_id)
        ))?;
        Ok(row.patches > 0)
    }
}
