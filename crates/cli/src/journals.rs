//! The journals that this machine has beside those of targets: a directory for each, side by side.

use std::fs;
use std::path::{Path, PathBuf};

use mendb_service::journal::Journal;

use crate::failure::Failure;
use crate::target::is_absent;

/// The journals of the clusters of this machine.
///
/// # Errors
/// The directory cannot be read, or a journal in it: what is done to that cluster is not known.
pub fn cluster_journals(state: &Path) -> Result<Vec<Journal>, Failure> {
    let directories = directories_in(state)?.into_iter();
    let known = directories.filter(|directory| Journal::exists(directory));
    known
        .map(|directory| {
            Journal::open(&directory).map_err(|error| {
                Failure::from(error).context(format!(
                    "which backups the cluster needs whose journal is in {} is not known",
                    directory.display()
                ))
            })
        })
        .collect()
}

/// What is in a directory, by name; nothing where it is not there.
///
/// # Errors
/// It cannot be read.
pub fn directories_in(state: &Path) -> Result<Vec<PathBuf>, Failure> {
    let cannot =
        |error: &std::io::Error| Failure::io(format!("cannot read {}", state.display()), error);
    let entries = match fs::read_dir(state) {
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        entries => entries.map_err(|error| cannot(&error))?,
    };
    let mut directories = Vec::new();
    for entry in entries {
        directories.push(entry.map_err(|error| cannot(&error))?.path());
    }
    directories.sort();
    Ok(directories)
}
