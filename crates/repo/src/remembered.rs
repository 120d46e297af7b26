//! Manifests that were read, so that their text need not be parsed again.
//!
//! An operation walks its chain several times, and the manifest of a large table takes ten milliseconds.
//! What is stored is read each time: only the same bytes are the same manifest.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::stored_manifest::StoredManifest;

/// Manifests whose texts together are longer than this are forgotten.
const MOST_BYTES: u64 = 16 << 20;

/// By the names of their objects.
#[derive(Debug, Default)]
pub(crate) struct Remembered(Mutex<HashMap<String, StoredManifest>>);

impl Remembered {
    /// What these bytes of an object were when they were read before.
    pub(crate) fn get(&self, name: &str, bytes: &[u8]) -> Option<StoredManifest> {
        let manifests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = manifests.get(name)?;
        (known.blake3 == StoredManifest::hash(bytes)).then(|| known.clone())
    }

    /// Keeps a manifest that was read for the next time.
    pub(crate) fn keep(&self, name: &str, read: &StoredManifest) {
        let mut manifests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if (manifests.get(name)).is_some_and(|known| known.blake3 == read.blake3) {
            return;
        }
        manifests.remove(name);
        let kept: u64 = manifests.values().map(|known| known.bytes).sum();
        if kept + read.bytes > MOST_BYTES {
            manifests.clear();
        }
        manifests.insert(name.to_owned(), read.clone());
    }
}
