//! Lists of shards that were read, so that the tasks of a step read each once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mendb_model::manifest::ShardBackup;
use mendb_model::part::ObjectRef;

/// Lists whose documents together are longer than this are forgotten. In memory they take some six times
/// as much.
const MOST_BYTES: u64 = 16 << 20;

/// By the BLAKE3 of the documents: what one says cannot have changed.
#[derive(Debug, Default)]
pub(crate) struct KnownLists(Mutex<Lists>);

#[derive(Debug, Default)]
struct Lists {
    by_blake3: HashMap<String, Arc<[ShardBackup]>>,
    bytes: u64,
}

impl KnownLists {
    /// What a document says, if it was read before.
    pub(crate) fn get(&self, at: &ObjectRef) -> Option<Arc<[ShardBackup]>> {
        let lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lists.by_blake3.get(&at.blake3).cloned()
    }

    /// Keeps what a document says for the next time.
    pub(crate) fn keep(&self, at: &ObjectRef, shards: &Arc<[ShardBackup]>) {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lists.bytes + at.bytes > MOST_BYTES {
            *lists = Lists::default();
        }
        let shards = Arc::clone(shards);
        if lists.by_blake3.insert(at.blake3.clone(), shards).is_none() {
            lists.bytes += at.bytes;
        }
    }
}
