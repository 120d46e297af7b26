//! Brings missing parts beside the live ones.
//!
//! The engine puts them together, group by group, from files of the server and files of the repository
//! ([`super::supply`]), and proves every byte. A part that has its final name is whole and durable.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use mendb_engines::{Bringing, PartFrom, PartToBring, StagedPart};
use mendb_model::operation::MendRequest;
use mendb_model::part::{Action, DamagedPart, Fetched, FileChecksum, PartFile, PartRecord, Tally};

use super::damage;
use super::local::{FILES_AT_ONCE, LocalFiles};
use super::opened_source::{Content, OpenedSource};
use super::supply::Supply;
use super::tables::table_of;
use super::view::View;
use crate::attempt::{Attempt, Counts};
use crate::task_error::TaskResult;

/// Parts are brought in groups of at most so many: the downloads of a group run at the same time.
const PARTS_A_GROUP: usize = 32;

/// A group ends when it has so many bytes.
const BYTES_A_GROUP: u64 = 256 << 20;

/// Parts whose records are read at once to learn which files they have.
const PARTS_AT_ONCE: usize = 256;

/// Brings what a table lacks, for all partitions that do not have to be cleared first.
pub(super) fn stage(
    attempt: &Attempt<'_>,
    request: &MendRequest,
    idx: u32,
    counts: &mut Counts,
) -> TaskResult<()> {
    let table = table_of(request, idx)?;
    let record = super::assess::planned(attempt, idx)?;
    let source = OpenedSource::open(attempt, request)?;
    let wanted = source.wanted(table)?;
    let partitions =
        (record.plan.partitions.iter()).filter(|partition| partition.action != Action::RemoveFirst);
    let fetched: Vec<&Fetched> = partitions.flat_map(|partition| &partition.fetch).collect();
    let stage = Stage {
        view: View {
            attempt,
            request,
            table,
            source: &source,
            wanted: &wanted,
        },
        idx,
        damaged: &record.plan.damaged,
    };
    // What an earlier attempt has staged is counted again when it is found.
    *counts = Counts::default();
    stage.bring(&fetched, counts)
}

/// What is needed to bring parts of one table.
pub(super) struct Stage<'a> {
    pub view: View<'a>,
    /// The place of the table in the request.
    pub idx: u32,
    /// Live parts that were found damaged.
    pub damaged: &'a [DamagedPart],
}

/// A part that is being put together.
struct Open<'a> {
    fetched: &'a Fetched,
    content: Content,
}

impl Stage<'_> {
    /// Brings parts that are not staged yet.
    pub(super) fn bring(&self, parts: &[&Fetched], counts: &mut Counts) -> TaskResult<()> {
        let mut missing: HashMap<u32, &Fetched> = HashMap::new();
        for part in parts {
            let sealed = self.sealed(part)?;
            if sealed.exists() {
                self.count(part, counts);
            } else {
                missing.insert(part.wanted, part);
            }
        }
        let mut chosen: Vec<u32> = missing.keys().copied().collect();
        chosen.sort_unstable();
        let local = LocalFiles::new(self.view.attempt, &self.view.table.target, self.damaged);
        let mut rest = chosen.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(self.look_for_files(&local, rest)?);
            self.bring_located(now, &missing, &local, counts)?;
            rest = later;
        }
        Ok(())
    }

    /// Looks for the files of parts, unless that was done when they were planned: of as many as are looked
    /// for at once. Returns how many parts these are.
    fn look_for_files(&self, local: &LocalFiles<'_>, parts: &[u32]) -> TaskResult<usize> {
        if local.is_whole() {
            return Ok(parts.len());
        }
        let mut files: HashSet<FileChecksum> = HashSet::new();
        let mut seen = 0;
        for parts in parts.chunks(PARTS_AT_ONCE) {
            self.view.source.contents(
                &self.view.table.source,
                self.view.wanted,
                parts,
                |_, content| {
                    if let Content::Record(record) = content {
                        files.extend(identities(&record));
                    }
                    Ok(())
                },
            )?;
            seen += parts.len();
            if files.len() >= FILES_AT_ONCE {
                break;
            }
        }
        local.look_for(files.into_iter())?;
        Ok(seen)
    }

    fn bring_located(
        &self,
        parts: &[u32],
        missing: &HashMap<u32, &Fetched>,
        local: &LocalFiles<'_>,
        counts: &mut Counts,
    ) -> TaskResult<()> {
        let mut group = Vec::new();
        let mut bytes = 0;
        self.view.source.contents(
            &self.view.table.source,
            self.view.wanted,
            parts,
            |at, content| {
                let Some(fetched) = missing.get(&at) else {
                    return Ok(());
                };
                bytes += fetched.bytes;
                group.push(Open { fetched, content });
                if group.len() >= PARTS_A_GROUP || bytes >= BYTES_A_GROUP {
                    bytes = 0;
                    self.bring_group(&group, local, counts)?;
                    group.clear();
                }
                Ok(())
            },
        )?;
        self.bring_group(&group, local, counts)
    }

    /// Where a part is, or will be, once it is whole.
    fn sealed(&self, part: &Fetched) -> TaskResult<PathBuf> {
        let engine = self.view.attempt.tools.engine.parts()?;
        let operation = self.view.attempt.operation();
        let directory = engine.stage_directory(operation, &self.view.table.target, &part.disk)?;
        Ok(directory.join(format!("{}-{}", part.wanted, part.hash)))
    }

    /// The staged part.
    pub(super) fn staged(&self, part: &Fetched) -> TaskResult<StagedPart> {
        Ok(StagedPart {
            directory: self.sealed(part)?,
            name: part.name.clone(),
            disk: part.disk.clone(),
            hash: part.hash,
        })
    }

    fn count(&self, part: &Fetched, counts: &mut Counts) {
        counts.rows += part.rows;
        counts.bytes += part.bytes;
    }

    fn bring_group(
        &self,
        group: &[Open<'_>],
        local: &LocalFiles<'_>,
        counts: &mut Counts,
    ) -> TaskResult<()> {
        if group.is_empty() {
            return Ok(());
        }
        let attempt = self.view.attempt;
        attempt.check_stopped()?;
        let engine = attempt.tools.engine.parts()?;
        let records = group.iter().filter_map(|open| match &open.content {
            Content::Record(record) => Some(record),
            Content::Directory(_) | Content::Imported(_) => None,
        });
        // All is known, unless what was found for this table had to make room for others.
        local.look_for(records.flat_map(identities))?;
        let mut parts = Vec::new();
        for (at, open) in group.iter().enumerate() {
            parts.push(PartToBring {
                staged: self.staged(open.fetched)?,
                from: match &open.content {
                    Content::Record(record) => PartFrom::Files(&record.files),
                    Content::Directory(from) => PartFrom::Directory(from),
                    Content::Imported(_) => PartFrom::Elsewhere(at),
                },
            });
        }
        let table = &self.view.table.source;
        let contents = group.iter().map(|open| &open.content).collect();
        let mut supply = Supply::new(attempt, self.view.source, table, local, contents);
        let brought = match engine.bring(&self.view.table.target, &parts, &mut supply)? {
            Bringing::Done(brought) => brought,
            Bringing::Stopped => return Err(supply.why_ended()),
            Bringing::Damaged { part, files } => return Err(damage::refused(&part, &files)),
        };
        let mut done = Tally {
            linked_bytes: brought.linked_bytes,
            download_bytes: brought.fetched_bytes,
            download_files: brought.fetched_files,
            ..Tally::default()
        };
        crate::env::crash_point();
        for open in group {
            self.count(open.fetched, counts);
            done.fetched.add(open.fetched.rows, open.fetched.bytes);
        }
        attempt.journal.add_mend_done(self.idx, &done)?;
        attempt.in_progress(counts)
    }
}

/// What can be found of a part on a server.
fn identities(record: &PartRecord) -> impl Iterator<Item = FileChecksum> {
    record.files.iter().filter_map(PartFile::identity)
}
