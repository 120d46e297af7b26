//! The parts of one partition, with where they are.

use std::path::PathBuf;

use mendb_model::part::{FILES_PARTITION, Hash128, Part, PartName, TableName};
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
    pub(super) hash: Hash128,
    pub(super) disk: String,
    pub(super) directory: PathBuf,
}

/// A part as `system.parts` tells of it.
#[derive(Debug, Deserialize)]
struct ToldPart {
    name: String,
    path: String,
    active: u8,
    #[serde(deserialize_with = "integer")]
    rows: u64,
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
            "SELECT name, path, toUInt8(active) AS active, rows{newer} FROM system.parts \
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
            hash,
            disk: disk.to_owned(),
            directory,
        }))
    }

    /// Whether queries read just these parts of a partition, without updates kept beside them.
    pub(super) fn has_only(
        &self,
        told: &TableName,
        partition_id: &str,
        parts: &[&Part],
    ) -> Result<bool> {
        if partition_id == FILES_PARTITION {
            let table = self.plain_table(told)?;
            let live = table.map(|table| self.plain_part(&table)).transpose()?;
            let live = live.flatten().map(|part| part.hash);
            return Ok(live.iter().eq(parts.iter().map(|part| &part.hash)));
        }
        let live = self.live_parts(told, partition_id)?;
        let mut expected: Vec<(&str, Hash128)> = parts
            .iter()
            .map(|part| (part.name.as_str(), part.hash))
            .collect();
        expected.sort_unstable();
        let names: Vec<String> = live.iter().map(|part| part.name.to_string()).collect();
        let mut found: Vec<(&str, Hash128)> = (names.iter().zip(&live))
            .map(|(name, part)| (name.as_str(), part.hash))
            .collect();
        found.sort_unstable();
        Ok(found == expected && !self.has_patches(told, partition_id)?)
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

/// Of what was replaced, the inserts that nobody knew of before: parts with rows that are made of none
/// that were there then, and are in none that is live now.
pub(super) fn swallowed<'a>(before: &[FoundPart], after: &'a [FoundPart]) -> Vec<&'a FoundPart> {
    let is_new = |part: &FoundPart| !before.iter().any(|known| is_in(known, part));
    let goes_on = |part: &FoundPart| after.iter().any(|live| live.is_live && is_in(part, live));
    let lost: Vec<&FoundPart> = after
        .iter()
        .filter(|part| !part.is_live && part.rows > 0 && is_new(part) && !goes_on(part))
        .collect();
    // What inserts were merged into stands for them.
    let is_merged = |part: &FoundPart| {
        let mut others = lost.iter().filter(|other| other.name != part.name);
        others.any(|other| is_in(part, other))
    };
    lost.iter()
        .copied()
        .filter(|part| !is_merged(part))
        .collect()
}

/// Whether the blocks of a part are among those of another.
fn is_in(part: &FoundPart, other: &FoundPart) -> bool {
    let (inner, outer) = (&part.name, &other.name);
    outer.min_block <= inner.min_block && inner.max_block <= outer.max_block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(names: &str) -> Vec<FoundPart> {
        let part = |text: &str| FoundPart {
            name: text.trim_start_matches('-').parse().unwrap(),
            is_live: !text.starts_with('-'),
            rows: 1,
            hash: Hash128([0; 16]),
            disk: String::new(),
            directory: PathBuf::new(),
        };
        names.split_whitespace().map(part).collect()
    }

    fn lost(before: &str, after: &str) -> Vec<String> {
        let (before, after) = (parts(before), parts(after));
        let lost = swallowed(&before, &after);
        lost.iter().map(|part| part.name.to_string()).collect()
    }

    #[test]
    fn an_insert_that_a_replacement_took_away_is_noticed() {
        assert_eq!(
            lost("p_1_1_0 p_2_2_0", "-p_1_1_0 -p_2_2_0 -p_3_3_0 p_5_5_0"),
            ["p_3_3_0"]
        );
        assert_eq!(lost("", "-p_3_3_0 p_5_5_0"), ["p_3_3_0"]);
        // It got its number before others that were seen, and came after them.
        assert_eq!(lost("p_4_4_0", "-p_4_4_0 -p_3_3_0 p_6_6_0"), ["p_3_3_0"]);
        assert_eq!(
            lost("p_1_1_0", "-p_1_1_0 -p_2_2_0 -p_3_3_0 -p_2_3_1 p_5_5_0"),
            ["p_2_3_1"]
        );
    }

    #[test]
    fn what_was_to_be_replaced_and_what_lives_on_are_no_lost_inserts() {
        assert!(lost("p_1_1_0 -p_3_3_0", "-p_1_1_0 -p_3_3_0 p_5_5_0").is_empty());
        assert!(lost("p_1_1_0", "-p_1_1_0 p_3_3_0 p_5_5_0").is_empty());
        assert!(lost("p_1_1_0 p_3_3_0", "-p_1_1_0 -p_3_3_0 -p_1_3_1 p_5_5_0").is_empty());
        assert!(lost("p_1_2_0", "-p_1_2_0 -p_1_2_1 -p_5_5_0 -p_6_6_0 p_5_6_1").is_empty());
    }
}
