//! What is recorded, and what of it is left out.

use std::path::{Path, PathBuf};

/// The directory that is recorded.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    /// As the system names it.
    pub(crate) root: PathBuf,
    /// How the names of files end that may be mapped shared and writable: their content is not recorded.
    pub(crate) mapped: Vec<String>,
}

impl Watched {
    pub(crate) fn may_be_mapped(&self, path: &Path) -> bool {
        let name = path.to_string_lossy();
        let mut mapped = self.mapped.iter();
        mapped.any(|suffix| name.ends_with(suffix))
    }
}
