//! A state of a collection: a restore point, or what is live.

use std::ops::ControlFlow;
use std::sync::Arc;

use mendb_engines::{LiveRows, LockKind};
use mendb_model::RowBlock;
use mendb_model::key::KeyRange;
use mendb_model::manifest::Manifest;
use mendb_model::name::{BackupId, TablePath};
use mendb_model::schema::TableSchema;
use mendb_repo::{ChainLookup, ChainReader, StoredManifest};

use super::pieces::Shard;
use crate::attempt::Tools;
use crate::error::{Error, Result};
use crate::task_error::TaskResult;

/// A backup with those it stands on.
pub(super) struct Point {
    /// Oldest first; not empty.
    pub(super) chain: Vec<Arc<Manifest>>,
    /// The BLAKE3 of each manifest.
    hashes: Vec<String>,
}

impl Point {
    /// The end of a chain; `None` of an empty one.
    pub(super) fn new(chain: Vec<StoredManifest>) -> Option<Self> {
        let (hashes, chain): (Vec<_>, Vec<_>) = chain
            .into_iter()
            .map(|stored| (stored.blake3, Arc::new(stored.manifest)))
            .unzip();
        (!chain.is_empty()).then_some(Self { chain, hashes })
    }

    pub(super) fn manifest(&self) -> &Manifest {
        self.chain.last().expect("a chain that is not empty")
    }

    pub(super) fn backup_id(&self) -> &BackupId {
        &self.manifest().backup_id
    }

    /// The backups of this chain after another point that is on it.
    pub(super) fn after(&self, other: &Self) -> Option<&[Arc<Manifest>]> {
        let at = self
            .hashes
            .iter()
            .position(|hash| Some(hash) == other.hashes.last())?;
        Some(&self.chain[at + 1..])
    }

    pub(super) fn read(
        &self,
        tools: &Tools,
        path: &TablePath,
        range: &KeyRange,
    ) -> TaskResult<ChainReader> {
        let reader = tools.repository.read_chain(&self.chain, path, range, None);
        Ok(tools.runtime.block_on(reader)?)
    }
}

/// The second of two states.
pub(super) enum After<'a> {
    Point(Point),
    /// The target, all as of one commit.
    Live {
        rows: Box<dyn LiveRows + 'a>,
        /// The tables of the collection on this target.
        tables: Vec<String>,
    },
}

/// A table in a state.
pub(super) struct TableState {
    pub(super) schema: TableSchema,
    pub(super) shards: Vec<Shard>,
}

impl TableState {
    /// The table in a backup, if it has it.
    ///
    /// # Errors
    /// What the backup says of its shards cannot be read.
    pub(super) fn in_backup(
        tools: &Tools,
        manifest: &Manifest,
        table: &str,
    ) -> Result<Option<Self>> {
        let Some(backup) = manifest.table(table) else {
            return Ok(None);
        };
        let path = TablePath::table(table);
        let shards = tools.repository.shards(manifest, &path);
        let shards = tools.runtime.block_on(shards)?.into_iter();
        Ok(Some(Self {
            schema: backup.schema.clone(),
            shards: shards.map(|shard| (shard.range, shard.digest)).collect(),
        }))
    }

    pub(super) fn rows(&self) -> u64 {
        self.shards.iter().map(|(_, digest)| digest.rows).sum()
    }
}

impl After<'_> {
    /// The names of the tables it may have.
    pub(super) fn tables(&self) -> Vec<&str> {
        match self {
            Self::Point(point) => {
                let tables = point.manifest().tables.iter();
                tables.map(|table| table.table.as_str()).collect()
            }
            Self::Live { tables, .. } => tables.iter().map(String::as_str).collect(),
        }
    }

    /// A table, if it has it.
    ///
    /// # Errors
    /// The target cannot be read, or is restoring the table.
    pub(super) fn table(&self, tools: &Tools, table: &str) -> Result<Option<TableState>> {
        let rows = match self {
            Self::Point(point) => return TableState::in_backup(tools, point.manifest(), table),
            Self::Live { rows, .. } => rows,
        };
        let Some(live) = rows.inspect(table)? else {
            return Ok(None);
        };
        if live.locked == Some(LockKind::Restore) {
            return Err(Error::being_restored(
                table,
                "; or leave it out with --tables",
            ));
        }
        let shards = rows
            .shards(&TablePath::table(table), &KeyRange::all())?
            .into_iter();
        Ok(Some(TableState {
            schema: live.schema,
            shards: shards.map(|shard| (shard.range, shard.digest)).collect(),
        }))
    }

    /// Hands over the rows of a range in key order.
    pub(super) fn read(
        &self,
        tools: &Tools,
        path: &TablePath,
        range: &KeyRange,
        take: &mut dyn FnMut(&RowBlock<&[u8]>) -> TaskResult<()>,
    ) -> TaskResult<()> {
        match self {
            Self::Point(point) => {
                let mut reader = point.read(tools, path, range)?;
                while let Some(block) = tools.runtime.block_on(reader.next())? {
                    take(&block.view())?;
                }
                Ok(())
            }
            Self::Live { rows, .. } => {
                let mut outcome = Ok(());
                rows.scan(path, range, None, &mut until_error(&mut outcome, take))?;
                outcome
            }
        }
    }
}

/// Makes a taker of blocks one that ends the reading at its first error, which is kept.
pub(super) fn until_error<'t>(
    outcome: &'t mut TaskResult<()>,
    take: &'t mut dyn FnMut(&RowBlock<&[u8]>) -> TaskResult<()>,
) -> impl FnMut(&RowBlock<&[u8]>) -> ControlFlow<()> + 't {
    |block| match take(block) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            *outcome = Err(error);
            ControlFlow::Break(())
        }
    }
}

/// Looks up rows of a table, of keys that ascend over all calls.
pub(super) enum Lookup<'a> {
    Chain(&'a Tools, Box<ChainLookup>),
    Live(&'a dyn LiveRows, TablePath),
}

impl<'a> Lookup<'a> {
    pub(super) fn in_point(tools: &'a Tools, point: &Point, path: &TablePath) -> TaskResult<Self> {
        let all = KeyRange::all();
        let lookup = tools.repository.look_up_chain(&point.chain, path, &all);
        let lookup = tools.runtime.block_on(lookup)?;
        Ok(Self::Chain(tools, Box::new(lookup)))
    }

    pub(super) fn in_after(
        tools: &'a Tools,
        after: &'a After<'_>,
        path: &TablePath,
    ) -> TaskResult<Self> {
        match after {
            After::Point(point) => Self::in_point(tools, point, path),
            After::Live { rows, .. } => Ok(Self::Live(&**rows, path.clone())),
        }
    }

    /// The rows of some keys; `None` for one that has none.
    pub(super) fn rows_of(&mut self, keys: &[&[u8]]) -> TaskResult<Vec<Option<Vec<u8>>>> {
        match self {
            Self::Chain(tools, lookup) => Ok(tools.runtime.block_on(lookup.look_up(keys))?),
            Self::Live(rows, path) => Ok(rows.rows_of(path, keys)?),
        }
    }
}
