//! Lists of shards that were read, so that the tasks of a step read each once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mendb_model::BackupId;
use mendb_model::manifest::ShardBackup;
use mendb_model::part::ObjectRef;

/// Lists whose documents together are longer than this are forgotten. In memory they take some six times
/// as much.
const MOST_BYTES: u64 = 16 << 20;

/// By the backup and the BLAKE3 of the documents: what one says cannot have changed. Those of another backup that
/// say the same are other objects, which may be gone or damaged.
#[derive(Debug, Default)]
pub(crate) struct KnownLists(Mutex<Lists>);

/// Collection, backup, object, BLAKE3.
type Key = (String, BackupId, String, String);

fn key(collection: &str, id: &BackupId, at: &ObjectRef) -> Key {
    let (object, blake3) = (at.object.clone(), at.blake3.clone());
    (collection.to_owned(), id.clone(), object, blake3)
}

#[derive(Debug, Default)]
struct Lists {
    known: HashMap<Key, Arc<[ShardBackup]>>,
    bytes: u64,
}

impl KnownLists {
    /// What a document says, if it was read before.
    pub(crate) fn get(
        &self,
        collection: &str,
        id: &BackupId,
        at: &ObjectRef,
    ) -> Option<Arc<[ShardBackup]>> {
        let lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lists.known.get(&key(collection, id, at)).cloned()
    }

    /// Keeps what a document says for the next time.
    pub(crate) fn keep(
        &self,
        collection: &str,
        id: &BackupId,
        at: &ObjectRef,
        shards: &Arc<[ShardBackup]>,
    ) {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lists.bytes + at.bytes > MOST_BYTES {
            *lists = Lists::default();
        }
        let shards = Arc::clone(shards);
        let key = key(collection, id, at);
        if lists.known.insert(key, shards).is_none() {
            lists.bytes += at.bytes;
        }
    }
}
