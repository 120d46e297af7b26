//! Brings missing parts beside the live ones.
//!
//! A part is put together in a directory of its own: files that the server has already are linked,
//! the rest is downloaded, and every byte of both is checked. What carries its final name is whole and
//! durable; whatever else an attempt left is removed by the next.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Component, Path, PathBuf};

use mendb_engines::{PartStore, StagedPart, WrittenPart};
use mendb_model::operation::MendRequest;
use mendb_model::part::{Action, DamagedPart, Fetched, FileChecksum, PartFile, PartRecord, Tally};

use super::damage;
use super::local::{FILES_AT_ONCE, LocalFiles};
use super::source::{Content, Source};
use super::tables::table_of;
use super::view::View;
use crate::attempt::{Attempt, Counts};
use crate::task_error::{TaskError, TaskResult};

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
    let source = Source::open(attempt, request)?;
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
    written: PathBuf,
    sealed: PathBuf,
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
                let sealed = self.sealed(fetched)?;
                let written = sealed.with_extension("tmp");
                bytes += fetched.bytes;
                group.push(Open {
                    fetched,
                    content,
                    written,
                    sealed,
                });
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
        let mut done = Tally::default();
        let mut downloads: Vec<(&PartFile, PathBuf)> = Vec::new();
        for open in group {
            match fs::remove_dir_all(&open.written) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(file_error("remove", &open.written, error));
                }
                _ => {}
            }
            make_directory(&open.written)?;
            match &open.content {
                Content::Record(record) => {
                    for file in &record.files {
                        attempt.check_stopped()?;
                        let path = inside(&open.written, &file.name)?;
                        if link_checked(engine, local, file, &path)? {
                            done.linked_bytes += file.bytes;
                        } else {
                            done.download_bytes += file.bytes;
                            done.download_files += 1;
                            downloads.push((file, path));
                        }
                    }
                }
                Content::Directory(from) => {
                    done.linked_bytes += engine.link_part(from, &open.written)?;
                    damage::refuse_damaged(attempt, &open.written, &open.fetched.name)?;
                }
                Content::Imported(part) => {
                    let bytes =
                        self.view
                            .source
                            .unpack(&self.view.table.source, part, &open.written)?;
                    done.download_bytes += bytes;
                    done.download_files += 1;
                }
            }
        }
        attempt.wait(attempt.tools.repository.fetch_part_files(&downloads))?;
        for open in group {
            let part = engine
                .read_part(&open.written, &open.fetched.name, &open.fetched.disk)?
                .part;
            if part.hash != open.fetched.hash {
                return Err(TaskError::Proof(format!(
                    "part {} was put together as {} instead of {}",
                    open.fetched.name, part.hash, open.fetched.hash
                )));
            }
        }
        let written: Vec<WrittenPart> = (group.iter())
            .map(|open| WrittenPart {
                written: open.written.clone(),
                sealed: open.sealed.clone(),
            })
            .collect();
        engine.seal_parts(&self.view.table.target, &written)?;
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

/// The path of a file of a part, which must not lead out of the part.
fn inside(directory: &Path, name: &str) -> TaskResult<PathBuf> {
    let relative = Path::new(name);
    let plain = |component| matches!(component, Component::Normal(_));
    if name.is_empty() || !relative.components().all(plain) {
        return Err(TaskError::Proof(format!(
            "a part of the backup has a file named {name:?}"
        )));
    }
    let path = directory.join(relative);
    if let Some(parent) = path.parent().filter(|parent| *parent != directory) {
        make_directory(parent)?;
    }
    Ok(path)
}

/// Links a file of the server, if it has one that really is what the backup holds. What is not there, or
/// is damaged, is left to be downloaded.
fn link_checked(
    engine: &dyn PartStore,
    local: &LocalFiles<'_>,
    file: &PartFile,
    to: &Path,
) -> TaskResult<bool> {
    let Some(identity) = file.identity() else {
        return Ok(false);
    };
    let Some(mut from) = local.place_of(&identity) else {
        return Ok(false);
    };
    if !engine.link_file(&from, to)? {
        let Some(other) = local.is_gone(identity)? else {
            return Ok(false);
        };
        from = other;
        if !engine.link_file(&from, to)? {
            return Ok(false);
        }
    }
    if hash_file(to)?.to_hex().as_str() == file.blake3 {
        return Ok(true);
    }
    tracing::warn!(file = %from.display(), "is damaged: its bytes are not what its checksum says");
    local.is_nowhere(identity);
    fs::remove_file(to).map_err(|error| file_error("remove", to, error))?;
    Ok(false)
}

fn hash_file(path: &Path) -> TaskResult<blake3::Hash> {
    let failed = |error| file_error("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(hasher.finalize()),
            read => hasher.update(&buffer[..read]),
        };
    }
}

fn make_directory(path: &Path) -> TaskResult<()> {
    fs::create_dir_all(path).map_err(|error| file_error("create", path, error))
}

fn file_error(action: &'static str, path: &Path, source: std::io::Error) -> TaskError {
    TaskError::File {
        action,
        path: path.to_owned(),
        source,
    }
}
