//! The store as its user sees it.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock, Weak};

use mendb_model::key::KeyRange;
use mendb_model::name::TablePath;
use mendb_model::{Column, RowBlock, TableSchema};

use crate::batch::WriteBatch;
use crate::datashard::ShardId;
use crate::datashard::cursor::Source;
use crate::datashard::load::{self, Applied};
use crate::datashard::stage::{self, Staged};
use crate::datashard::{rewrite, settle};
use crate::error::Result;
use crate::kernel::Store;
use crate::open;
use crate::schemeshard::cut::{self, StreamCut};
use crate::schemeshard::lapse;
use crate::schemeshard::mending::{self, MendDescription};
use crate::schemeshard::restoring::{self, NewTable};
use crate::schemeshard::streams::{self, StreamDescription};
use crate::schemeshard::{PathState, tables};
use crate::snapshot::{Snapshot, TableDescription};
use crate::table::Table;
use crate::transaction::{Transaction, Writer};
use crate::view::{Commit, View};
use crate::write;

/// Why a lock of the store cannot be poisoned, for `expect`.
pub(crate) const NOT_POISONED: &str = "no thread panics while it holds a lock of the store";

/// How a store is opened. What is on disk does not depend on it.
#[derive(Debug, Clone)]
pub struct Options {
    /// A shard that grows larger splits itself.
    pub split_bytes: u64,
    /// Memory for pages that were read or written; readers of other commits than the last take a quarter of
    /// it each.
    pub cache_bytes: u64,
    /// A shard whose recent writes pass this and a quarter of its packed rows is packed anew.
    pub compact_bytes: u64,
    /// A change log shorter than this may keep what no stream needs any more: to make it anew takes its
    /// time too.
    pub trim_bytes: u64,
    /// A change log of a table larger than this lets its neediest stream lapse: a stream that nobody reads
    /// any more does not grow for ever.
    pub log_bytes: u64,
    /// Whether a write is on disk before it is acknowledged. Schema changes, cuts, splits and what
    /// begins, publishes or ends a restore or mend always are.
    pub durable: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            split_bytes: 512 << 20,
            cache_bytes: 32 << 20,
            compact_bytes: 64 << 20,
            trim_bytes: 1 << 20,
            log_bytes: 16 << 30,
            durable: true,
        }
    }
}

/// What all handles of a store share.
pub(crate) struct Inner {
    pub(crate) store: Arc<Store>,
    pub(crate) options: Options,
    /// The write lock. Taken after any [`crate::datashard::Shard::work`], before everything else.
    pub(crate) writer: Mutex<Writer>,
    published: RwLock<Published>,
    /// The view of the last commit, as long as somebody reads it.
    latest: Mutex<Weak<View>>,
    /// The last commit known to be on disk; held while syncing, so that those who wait together are
    /// synced together.
    synced: Mutex<u64>,
    /// Bytes that were written to change logs since it was looked how large they are.
    pub(crate) logged_bytes: AtomicU64,
}

/// The commits that a reader may find in the engine.
struct Published {
    last: Commit,
    /// The one that is being made: readers may find it before it is the last.
    next: Option<Commit>,
}

impl Inner {
    pub(crate) fn new(store: Arc<Store>, options: Options, writer: Writer, last: Commit) -> Self {
        Self {
            store,
            options,
            writer: Mutex::new(writer),
            published: RwLock::new(Published { last, next: None }),
            latest: Mutex::new(Weak::new()),
            synced: Mutex::new(0),
            logged_bytes: AtomicU64::new(0),
        }
    }

    /// The last commit. Never waits for a writer.
    pub(crate) fn commit(&self) -> Commit {
        self.published.read().expect(NOT_POISONED).last.clone()
    }

    /// The last commit, to be read. Never waits for a writer.
    pub(crate) fn view(&self) -> Result<Arc<View>> {
        let mut latest = self.latest.lock().expect(NOT_POISONED);
        if let Some(view) = latest.upgrade()
            && view.commit.number == self.commit().number
        {
            return Ok(view);
        }
        loop {
            let (reader, root) = self.store.read()?;
            let published = self.published.read().expect(NOT_POISONED);
            let mut commits = std::iter::once(&published.last).chain(&published.next);
            // There is none if two were made between the two lines.
            if let Some(commit) = commits.find(|commit| commit.number == root.commit) {
                let view = Arc::new(View {
                    files: self.store.files().clone(),
                    reader,
                    commit: commit.clone(),
                    store: Some(self.store.clone()),
                });
                *latest = Arc::downgrade(&view);
                return Ok(view);
            }
        }
    }

    /// Tells readers what the next commit will be; called under the write lock.
    pub(crate) fn announce(&self, commit: Commit) {
        self.published.write().expect(NOT_POISONED).next = Some(commit);
    }

    /// Makes a commit the last one; called under the write lock.
    pub(crate) fn publish(&self, commit: Commit) {
        let mut published = self.published.write().expect(NOT_POISONED);
        let before = std::mem::replace(&mut published.last, commit);
        let announced = published.next.take();
        // They may be the last to hold dropped shards.
        drop(published);
        drop((before, announced));
    }

    /// Returns when all commits so far are on disk.
    pub(crate) fn sync(&self) -> Result<()> {
        let wanted = self.commit().number;
        let mut synced = self.synced.lock().expect(NOT_POISONED);
        if *synced < wanted {
            let last = self.commit().number;
            self.store.sync(last)?;
            *synced = last;
        }
        Ok(())
    }

    /// Returns when the commits so far may be acknowledged.
    pub(crate) fn acknowledge(&self) -> Result<()> {
        if self.options.durable {
            self.sync()
        } else {
            Ok(())
        }
    }
}

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
        let route = |shard: &Arc<crate::datashard::Shard>| ShardRoute {
            id: shard.id,
            range: shard.range.clone(),
        };
        Ok(catalogue.shards(path)?.iter().map(route).collect())
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
        cut::cut(&self.inner, operation, tables, stream, how)
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
        Ok(streams::describe(
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
        source: Source,
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
        source: Source,
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
    /// of it. Unique indexes are not checked, because rows are staged one after the other: whoever mends
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
        source: Source,
        changes: &RowBlock<impl AsRef<[u8]>>,
    ) -> Result<Staged> {
        stage::stage(&self.inner, shard, operation, source, changes)
    }

    /// The last commit, read as if the mend were published: rows, indexes and digests with what is
    /// staged so far. To prove a mend before readers see it.
    ///
    /// # Errors
    /// The operation mends no table.
    pub fn mend_snapshot(&self, operation: &str) -> Result<Snapshot> {
        mending::snapshot(&self.inner, operation)
    }

    /// Shows what is staged to readers: in one commit, for all tables of the mend and their indexes.
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

    /// Puts what a published mend staged where rows belong, and into the change logs of tables with change
    /// streams, which no reader notices; where it is much of a shard, by rewriting that. Then opens the
    /// tables to writers, in one commit. Some shards are worked on at the same time. Calls `progress` after
    /// each with the number of rows that were staged over it, of a table or of an index.
    ///
    /// Returns whether `progress` broke it off: shards that were being worked on are brought to their end
    /// and told, then all is consistent, the tables stay closed, and the next call goes on. So it is after
    /// a crash, behind the last shard. Doing it again when it is done does nothing.
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
        mending::describe(&self.inner.commit().catalogue, operation)
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
