//! What keeps a recording from being made or believed.

use std::io;
use std::path::{Path, PathBuf};

/// Why there is no recording, or no answer from one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// strace is missing or may not trace.
    #[error(
        "{program:?} cannot be started; install strace, on Debian with `apt-get install strace`"
    )]
    Strace {
        /// What was to be started.
        program: String,
        /// Why it was not.
        source: io::Error,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A line of strace that is not understood.
    #[error("line {line} of strace: {detail}: {text}")]
    Line {
        /// Its number, from one.
        line: usize,
        /// What is wrong with it.
        detail: String,
        /// Its beginning.
        text: String,
    },
    /// The process did what the recorder cannot rebuild.
    #[error("line {line} of strace: {detail}; the recorder cannot rebuild this: {text}")]
    Unsupported {
        /// The line that says so, from one.
        line: usize,
        /// What it did.
        detail: String,
        /// The beginning of the line.
        text: String,
    },
    /// What was recorded does not lead to what is on disk: something was written unseen.
    #[error(
        "the recording of {} does not lead to what is there: {detail}; something was written that strace did not show",
        root.display()
    )]
    Incomplete {
        /// The recorded directory.
        root: PathBuf,
        /// The first difference.
        detail: String,
    },
}

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Names the file that an operation of the system failed on.
pub(crate) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        action,
        path,
        source,
    }
}
