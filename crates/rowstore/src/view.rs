//! One commit of the store, to be read: the engine's snapshot, its version and its catalogue.
//!
//! # Consistency
//! A view is made under the write lock, right after a commit. The engine may move its own visible
//! position while a batch is half applied (creating a keyspace does), so rows are read through views
//! only; readers share the one that was published last and never wait for a writer.

use std::sync::Arc;

use fjall::Readable;
use mendb_model::name::TablePath;

use crate::datashard::cursor::{self, Cursors, Source};
use crate::datashard::layer::Layer;
use crate::datashard::stats::ShardStats;
use crate::datashard::{Shard, ShardId};
use crate::error::Result;
use crate::schemeshard::{Catalogue, TableEntry};
use crate::store::Store;

pub(crate) struct View {
    pub(crate) store: Arc<Store>,
    pub(crate) snapshot: fjall::Snapshot,
    pub(crate) version: u64,
    pub(crate) catalogue: Arc<Catalogue>,
}

impl View {
    pub(crate) fn table(&self, name: &str) -> Result<&Arc<TableEntry>> {
        self.catalogue.table(name)
    }

    pub(crate) fn shards(&self, path: &TablePath) -> Result<&[Arc<Shard>]> {
        self.catalogue.shards(path)
    }

    /// The layer over a shard, if readers of this view read through it.
    pub(crate) fn layer(&self, shard: &Shard) -> Option<&Arc<Layer>> {
        let entry = self.catalogue.table(&shard.path.table).ok()?;
        entry.visible_layer(shard.id)
    }

    pub(crate) fn stats(&self, shard: ShardId) -> Result<ShardStats> {
        let key = ShardStats::key(shard);
        match self.get_meta(&key)? {
            Some(bytes) => ShardStats::decode(shard, &bytes),
            None => Ok(ShardStats::default()),
        }
    }

    pub(crate) fn cursor(
        &self,
        shard: ShardId,
        operation: &str,
        source: Source,
    ) -> Result<Option<Vec<u8>>> {
        let value = self.get_meta(&cursor::key(shard, operation, source))?;
        Ok(value.map(|value| value.to_vec()))
    }

    /// All cursors of a shard, by their whole keys.
    pub(crate) fn cursors(&self, shard: ShardId) -> Result<Cursors> {
        let prefix = cursor::prefix(shard);
        self.snapshot
            .prefix(&self.store.meta, prefix)
            .map(|entry| {
                let (key, value) = entry.into_inner().map_err(|e| self.store.fault(e))?;
                Ok((key.to_vec(), value.to_vec()))
            })
            .collect()
    }

    pub(crate) fn get_meta(&self, key: &[u8]) -> Result<Option<fjall::Slice>> {
        self.snapshot
            .get(&self.store.meta, key)
            .map_err(|error| self.store.fault(error))
    }
}
