//! The storage engine below: one fjall database with the catalogue, the bookkeeping and the keyspaces
//! of the shards, and its errors in our words.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fjall::compaction::Leveled;
use fjall::config::{
    BlockSizePolicy, BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry,
    PartitioningPolicy, PinningPolicy,
};
use fjall::{
    CompressionType, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, UserKey,
    UserValue,
};

use crate::close;
use crate::database::Options;
use crate::error::{Error, Result};
use crate::fence::Fence;

/// Open files the engine keeps at hand; far below the usual limit of 1,024 a process.
const OPEN_FILES: usize = 256;
/// The journal is cut at this size at the latest, which also bounds how much is replayed at open.
const JOURNAL_BYTES: u64 = 64 << 20;
/// So many tables that were just flushed or ingested lie over each other before they are merged. Each
/// command that writes leaves one, and most are done before a merge would be.
const YOUNG_TABLES: u8 = 8;
/// The unit in which the base is read is finished at this size: below [`crate::datashard::pack`]'s, so
/// that each packed block of rows is read alone.
const BASE_BLOCK_BYTES: u32 = 8 << 10;

/// What a keyspace of a shard holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyspaceKind {
    /// Packed blocks of rows, written by ingestion only.
    Base,
    /// Single rows over the base: the delta, and the layer of a mend.
    Delta,
    /// The change log.
    Log,
}

/// Takes a key with its value; without one, the key has none any more.
pub(crate) type Put<'a> = dyn FnMut(UserKey, Option<UserValue>) -> Result<()> + 'a;

/// The fjall database of a store.
pub(crate) struct Store {
    db: fjall::Database,
    dir: PathBuf,
    fence: Fence,
    memtable_bytes: u64,
    /// Tables by name, as JSON.
    pub(crate) catalogue: Keyspace,
    /// Commit version, stats of shards, cursors.
    pub(crate) meta: Keyspace,
}

impl Drop for Store {
    fn drop(&mut self) {
        close::empty_journal(&self.db, &self.dir);
    }
}

impl Store {
    pub(crate) fn open(dir: &Path, options: &Options) -> Result<Self> {
        let fault = |error| Error::storage(dir, error);
        let db = fjall::Database::builder(dir)
            .cache_size(options.cache_bytes)
            .max_cached_files(Some(OPEN_FILES))
            .max_journaling_size(JOURNAL_BYTES)
            .open()
            .map_err(fault)?;
        let small = || KeyspaceCreateOptions::default().max_memtable_size(4 << 20);
        let catalogue = db.keyspace("catalogue", small).map_err(fault)?;
        let meta = db.keyspace("meta", small).map_err(fault)?;
        let fence = Fence::open(&db).map_err(fault)?;
        Ok(Self {
            db,
            fence,
            dir: dir.to_owned(),
            memtable_bytes: options.memtable_bytes,
            catalogue,
            meta,
        })
    }

    pub(crate) fn fault(&self, error: fjall::Error) -> Error {
        Error::storage(&self.dir, error)
    }

    pub(crate) fn batch(&self) -> OwnedWriteBatch {
        self.db.batch()
    }

    pub(crate) fn snapshot(&self) -> fjall::Snapshot {
        self.db.snapshot()
    }

    pub(crate) fn sync(&self) -> Result<()> {
        self.db
            .persist(PersistMode::SyncAll)
            .map_err(|error| self.fault(error))
    }

    pub(crate) fn memtable_bytes(&self) -> u64 {
        self.memtable_bytes
    }

    /// Bytes in all memtables that are not yet flushed.
    pub(crate) fn write_buffer_bytes(&self) -> u64 {
        self.db.write_buffer_size()
    }

    pub(crate) fn keyspace_names(&self) -> Vec<String> {
        let names = self.db.list_keyspace_names();
        names.iter().map(ToString::to_string).collect()
    }

    /// Opens a keyspace of a shard, creating it when it is not there.
    pub(crate) fn keyspace(&self, name: &str, kind: KeyspaceKind) -> Result<Keyspace> {
        let options = || {
            let options = KeyspaceCreateOptions::default()
                .max_memtable_size(self.memtable_bytes)
                .compaction_strategy(Arc::new(Leveled::default().with_l0_threshold(YOUNG_TABLES)));
            let no_filter = || FilterPolicy::all(FilterPolicyEntry::None);
            match kind {
                // Blocks are found by seeking, never by exact key. Uncompressed, since unpacking a block
                // would take most of the time of reading one of its rows, and half that of a scan.
                KeyspaceKind::Base => options
                    .data_block_size_policy(BlockSizePolicy::all(BASE_BLOCK_BYTES))
                    .data_block_compression_policy(CompressionPolicy::disabled())
                    .filter_policy(no_filter()),
                KeyspaceKind::Delta => options
                    .filter_policy(FilterPolicy::all(FilterPolicyEntry::Bloom(
                        BloomConstructionPolicy::BitsPerKey(10.0),
                    )))
                    // Pinned filters and indexes of many shards would not stay within the cache's bound. In
                    // one piece, those of a large table would push each other out of it.
                    .filter_block_pinning_policy(PinningPolicy::all(false))
                    .index_block_pinning_policy(PinningPolicy::all(false))
                    .filter_block_partitioning_policy(PartitioningPolicy::all(true))
                    .index_block_partitioning_policy(PartitioningPolicy::all(true)),
                KeyspaceKind::Log => options
                    .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
                    .filter_policy(no_filter()),
            }
        };
        self.fence
            .outrun(|| self.db.keyspace(name, options))
            .map_err(|error| self.fault(error))
    }

    /// Opens a keyspace that is there.
    pub(crate) fn existing(&self, name: &str) -> Result<Keyspace> {
        self.db
            .keyspace(name, KeyspaceCreateOptions::default)
            .map_err(|error| self.fault(error))
    }

    /// Takes a keyspace out of the store. Its files go when the last handle to it is dropped, so
    /// that snapshots and scans that hold one go on reading.
    pub(crate) fn delete(&self, keyspace: Keyspace) -> Result<()> {
        self.fence
            .delete(&self.db, keyspace)
            .map_err(|error| self.fault(error))
    }

    /// Writes ascending entries straight into the tables of a keyspace. They appear all at once when
    /// `produce` has returned, and not at all when it fails.
    pub(crate) fn ingest<T>(
        &self,
        keyspace: &Keyspace,
        produce: impl FnOnce(&mut Put<'_>) -> Result<T>,
    ) -> Result<T> {
        let (outcome, ()) = self.ingest_under(keyspace, produce, || Ok(()))?;
        Ok(outcome)
    }

    /// The same, with what `guard` gives held while they appear. What was written to the keyspace before is
    /// put on disk then: it must be on disk in the journal, or some of a commit could outlive the rest.
    pub(crate) fn ingest_under<T, G>(
        &self,
        keyspace: &Keyspace,
        produce: impl FnOnce(&mut Put<'_>) -> Result<T>,
        guard: impl FnOnce() -> Result<G>,
    ) -> Result<(T, G)> {
        let mut ingestion = keyspace
            .start_ingestion()
            .map_err(|error| self.fault(error))?;
        let outcome = produce(&mut |key, value| {
            match value {
                Some(value) => ingestion.write(key, value),
                None => ingestion.write_tombstone(key),
            }
            .map_err(|error| self.fault(error))
        })?;
        let guard = guard()?;
        ingestion.finish().map_err(|error| self.fault(error))?;
        Ok((outcome, guard))
    }
}
