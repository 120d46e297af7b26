//! Writes sorted rows in packed blocks, to become the base of a shard, the rest of it, or a run.
//!
//! *Format*: blocks lie in the file of the shard, or in their records while they are few.
//!
//! *Crash*: blocks are on disk before the commit that names them, and belong to nothing until then.
//! *Memory*: one block, the place of each, and what a [`Budget`] allows to lie in records.

use mendb_model::{Digest, Replaced};

use crate::error::Result;
use crate::kernel::{Batch, BlockRecord, Section, ShardFiles, ShardId, ShardWriter, Tree};
use crate::shard::budget::Budget;
use crate::shard::entry;
use crate::shard::pack::{BLOCK_BYTES, Block, Packer};
use crate::shard::run::RunStats;
use crate::shard::stats::ShardStats;

/// So many bytes lie in their records: to write and sync a file takes longer.
const BYTES_IN_RECORDS: usize = 64 << 10;

/// Takes the rows, in the order of their keys.
pub(crate) struct BlockWriter<'a> {
    files: &'a ShardFiles,
    budget: &'a Budget,
    /// How much may stay in records.
    in_records: usize,
    shard: ShardId,
    /// Where the file of the shard ends.
    end: u64,
    /// Whether that is not known yet.
    is_held: bool,
    writer: Option<ShardWriter<'a>>,
    packer: Packer,
    records: Vec<(Vec<u8>, BlockRecord)>,
    bytes: u64,
    first_key: Option<Vec<u8>>,
    digest: Digest,
    entry: Vec<u8>,
}

impl<'a> BlockWriter<'a> {
    /// `end` is that of the file, as [`ShardStats::file_bytes`] has it. Nobody else writes the file meanwhile.
    pub(crate) fn new(files: &'a ShardFiles, budget: &'a Budget, shard: ShardId, end: u64) -> Self {
        Self {
            files,
            in_records: budget.grant(BYTES_IN_RECORDS),
            budget,
            shard,
            end,
            is_held: false,
            writer: None,
            packer: Packer::default(),
            records: Vec::new(),
            bytes: 0,
            first_key: None,
            digest: Digest::default(),
            entry: Vec::new(),
        }
    }

    /// One whose blocks stay in memory until [`Self::finish_at`] says where the file ends, because another writes it.
    pub(crate) fn held(files: &'a ShardFiles, budget: &'a Budget, shard: ShardId) -> Self {
        let mut writer = Self::new(files, budget, shard, 0);
        writer.is_held = true;
        writer
    }

    /// Bytes of the blocks that are full.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds the entry of a run: a row, or that there is none, and what it takes the place of.
    pub(crate) fn push_entry(
        &mut self,
        key: &[u8],
        replaced: Replaced,
        row: Option<&[u8]>,
    ) -> Result<()> {
        let mut entry = std::mem::take(&mut self.entry);
        entry.clear();
        entry::append(&mut entry, replaced, row);
        let pushed = self.push(key, &entry);
        self.entry = entry;
        pushed
    }

    /// Adds a row of a base, or a record of a change log.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.digest.add(key, value);
        self.pack(key, value)
    }

    /// Adds rows of a base. Where it has about the size of a block, they stay one.
    pub(crate) fn push_block(&mut self, block: &Block) -> Result<()> {
        for (key, value) in block.iter() {
            self.digest.add(key, value);
        }
        if self.packer.is_empty() && block.as_bytes().len() >= BLOCK_BYTES / 2 {
            return self.write(block);
        }
        for (key, value) in block.iter() {
            self.pack(key, value)?;
        }
        Ok(())
    }

    fn pack(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.packer.push(key, value);
        if self.packer.is_full()
            && let Some(block) = self.packer.finish()
        {
            self.write(&block)?;
        }
        Ok(())
    }

    fn write(&mut self, block: &Block) -> Result<()> {
        let bytes = block.as_bytes();
        self.bytes += bytes.len() as u64;
        let last_key = block.last_key().unwrap_or_default().to_vec();
        if self.first_key.is_none() && !block.is_empty() {
            self.first_key = Some(block.key(0).to_vec());
        }
        self.go_to_file()?;
        let record = match &mut self.writer {
            Some(writer) => BlockRecord::InFile(writer.push(bytes)?),
            None => BlockRecord::Here(bytes.to_vec()),
        };
        self.records.push((last_key, record));
        Ok(())
    }

    /// Goes on in the file when that is too much for records.
    fn go_to_file(&mut self) -> Result<()> {
        if self.is_held || self.writer.is_some() || self.bytes <= self.in_records as u64 {
            return Ok(());
        }
        let mut writer = self.files.append(self.shard, self.end)?;
        for (_, record) in &mut self.records {
            if let BlockRecord::Here(block) = record {
                *record = BlockRecord::InFile(writer.push(block)?);
            }
        }
        self.writer = Some(writer);
        Ok(())
    }

    /// Finishes a writer whose blocks are held, where the file ends.
    pub(crate) fn finish_at(mut self, end: u64) -> Result<Option<WrittenBlocks>> {
        self.end = end;
        self.is_held = false;
        self.go_to_file()?;
        self.finish()
    }

    /// Returns when all is on disk that does not lie in records; `None` if nothing was added.
    pub(crate) fn finish(mut self) -> Result<Option<WrittenBlocks>> {
        if let Some(block) = self.packer.finish() {
            self.write(&block)?;
        }
        let file_bytes = match self.writer {
            Some(writer) => {
                writer.finish()?;
                self.bytes
            }
            None => {
                self.budget
                    .keep(usize::try_from(self.bytes).unwrap_or(usize::MAX));
                0
            }
        };
        let (Some(first_key), Some((last_key, _))) = (self.first_key, self.records.last()) else {
            return Ok(None);
        };
        Ok(Some(WrittenBlocks {
            first_key,
            last_key: last_key.clone(),
            records: self.records,
            bytes: self.bytes,
            file_bytes,
            digest: self.digest,
        }))
    }
}

/// What blocks are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The base, or what comes behind the end of it.
    Base,
    /// A run of rows, visible from a version on, and part of the change log if a stream needs them.
    Run {
        /// The version of the commit.
        version: u64,
        /// Whether a stream needs them.
        is_logged: bool,
    },
    /// A run of rows that a mend stages.
    Staged,
    /// The same in a shard that takes the place of a live one: what it replaces lies there, and nothing beneath it.
    Beside,
    /// A run of records of a change log, up to a version.
    Records {
        /// The greatest version of them.
        version: u64,
    },
}

/// Blocks that belong to nothing yet.
pub(crate) struct WrittenBlocks {
    records: Vec<(Vec<u8>, BlockRecord)>,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
    bytes: u64,
    file_bytes: u64,
    digest: Digest,
}

impl WrittenBlocks {
    /// Bytes of the blocks.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of them in the file of the shard.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Digest of what was pushed.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// Adds to a commit what they are. Staged ones go on with the last run if they lie behind it. The digest of
    /// the rows of the shard is left to the caller.
    pub(crate) fn put(self, batch: &mut Batch, shard: ShardId, stats: &mut ShardStats, role: Role) {
        stats.file_bytes += self.file_bytes;
        let section = match role {
            Role::Base => {
                stats.base_end = Some(self.last_key);
                stats.base_bytes += self.bytes;
                stats.base_rows += self.digest.rows;
                Section::of_shard(Tree::Blocks, shard)
            }
            Role::Run { .. } | Role::Staged | Role::Beside | Role::Records { .. } => {
                let run = self.run(stats, role);
                run.entries.merge(self.digest);
                run.bytes += self.bytes;
                run.last_key = self.last_key;
                Section::run(shard, run.number)
            }
        };
        for (last_key, record) in self.records {
            batch.insert(&section, &last_key, record.encode());
        }
    }

    /// The run that they are, or go on with.
    fn run<'a>(&self, stats: &'a mut ShardStats, role: Role) -> &'a mut RunStats {
        let is_staged = matches!(role, Role::Staged | Role::Beside);
        let goes_on = stats
            .runs
            .last()
            .is_some_and(|last| is_staged && last.is_staged && last.last_key < self.first_key);
        if !goes_on {
            let (version, is_logged) = match role {
                Role::Base | Role::Staged | Role::Beside => (0, false),
                Role::Run { version, is_logged } => (version, is_logged),
                Role::Records { version } => (version, true),
            };
            stats.runs.push(RunStats {
                number: stats.next_run,
                version,
                entries: Digest::default(),
                bytes: 0,
                first_key: self.first_key.clone(),
                last_key: Vec::new(),
                is_of_records: matches!(role, Role::Records { .. }),
                is_logged,
                tells_replaced: true,
                is_staged,
                hides_nothing: role == Role::Beside,
            });
            stats.next_run += 1;
        }
        let run = stats.runs.last_mut();
        run.expect("a run was just added, or goes on")
    }
}
