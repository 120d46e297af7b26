//! Where operations keep what they stage.

use std::path::{Path, PathBuf};

/// The directory on each disk.
const DIRECTORY: &str = "mendb";

/// The directory of all operations on a disk.
pub(super) fn staging_root(disk: &Path) -> PathBuf {
    disk.join(DIRECTORY)
}
