//! Manifests that were read, so that a step of many shards reads each once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mendb_model::manifest::Manifest;
use mendb_model::operation::ChainLink;
use mendb_repo::StoredManifest;

/// Manifests kept at most: more than a chain usually has.
const MOST: usize = 64;

/// Manifests by their hash: what is found under it cannot have changed.
#[derive(Debug, Clone, Default)]
pub struct Manifests(Arc<Mutex<HashMap<String, Arc<Manifest>>>>);

impl Manifests {
    /// The manifest of a link, if it was read before.
    pub(crate) fn get(&self, collection: &str, link: &ChainLink) -> Option<Arc<Manifest>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let manifest = known.get(&link.manifest_blake3)?;
        (manifest.collection == collection).then(|| Arc::clone(manifest))
    }

    /// Keeps a manifest that was read for a link; `None` when it is not the link's.
    pub(crate) fn insert(&self, link: &ChainLink, stored: StoredManifest) -> Option<Arc<Manifest>> {
        if stored.blake3 != link.manifest_blake3 {
            return None;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        let manifest = Arc::new(stored.manifest);
        known.insert(stored.blake3, Arc::clone(&manifest));
        Some(manifest)
    }
}

/// What to say when the manifest of a link is another one now.
pub(crate) fn changed(link: &ChainLink) -> String {
    format!(
        "the manifest of backup {} has changed since the operation was planned; cancel it and ask again",
        link.backup_id
    )
}
