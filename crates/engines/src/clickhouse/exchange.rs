//! Giving a partition new content at once.
//!
//! ```text
//! live and staged parts --links--> staging table --verified--> REPLACE PARTITION --> live
//! ```
//!
//! *Consistency*: readers see the parts of before or those of after. Every part is linked on the disk
//! that it is on; the staging table never merges, so it holds what was asked for, in that order, or the
//! exchange ends before anything live is touched. Levels of parts may become smaller and numbers of
//! mutations go; masks of lightweight deletes are files of the part and stay.
//!
//! *Inserts*: the partition is looked at just before it is replaced, and has to be as it was. What comes
//! in the instant between is taken away by the server with the rest; it is noticed afterwards, brought
//! back, and told (remedy: replan). A partition that becomes empty is dropped, and there
//! that instant is not covered.
//!
//! *Crash*: the staging table holds the new content until the live table is seen to have it, so the
//! exchange can be repeated after a crash at any point: one that is whole is used again, another is made
//! anew. *Hazard*: a server that dies within moments after it has replaced may come back with the old
//! parts live too (18.16 keeps nothing on disk that says they were replaced, and newer ones rename part
//! after part): so their files are removed at once, and what came back goes when the exchange is repeated.

use std::fs;
use std::io;
use std::path::PathBuf;

use mendb_model::part::{Hash128, PartName, TableName};
use serde::Deserialize;

use super::ClickHouse;
use super::attach::{check_hash, own_name_of};
use super::client::literal;
use super::create::AS_IT_WAS;
use super::disks::{is_table, missing};
use super::links;
use super::live_parts::{FoundPart, swallowed};
use super::markers::{Marker, unusable};
use super::rewrite;
use super::stage::staging_table;
use crate::contract::parts::Origin;
use crate::error::{EngineError, Remedy, Result};

/// Settings of staging tables, as far as the server knows them.
const STAGING_SETTINGS: [(&str, u8); 3] = [
    // Nothing is small enough to be merged, also when the server was started again and has forgotten
    // that merges are stopped.
    ("max_bytes_to_merge_at_max_space_in_pool", 1),
    ("max_bytes_to_merge_at_min_space_in_pool", 1),
    // The live table may be of a time before the server insisted.
    ("allow_dimensions_outside_sorting_key", 1),
];

/// A part that is to be linked into the staging table.
struct Source {
    directory: PathBuf,
    disk: String,
    level: u32,
    hash: Hash128,
}

impl ClickHouse {
    /// Makes a partition consist of parts, in their order.
    pub(super) fn exchange(
        &self,
        operation: &str,
        name: &TableName,
        partition_id: &str,
        parts: &[Origin],
        goes: &[String],
    ) -> Result<()> {
        let told = self.told_name(name)?;
        let staging = staging_table(operation, &told);
        let live = self.live_parts(&told, partition_id)?;
        let wanted: Vec<Hash128> = parts.iter().map(hash_of).collect();
        let is_whole = |part: &&FoundPart| !goes.contains(&part.name.to_string());
        let whole: Vec<FoundPart> = live.iter().filter(is_whole).cloned().collect();
        let all_whole = whole.len() == live.len();
        let is_done =
            all_whole && hashes(&live) == wanted && !self.has_patches(&told, partition_id)?;
        let markers = self.markers();
        if !is_done {
            markers.set(operation, name, Marker::Stage)?;
            if markers.is_set(operation, name, Marker::Merges) {
                self.send_stop(&told)?;
            }
            if parts.is_empty() {
                self.check_unchanged(&told, partition_id, &live)?;
                self.drop_partition(&told, partition_id)?;
            } else {
                // What was put together before may be of a part that was not known to be damaged then.
                if !all_whole || hashes(&self.live_parts(&staging, partition_id)?) != wanted {
                    let sources = sources(name, partition_id, parts, &whole)?;
                    self.fill(&told, &staging, partition_id, &sources)?;
                }
                self.replace(&told, &staging, partition_id, &live)?;
            }
        }
        if markers.is_set(operation, name, Marker::Stage) {
            self.drop_staging(&staging)?;
        }
        self.release(&told);
        Ok(())
    }

    /// Makes the staging table hold the parts, and nothing else.
    fn fill(
        &self,
        told: &TableName,
        staging: &TableName,
        partition_id: &str,
        sources: &[Source],
    ) -> Result<()> {
        self.create_staging(told, staging)?;
        let detached = self.detached_directories(staging)?;
        for (block, source) in (1..).zip(sources) {
            let part = PartName {
                partition_id: partition_id.to_owned(),
                min_block: block,
                max_block: block,
                level: source.level,
                mutation: 0,
            };
            let directory = detached.of_disk(&source.disk)?;
            let target = directory.join(part.to_string());
            let linked = fs::create_dir_all(directory)
                .and_then(|()| links::link_part(&source.directory, &target).map(drop));
            linked.map_err(|error| {
                if error.kind() == io::ErrorKind::NotFound {
                    return gone(told, &source.directory.display());
                }
                unusable(&target, &error)
            })?;
            self.attach_detached(staging, &part)?;
        }
        let wanted: Vec<Hash128> = sources.iter().map(|source| source.hash).collect();
        let staged = hashes(&self.live_parts(staging, partition_id)?);
        if staged == wanted {
            return Ok(());
        }
        let message = format!(
            "partition {partition_id} of {told} was put together from {wanted:?} and holds {staged:?}: \
             nothing was exchanged"
        );
        Err(EngineError::new(Remedy::Repair, message))
    }

    fn create_staging(&self, told: &TableName, staging: &TableName) -> Result<()> {
        #[derive(Deserialize)]
        struct Row {
            engine: String,
            create_table_query: String,
        }
        let rows: Vec<Row> = self.client.rows(&format!(
            "SELECT engine, create_table_query FROM system.tables WHERE {}",
            is_table(told, "name")
        ))?;
        let row = rows.into_iter().next().ok_or_else(|| missing(told))?;
        if row.engine.starts_with("Replicated") {
            let message = format!("{told} is replicated: its partitions cannot be exchanged here");
            return Err(EngineError::new(Remedy::Request, message));
        }
        self.drop_staging(staging)?;
        let sql =
            rewrite::with_settings(&row.create_table_query, staging, &self.staging_settings()?)?;
        let created = self.client.execute_with(&sql, &AS_IT_WAS);
        created
            .map_err(|error| error.during(format_args!("create the staging table {staging}")))?;
        self.send_stop(staging)
    }

    fn staging_settings(&self) -> Result<String> {
        #[derive(Deserialize)]
        struct Setting {
            name: String,
        }
        let names: Vec<String> = STAGING_SETTINGS
            .iter()
            .map(|(name, _)| literal(name))
            .collect();
        let known: Vec<Setting> = self.client.rows(&format!(
            "SELECT name FROM system.merge_tree_settings WHERE name IN ({})",
            names.join(", ")
        ))?;
        let is_known = |name: &str| known.iter().any(|setting| setting.name == name);
        let settings = STAGING_SETTINGS.iter().filter(|(name, _)| is_known(name));
        let settings: Vec<String> = settings
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        Ok(settings.join(", "))
    }

    /// Replaces the partition, which must still be as it was, by that of the staging table.
    fn replace(
        &self,
        told: &TableName,
        staging: &TableName,
        partition_id: &str,
        live: &[FoundPart],
    ) -> Result<()> {
        let before = self.check_unchanged(told, partition_id, live)?;
        let sql = format!(
            "ALTER TABLE {} REPLACE PARTITION ID {} FROM {}",
            told.sql(),
            literal(partition_id),
            staging.sql()
        );
        if let Err(error) = self.execute_unlimited(&sql)? {
            // The table may have been altered since it was staged: the next attempt begins anew.
            if error.code().is_some() {
                self.drop_staging(staging)?;
            }
            return Err(error.during(format_args!("exchange partition {partition_id} of {told}")));
        }
        let after = self.parts_of(told, partition_id)?;
        let lost = swallowed(&before, &after);
        for part in &lost {
            self.bring_back(told, part)?;
        }
        if lost.is_empty() {
            return Ok(());
        }
        let rows: u64 = lost.iter().map(|part| part.rows).sum();
        let message = format!(
            "{rows} rows came into partition {partition_id} of {told} while it was exchanged, and are \
             live: plan it again"
        );
        Err(EngineError::new(Remedy::Replan, message))
    }

    /// All parts of the partition, if those that are live are still the same.
    fn check_unchanged(
        &self,
        told: &TableName,
        partition_id: &str,
        live: &[FoundPart],
    ) -> Result<Vec<FoundPart>> {
        let now = self.parts_of(told, partition_id)?;
        let names = now
            .iter()
            .filter(|part| part.is_live)
            .map(|part| &part.name);
        if names.eq(live.iter().map(|part| &part.name)) {
            return Ok(now);
        }
        let message = format!(
            "partition {partition_id} of {told} changed while it was put together: plan it again"
        );
        Err(EngineError::new(Remedy::Replan, message))
    }

    /// Makes an insert live again that the exchange has taken away.
    fn bring_back(&self, told: &TableName, part: &FoundPart) -> Result<()> {
        let detached = self.detached_directories(told)?;
        let directory = detached.of_disk(&part.disk)?;
        let mut name = PartName {
            mutation: 0,
            ..part.name.clone()
        };
        // Whatever has its name there is not ours.
        while directory.join(name.to_string()).exists() {
            name.level += 1;
        }
        let target = directory.join(name.to_string());
        links::link_part(&part.directory, &target).map_err(|error| {
            let message = format!(
                "part {} of {told} with {} rows was inserted while its partition was exchanged, is not \
                 live any more and cannot be brought back: {error}; insert these rows again",
                part.name, part.rows
            );
            EngineError::new(Remedy::Request, message)
        })?;
        self.attach_detached(told, &name)
    }
}

fn hash_of(origin: &Origin) -> Hash128 {
    match origin {
        Origin::Live { hash, .. } => *hash,
        Origin::Staged(part) => part.hash,
    }
}

fn hashes(parts: &[FoundPart]) -> Vec<Hash128> {
    parts.iter().map(|part| part.hash).collect()
}

fn gone(name: &TableName, part: &dyn std::fmt::Display) -> EngineError {
    let message = format!("part {part} of {name} is gone: plan its partition again");
    EngineError::new(Remedy::Retry, message)
}

/// Where the parts are. A live one goes by its content: its name may have changed in an earlier attempt.
fn sources(
    table: &TableName,
    partition_id: &str,
    parts: &[Origin],
    live: &[FoundPart],
) -> Result<Vec<Source>> {
    let source = |origin: &Origin| match origin {
        Origin::Live { name, hash } => {
            let same = || live.iter().filter(|part| part.hash == *hash);
            let named = same().find(|part| part.name.to_string() == *name);
            let found = named.or_else(|| same().next());
            let found = found.ok_or_else(|| gone(table, name))?;
            Ok(Source {
                directory: found.directory.clone(),
                disk: found.disk.clone(),
                level: found.name.level,
                hash: *hash,
            })
        }
        Origin::Staged(part) => {
            let name = own_name_of(part)?;
            if name.partition_id != partition_id {
                let message = format!(
                    "part {} of {table} does not belong to partition {partition_id}",
                    part.name
                );
                return Err(EngineError::new(Remedy::Request, message));
            }
            if !part.directory.is_dir() {
                return Err(gone(table, &part.directory.display()));
            }
            check_hash(&part.directory, part.hash)?;
            Ok(Source {
                directory: part.directory.clone(),
                disk: part.disk.clone(),
                level: name.level,
                hash: part.hash,
            })
        }
    };
    parts.iter().map(source).collect()
}
