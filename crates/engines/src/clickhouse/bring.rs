//! Puts parts together beside the live ones.
//!
//! A part is put together in a directory of its own: files that the server has already are linked, or copied where
//! the server may write into them ([`super::links`]), the rest comes from elsewhere, and every byte of both is checked.
//! What carries its final name is whole and durable; whatever else an attempt left is removed by the next.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::ops::ControlFlow;
use std::path::{Component, Path, PathBuf};

use mendb_model::part::{PartFile, TableName};

use super::markers::unusable;
use super::stage::WrittenPart;
use super::{ClickHouse, bytes, links, part_files};
use crate::contract::bringing::{Bringing, Brought, PartFrom, PartToBring, Supplier};
use crate::error::{EngineError, Remedy, Result};

/// Files are read in pieces of so many bytes.
const PIECE_BYTES: usize = 1 << 18;

/// Why parts are not brought.
enum Ended {
    Failed(EngineError),
    /// The supplier has ended it.
    Stopped,
    Damaged(Bringing),
}

impl From<EngineError> for Ended {
    fn from(error: EngineError) -> Self {
        Self::Failed(error)
    }
}

/// What a supplier answers, if it goes on.
fn supplied<T>(answer: ControlFlow<(), T>) -> std::result::Result<T, Ended> {
    match answer {
        ControlFlow::Continue(found) => Ok(found),
        ControlFlow::Break(()) => Err(Ended::Stopped),
    }
}

impl ClickHouse {
    /// Brings parts, and gives those their names that are not there yet.
    pub(super) fn bring(
        &self,
        name: &TableName,
        parts: &[PartToBring<'_>],
        supplier: &mut dyn Supplier,
    ) -> Result<Bringing> {
        match self.bring_all(name, parts, supplier) {
            Ok(brought) => Ok(Bringing::Done(brought)),
            Err(Ended::Stopped) => Ok(Bringing::Stopped),
            Err(Ended::Damaged(damaged)) => Ok(damaged),
            Err(Ended::Failed(error)) => Err(error),
        }
    }

    fn bring_all(
        &self,
        name: &TableName,
        parts: &[PartToBring<'_>],
        supplier: &mut dyn Supplier,
    ) -> std::result::Result<Brought, Ended> {
        let mut brought = Brought::default();
        let mut elsewhere: Vec<(&PartFile, PathBuf)> = Vec::new();
        let missing = || parts.iter().filter(|part| !part.staged.directory.exists());
        for part in missing() {
            let written = written(part);
            links::remove(&written).map_err(|error| unusable(&written, &error))?;
            fs::create_dir_all(&written).map_err(|error| unusable(&written, &error))?;
            match part.from {
                PartFrom::Files(files) => {
                    for file in files {
                        supplied(supplier.go_on())?;
                        let path = inside(&written, &file.name)?;
                        if link_checked(file, &path, supplier)? {
                            brought.linked_bytes += file.bytes;
                        } else {
                            brought.fetched_bytes += file.bytes;
                            brought.fetched_files += 1;
                            elsewhere.push((file, path));
                        }
                    }
                }
                PartFrom::Directory(from) => {
                    let linked = links::link_part(from, &written);
                    brought.linked_bytes += linked.map_err(|error| unusable(from, &error))?;
                    let mut stopped = false;
                    let damaged = bytes::prove_directory(&written, &mut |_| {
                        let goes_on = supplier.go_on();
                        stopped = goes_on.is_break();
                        goes_on
                    })?;
                    if stopped {
                        return Err(Ended::Stopped);
                    }
                    if !damaged.is_empty() {
                        return Err(Ended::Damaged(Bringing::Damaged {
                            part: part.staged.name.clone(),
                            files: damaged,
                        }));
                    }
                }
                PartFrom::Elsewhere(at) => {
                    brought.fetched_bytes += supplied(supplier.fetch_part(at, &written))?;
                    brought.fetched_files += 1;
                }
            }
        }
        supplied(supplier.fetch(&elsewhere))?;
        for part in missing() {
            let staged = &part.staged;
            let found = part_files::read(&written(part), &staged.name, &staged.disk)?.part;
            if found.hash != staged.hash {
                let message = format!(
                    "part {} was put together as {} instead of {}",
                    staged.name, found.hash, staged.hash
                );
                return Err(EngineError::new(Remedy::Request, message).into());
            }
        }
        let whole: Vec<WrittenPart> = missing()
            .map(|part| WrittenPart {
                written: written(part),
                sealed: part.staged.directory.clone(),
            })
            .collect();
        self.seal_parts(name, &whole)?;
        Ok(brought)
    }
}

/// Where a part is put together.
fn written(part: &PartToBring<'_>) -> PathBuf {
    part.staged.directory.with_extension("tmp")
}

/// The path of a file of a part, which must not lead out of the part.
fn inside(directory: &Path, name: &str) -> Result<PathBuf> {
    let relative = Path::new(name);
    let plain = |component| matches!(component, Component::Normal(_));
    if name.is_empty() || !relative.components().all(plain) {
        let message = format!("a part of the backup has a file named {name:?}");
        return Err(EngineError::new(Remedy::Request, message));
    }
    let path = directory.join(relative);
    if let Some(parent) = path.parent().filter(|parent| *parent != directory) {
        fs::create_dir_all(parent).map_err(|error| unusable(parent, &error))?;
    }
    Ok(path)
}

/// Links a file of the server, if it has one that really is what is wanted. What is not there, or is damaged, has to
/// come from elsewhere.
fn link_checked(
    file: &PartFile,
    to: &Path,
    supplier: &mut dyn Supplier,
) -> std::result::Result<bool, Ended> {
    let Some(identity) = file.identity() else {
        return Ok(false);
    };
    let mut place = supplied(supplier.place_of(&identity))?;
    for is_again in [false, true] {
        let Some(from) = place else {
            return Ok(false);
        };
        match links::link_file(&from, to) {
            Ok(()) => {
                if hash_file(to)?.to_hex().as_str() == file.blake3 {
                    return Ok(true);
                }
                tracing::warn!(file = %from.display(), "is damaged: its bytes are not what its checksum says");
                supplier.is_nowhere(&identity);
                fs::remove_file(to).map_err(|error| unusable(to, &error))?;
                return Ok(false);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(unusable(to, &error).into()),
        }
        if is_again {
            return Ok(false);
        }
        place = supplied(supplier.is_gone(&identity))?;
    }
    Ok(false)
}

fn hash_file(path: &Path) -> Result<blake3::Hash> {
    let failed = |error| unusable(path, &error);
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(hasher.finalize()),
            read => hasher.update(&buffer[..read]),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_of_a_part_leads_out_of_it() {
        let directory = tempfile::tempdir().unwrap();
        for wrong in ["", "/etc/passwd", "../x", "a/../../x", "."] {
            assert!(inside(directory.path(), wrong).is_err(), "{wrong:?}");
        }
        let path = inside(directory.path(), "p.proj/data.bin").unwrap();
        assert!(path.parent().unwrap().is_dir());
    }
}
