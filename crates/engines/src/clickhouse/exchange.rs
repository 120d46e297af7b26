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
//! *Inserts*: the partition is looked at just before it is replaced, and has to have all that was seen when
//! it was planned. What came since stops the exchange, stays, or goes, as is asked. What comes in the
//! instant between the look and the answer is taken away by the server with the rest, held meanwhile
//! ([`super::held`]), and brought back, unless it was to go.
//!
//! *Crash*: the staging table holds the new content until the live table is seen to have it, so the
//! exchange can be repeated after a crash at any point: one that is whole is used again, another is made
//! anew. *Hazard*: a server that dies within moments after it has replaced may come back with the old
//! parts live too (18.16 keeps nothing on disk that says they were replaced, and newer ones rename part
//! after part): so their files are removed at once, and what came back goes when the exchange is repeated.

use std::fs;
use std::io;
use std::path::PathBuf;

use mendb_model::part::{Hash128, OnConcurrentInsert, PartName, TableName};
use serde::Deserialize;

use super::ClickHouse;
use super::attach::{check_hash, own_name_of};
use super::client::literal;
use super::create::AS_IT_WAS;
use super::disks::{is_table, missing};
use super::links;
use super::live_parts::FoundPart;
use super::markers::{Marker, unusable};
use super::rewrite;
use super::stage::staging_table;
use super::unseen::LastLook;
use crate::contract::parts::{Exchange, Origin};
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
    /// Tells the level, and the days where names have such.
    name: PartName,
    hash: Hash128,
}

impl ClickHouse {
    /// Makes a partition consist of parts, in their order.
    pub(super) fn exchange(
        &self,
        operation: &str,
        name: &TableName,
        exchange: &Exchange<'_>,
    ) -> Result<()> {
        let told = self.told_name(name)?;
        let place = Place {
            operation,
            name,
            told: &told,
            partition_id: exchange.partition_id,
        };
        let markers = self.markers();
        if markers.is_set(operation, name, Marker::Stage) {
            self.bring_all_held_back(operation, name, &told)?;
        }
        let staging = staging_table(operation, &told);
        let is_replica = self.wait_for_others(&told)?.is_some();
        let live = self.live_parts(&told, exchange.partition_id)?;
        let wanted: Vec<Hash128> = exchange.parts.iter().map(hash_of).collect();
        let is_whole = |part: &&FoundPart| !exchange.damaged.contains(&part.name.to_string());
        let whole: Vec<FoundPart> = live.iter().filter(is_whole).cloned().collect();
        let all_whole = whole.len() == live.len();
        let is_done = all_whole
            && hashes(&live) == wanted
            && !self.has_patches(&told, exchange.partition_id)?;
        if !is_done {
            markers.set(operation, name, Marker::Stage)?;
            if markers.is_set(operation, name, Marker::Merges) {
                self.send_stop(&told)?;
            }
            let parts = with_arrivals(&place, exchange, &live)?;
            if parts.is_empty() {
                self.empty(&place, exchange, &live)?;
            } else {
                let wanted: Vec<Hash128> = parts.iter().map(hash_of).collect();
                let staged = self.live_parts(&staging, exchange.partition_id)?;
                // What was put together before may be of a part that was not known to be damaged then.
                if !all_whole || hashes(&staged) != wanted {
                    let sources = sources(name, exchange.partition_id, &parts, &whole)?;
                    self.fill(&told, &staging, exchange.partition_id, &sources)?;
                }
                self.replace(&place, exchange, &staging, &live)?;
            }
        }
        if markers.is_set(operation, name, Marker::Stage) {
            self.drop_staging(&staging)?;
        }
        // Replicas remove what was replaced by themselves, and would write that an absent partition goes.
        if !is_replica {
            self.release(&told);
        }
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
                min_block: block,
                max_block: block,
                mutation: 0,
                ..source.name.clone()
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
            create_table_query: String,
        }
        let rows: Vec<Row> = self.client.rows(&format!(
            "SELECT create_table_query FROM system.tables WHERE {}",
            is_table(told, "name")
        ))?;
        let row = rows.into_iter().next().ok_or_else(|| missing(told))?;
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

    /// Replaces the partition by that of the staging table.
    fn replace(
        &self,
        place: &Place<'_>,
        exchange: &Exchange<'_>,
        staging: &TableName,
        live: &[FoundPart],
    ) -> Result<()> {
        let Place {
            told, partition_id, ..
        } = place;
        let sql = format!(
            "ALTER TABLE {} REPLACE PARTITION ID {} FROM {}",
            told.sql(),
            literal(partition_id),
            staging.sql()
        );
        let replaced = self.take_all(place, exchange, live, || self.execute_unlimited(&sql))?;
        if let Err(error) = replaced {
            // The table may have been altered since it was staged: the next attempt begins anew.
            if error.code().is_some() {
                self.drop_staging(staging)?;
            }
            return Err(error.during(format_args!("exchange partition {partition_id} of {told}")));
        }
        Ok(())
    }

    /// Removes all that was seen of a partition, and what came since where that is to go too.
    fn empty(&self, place: &Place<'_>, exchange: &Exchange<'_>, live: &[FoundPart]) -> Result<()> {
        if self.abilities.drops_parts {
            let names: Vec<String> = live.iter().map(|part| part.name.to_string()).collect();
            return self.drop_parts(place.name, &names);
        }
        self.take_all(place, exchange, live, || {
            self.drop_partition(place.told, place.partition_id)
        })
    }

    /// Runs a statement that takes all parts of a partition, which must still have what it had; and brings
    /// back what came in that instant, unless it is to go.
    fn take_all<T>(
        &self,
        place: &Place<'_>,
        exchange: &Exchange<'_>,
        live: &[FoundPart],
        statement: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if exchange.on_concurrent_insert == OnConcurrentInsert::Remove {
            self.check_unchanged(place, exchange, live)?;
            return statement();
        }
        let Place {
            operation,
            name,
            told,
            partition_id,
        } = place;
        let log_end = self.wait_for_others(told)?;
        let mut holder = self.holder(operation, name, told, partition_id)?;
        let before = self.check_unchanged(place, exchange, live)?;
        let is_staged = |part: &FoundPart| live.iter().any(|staged| staged.name == part.name);
        for late in before
            .iter()
            .filter(|part| part.is_live && !is_staged(part))
        {
            holder.forget(&late.name);
        }
        let mut look = log_end.map(|log_end| LastLook::new(partition_id, log_end));
        if let Some(look) = &mut look {
            look.add(live);
            self.remember_look(operation, name, look)?;
        }
        let (outcome, holder) = holder.hold_while(statement)?;
        let outcome = outcome?;
        let held = holder.held()?;
        if let Some(look) = &mut look {
            look.add(&held);
            self.remember_look(operation, name, look)?;
        }
        if !held.is_empty() {
            let live = self.live_parts(place.told, place.partition_id)?;
            self.bring_back(place, &taken(&held, &live))?;
        }
        holder.release()?;
        if let Some(look) = look {
            self.check_none_lost(operation, name, told, &look)?;
        }
        Ok(outcome)
    }

    /// All parts of the partition, if it has all that it had; where what comes stops it, if it has just that.
    fn check_unchanged(
        &self,
        place: &Place<'_>,
        exchange: &Exchange<'_>,
        live: &[FoundPart],
    ) -> Result<Vec<FoundPart>> {
        let now = self.parts_of(place.told, place.partition_id)?;
        let is_live_now = |part: &FoundPart| {
            let mut now = now.iter().filter(|part| part.is_live);
            now.any(|now| now.name == part.name)
        };
        let has_all = live.iter().all(is_live_now);
        let came = now.iter().filter(|part| part.is_live).count() > live.len();
        let stops = exchange.on_concurrent_insert == OnConcurrentInsert::Fail;
        if has_all && !(came && stops) {
            return Ok(now);
        }
        Err(place.changed())
    }

    /// Makes parts of a table live again that exchanges of before have taken away, if a crash came between, and names
    /// what such an exchange took unseen.
    pub(super) fn bring_all_held_back(
        &self,
        operation: &str,
        name: &TableName,
        told: &TableName,
    ) -> Result<()> {
        let mut look = self.last_look(operation, name)?;
        if let Some(look) = &mut look {
            let holder = self.holder(operation, name, told, &look.partition_id)?;
            look.add(&holder.held()?);
            self.remember_look(operation, name, look)?;
        }
        for partition_id in self.held_partitions(operation, name)? {
            self.bring_held_back(&Place {
                operation,
                name,
                told,
                partition_id: &partition_id,
            })?;
        }
        match look {
            Some(look) => self.check_none_lost(operation, name, told, &look),
            None => Ok(()),
        }
    }

    /// As [`Self::bring_all_held_back`], for one partition.
    fn bring_held_back(&self, place: &Place<'_>) -> Result<()> {
        let Place {
            operation,
            name,
            told,
            partition_id,
        } = place;
        let holder = self.holder(operation, name, told, partition_id)?;
        let held = holder.held()?;
        if held.is_empty() {
            return Ok(());
        }
        let live = self.live_parts(told, partition_id)?;
        self.bring_back(place, &not_back(taken(&held, &live), &live))?;
        holder.release()
    }

    /// Makes held parts live again, and lets go of each that is.
    fn bring_back(&self, place: &Place<'_>, lost: &[&FoundPart]) -> Result<()> {
        for part in lost {
            tracing::info!(
                part = %part.name, rows = part.rows, table = %place.name,
                "came in the instant of an exchange and is brought back"
            );
            self.attach_again(place.told, part)?;
            let released = links::remove(&part.directory);
            released.map_err(|error| unusable(&part.directory, &error))?;
        }
        Ok(())
    }

    fn attach_again(&self, told: &TableName, part: &FoundPart) -> Result<()> {
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
        let linked =
            fs::create_dir_all(directory).and_then(|()| links::link_part(&part.directory, &target));
        linked.map_err(|error| {
            let message = format!(
                "part {} of {told} with {} rows was inserted while its partition was exchanged, is not \
                 live any more and cannot be brought back: {error}; its files are in {}",
                part.name,
                part.rows,
                part.directory.display()
            );
            EngineError::new(Remedy::Repair, message)
        })?;
        self.attach_detached(told, &name)
    }
}

/// A partition of a table, for an operation.
struct Place<'a> {
    operation: &'a str,
    name: &'a TableName,
    /// As the server calls it.
    told: &'a TableName,
    partition_id: &'a str,
}

impl Place<'_> {
    fn changed(&self) -> EngineError {
        let message = format!(
            "partition {} of {} changed while it was put together: plan it again",
            self.partition_id, self.name
        );
        EngineError::new(Remedy::Replan, message)
    }
}

/// What is to be put together: what was asked for, and behind it what came since that was planned, where it
/// is to stay.
fn with_arrivals(
    place: &Place<'_>,
    exchange: &Exchange<'_>,
    live: &[FoundPart],
) -> Result<Vec<Origin>> {
    let came = |part: &&FoundPart| part.rows > 0 && !exchange.seen.contains(&part.name.to_string());
    let came: Vec<&FoundPart> = live.iter().filter(came).collect();
    let mut parts = exchange.parts.to_vec();
    match exchange.on_concurrent_insert {
        OnConcurrentInsert::Fail if !came.is_empty() => return Err(place.changed()),
        OnConcurrentInsert::Keep => parts.extend(came.into_iter().map(|part| Origin::Live {
            name: part.name.to_string(),
            hash: part.hash,
        })),
        OnConcurrentInsert::Fail | OnConcurrentInsert::Remove => {}
    }
    Ok(parts)
}

/// Of what is held, what is not live, by itself or in a merge.
fn taken<'a>(held: &'a [FoundPart], live: &[FoundPart]) -> Vec<&'a FoundPart> {
    let is_in = |part: &FoundPart, other: &FoundPart| {
        let (inner, outer) = (&part.name, &other.name);
        outer.min_block <= inner.min_block && inner.max_block <= outer.max_block
    };
    let lost = held.iter().filter(|part| {
        // Merged before it went, and held as what it became. Without rows it is what the server covers with
        // what it takes away.
        let mut others = (held.iter()).filter(|other| other.name != part.name && other.rows > 0);
        let goes_on = live.iter().any(|live| is_in(part, live));
        part.rows > 0 && !goes_on && !others.any(|other| is_in(part, other))
    });
    lost.collect()
}

/// Leaves out what an attempt that crashed brought back as its last: its content is live under a later number.
fn not_back<'a>(lost: Vec<&'a FoundPart>, live: &[FoundPart]) -> Vec<&'a FoundPart> {
    let mut later: Vec<&FoundPart> = live.iter().collect();
    let is_lost = |part: &&FoundPart| {
        let is_again =
            |live: &&FoundPart| live.hash == part.hash && live.name.min_block > part.name.max_block;
        let place = later.iter().position(is_again);
        place.map(|place| later.swap_remove(place)).is_none()
    };
    lost.into_iter().filter(is_lost).collect()
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
    EngineError::new(Remedy::Replan, message)
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
                name: found.name.clone(),
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
                name,
                hash: part.hash,
            })
        }
    };
    parts.iter().map(source).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(names: &str) -> Vec<FoundPart> {
        let part = |text: &str| {
            let (name, content) = text.split_once(':').unwrap_or((text, "1"));
            FoundPart {
                name: name.parse().unwrap(),
                is_live: true,
                rows: 1,
                bytes: 1,
                hash: Hash128([content.parse().unwrap(); 16]),
                disk: String::new(),
                directory: PathBuf::new(),
            }
        };
        names.split_whitespace().map(part).collect()
    }

    fn names(parts: &[&FoundPart]) -> Vec<String> {
        parts.iter().map(|part| part.name.to_string()).collect()
    }

    fn lost(held: &str, live: &str) -> Vec<String> {
        names(&taken(&parts(held), &parts(live)))
    }

    fn lost_after_crash(held: &str, live: &str) -> Vec<String> {
        let (held, live) = (parts(held), parts(live));
        names(&not_back(taken(&held, &live), &live))
    }

    #[test]
    fn an_insert_that_a_replacement_took_away_is_noticed() {
        assert_eq!(lost("p_3_3_0:7", "p_5_5_0:2"), ["p_3_3_0"]);
        assert_eq!(
            lost("p_2_2_0:7 p_3_3_0:8 p_2_3_1:9", "p_5_5_0:2"),
            ["p_2_3_1"]
        );
    }

    #[test]
    fn what_a_part_without_rows_covers_is_lost() {
        let mut held = parts("p_3_3_0:7 p_1_4_1:9");
        held[1].rows = 0;
        assert_eq!(names(&taken(&held, &parts("p_5_5_0:2"))), ["p_3_3_0"]);
    }

    #[test]
    fn what_lives_on_is_not_lost() {
        assert!(lost("p_3_3_0:7", "p_3_3_0:7 p_5_5_0:2").is_empty());
        assert!(lost("p_3_3_0:7", "p_1_4_1:9").is_empty());
        // The same rows were put together.
        assert_eq!(lost("p_3_3_0:7 p_5_5_0:7", "p_5_5_0:7"), ["p_3_3_0"]);
    }

    #[test]
    fn what_was_brought_back_before_a_crash_is_not_brought_back_again() {
        assert!(lost_after_crash("p_3_3_0:7", "p_5_5_0:2 p_6_6_0:7").is_empty());
        // One of two inserts with the same rows.
        let lost = lost_after_crash("p_3_3_0:7 p_4_4_0:7", "p_6_6_0:7");
        assert_eq!(lost, ["p_4_4_0"]);
    }
}
