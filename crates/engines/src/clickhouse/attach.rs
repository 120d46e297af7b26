//! Making staged parts live.
//!
//! A part goes through three places, in each of which it is found by what it was staged as:
//!
//! ```text
//! staging directory --rename--> detached/<own name> --the server--> live, under a name of its choice
//! ```
//!
//! *Crash*: a part is always in exactly one of them, whole, so attaching the same parts again goes on
//! where it ended, and attaches none twice. A server that dies while it attaches leaves the part in
//! `detached/` under a name of its own, from which it is taken back. *Order*: block numbers follow the
//! order of the calls to the server, one for each part. *Hazard*: the server compares sizes of files,
//! not their content: what is attached must have been verified when it was staged.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mendb_model::part::{Hash128, PartName, TableName};

use super::ClickHouse;
use super::client::literal;
use super::links;
use super::markers::unusable;
use super::part_files;
use super::stage::{ATTACHING, own_name};
use crate::contract::bringing::StagedPart;
use crate::error::{EngineError, Remedy, Result};

impl ClickHouse {
    /// Attaches staged parts in their order.
    pub(super) fn attach(&self, name: &TableName, parts: &[StagedPart]) -> Result<()> {
        let told = self.told_name(name)?;
        // Before anything is moved.
        self.own_replica(&told)?;
        let detached = self.detached_directories(&told)?;
        for part in parts {
            let own = own_name_of(part)?;
            let directory = detached.of_disk(&part.disk)?;
            if !move_in(part, directory, &own)? {
                self.check_live(&told, part, &own.partition_id)?;
                continue;
            }
            let attached = self.attach_detached(&told, &own);
            if let Err(error) = attached {
                // Where the server refuses it, it is not left behind. One that is still there is found there.
                let _ = fs::rename(directory.join(own.to_string()), &part.directory);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Has the server attach what is in `detached/` under a name.
    pub(super) fn attach_detached(&self, told: &TableName, name: &PartName) -> Result<()> {
        let part = literal(&name.to_string());
        let sql = format!("ALTER TABLE {} ATTACH PART {part}", told.sql());
        let attached = self.client.execute(&sql);
        attached.map_err(|error| error.during(format_args!("attach part {name} to {told}")))
    }

    pub(super) fn detached_directories(&self, told: &TableName) -> Result<DetachedDirectories> {
        let directories = self.table_directories(told)?.into_iter();
        Ok(DetachedDirectories {
            table: told.clone(),
            by_disk: directories
                .map(|(disk, directory)| (disk, directory.join("detached")))
                .collect(),
        })
    }

    /// A part that is neither staged nor on its way must have arrived.
    fn check_live(&self, told: &TableName, part: &StagedPart, partition_id: &str) -> Result<()> {
        let live = self.live_parts(told, partition_id)?;
        if live.iter().any(|live| live.hash == part.hash) {
            return Ok(());
        }
        let message = format!(
            "part {} of {told} is gone from {} and is not live: stage it again",
            part.name,
            part.directory.display()
        );
        Err(EngineError::new(Remedy::Retry, message))
    }
}

/// Where a table takes parts from, on each of its disks.
pub(super) struct DetachedDirectories {
    table: TableName,
    by_disk: Vec<(String, PathBuf)>,
}

impl DetachedDirectories {
    pub(super) fn of_disk(&self, disk: &str) -> Result<&Path> {
        let found = self.by_disk.iter().find(|(name, _)| name == disk);
        found
            .map(|(_, directory)| directory.as_path())
            .ok_or_else(|| {
                let message = format!("table {} takes no parts from disk {disk}", self.table);
                EngineError::new(Remedy::Request, message)
            })
    }
}

/// The name under which a staged part is handed to the server.
pub(super) fn own_name_of(part: &StagedPart) -> Result<PartName> {
    let name: PartName = part.name.parse().map_err(|error| {
        let message = format!("a part cannot be attached: {error}");
        EngineError::new(Remedy::Request, message)
    })?;
    Ok(own_name(&part.directory, name))
}

/// Moves a part to where the server takes it from; `false` if it is not staged any more.
fn move_in(part: &StagedPart, detached: &Path, own: &PartName) -> Result<bool> {
    let target = detached.join(own.to_string());
    let attaching = detached.join(format!("{ATTACHING}{own}"));
    let from = [&part.directory, &attaching, &target];
    let Some(from) = from.into_iter().find(|path| path.is_dir()) else {
        return Ok(false);
    };
    check_hash(from, part.hash)?;
    if *from != target {
        let moved = || {
            fs::create_dir_all(detached)?;
            // Of an earlier staging of the same part.
            links::remove(&target)?;
            fs::rename(from, &target)
        };
        moved().map_err(|error: io::Error| unusable(from, &error))?;
    }
    Ok(true)
}

/// Refuses a part that is not what it should be, as far as its list of files tells.
pub(super) fn check_hash(directory: &Path, expected: Hash128) -> Result<()> {
    let hash = part_files::hash_of(directory)?;
    if hash == expected {
        return Ok(());
    }
    let message = format!(
        "{}: the part has hash {hash} and should have {expected}; remove it and stage it again",
        directory.display()
    );
    Err(EngineError::new(Remedy::Repair, message))
}
