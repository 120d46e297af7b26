//! A manifest with what is known of its bytes.

use mendb_model::manifest::{Manifest, Parent};

/// A manifest as it lies in the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredManifest {
    /// What it says.
    pub manifest: Manifest,
    /// BLAKE3 of its bytes, as hex digits: what the next backup of the chain calls its parent by.
    pub blake3: String,
    /// Its size, without that of the objects it names.
    pub bytes: u64,
}

impl StoredManifest {
    pub(crate) fn new(manifest: Manifest, bytes: &[u8]) -> Self {
        Self {
            manifest,
            blake3: Self::hash(bytes),
            bytes: bytes.len() as u64,
        }
    }

    pub(crate) fn hash(bytes: &[u8]) -> String {
        blake3::hash(bytes).to_hex().to_string()
    }

    /// Whether it is the backup that an increment names as the one it stands on, or holds what that did.
    pub fn is_parent(&self, parent: &Parent) -> bool {
        self.manifest.backup_id == parent.backup_id
            && (self.blake3 == parent.manifest_blake3
                || self.manifest.stands_for(&parent.manifest_blake3))
    }
}
