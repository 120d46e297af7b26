//! From the directory to the running store.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use fjall::Readable;
use mendb_model::Malformed;

use crate::database::{Inner, Options};
use crate::datashard::stats::ShardStats;
use crate::error::{Error, Result};
use crate::fence::Fence;
use crate::schemeshard::{Catalogue, TableEntry};
use crate::store::Store;
use crate::transaction::{NEXT_SHARD_KEY, VERSION_KEY, Writer};
use crate::view::View;

/// Key of the format in the `meta` keyspace: 8 bytes big-endian.
const FORMAT_KEY: &[u8] = b"format";
/// The format this crate writes and reads.
const FORMAT: u64 = 1;

/// Keyspaces that are not a shard's.
const OWN_KEYSPACES: [&str; 2] = ["catalogue", "meta"];

/// Opens the store. Keyspaces that no table of the catalogue owns are removed: a crash left them
/// between the building of a shard and the commit that would have put it in the catalogue, or between
/// the commit that took one out, or that ended a mend, and its removal.
pub(crate) fn open(dir: &Path, options: Options) -> Result<Inner> {
    let store = Arc::new(Store::open(dir, &options)?);
    let snapshot = store.snapshot();
    let number = |key: &[u8]| -> Result<Option<u64>> {
        let value = snapshot
            .get(&store.meta, key)
            .map_err(|error| store.fault(error))?;
        value.map(|bytes| read_number(key, &bytes)).transpose()
    };
    match number(FORMAT_KEY)? {
        Some(FORMAT) => {}
        Some(found) => {
            return Err(Error::Format {
                dir: dir.to_owned(),
                found,
                expected: FORMAT,
            });
        }
        None => {
            let mut batch = store.batch();
            batch.insert(&store.meta, FORMAT_KEY, FORMAT.to_be_bytes());
            batch.commit().map_err(|error| store.fault(error))?;
            store.sync()?;
        }
    }

    let mut catalogue = Catalogue::default();
    let mut stats = HashMap::new();
    let mut names = store.keyspace_names();
    names.retain(|name| !OWN_KEYSPACES.contains(&name.as_str()) && !Fence::is_fence(name));
    for record in snapshot.iter(&store.catalogue) {
        let (name, value) = record.into_inner().map_err(|error| store.fault(error))?;
        let entry = TableEntry::decode(&name, &value)?;
        for shard in entry.all_shards() {
            shard.files.open_existing(&store, &mut names)?;
            let value = snapshot.get(&store.meta, ShardStats::key(shard.id));
            if let Some(bytes) = value.map_err(|error| store.fault(error))? {
                stats.insert(shard.id, ShardStats::decode(shard.id, &bytes)?);
            }
        }
        for layer in entry.layers.values() {
            layer.open_existing(&store, &mut names)?;
        }
        catalogue.insert(entry);
    }
    let next_shard = number(NEXT_SHARD_KEY)?.unwrap_or(1);
    let version = number(VERSION_KEY)?.unwrap_or(0);

    for orphan in names {
        tracing::info!(keyspace = orphan, "remove what a crash left");
        let keyspace = store.existing(&orphan)?;
        store.delete(keyspace)?;
    }
    let writer = Writer {
        stats,
        captures: HashMap::new(),
        next_shard,
        recorded_next_shard: next_shard,
    };
    let view = View {
        snapshot: store.snapshot(),
        store,
        version,
        catalogue: Arc::new(catalogue),
    };
    Ok(Inner::new(options, writer, view))
}

fn read_number(key: &[u8], bytes: &[u8]) -> Result<u64> {
    match <[u8; 8]>::try_from(bytes) {
        Ok(bytes) => Ok(u64::from_be_bytes(bytes)),
        Err(error) => Err(Error::damaged(
            format!(
                "the record {:?} of the row store",
                key.escape_ascii().to_string()
            ),
            Malformed {
                what: "number",
                detail: error.to_string(),
            },
        )),
    }
}
