//! Many records of shards that nobody reads yet.
//!
//! *Memory*: [`BATCH_BYTES`]. *Crash*: the shards are garbage until they are in the catalogue.

use crate::datashard::load::{BATCH_BYTES, ROW_OVERHEAD};
use crate::error::Result;
use crate::kernel::{Batch, Section, Store};

/// Records of shards that are not in the catalogue yet, committed some at a time.
pub(crate) struct BulkBatch<'a> {
    store: &'a Store,
    batch: Batch,
    bytes: usize,
}

impl<'a> BulkBatch<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self {
            store,
            batch: Batch::default(),
            bytes: 0,
        }
    }

    pub(crate) fn insert(&mut self, section: &Section, key: &[u8], value: Vec<u8>) -> Result<()> {
        self.bytes += key.len() + value.len() + ROW_OVERHEAD;
        self.batch.insert(section, key, value);
        if self.bytes < BATCH_BYTES {
            return Ok(());
        }
        self.bytes = 0;
        self.store.commit(std::mem::take(&mut self.batch))
    }

    pub(crate) fn finish(self) -> Result<()> {
        self.store.commit(self.batch)
    }
}
