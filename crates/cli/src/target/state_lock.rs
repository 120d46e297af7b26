//! The lock on a directory of state, as that of a ClickHouse target: one process at a time drives operations on it.
//!
//! The operating system gives it up with its process, however that ends. It guards what is in the
//! directory. Processes with different state directories also lock one in the server's data directory
//! ([`super::claim`]).

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use crate::failure::{Failure, FailureKind};

/// The file that is locked.
const FILE: &str = "lock";

/// Held while a process has the target open.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes the lock of a directory, which is created if absent.
    ///
    /// # Errors
    /// [`FailureKind::Busy`] while another process has it, or the directory cannot be written.
    pub fn take(directory: &Path) -> Result<Self, Failure> {
        let path = directory.join(FILE);
        let cannot = |error: &std::io::Error| {
            let doing = format!(
                "cannot keep the state of the target in {}",
                directory.display()
            );
            Failure::io(doing, error).hint(
                "run mendb as a user who may write there; --state DIRECTORY keeps it elsewhere",
            )
        };
        std::fs::create_dir_all(directory).map_err(|error| cannot(&error))?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| cannot(&error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Failure::new(
                FailureKind::Busy,
                format!("{} is open in another process", directory.display()),
            )
            .hint(
                "another mendb works on this target: wait for it to end, then run the command again",
            )),
            Err(TryLockError::Error(error)) => Err(cannot(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_refused_until_the_first_is_done() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("a/b");
        let first = StateLock::take(&state).unwrap();
        let refused = StateLock::take(&state).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Busy);
        drop(first);
        StateLock::take(&state).unwrap();
    }
}
