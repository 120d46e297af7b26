//! Proof that the bytes of parts are what their `checksums.txt` says.
//!
//! Files that it does not list, which are small texts beside the data, have no checksum and are not
//! read. *Consistency*: a live part that goes away while it is read is no damage. *Cost*: every byte is
//! read once, several files side by side, and memory is that of the buffers and of one part's list of
//! files. Errors are those that say nothing about the bytes; bytes that cannot be read are damage.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use mendb_model::part::{FileChecksum, FileHasher, Hash128, TableName};
use serde::Deserialize;

use super::ClickHouse;
use super::disks::is_table;
use super::part_files::{CHECKSUMS, Directory, PartError};
use crate::contract::bringing::DamagedFile;
use crate::contract::parts::{LivePartDamage, PartToProve};
use crate::error::{EngineError, Remedy, Result};

/// Files that are read at the same time, at most: more does not make disks faster.
const READS_AT_ONCE: usize = 8;
/// Bytes that one reader takes at once.
const BUFFER_BYTES: usize = 1 << 20;
/// What Linux says of bytes that a disk cannot read any more.
const INPUT_OUTPUT_ERROR: i32 = 5;

impl ClickHouse {
    /// Of these live parts those that are damaged.
    pub(super) fn prove_live(
        &self,
        name: &TableName,
        parts: &[PartToProve],
        on_read: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Vec<LivePartDamage>> {
        let told = self.told_name(name)?;
        let directories = self.live_directories(&told)?;
        let found: Vec<(&PartToProve, ToProve)> = (parts.iter())
            .filter_map(|part| {
                let to_prove = ToProve {
                    directory: directories.get(&part.name)?.clone(),
                    hash: Some(part.hash),
                    only: part.files.clone(),
                };
                Some((part, to_prove))
            })
            .collect();
        let to_prove: Vec<&ToProve> = found.iter().map(|(_, to_prove)| to_prove).collect();
        let mut damage = prove(&to_prove, on_read)?;
        if damage.is_empty() {
            return Ok(Vec::new());
        }
        let still_live = self.live_directories(&told)?;
        let mut damaged = Vec::new();
        for (at, (part, _)) in found.iter().enumerate() {
            let files = damage.remove(&at).unwrap_or_default();
            if !files.is_empty() && still_live.contains_key(&part.name) {
                damaged.push(LivePartDamage {
                    name: part.name.clone(),
                    files,
                });
            }
        }
        Ok(damaged)
    }

    /// Directories of live parts by their names.
    fn live_directories(&self, told: &TableName) -> Result<HashMap<String, PathBuf>> {
        #[derive(Deserialize)]
        struct Row {
            name: String,
            path: String,
        }
        let rows: Vec<Row> = self.client.rows(&format!(
            "SELECT name, path FROM system.parts WHERE active AND {}",
            is_table(told, "table")
        ))?;
        let directory = |row: Row| {
            let seen = self.places.seen(row.path.trim_end_matches('/'));
            (row.name, seen)
        };
        Ok(rows.into_iter().map(directory).collect())
    }
}

/// Of a part that is not live, the files that are damaged.
pub(super) fn prove_directory(
    directory: &Path,
    on_read: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Vec<DamagedFile>> {
    let to_prove = ToProve {
        directory: directory.to_owned(),
        hash: None,
        only: Vec::new(),
    };
    let mut damage = prove(&[&to_prove], on_read)?;
    Ok(damage.remove(&0).unwrap_or_default())
}

/// A part whose bytes are to be proved.
struct ToProve {
    directory: PathBuf,
    /// The hash it has to have.
    hash: Option<Hash128>,
    /// Only these of its files; all without.
    only: Vec<String>,
}

/// A stretch of a file that has to have a checksum.
struct Job {
    /// Of the part.
    at: usize,
    /// The file, by its path in the part.
    name: String,
    path: PathBuf,
    /// Where the bytes begin in it; `None` where they are the whole of it.
    offset: Option<u64>,
    expected: FileChecksum,
}

/// What readers share.
struct Work<'a> {
    parts: &'a [&'a ToProve],
    state: Mutex<State>,
    stop: AtomicBool,
}

#[derive(Default)]
struct State {
    /// The next part whose list is to be read.
    next: usize,
    /// Files of the parts whose lists were read.
    jobs: VecDeque<Job>,
    /// By part.
    damage: HashMap<usize, Vec<DamagedFile>>,
    failed: Option<EngineError>,
}

/// Reads all parts. What it tells `on_read` are bytes; it ends early, with what it has found until then,
/// when that says so.
fn prove(
    parts: &[&ToProve],
    on_read: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<HashMap<usize, Vec<DamagedFile>>> {
    let work = Work {
        parts,
        state: Mutex::default(),
        stop: AtomicBool::new(false),
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..cores.min(READS_AT_ONCE) {
            let (sender, work) = (sender.clone(), &work);
            scope.spawn(move || work.read_all(&sender));
        }
        drop(sender);
        for bytes in receiver {
            if on_read(bytes).is_break() {
                work.stop.store(true, Ordering::Relaxed);
            }
        }
    });
    let state = work.state.into_inner();
    let mut state = state.unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = state.failed {
        return Err(error);
    }
    for files in state.damage.values_mut() {
        files.sort_by(|a, b| a.name.cmp(&b.name));
        // Several files may lie in one.
        files.dedup_by(|a, b| a.name == b.name);
    }
    Ok(state.damage)
}

impl Work<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_all(&self, sender: &mpsc::Sender<u64>) {
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Some(job) = self.next() {
            match self.read(&job, &mut buffer, sender) {
                Ok(None) => {}
                Ok(Some(why)) => self.damaged(job.at, job.name, why),
                Err(error) => {
                    let at = job.path.display();
                    self.failed(EngineError::new(
                        Remedy::Repair,
                        format!("{at} cannot be read: {error}"),
                    ));
                }
            }
        }
    }

    /// The next file; lists the next part when those of the one before are given out.
    fn next(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            let at = state.next;
            let part = self.parts.get(at)?;
            state.next += 1;
            let mut damage = Vec::new();
            let listed = list(
                at,
                part,
                &part.directory,
                part.hash,
                "",
                &mut state.jobs,
                &mut damage,
            );
            if let Err(error) = listed {
                state.failed = Some(error);
                self.stop.store(true, Ordering::Relaxed);
            }
            if !damage.is_empty() {
                state.damage.entry(at).or_default().extend(damage);
            }
        }
    }

    /// Reads a file; tells what is wrong with it, if something is.
    fn read(
        &self,
        job: &Job,
        buffer: &mut [u8],
        sender: &mpsc::Sender<u64>,
    ) -> io::Result<Option<String>> {
        let found = match self.hash(job, buffer, sender) {
            Ok(found) => found,
            Err(error) if is_damage(&error) => {
                return Ok(Some(format!("cannot be read: {error}")));
            }
            Err(error) => return Err(error),
        };
        let expected = job.expected;
        Ok(if self.stop.load(Ordering::Relaxed) || found == expected {
            None
        } else if found.bytes == expected.bytes {
            Some("does not have the checksum that checksums.txt says".to_owned())
        } else {
            Some(format!(
                "does not have the {} bytes that checksums.txt says",
                expected.bytes
            ))
        })
    }

    /// Size and hash of what is there, as far as it has to be told from what should be there.
    fn hash(
        &self,
        job: &Job,
        buffer: &mut [u8],
        sender: &mpsc::Sender<u64>,
    ) -> io::Result<FileChecksum> {
        let mut file = File::open(&job.path)?;
        if let Some(offset) = job.offset {
            file.seek(SeekFrom::Start(offset))?;
        }
        // One byte more shows that the file has grown.
        let more = u64::from(job.offset.is_none());
        let mut file = file.take(job.expected.bytes.saturating_add(more));
        let mut hasher = FileHasher::new();
        let mut bytes = 0;
        loop {
            let length = file.read(buffer)?;
            if length == 0 || self.stop.load(Ordering::Relaxed) {
                let hash = hasher.finish();
                return Ok(FileChecksum { bytes, hash });
            }
            hasher.update(&buffer[..length]);
            bytes += length as u64;
            // The listener goes only after the readers.
            let _ = sender.send(length as u64);
        }
    }

    fn damaged(&self, at: usize, name: String, why: String) {
        let mut state = self.state();
        state
            .damage
            .entry(at)
            .or_default()
            .push(DamagedFile { name, why });
    }

    fn failed(&self, error: EngineError) {
        self.stop.store(true, Ordering::Relaxed);
        self.state().failed.get_or_insert(error);
    }
}

/// Whether it is the bytes that cannot be read, not the reader who may not or has no means.
fn is_damage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.kind() == io::ErrorKind::UnexpectedEof
        || error.raw_os_error() == Some(INPUT_OUTPUT_ERROR)
}

/// Lists the files of a part or a projection, with `prefix` before their names. What is wrong with the
/// lists themselves is told in `damage`.
fn list(
    at: usize,
    part: &ToProve,
    directory: &Path,
    hash: Option<Hash128>,
    prefix: &str,
    jobs: &mut VecDeque<Job>,
    damage: &mut Vec<DamagedFile>,
) -> Result<()> {
    let mut damaged = |file: &Path, why: String| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        damage.push(DamagedFile {
            name: format!("{prefix}{name}"),
            why,
        });
    };
    let opened = Directory::open(directory).and_then(|mut opened| {
        let checksums = opened.checksums()?;
        Ok((opened, checksums))
    });
    let (opened, checksums) = match opened {
        Ok(opened) => opened,
        Err(PartError::Damaged { path, why }) => {
            damaged(&path, why);
            return Ok(());
        }
        Err(PartError::Unreadable { path, source }) if is_damage(&source) => {
            damaged(&path, format!("cannot be read: {source}"));
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    if hash.is_some_and(|hash| hash != checksums.part_hash()) {
        damaged(
            &opened.file_of(CHECKSUMS),
            "is not the one that the part was written with".to_owned(),
        );
        return Ok(());
    }
    let only: HashSet<&str> = part.only.iter().map(String::as_str).collect();
    for (name, listed) in checksums.files() {
        let file = opened.file_of(name);
        let Some(offset) = opened.offset_of(name) else {
            damaged(&file, format!("{name} is not in it"));
            continue;
        };
        let of_part = file.file_name().unwrap_or_default().to_string_lossy();
        let of_part = format!("{prefix}{of_part}");
        if only.is_empty() || only.contains(of_part.as_str()) {
            jobs.push_back(Job {
                at,
                name: of_part,
                path: file,
                offset,
                expected: listed.identity(),
            });
        }
    }
    for (name, listed) in checksums.projections() {
        let below = directory.join(name);
        let prefix = format!("{prefix}{name}/");
        list(at, part, &below, Some(listed.hash), &prefix, jobs, damage)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A `checksums.txt` of version 2, which is a text.
    fn checksums(files: &[(&str, u64, Hash128)]) -> String {
        let mut text = format!("checksums format version: 2\n{} files:\n", files.len());
        for (name, bytes, hash) in files {
            let number = u128::from_be_bytes(hash.0);
            let (low, high) = (number as u64, (number >> 64) as u64);
            text += &format!("{name}\n\tsize: {bytes}\n\thash: {low} {high}\n\tcompressed: 0\n");
        }
        text
    }

    fn entry<'a>(name: &'a str, content: &[u8]) -> (&'a str, u64, Hash128) {
        let mut hasher = FileHasher::new();
        hasher.update(content);
        (name, content.len() as u64, hasher.finish())
    }

    /// A part with a projection, of files of more than one buffer.
    fn part() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let large = vec![7; BUFFER_BYTES * 2 + 5];
        let below = root.path().join("p.proj");
        fs::create_dir(&below).unwrap();
        fs::write(below.join("k.bin"), &large).unwrap();
        let listed = checksums(&[entry("k.bin", &large)]);
        fs::write(below.join("checksums.txt"), &listed).unwrap();
        let hash = mendb_model::part::Checksums::parse(listed.as_bytes());
        let projection = ("p.proj", 0, hash.unwrap().part_hash());
        fs::write(root.path().join("k.bin"), &large).unwrap();
        fs::write(root.path().join("count.txt"), "5").unwrap();
        fs::write(root.path().join("columns.txt"), "listed nowhere").unwrap();
        let listed = checksums(&[entry("k.bin", &large), entry("count.txt", b"5"), projection]);
        fs::write(root.path().join("checksums.txt"), listed).unwrap();
        root
    }

    fn damaged(part: &Path) -> Vec<String> {
        let found = prove_directory(part, &mut |_| ControlFlow::Continue(())).unwrap();
        found.into_iter().map(|file| file.name).collect()
    }

    #[test]
    fn every_byte_of_every_listed_file_is_read() {
        let part = part();
        let mut bytes = 0;
        let found = prove_directory(part.path(), &mut |read| {
            bytes += read;
            ControlFlow::Continue(())
        });
        assert_eq!(found.unwrap(), []);
        assert_eq!(bytes, 2 * (BUFFER_BYTES as u64 * 2 + 5) + 1);
    }

    #[test]
    fn damage_is_named_whatever_it_is() {
        let flip = |path: &Path| {
            let mut bytes = fs::read(path).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            fs::write(path, bytes).unwrap();
        };
        let cut = |path: &Path| fs::write(path, "").unwrap();
        let grow = |path: &Path| {
            let mut bytes = fs::read(path).unwrap();
            bytes.push(0);
            fs::write(path, bytes).unwrap();
        };
        let lose = |path: &Path| fs::remove_file(path).unwrap();
        let ways: [&dyn Fn(&Path); 4] = [&flip, &cut, &grow, &lose];
        for damage in ways {
            for name in [
                "k.bin",
                "count.txt",
                "p.proj/k.bin",
                "p.proj/checksums.txt",
                "checksums.txt",
            ] {
                let part = part();
                damage(&part.path().join(name));
                assert_eq!(damaged(part.path()), [name]);
            }
        }
        let part = part();
        lose(&part.path().join("columns.txt"));
        assert_eq!(damaged(part.path()), [""; 0]);
    }

    #[test]
    fn only_the_files_that_are_asked_for_are_read() {
        let part = part();
        fs::write(part.path().join("count.txt"), "6").unwrap();
        fs::write(part.path().join("k.bin"), "6").unwrap();
        let to_prove = ToProve {
            directory: part.path().to_owned(),
            hash: None,
            only: vec!["count.txt".to_owned()],
        };
        let damage = prove(&[&to_prove], &mut |_| ControlFlow::Continue(())).unwrap();
        let names: Vec<&str> = damage[&0].iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["count.txt"]);
    }

    #[test]
    fn one_who_says_stop_is_heard() {
        let part = part();
        fs::write(part.path().join("count.txt"), "6").unwrap();
        let mut told = 0;
        prove_directory(part.path(), &mut |_| {
            told += 1;
            ControlFlow::Break(())
        })
        .unwrap();
        assert!(told > 0);
    }
}
