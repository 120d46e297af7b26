//! The directory that a benchmark works in.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

const PREFIX: &str = "mendb-bench-";

/// A directory of this process among the temporary ones (`TMPDIR` moves them). It goes when this is
/// dropped, however the benchmark ends; what an interrupted one left goes when the next one begins.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes it.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn new() -> Result<Self, String> {
        let parent = std::env::temp_dir();
        remove_left(&parent);
        let path = parent.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir_all(&path)
            .map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        Ok(Self { path })
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("xtask: cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Removes the directories of processes that are gone.
fn remove_left(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            // The owner of the files may be another user; then they are not ours to remove.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Bytes of all files under a path.
///
/// # Errors
/// It cannot be read.
pub fn size_bytes(path: &Path) -> Result<u64, String> {
    let broken = |error| format!("cannot measure {}: {error}", path.display());
    let metadata = fs::metadata(path).map_err(broken)?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    let mut bytes = 0;
    for entry in fs::read_dir(path).map_err(broken)? {
        bytes += size_bytes(&entry.map_err(broken)?.path())?;
    }
    Ok(bytes)
}

/// Reads all files under a path, so that they are in the page cache as far as it has room.
///
/// # Errors
/// One cannot be read.
pub fn warm(path: &Path) -> Result<(), String> {
    let mut buffer = vec![0; 1 << 20];
    warm_with(path, &mut buffer).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn warm_with(path: &Path, buffer: &mut [u8]) -> io::Result<()> {
    if !fs::metadata(path)?.is_dir() {
        let mut file = fs::File::open(path)?;
        while file.read(buffer)? > 0 {}
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        warm_with(&entry?.path(), buffer)?;
    }
    Ok(())
}

/// Removes a directory and all in it, if it is there.
///
/// # Errors
/// It is there and cannot be removed.
pub fn remove(path: &Path) -> Result<(), String> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", path.display()))
        }
        _ => Ok(()),
    }
}
