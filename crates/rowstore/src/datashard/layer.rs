//! The layer of a mend over a shard: the wanted row, or that there is none, of each key that differs
//! from what lies beneath.
//!
//! It is a keyspace of its own over the delta, with values like the delta's. Whether readers read
//! through it is a matter of the table's state, so the layers of all tables of a mend become visible
//! in one commit. Once they are, their values are brought into the delta, or the shard is rewritten
//! with them; readers see the same before and after. Then the layer goes as a whole.
//!
//! # Crash
//! A layer belongs to a table in the state that made it, and is named after the version at which that
//! began. Layers that no table's state names are removed by the next open, and a layer that could not
//! be removed is never taken for that of a later mend.

use fjall::{Iter, Keyspace, OwnedWriteBatch, Readable, Slice};
use mendb_model::key::KeyRange;

use crate::datashard::rows::bounds;
use crate::datashard::stats::ShardStats;
use crate::datashard::{LazyKeyspace, Shard, ShardId, over_value};
use crate::error::Result;
use crate::index::RowEdit;
use crate::store::{KeyspaceKind, Store};
use crate::view::View;

/// Where a row to be staged goes; by default into a layer that has no entry for it.
#[derive(Default)]
pub(crate) struct Place {
    /// The entry that the layer has for the key.
    pub(crate) entry: Option<Slice>,
    /// Whether the row beneath is the wanted one, so that the layer is to have none.
    pub(crate) as_beneath: bool,
}

/// The layer over one shard.
pub(crate) struct Layer {
    keyspace: LazyKeyspace,
}

impl Layer {
    /// The layer of a mend that began at a version.
    pub(crate) fn new(shard: ShardId, begun_at: u64) -> Self {
        let name = format!("mend-{shard}-{begun_at}");
        Self {
            keyspace: LazyKeyspace::new(name, KeyspaceKind::Delta),
        }
    }

    /// Opens it if it is one of `names`, and takes it out of them.
    pub(crate) fn open_existing(&self, store: &Store, names: &mut Vec<String>) -> Result<()> {
        self.keyspace.open_existing(store, names)
    }

    /// The keyspace, if anything was ever put into it.
    pub(crate) fn keyspace(&self) -> Option<&Keyspace> {
        self.keyspace.handle.get()
    }

    /// What the layer says of `key`: as in the delta.
    pub(crate) fn get(&self, view: &View, key: &[u8]) -> Result<Option<Slice>> {
        let Some(keyspace) = self.keyspace() else {
            return Ok(None);
        };
        let value = view.snapshot.get(keyspace, key);
        value.map_err(|error| view.store.fault(error))
    }

    /// Its entries of a range, in key order.
    pub(crate) fn entries(&self, view: &View, range: &KeyRange) -> Option<Iter> {
        let keyspace = self.keyspace()?;
        (!range.is_empty()).then(|| view.snapshot.range::<&[u8], _>(keyspace, bounds(range)))
    }

    /// Adds to `batch` what is to become of a row, `before` being what readers of the layer see so far,
    /// and keeps the stats in step.
    pub(crate) fn stage_row(
        &self,
        store: &Store,
        batch: &mut OwnedWriteBatch,
        shard: &Shard,
        stats: &mut ShardStats,
        row: RowEdit<'_>,
        place: &Place,
    ) -> Result<()> {
        let keyspace = self.keyspace.open(store)?;
        let stats = stats.layer_mut();
        if let Some(before) = row.before {
            stats.digest.remove(row.key, before);
        }
        if let Some(after) = row.after {
            stats.digest.add(row.key, after);
        }
        if let Some(entry) = &place.entry {
            stats.entries.remove(row.key, entry);
        }
        if place.as_beneath {
            batch.remove(keyspace, row.key);
            return Ok(());
        }
        let value = over_value(row.after);
        stats.entries.add(row.key, &value);
        if !stats.reaches(row.key) {
            stats.last_key = Some(row.key.to_vec());
        }
        let bytes = (row.key.len() + value.len()) as u64;
        stats.bytes += bytes;
        shard.files.count(bytes);
        batch.insert(keyspace, row.key, value);
        Ok(())
    }

    /// Takes the keyspace out of the store. Snapshots that read through it go on reading; failing
    /// leaves garbage that the next open removes.
    pub(crate) fn retire(&self, store: &Store) {
        self.keyspace.retire(store);
    }
}
