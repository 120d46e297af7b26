//! A file of a part that is to be stored.

use mendb_model::part::{FileChecksum, Hash128};

/// A file of a part, as its directory describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileOnDisk {
    /// Its path inside the part, joined by `/`.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// What `checksums.txt` says of it, if it lists it.
    pub checksum: Option<Hash128>,
}

impl FileOnDisk {
    pub(super) fn identity(&self) -> Option<FileChecksum> {
        self.checksum.map(|hash| FileChecksum {
            bytes: self.bytes,
            hash,
        })
    }
}
