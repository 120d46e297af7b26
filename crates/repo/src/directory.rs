//! What a repository in a local directory needs beyond an object store: removals that last, documents
//! that are replaced only as they were seen, and no litter.
//!
//! Writes are made durable by the store itself, which syncs files and directories. Removals are not:
//! after a crash a removed manifest could come back while its segments do not, unless its directory
//! was synced in between.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::random::random_number;

/// Whether a document was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exchanged {
    Yes,
    /// Another one was there, or none.
    No,
}

/// Takes the lock of a repository, which the system takes back when the file is closed or the process
/// ends.
///
/// # Errors
/// `WouldBlock` when another process has it; or the file system has no locks.
pub(crate) fn lock(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    let file = options
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::Error::new(
            io::ErrorKind::WouldBlock,
            format!("another process has locked {}", path.display()),
        )),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Puts a file in the place of one, durably, if that is still what was seen. The caller has the lock.
pub(crate) fn exchange(path: &Path, seen: &[u8], bytes: &[u8]) -> io::Result<Exchanged> {
    match fs::read(path) {
        Ok(there) if there == seen => {}
        Ok(_) => return Ok(Exchanged::No),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Exchanged::No),
        Err(error) => return Err(error),
    }
    let mut new = path.as_os_str().to_owned();
    // Listings leave out what ends like this.
    new.push(format!("#{}", random_number()));
    let new = PathBuf::from(new);
    let written = File::create_new(&new).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    });
    if let Err(error) = written {
        // What failed matters; a file that stays is found by its name.
        drop(fs::remove_file(&new));
        return Err(error);
    }
    path.parent().map_or(Ok(()), sync)?;
    Ok(Exchanged::Yes)
}

/// Removes a file, durably. One that is gone is removed. The caller has the lock.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    ignore_missing(fs::remove_file(path))?;
    path.parent().map_or(Ok(()), sync)
}

/// Makes removals from a directory durable. A directory that is gone is as durable as it can be.
pub(crate) fn sync(directory: &Path) -> io::Result<()> {
    match File::open(directory) {
        Ok(open) if cfg!(unix) => open.sync_all(),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes the files that writes cut off by a crash left below a directory, where `unwanted` accepts
/// the last part of the object's name, and then the directories without files, itself included. The
/// store names such files `<object>#<number>` and never shows them. Other files stay, and so do the
/// directories they are in.
pub(crate) fn tidy(directory: &Path, unwanted: &dyn Fn(&str) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            tidy(&entry.path(), unwanted)?;
        } else if unfinished(&entry.file_name().to_string_lossy()).is_some_and(unwanted) {
            ignore_missing(fs::remove_file(entry.path()))?;
        }
    }
    remove_if_empty(directory)
}

/// Removes the files below a directory that writes cut off by a crash have left, if nothing was written
/// to them since a time: writes that go on stay. Directories stay, as someone may be about to use them.
pub(crate) fn remove_unfinished(directory: &Path, before: SystemTime) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        // It was removed meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_unfinished(&entry.path(), before)?;
            continue;
        }
        if unfinished(&entry.file_name().to_string_lossy()).is_none() {
            continue;
        }
        match entry.metadata().and_then(|metadata| metadata.modified()) {
            Ok(modified) if modified <= before => ignore_missing(fs::remove_file(entry.path()))?,
            Ok(_) => {}
            // It was renamed or removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
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

/// The object that a file is the beginning of.
fn unfinished(file: &str) -> Option<&str> {
    let (object, number) = file.rsplit_once('#')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(object)
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
        fs::write(backup.join("table/0001-0.0000.parquet#2"), "other half").unwrap();
        tidy(&backup, &|object| object.starts_with("0000")).unwrap();
        assert!(!backup.join("table/0000-0.0000.parquet#1").exists());
        assert!(backup.join("table/0001-0.0000.parquet#2").exists());
        tidy(&backup, &|_| true).unwrap();
        assert!(backup.join("note.txt").exists());
        assert!(!backup.join("empty").exists());
        assert!(!backup.join("table").exists());
        fs::remove_file(backup.join("note.txt")).unwrap();
        tidy(&backup, &|_| true).unwrap();
        assert!(!backup.exists());
        tidy(&backup, &|_| true).unwrap();
        sync(&backup).unwrap();
    }

    #[test]
    fn only_unfinished_writes_that_nobody_went_on_with_are_removed() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("incoming")).unwrap();
        let [old, new] = ["old#1", "new#1"].map(|name| root.path().join("incoming").join(name));
        let object = root.path().join("object");
        for path in [&old, &new, &object] {
            fs::write(path, "half").unwrap();
        }
        let before = fs::metadata(&object).unwrap().modified().unwrap();
        let later = before + std::time::Duration::from_secs(1);
        File::options()
            .write(true)
            .open(&new)
            .unwrap()
            .set_modified(later)
            .unwrap();
        File::options()
            .write(true)
            .open(&old)
            .unwrap()
            .set_modified(before)
            .unwrap();
        remove_unfinished(root.path(), before).unwrap();
        assert!(!old.exists());
        assert!(new.exists() && object.exists());
    }
}
