//! Runs: what is written to a shard in bulk, sorted and packed into blocks.
//!
//! A run lies over the base, over the runs with lower numbers, and over what the delta had before it. Its
//! entries are rows and tombstones, like the delta's, all of one commit. So it is also that commit's part of
//! the change log: [`RunStats::is_logged`] says whether a stream needs it as such. A run of records is nothing
//! else: it has what a rewrite copied of a change log.
//!
//! What a mend stages are runs that nobody reads yet ([`RunStats::is_staged`]); the commit that publishes the
//! mend makes them runs like others.
//!
//! *Format*: blocks under their last key, in the file of the shard, or in their records while they are few.
//!
//! *Crash*: blocks are on disk before the commit that names them, and belong to nothing until then.

use std::sync::Arc;

use mendb_model::Digest;
use mendb_model::key::hex_bytes;
use serde::{Deserialize, Serialize};

use crate::database::Inner;
use crate::datashard::pack::{Block, Packer};
use crate::datashard::stats::ShardStats;
use crate::datashard::stored::Stored;
use crate::datashard::{ROW, Shard, ShardId, TOMBSTONE};
use crate::error::Result;
use crate::kernel::{Batch, BlockRecord, Section, ShardFiles, ShardWriter};
use crate::transaction::Transaction;

/// So many bytes lie in their records: to write and sync a file takes longer.
const BYTES_IN_RECORDS: usize = 64 << 10;

/// What a run is known by. Part of [`ShardStats`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunStats {
    /// Unique in the shard; later ones have greater numbers.
    pub(crate) number: u64,
    /// The version of the commit that made it visible; of records the greatest of them; 0 while it is staged.
    pub(crate) version: u64,
    /// Digest of its entries.
    pub(crate) entries: Digest,
    /// Bytes of its blocks.
    pub(crate) bytes: u64,
    #[serde(with = "hex_bytes")]
    pub(crate) first_key: Vec<u8>,
    #[serde(with = "hex_bytes")]
    pub(crate) last_key: Vec<u8>,
    /// Whether it has records of the change log instead of rows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_of_records: bool,
    /// Whether a change stream needs it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_logged: bool,
    /// Whether it belongs to a mend that is not published.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_staged: bool,
}

impl RunStats {
    /// Its blocks.
    pub(crate) fn stored(&self, shard: ShardId) -> Stored {
        Stored {
            shard,
            section: Section::run(shard, self.number),
            last_key: self.last_key.clone(),
        }
    }
}

/// Writes the blocks of a run, or more of a run whose last key lies before.
pub(crate) struct RunWriter<'a> {
    files: &'a ShardFiles,
    shard: ShardId,
    /// Where the file of the shard ends.
    end: u64,
    writer: Option<ShardWriter<'a>>,
    packer: Packer,
    records: Vec<(Vec<u8>, BlockRecord)>,
    bytes: usize,
    entries: Digest,
    first_key: Option<Vec<u8>>,
    value: Vec<u8>,
}

impl<'a> RunWriter<'a> {
    /// `end` is that of the file, as [`ShardStats::file_bytes`] has it. Nobody else writes the file meanwhile.
    pub(crate) fn new(files: &'a ShardFiles, shard: ShardId, end: u64) -> Self {
        Self {
            files,
            shard,
            end,
            writer: None,
            packer: Packer::default(),
            records: Vec::new(),
            bytes: 0,
            entries: Digest::default(),
            first_key: None,
            value: Vec::new(),
        }
    }

    /// Adds the row of a key, or that there is none. Keys ascend.
    pub(crate) fn push_row(&mut self, key: &[u8], row: Option<&[u8]>) -> Result<()> {
        let mut value = std::mem::take(&mut self.value);
        value.clear();
        match row {
            Some(row) => {
                value.push(ROW);
                value.extend_from_slice(row);
            }
            None => value.push(TOMBSTONE),
        }
        let pushed = self.push(key, &value);
        self.value = value;
        pushed
    }

    /// Adds an entry. Keys ascend.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.first_key.get_or_insert_with(|| key.to_vec());
        self.entries.add(key, value);
        self.packer.push(key, value);
        if self.packer.is_full() {
            self.finish_block()?;
        }
        Ok(())
    }

    fn finish_block(&mut self) -> Result<()> {
        let Some(block) = self.packer.finish() else {
            return Ok(());
        };
        self.bytes += block.as_bytes().len();
        let last_key = block.last_key().unwrap_or_default().to_vec();
        if self.writer.is_none() && self.bytes > BYTES_IN_RECORDS {
            let mut writer = self.files.append(self.shard, self.end)?;
            for (_, record) in &mut self.records {
                if let BlockRecord::Here(block) = record {
                    *record = BlockRecord::InFile(writer.push(block)?);
                }
            }
            self.writer = Some(writer);
        }
        let record = match &mut self.writer {
            Some(writer) => BlockRecord::InFile(writer.push(block.as_bytes())?),
            None => BlockRecord::Here(into_bytes(&block)),
        };
        self.records.push((last_key, record));
        Ok(())
    }

    /// Returns when the blocks are on disk that do not lie in records; `None` if nothing was added.
    pub(crate) fn finish(mut self) -> Result<Option<WrittenRun>> {
        self.finish_block()?;
        let is_in_file = self.writer.is_some();
        if let Some(writer) = self.writer {
            writer.finish()?;
        }
        let Some(first_key) = self.first_key else {
            return Ok(None);
        };
        let bytes = self.bytes as u64;
        Ok(Some(WrittenRun {
            records: self.records,
            bytes,
            file_bytes: if is_in_file { bytes } else { 0 },
            entries: self.entries,
            first_key,
        }))
    }
}

fn into_bytes(block: &Block) -> Vec<u8> {
    block.as_bytes().to_vec()
}

/// What a run is to be, beside its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunKind {
    /// Rows that are visible from a version on, and part of the change log if a stream needs them.
    Rows { version: u64, is_logged: bool },
    /// Rows that a mend stages.
    Staged,
    /// Records of a change log, up to a version.
    Records { version: u64 },
}

/// Blocks that are to become a run, or the rest of one.
pub(crate) struct WrittenRun {
    records: Vec<(Vec<u8>, BlockRecord)>,
    bytes: u64,
    file_bytes: u64,
    pub(crate) entries: Digest,
    first_key: Vec<u8>,
}

impl WrittenRun {
    /// Adds to a commit that they are: staged ones go to the last run if they lie behind it.
    pub(crate) fn put(
        self,
        batch: &mut Batch,
        shard: ShardId,
        stats: &mut ShardStats,
        kind: RunKind,
    ) {
        let last_key = self.records.last().map(|(last, _)| last.clone());
        let last_key = last_key.unwrap_or_default();
        let is_staged = kind == RunKind::Staged;
        let goes_on = stats
            .runs
            .last()
            .is_some_and(|last| is_staged && last.is_staged && last.last_key < self.first_key);
        if !goes_on {
            let (version, is_logged, is_of_records) = match kind {
                RunKind::Rows { version, is_logged } => (version, is_logged, false),
                RunKind::Staged => (0, false, false),
                RunKind::Records { version } => (version, true, true),
            };
            stats.runs.push(RunStats {
                number: stats.next_run,
                version,
                entries: Digest::default(),
                bytes: 0,
                first_key: self.first_key,
                last_key: Vec::new(),
                is_of_records,
                is_logged,
                is_staged,
            });
            stats.next_run += 1;
        }
        let run = stats
            .runs
            .last_mut()
            .expect("a run was just added, or goes on");
        run.entries.merge(self.entries);
        run.bytes += self.bytes;
        run.last_key = last_key;
        stats.file_bytes += self.file_bytes;
        let section = Section::run(shard, run.number);
        for (last_key, record) in self.records {
            batch.insert(&section, &last_key, record.encode());
        }
    }
}

/// What a mend had staged in a shard, which a commit takes out.
pub(crate) struct RemovedRuns {
    shard: Arc<Shard>,
    runs: Vec<Section>,
    /// What [`ShardStats::file_bytes`] was with them, and before.
    file_bytes: u64,
    file_bytes_before: u64,
}

impl RemovedRuns {
    /// Takes the staged runs out of the stats of their shard.
    pub(crate) fn staged(shard: &Arc<Shard>, stats: &mut ShardStats) -> Option<Self> {
        let staged = stats.staged.take()?;
        let runs = stats.runs.extract_if(.., |run| run.is_staged);
        Some(Self {
            runs: runs.map(|run| Section::run(shard.id, run.number)).collect(),
            shard: shard.clone(),
            file_bytes: stats.file_bytes,
            file_bytes_before: staged.file_bytes_before,
        })
    }

    pub(crate) fn runs(&self) -> &[Section] {
        &self.runs
    }

    /// Erases runs, when it is on disk that they are taken out: what comes next is written over them.
    pub(crate) fn erase(inner: &Inner, removed: &[Self]) -> Result<()> {
        inner.store.erase_runs(removed.iter().flat_map(Self::runs));
        for removed in removed {
            // Who has the shard writes behind them; then their bytes stay until the shard is packed.
            let Ok(_work) = removed.shard.work.try_lock() else {
                continue;
            };
            let mut transaction = Transaction::begin(inner);
            if transaction.catalogue().shard(removed.shard.id).is_none() {
                continue;
            }
            // No reader can tell the difference, so this is no version of its own.
            transaction.version = transaction.view.version();
            let stats = transaction.stats(&removed.shard)?;
            if stats.file_bytes == removed.file_bytes {
                stats.file_bytes = removed.file_bytes_before;
                transaction.commit()?;
            }
        }
        Ok(())
    }
}
