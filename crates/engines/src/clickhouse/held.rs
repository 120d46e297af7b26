//! Parts that come into a partition in the instant in which its content is replaced, held by hard links.
//!
//! A server that replaces or drops a partition takes all that is in it, also what was inserted since it was
//! looked at, and may remove the files at once. So while the statement runs, a thread looks into the
//! directories of the table again and again, and links every part that it has not seen before:
//!
//! ```text
//! <disk>/mendb/<operation>/<database.table>/held/<part>
//! ```
//!
//! *Crash*: what is held stays until it is known to be live or was brought back, by the next attempt.
//! *Limit*: a part must be there for as long as one look into the directory takes, some hundredths of a
//! millisecond for each of its entries.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use mendb_model::part::{PartName, TableName};

use super::ClickHouse;
use super::links;
use super::live_parts::FoundPart;
use super::markers::{sync, table_directory, unusable};
use super::part_files;
use super::stage::staged_on;
use crate::error::Result;

/// The directory among those of staged parts.
const HELD: &str = "held";
/// The time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Where parts of one partition come, and where they are held.
pub(super) struct Holder {
    partition_id: String,
    places: Vec<Place>,
    /// Names that are not held: they were there before, or are held already.
    seen: HashSet<String>,
}

struct Place {
    disk: String,
    live: PathBuf,
    held: PathBuf,
}

impl ClickHouse {
    /// What holds parts that come into a partition from now on. What is there is seen.
    pub(super) fn holder(
        &self,
        operation: &str,
        name: &TableName,
        told: &TableName,
        partition_id: &str,
    ) -> Result<Holder> {
        let mut places = Vec::new();
        for (disk, live) in self.table_directories(told)? {
            let held = self.stage_directory(operation, name, &disk)?.join(HELD);
            places.push(Place { disk, live, held });
        }
        let mut holder = Holder {
            partition_id: partition_id.to_owned(),
            places,
            seen: HashSet::new(),
        };
        for place in &holder.places {
            let names = holder.names_in(&place.live);
            let names = names.map_err(|error| unusable(&place.live, &error))?;
            holder.seen.extend(names);
        }
        Ok(holder)
    }
}

impl ClickHouse {
    /// Partitions of a table of which an operation holds parts.
    pub(super) fn held_partitions(
        &self,
        operation: &str,
        name: &TableName,
    ) -> Result<BTreeSet<String>> {
        let mut partitions = BTreeSet::new();
        for disk in self.list_disks()? {
            let held = staged_on(&disk.path, operation)
                .join(table_directory(name))
                .join(HELD);
            let entries = match fs::read_dir(&held) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(|error| unusable(&held, &error))?,
            };
            for entry in entries {
                let entry = entry.map_err(|error| unusable(&held, &error))?;
                let part = entry.file_name().to_string_lossy().parse::<PartName>();
                partitions.extend(part.ok().map(|part| part.partition_id));
            }
        }
        Ok(partitions)
    }
}

impl Holder {
    /// Holds this part too, if it is found again.
    pub(super) fn forget(&mut self, name: &PartName) {
        self.seen.remove(&name.to_string());
    }

    /// Holds what is there and was not seen, then runs `work`, and holds the parts that come meanwhile. Replicas
    /// remove the files of what they replace at once.
    pub(super) fn hold_while<T>(mut self, work: impl FnOnce() -> T) -> Result<(T, Self)> {
        self.look()?;
        thread::scope(|scope| {
            let (done, is_done) = channel::<()>();
            let looking = scope.spawn(move || -> Result<Self> {
                loop {
                    let looked = self.look();
                    match is_done.recv_timeout(LOOK_EVERY) {
                        Err(RecvTimeoutError::Timeout) => looked?,
                        _ => {
                            looked?;
                            // What came after the look before.
                            self.look()?;
                            return Ok(self);
                        }
                    }
                }
            });
            let outcome = work();
            drop(done);
            let looked = looking.join();
            let holder = looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            Ok((outcome, holder))
        })
    }

    /// The parts that are held, as far as they are whole.
    pub(super) fn held(&self) -> Result<Vec<FoundPart>> {
        let mut found = Vec::new();
        for Place { disk, held, .. } in &self.places {
            let names = match self.names_in(held) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                names => names.map_err(|error| unusable(held, &error))?,
            };
            for name in names {
                let Ok(parsed) = name.parse::<PartName>() else {
                    continue;
                };
                let directory = held.join(&name);
                let content = match part_files::read(&directory, &name, disk) {
                    // The server was removing it while it was linked: it had not come, but gone.
                    Err(error) => {
                        tracing::debug!(%error, part = name, "is held in pieces");
                        continue;
                    }
                    Ok(content) => content.part,
                };
                found.push(FoundPart {
                    name: parsed,
                    is_live: false,
                    rows: content.rows,
                    bytes: content.bytes,
                    hash: content.hash,
                    disk: content.disk,
                    directory,
                });
            }
        }
        Ok(found)
    }

    /// Lets go of what is held.
    pub(super) fn release(&self) -> Result<()> {
        for Place { held, .. } in &self.places {
            links::remove(held).map_err(|error| unusable(held, &error))?;
        }
        Ok(())
    }

    fn look(&mut self) -> Result<()> {
        for place in &self.places {
            let names = self.names_in(&place.live);
            for name in names.map_err(|error| unusable(&place.live, &error))? {
                if !self.seen.insert(name.clone()) {
                    continue;
                }
                let (live, held) = (place.live.join(&name), place.held.join(&name));
                let link = || {
                    fs::create_dir_all(&place.held)?;
                    links::link_part(&live, &held)?;
                    sync(&place.held)
                };
                match link() {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    linked => linked.map_err(|error| unusable(&held, &error))?,
                }
            }
        }
        Ok(())
    }

    /// Names of parts of the partition in a directory.
    fn names_in(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name().into_string().unwrap_or_default();
            let parsed = name.parse::<PartName>();
            if parsed.is_ok_and(|parsed| parsed.partition_id == self.partition_id) {
                names.push(name);
            }
        }
        Ok(names)
    }
}
