//! What a repository in a local directory needs beyond an object store: removals that last, and no
//! litter.
//!
//! Writes are made durable by the store itself, which syncs files and directories. Removals are not:
//! after a crash a removed manifest could come back while its segments do not, unless its directory
//! was synced in between.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Makes removals from a directory durable. A directory that is gone is as durable as it can be.
pub(crate) fn sync(directory: &Path) -> io::Result<()> {
    match File::open(directory) {
        Ok(open) if cfg!(unix) => open.sync_all(),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes the files that writes cut off by a crash left below a directory, and then the directories
/// without files, itself included. The store names such files `<object>#<number>` and never shows
/// them. Other files stay, and so do the directories they are in.
pub(crate) fn tidy(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            tidy(&entry.path())?;
        } else if is_unfinished(&entry.file_name().to_string_lossy()) {
            ignore_missing(fs::remove_file(entry.path()))?;
        }
    }
    remove_if_empty(directory)
}

/// Removes a directory without entries.
pub(crate) fn remove_if_empty(directory: &Path) -> io::Result<()> {
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => ignore_missing(other),
    }
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn is_unfinished(name: &str) -> bool {
    let number = name.rsplit_once('#').map(|(_, number)| number);
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tidying_removes_unfinished_writes_and_empty_directories_only() {
        let root = tempfile::tempdir().unwrap();
        let backup = root.path().join("backup");
        fs::create_dir_all(backup.join("empty/deeper")).unwrap();
        fs::create_dir_all(backup.join("table")).unwrap();
        fs::write(backup.join("table/0000-0.0000.parquet#1"), "half").unwrap();
        fs::write(backup.join("note.txt"), "someone's").unwrap();
        tidy(&backup).unwrap();
        assert!(backup.join("note.txt").exists());
        assert!(!backup.join("empty").exists());
        assert!(!backup.join("table").exists());
        fs::remove_file(backup.join("note.txt")).unwrap();
        tidy(&backup).unwrap();
        assert!(!backup.exists());
        tidy(&backup).unwrap();
        sync(&backup).unwrap();
    }
}
