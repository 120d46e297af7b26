//! The store as its user sees it.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use mendb_model::key::KeyRange;
use mendb_model::name::TablePath;
use mendb_model::{Column, RowBlock, RowSource, TableSchema};

use crate::batch::WriteBatch;
use crate::catalogue::mends::MendDescription;
use crate::catalogue::streams::StreamDescription;
use crate::catalogue::{self, PathState, mends};
use crate::commit::{Inner, Transaction, open};
use crate::error::Result;
use crate::jobs::bulk::BulkWrite;
use crate::jobs::cut::{self, StreamCut};
use crate::jobs::lapse;
use crate::jobs::load::{self, Applied};
use crate::jobs::mending;
use crate::jobs::restoring::{self, NewTable};
use crate::jobs::stage::{self, Staged};
use crate::jobs::streams;
use crate::jobs::{rebuild, rewrite, settle, tables, write};
use crate::kernel::{Options, ShardId};

use crate::snapshot::{Snapshot, TableDescription};
use crate::table::Table;

/// An embedded, sharded row store in a directory.
///
/// Cheap to clone; all clones are the same store. Every call blocks until it is done. The directory
/// stays locked until the last clone, [`Snapshot`] and iterator is dropped.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

impl Database {
    /// Opens the store in `dir`, creating it when there is none. After a crash every acknowledged write
    /// is there, and what a half-done split or compaction left behind is cleaned up.
    ///
    /// # Errors
    /// [`crate::Error::Locked`] when it is open elsewhere, [`crate::Error::Damaged`] when its catalogue
    /// does not decode, [`crate::Error::Format`] when another version wrote it.
    pub fn open(dir: &Path, options: Options) -> Result<Self> {
        let inner = Arc::new(open::open(dir, options)?);
        streams::trim_leftovers(&inner)?;
        // The records of all logs together take no more than the database.
        if inner.store.database_bytes()? > inner.options.log_bytes {
            lapse::enforce(&inner)?;
        }
        Ok(Self { inner })
    }

    /// The id of the store: the one that it was first given here, whatever is given later. It stays on disk,
    /// and a copy of the directory has it too.
    ///
    /// # Errors
    /// The store failed.
    pub fn identify(&self, new_id: &str) -> Result<String> {
        let mut transaction = Transaction::begin(&self.inner);
        if let Some(id) = &transaction.root().id {
            return Ok(id.clone());
        }
        // No reader can tell the difference, so this is no version of its own.
        transaction.version = transaction.view.version();
        transaction.root().id = Some(new_id.to_owned());
        transaction.commit()?;
        self.inner.sync()?;
        Ok(new_id.to_owned())
    }

    /// The version of the last commit. Versions count up by one a commit.
    pub fn version(&self) -> u64 {
        self.inner.commit().version
    }

    /// Everything as of the last commit, to be read at leisure. Never waits for a writer.
    ///
    /// As long as it is held, what is written meanwhile stays in the engine's log, on disk.
    ///
    /// # Errors
    /// The store failed.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot::new(self.inner.view()?))
    }

    /// Creates a table whose shards are cut at the encoded keys `split_at`.
    ///
    /// # Errors
    /// The name is taken or bad, or the schema is not valid.
    pub fn create_table(
        &self,
        name: &str,
        schema: TableSchema,
        split_at: Vec<Vec<u8>>,
    ) -> Result<()> {
        tables::create(&self.inner, name, schema, split_at)
    }

    /// Drops a table with its indexes and change streams. Snapshots that have it go on reading.
    ///
    /// # Errors
    /// The table is missing or held by an operation.
    pub fn drop_table(&self, name: &str) -> Result<()> {
        tables::drop(&self.inner, name)
    }

    /// Adds a column, NULL in all rows; raises the versions of the table and its indexes.
    ///
    /// # Errors
    /// The table is missing or held by an operation; the column is NOT NULL, badly named or there
    /// already.
    pub fn add_column(&self, table: &str, column: Column) -> Result<()> {
        tables::add_column(&self.inner, table, column)
    }

    /// The names of all tables, those being restored too.
    pub fn tables(&self) -> Vec<String> {
        let catalogue = self.inner.commit().catalogue;
        catalogue.tables().map(|t| t.name.clone()).collect()
    }

    /// A table as of the last commit.
    ///
    /// # Errors
    /// The table is missing.
    pub fn describe(&self, table: &str) -> Result<TableDescription> {
        self.snapshot()?.describe(table)
    }

    /// A client's view of a table, to read and write it with. It goes stale when the schema versions
    /// move on: calls that bring it are then refused, and the client opens the table again.
    ///
    /// # Errors
    /// The table is missing.
    pub fn open_table(&self, name: &str) -> Result<Table> {
        Ok(Table::of(self.inner.commit().catalogue.table(name)?))
    }

    /// Writes a batch: all of it or, on an error, nothing. Returns the version of the commit, or that
    /// of the last commit when the batch changes nothing.
    ///
    /// A write that lets a shard pass [`Options::split_bytes`] or [`Options::compact_bytes`] splits or
    /// packs it before it returns; other writers go on meanwhile.
    ///
    /// # Errors
    /// A table is missing, being restored or mended, or was opened at another schema version; a new row
    /// misses a NOT NULL column; a unique index would have two rows for one key; a row or key is too long.
    pub fn write(&self, batch: WriteBatch) -> Result<u64> {
        write::write(&self.inner, batch)
    }

    /// Begins a write of many changes of a table: it costs less a row than [`Self::write`], and is all of it or
    /// nothing too.
    pub fn bulk(&self, table: &Table) -> BulkWrite {
        BulkWrite::new(self.inner.clone(), table)
    }

    /// Cuts the shard that holds the key `at` in two, at it. A boundary that is there already stays.
    ///
    /// # Errors
    /// The table or index is missing; the table is being mended; the store failed.
    pub fn split(&self, path: &TablePath, at: &[u8]) -> Result<()> {
        rewrite::split(&self.inner, path, at)
    }

    /// Joins the two shards that meet at `at`.
    ///
    /// # Errors
    /// The table or index is missing, or has no boundary there; the table is being mended; the store
    /// failed.
    pub fn merge(&self, path: &TablePath, at: &[u8]) -> Result<()> {
        rewrite::merge(&self.inner, path, at)
    }

    /// Packs the rows of every shard of a table, or of an index, into blocks, which are fastest to scan.
    ///
    /// # Errors
    /// The table or index is missing; the table is being mended; the store failed.
    pub fn compact(&self, path: &TablePath) -> Result<()> {
        rewrite::compact(&self.inner, path)
    }

    /// The shards of a table or of an index, in key order.
    ///
    /// # Errors
    /// The table or index is missing.
    pub fn shards(&self, path: &TablePath) -> Result<Vec<ShardRoute>> {
        let catalogue = self.inner.commit().catalogue;
        let route = |shard: &Arc<catalogue::Shard>| ShardRoute {
            id: shard.id,
            range: shard.range.clone(),
        };
        Ok(catalogue.shards(path)?.iter().map(route).collect())
    }

    /// The shard of a table or of an index that owns a key.
    ///
    /// # Errors
    /// The table or index is missing.
    pub fn shard_of(&self, path: &TablePath, key: &[u8]) -> Result<ShardRoute> {
        let catalogue = self.inner.commit().catalogue;
        let shard = catalogue::route(catalogue.shards(path)?, key);
        Ok(ShardRoute {
            id: shard.id,
            range: shard.range.clone(),
        })
    }

    /// In one commit: locks `tables` for `operation`, attaches or rotates the change stream on each of
    /// them and their indexes, raises all their versions, and takes the snapshot of exactly that
    /// version. A change is in the snapshot or in the stream after it, never in both or neither.
    ///
    /// Attaching a stream that is attached keeps what it still needs until [`Self::release_stream`].
    ///
    /// A table that `operation` is mending can be cut as long as the mend is not published, and stays
    /// held by it: so the state before can be backed up with the writers kept out.
    ///
    /// # Errors
    /// A table is missing, being restored, or held by another operation; a stream to rotate is not
    /// attached.
    pub fn cut(
        &self,
        operation: &str,
        tables: &[String],
        stream: &str,
        how: StreamCut,
    ) -> Result<Snapshot> {
        let view = cut::cut(&self.inner, operation, tables, stream, how)?;
        Ok(Snapshot::new(view))
    }

    /// Unlocks every table that `operation` locked for a backup. Doing it again does nothing.
    ///
    /// # Errors
    /// The store failed.
    pub fn unlock(&self, operation: &str) -> Result<()> {
        cut::unlock(&self.inner, operation)
    }

    /// Takes a change stream off all tables that carry it, raises their versions and trims their
    /// logs. Doing it again does nothing.
    ///
    /// # Errors
    /// The store failed; what was not trimmed is at the next open.
    pub fn detach_stream(&self, stream: &str) -> Result<()> {
        streams::detach(&self.inner, stream)
    }

    /// Says that a stream needs no more changes up to version `up_to`, and trims what no stream needs from
    /// change logs longer than [`Options::trim_bytes`]; those of a table that is being mended when that is
    /// over.
    ///
    /// # Errors
    /// The store failed; what was not trimmed is at the next open.
    pub fn release_stream(&self, stream: &str, up_to: u64) -> Result<()> {
        streams::release(&self.inner, stream, up_to)
    }

    /// The change streams of a table.
    ///
    /// # Errors
    /// The table is missing.
    pub fn streams(&self, table: &str) -> Result<Vec<StreamDescription>> {
        Ok(catalogue::streams::describe(
            self.inner.commit().catalogue.table(table)?,
        ))
    }

    /// Creates tables for `operation` to load, in one commit: with the versions that were captured, and
    /// closed to clients until [`Self::finish_restore`]. Doing it again does nothing.
    ///
    /// # Errors
    /// A name is taken by a table that this operation is not restoring, or bad; a schema is not valid
    /// or does not fit the captured versions.
    pub fn create_restoring(&self, operation: &str, tables: Vec<NewTable>) -> Result<()> {
        restoring::create(&self.inner, operation, tables)
    }

    /// Loads rows into a shard of a table that `operation` is restoring: whole rows, ascending by key
    /// for each (shard, source). Rows up to the source's cursor are skipped, so that repeating a call
    /// after a crash or timeout changes nothing. Rows and cursor commit together.
    ///
    /// Different shards load in parallel. Change logs and indexes are not touched: an index is loaded
    /// like a table.
    ///
    /// # Errors
    /// The table is not being restored by the operation; keys do not ascend or lie outside the shard.
    pub fn load(
        &self,
        shard: ShardId,
        operation: &str,
        source: RowSource,
        rows: &RowBlock<impl AsRef<[u8]>>,
    ) -> Result<Applied> {
        load::load(&self.inner, shard, operation, source, rows)
    }

    /// Applies folded changes, as encoded [`mendb_model::Change`]s, with the guarantees of [`Self::load`].
    ///
    /// # Errors
    /// As [`Self::load`]; a change does not decode.
    pub fn apply(
        &self,
        shard: ShardId,
        operation: &str,
        source: RowSource,
        changes: &RowBlock<impl AsRef<[u8]>>,
    ) -> Result<Applied> {
        load::apply(&self.inner, shard, operation, source, changes)
    }

    /// Opens every table that `operation` restored to clients. Doing it again does nothing.
    ///
    /// # Errors
    /// The store failed.
    pub fn finish_restore(&self, operation: &str) -> Result<()> {
        restoring::finish(&self.inner, operation)
    }

    /// Drops every table that `operation` created and did not finish. Doing it again does nothing.
    ///
    /// # Errors
    /// The store failed.
    pub fn abort_restore(&self, operation: &str) -> Result<()> {
        restoring::abort(&self.inner, operation)
    }

    /// Begins to mend `tables` for `operation`, in one commit: until the mend is over, writes, schema
    /// changes, splits, merges, packing and cuts of others are refused; reading goes on as before. What
    /// is to become of the rows is then staged ([`Self::stage_mend`]), proved ([`Self::mend_snapshot`]),
    /// shown to readers ([`Self::publish_mend`]) and settled ([`Self::settle_mend`]); before it is
    /// published, it can be aborted ([`Self::abort_mend`]).
    ///
    /// Returns the version of the commit. Doing it again changes nothing and returns the same. After a
    /// crash the mend is where it was: each call on it is repeated or continued.
    ///
    /// # Errors
    /// A table is missing or held by another operation; the operation is mending other tables.
    pub fn begin_mend(&self, operation: &str, tables: &[String]) -> Result<u64> {
        mending::begin(&self.inner, operation, tables)
    }

    /// Stages what rows of a shard are to become: encoded [`mendb_model::Change`]s of whole rows (reset)
    /// and erases, ascending by key for each (shard, source). Only rows that differ from what is there,
    /// and from what is staged already, are staged; the rows of the indexes follow. Readers see nothing
    /// of it. Unique indexes are not checked, because rows are staged one after the other: the mend
    /// some rows of a table looks first for those that stand in their way ([`Snapshot::holders`]).
    ///
    /// Changes up to the source's cursor are skipped, so that repeating a call after a crash or timeout
    /// changes nothing. Rows and cursor commit together. Different shards stage in parallel.
    ///
    /// # Errors
    /// The table is not being mended by the operation, or its mend is published; the shard is one of
    /// an index; keys do not ascend or lie outside the shard; a change does not decode, is none of this
    /// table, or sets some columns only. What was staged before the error stays.
    pub fn stage_mend(
        &self,
        shard: ShardId,
        operation: &str,
        source: RowSource,
        changes: &RowBlock<impl AsRef<[u8]>>,
    ) -> Result<Staged> {
        stage::stage(&self.inner, shard, operation, source, changes)
    }

    /// As [`Self::stage_mend`], of shards of which much differs, and of those of indexes: makes a shard anew beside the
    /// live one, of all rows that are wanted in it. They come ascending by key, in as many calls as it takes: each
    /// call says what is wanted of all keys up to its last row, the last one up to the end of the shard. Live
    /// rows that are not among them go. What changes for readers and streams is the same as with staging, and what it
    /// costs is what loading the shard costs.
    ///
    /// Of its change log no more is kept than streams need once the mend is published, those left out that end then.
    ///
    /// What was rebuilt before is passed over, so that repeating a call changes nothing. Of an index all shards are
    /// rebuilt or none, and only where all that is wanted of its table is staged or rebuilt too: its rows are those
    /// that are given here, and are not derived.
    ///
    /// # Errors
    /// The table is not being mended by the operation, or its mend is published; rows of the shard are staged the
    /// other way; keys do not ascend or lie outside the shard. What was rebuilt before the error stays.
    pub fn rebuild_mend(
        &self,
        shard: ShardId,
        operation: &str,
        ended_streams: &[String],
        rows: &RowBlock<impl AsRef<[u8]>>,
        is_last: bool,
    ) -> Result<Staged> {
        rebuild::rebuild(&self.inner, shard, operation, ended_streams, rows, is_last)
    }

    /// The last commit, read as if the mend were published: rows, indexes and digests with what is
    /// staged so far. To prove a mend before readers see it.
    ///
    /// # Errors
    /// The operation mends no table.
    pub fn mend_snapshot(&self, operation: &str) -> Result<Snapshot> {
        Ok(Snapshot::new(mending::view(&self.inner, operation)?))
    }

    /// Shows what is staged to readers, and to change streams: in one commit, for all tables of the mend and
    /// their indexes.
    /// Tables that the operation restores, because they were dropped since, open in the same commit.
    /// Snapshots from before go on seeing the rows from before.
    ///
    /// Returns the version of the commit. Doing it again changes nothing and returns the same.
    ///
    /// # Errors
    /// The operation mends no table.
    pub fn publish_mend(&self, operation: &str) -> Result<u64> {
        mending::publish(&self.inner, operation)
    }

    /// Ends a published mend: packs shards of which much was mended, which no reader notices, then opens the
    /// tables to writers, in one commit. Some shards are packed at the same time. Calls `progress` after each
    /// with the number of its rows.
    ///
    /// Returns whether `progress` broke it off: shards that were being packed are brought to their end
    /// and told, the tables stay closed, and the next call goes on. So it is after a crash. Doing it again when
    /// it is done does nothing.
    ///
    /// # Errors
    /// The mend is not published; the store failed or is damaged.
    pub fn settle_mend(
        &self,
        operation: &str,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        settle::settle(&self.inner, operation, progress)
    }

    /// Forgets what `operation` staged and opens its tables to writers: they are as before
    /// [`Self::begin_mend`]. Tables that it restores are left to [`Self::abort_restore`]. Doing it again
    /// does nothing.
    ///
    /// # Errors
    /// The mend is published; the store failed.
    pub fn abort_mend(&self, operation: &str) -> Result<()> {
        mending::abort(&self.inner, operation)
    }

    /// How far the mend of an operation is; `None` when it mends no table: it never began, or is over.
    pub fn describe_mend(&self, operation: &str) -> Option<MendDescription> {
        mends::describe(&self.inner.commit().catalogue, operation)
    }

    /// The tables that an operation holds.
    pub fn locks(&self) -> Vec<(String, PathState)> {
        self.inner.commit().locks()
    }
}

/// A shard and the keys it owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardRoute {
    /// The shard.
    pub id: ShardId,
    /// Its keys.
    pub range: KeyRange,
}
