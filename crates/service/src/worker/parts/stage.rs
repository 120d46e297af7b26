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
use mendb_model::operation::{MendRequest, TableMend};
use mendb_model::part::{Action, Fetched, FileChecksum, PartFile, PartRecord, Tally, Wanted};

use super::source::{Content, Source};
use super::table_of;
use crate::worker::{Attempt, Counts, TaskError, TaskResult};

/// Parts are brought in groups of at most so many: the downloads of a group run at the same time.
const PARTS_A_GROUP: usize = 32;

/// A group ends when it has so many bytes.
const BYTES_A_GROUP: u64 = 256 << 20;

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
    let wanted = source.wanted(&table.source)?;
    let partitions =
        (record.plan.partitions.iter()).filter(|partition| partition.action != Action::RemoveFirst);
    let fetched: Vec<&Fetched> = partitions.flat_map(|partition| &partition.fetch).collect();
    let stage = Stage {
        attempt,
        table,
        idx,
        source: &source,
        wanted: &wanted,
    };
    // What an earlier attempt has staged is counted again when it is found.
    *counts = Counts::default();
    stage.bring(&fetched, counts)
}

/// What is needed to bring parts of one table.
pub(super) struct Stage<'a> {
    pub attempt: &'a Attempt<'a>,
    pub table: &'a TableMend,
    pub idx: u32,
    pub source: &'a Source<'a>,
    pub wanted: &'a [Wanted],
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
        let chosen: Vec<u32> = missing.keys().copied().collect();
        let mut group = Vec::new();
        let mut bytes = 0;
        self.source
            .contents(&self.table.source, self.wanted, &chosen, |at, content| {
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
                    self.bring_group(&group, counts)?;
                    group.clear();
                }
                Ok(())
            })?;
        self.bring_group(&group, counts)
    }

    /// Where a part is, or will be, once it is whole.
    fn sealed(&self, part: &Fetched) -> TaskResult<PathBuf> {
        let engine = self.attempt.tools.engine.parts()?;
        let operation = self.attempt.operation();
        let directory = engine.stage_directory(operation, &self.table.target, &part.disk)?;
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

    fn bring_group(&self, group: &[Open<'_>], counts: &mut Counts) -> TaskResult<()> {
        if group.is_empty() {
            return Ok(());
        }
        let attempt = self.attempt;
        attempt.check_stopped()?;
        let engine = attempt.tools.engine.parts()?;
        let records = group.iter().filter_map(|open| match &open.content {
            Content::Record(record) => Some(record),
            Content::Directory(_) | Content::Imported(_) => None,
        });
        let local = local_files(engine, self.table, records)?;
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
                        let found = file.identity().and_then(|identity| local.get(&identity));
                        let linked = match found {
                            Some(from) => link_checked(from, &path, file)?,
                            None => false,
                        };
                        if linked {
                            done.linked_bytes += file.bytes;
                        } else {
                            done.download_bytes += file.bytes;
                            done.download_files += 1;
                            downloads.push((file, path));
                        }
                    }
                }
                Content::Directory(from) => {
                    done.linked_bytes += link_tree(from, &open.written)?;
                }
                Content::Imported(part) => {
                    let bytes = self
                        .source
                        .unpack(&self.table.source, part, &open.written)?;
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
        engine.seal_parts(&self.table.target, &written)?;
        crate::env::crash_point();
        for open in group {
            self.count(open.fetched, counts);
            done.fetched.add(open.fetched.rows, open.fetched.bytes);
        }
        let id = &attempt.request.operation_id;
        attempt.tools.journal.add_mend_done(id, self.idx, &done)?;
        attempt.in_progress(counts)
    }
}

/// Where the server has files of these parts already.
pub(super) fn local_files<'a>(
    engine: &dyn PartStore,
    table: &TableMend,
    records: impl Iterator<Item = &'a PartRecord>,
) -> TaskResult<HashMap<FileChecksum, PathBuf>> {
    let files = records.flat_map(|record| &record.files);
    let wanted: HashSet<FileChecksum> = files.filter_map(PartFile::identity).collect();
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    Ok(engine.find_files(&table.target, &wanted)?)
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

/// Links a file of the server, if it really is what the backup holds. A file that is not, or is gone,
/// is left to be downloaded.
fn link_checked(from: &Path, to: &Path, file: &PartFile) -> TaskResult<bool> {
    match link(from, to) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(file_error("link", from, error)),
    }
    if hash_file(to)?.to_hex().as_str() == file.blake3 {
        return Ok(true);
    }
    tracing::warn!(file = %from.display(), "is damaged: its bytes are not what its checksum says");
    fs::remove_file(to).map_err(|error| file_error("remove", to, error))?;
    Ok(false)
}

/// Links a file, or copies it where it is on another file system.
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => fs::copy(from, to).map(drop),
        linked => linked,
    }
}

/// Links a directory with all files. Returns their bytes.
fn link_tree(from: &Path, to: &Path) -> TaskResult<u64> {
    let mut bytes = 0;
    let entries = fs::read_dir(from).map_err(|error| file_error("read", from, error))?;
    for entry in entries {
        let entry = entry.map_err(|error| file_error("read", from, error))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let metadata = entry
            .metadata()
            .map_err(|error| file_error("read", &source, error))?;
        if metadata.is_dir() {
            make_directory(&target)?;
            bytes += link_tree(&source, &target)?;
        } else {
            link(&source, &target).map_err(|error| file_error("link", &source, error))?;
            bytes += metadata.len();
        }
    }
    Ok(bytes)
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
