//! What a store of rows must be able to do.

use std::ops::ControlFlow;

use mendb_model::digest::Digest;
use mendb_model::key::KeyRange;
use mendb_model::manifest::{Commits, ShardedData, TableBackup};
use mendb_model::name::TablePath;
use mendb_model::{RowBlock, Version};
pub use mendb_model::{RowSource, StagedCounts};

use super::beside_writers::BesideWriters;
use super::live_rows::{BlockSink, LiveRows, LiveShard};
use super::row_versions::RowVersions;
use crate::error::Result;

/// A database of rows in key order, cut into shards. The promises of [`super::Engine`] hold here too:
/// rows and the cursor that says how far they go are made durable together.
///
/// Each call of [`LiveRows`] on it sees the last commit.
pub trait RowStore: LiveRows {
    /// Whether the digests of shards are kept with each write. Where they are not, a freeze tells none of them:
    /// the digest of what is copied is that of the shard.
    fn keeps_digests(&self) -> bool;

    /// Whether tables are made with all that [`TableBackup::native`] says. Where they are not, they get the columns,
    /// the key and the indexes of the schema, and a restore says which tables that concerns.
    fn keeps_native(&self) -> bool;

    /// What mends are done with where writers go on until the publish. `None` where they are kept out from the
    /// beginning of a mend: by [`Self::begin_mend`].
    fn beside_writers(&self) -> Option<&dyn BesideWriters> {
        None
    }

    /// Why nothing can be written to it, if it is one that is only backed up.
    fn takes_no_writes(&self) -> Option<&str> {
        None
    }

    /// Of some tables, what others read of them, or of tables that are not among them, as one: a sentence for each pair.
    ///
    /// # Errors
    /// The store cannot be read.
    fn relatives(&self, _tables: &[String]) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// The bytes of rows a second that come and go at most, where that is bounded.
    fn most_bytes_per_s(&self) -> Option<u64> {
        None
    }

    /// What increments are taken with where changes are found. `None` where streams keep all of them: then
    /// [`Self::read_changes`] gives them.
    fn row_versions(&self) -> Option<&dyn RowVersions> {
        None
    }

    /// *freeze*: locks the tables against schema change, attaches or rotates their stream and takes
    /// a snapshot, all at one version. The snapshot is kept under the name of the operation until
    /// [`super::Engine::thaw`] or the end of the process; the stream outlives both.
    ///
    /// # Errors
    /// A table is missing or locked by another operation, or its stream does not reach back to
    /// `since_version`. Where there are [`Self::row_versions`], a stream is attached only if that is asked for; each table
    /// tells how its changes are found, and why a stream of its chain does not tell them.
    fn freeze(&self, request: &FreezeRequest<'_>) -> Result<Frozen>;

    /// Bytes of the rows in a range of the operation's snapshot, roughly; where a stream tells what was written since the
    /// last, those of the rows that were, and 0 only where none was.
    ///
    /// # Errors
    /// The snapshot is gone.
    fn estimate_bytes(&self, operation: &str, path: &TablePath, range: &KeyRange) -> Result<u64>;

    /// The most bytes that the changes of a range after `since_version` up to the operation's snapshot may be; 0 only
    /// where there are none.
    ///
    /// # Errors
    /// The snapshot is gone.
    fn estimate_change_bytes(
        &self,
        operation: &str,
        path: &TablePath,
        range: &KeyRange,
        since_version: Version,
    ) -> Result<u64>;

    /// *read*: the rows of a range in the operation's snapshot, in key order, those after `after`.
    ///
    /// # Errors
    /// The snapshot is gone, or the store cannot be read.
    fn read_rows(
        &self,
        operation: &str,
        path: &TablePath,
        range: &KeyRange,
        after: Option<&[u8]>,
        sink: BlockSink<'_>,
    ) -> Result<()>;

    /// *read*: the changes of a range after `since_version` up to the operation's snapshot, one a
    /// key, in key order, those of keys after `after`. Each is a reset or an erase and says what row was there at
    /// `since_version`, as it was noted when the change was made: an increment is proved by that
    /// ([`mendb_model::balance`]).
    ///
    /// # Errors
    /// The snapshot is gone, or the store cannot be read.
    fn read_changes(
        &self,
        operation: &str,
        path: &TablePath,
        range: &KeyRange,
        since_version: Version,
        after: Option<&[u8]>,
        sink: BlockSink<'_>,
    ) -> Result<()>;

    /// Releases the changes of a stream up to a version.
    ///
    /// # Errors
    /// The store cannot be written.
    fn release_stream(&self, stream: &str, up_to: Version) -> Result<()>;

    /// Detaches a stream from all tables. A stream that is attached nowhere is no error.
    ///
    /// # Errors
    /// The store cannot be written.
    fn detach_stream(&self, stream: &str) -> Result<()>;

    /// *stage*: creates the tables, all or none, hidden from readers and locked for the operation.
    ///
    /// # Errors
    /// A table of that name exists.
    fn create_hidden(&self, operation: &str, tables: Vec<HiddenTable>) -> Result<()>;

    /// *apply*: rows of a full backup. Blocks of one source come in key order.
    ///
    /// # Errors
    /// The table is not staged for the operation, or the store cannot be written.
    fn load(
        &self,
        operation: &str,
        path: &TablePath,
        source: RowSource,
        rows: &RowBlock<&[u8]>,
    ) -> Result<()>;

    /// *apply*: changes of an increment. Blocks of one source come in key order.
    ///
    /// # Errors
    /// As [`Self::load`].
    fn apply(
        &self,
        operation: &str,
        path: &TablePath,
        source: RowSource,
        changes: &RowBlock<&[u8]>,
    ) -> Result<()>;

    /// *stage*: closes tables to writers and holds their schema and their shards still, until
    /// [`super::Engine::make_live`] or [`super::Engine::drop_staged`]. Readers go on and see nothing of what is
    /// staged before [`Self::publish_mend`]. Where there is [`Self::beside_writers`], writers go on too.
    ///
    /// # Errors
    /// A table is missing, or another operation holds it.
    fn begin_mend(&self, operation: &str, tables: &[String]) -> Result<()>;

    /// *stage*: what the keys of some rows are to hold: changes that are resets or erases, in key order
    /// over all calls of one source. Those that differ from what is live are staged, and index rows with
    /// them. What was staged before is passed over.
    ///
    /// # Errors
    /// The table is not held by the operation, or the store cannot be written.
    fn stage_mend(
        &self,
        operation: &str,
        table: &str,
        source: RowSource,
        changes: &RowBlock<&[u8]>,
    ) -> Result<StagedCounts>;

    /// *stage*: as [`Self::stage_mend`], of all keys of a shard, of a table or of an index, which is made anew beside
    /// the live one: the rows that they are to hold, in key order over all calls. Each call says what is wanted
    /// of the keys up to its last row, `is_last` of all that are left; live rows that are not among them go. What
    /// was rebuilt before is passed over. Of an index all shards are rebuilt or none, and then its rows are those
    /// that are given here.
    ///
    /// # Errors
    /// The table is not held by the operation, it has no shard of just these keys, some of them were staged the
    /// other way, or the store cannot be written.
    fn rebuild_mend(
        &self,
        request: &RebuildRequest<'_>,
        rows: &RowBlock<&[u8]>,
        is_last: bool,
    ) -> Result<StagedCounts>;

    /// *verify*: the shards of a table or index as they will be when the mend is published.
    ///
    /// # Errors
    /// The operation mends nothing, or the table is missing.
    fn mended_shards(&self, operation: &str, path: &TablePath) -> Result<Vec<LiveShard>>;

    /// *verify*: the digest of a range as it will be when the mend is published, by reading its rows.
    ///
    /// # Errors
    /// As [`Self::mended_shards`], or the store cannot be read.
    fn mended_digest(&self, operation: &str, path: &TablePath, range: &KeyRange) -> Result<Digest>;

    /// *apply*: whether readers see what a mend has staged, and it is not over.
    ///
    /// # Errors
    /// It cannot be told.
    fn is_published(&self, operation: &str) -> Result<bool>;

    /// *apply*: lets readers see what was staged, of all tables of the operation at one moment. From
    /// here on it cannot be undone, only mended back. One that is over is no error.
    ///
    /// # Errors
    /// The store cannot be written.
    fn publish_mend(&self, operation: &str) -> Result<()>;

    /// *apply*: does what is left of a mend that is published, then unlocks: what
    /// [`Engine::make_live`](super::Engine::make_live) does of a mend, with `progress` told of the rows each
    /// time some are in place. It can break it off, which is what is returned then, and the next call goes on;
    /// it hears of what was under way by then too.
    /// No mend is no error.
    ///
    /// # Errors
    /// The mend is not published; the store cannot be written.
    fn settle_mend(
        &self,
        operation: &str,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>>;
}

/// A request to rebuild a shard.
#[derive(Debug, Clone, Copy)]
pub struct RebuildRequest<'a> {
    /// The operation that mends the table.
    pub operation: &'a str,
    /// The table or index.
    pub path: &'a TablePath,
    /// The keys of the shard.
    pub range: &'a KeyRange,
    /// Change streams that end when the mend is published: nothing is kept for them any more.
    pub ended_streams: &'a [String],
}

/// A request to freeze.
#[derive(Debug, Clone, Copy)]
pub struct FreezeRequest<'a> {
    /// The operation.
    pub operation: &'a str,
    /// The tables.
    pub tables: &'a [String],
    /// The change stream of the chain.
    pub stream: &'a str,
    /// For a full backup of a store that finds changes by [`RowStore::row_versions`]: whether a stream is to tell them
    /// instead. Other stores keep all changes anyway.
    pub keeps_changes: bool,
    /// For an increment: where the last backup of the chain ends. The stream is rotated, and must
    /// reach back to here. For a full backup `None`: the stream is attached.
    pub since_version: Option<Version>,
}

/// What a freeze gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    /// The version of the snapshot.
    pub version: Version,
    /// The tables with their shards and digests in the snapshot and no segment yet.
    pub tables: Vec<TableBackup>,
    /// Of an increment whose changes a stream told one by one, a shard without segments for the transactions; each of
    /// its tables has one for its changes where they are known ([`super::row_versions::RowVersions::read_unfolded`]).
    pub transactions: Option<ShardedData>,
    /// Which commits the snapshot sees, where the store knows when each was.
    pub commits: Option<Commits>,
}

/// A table to be created for a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HiddenTable {
    /// Its name on the target.
    pub name: String,
    /// How it was in the backup: schema, versions, shards, which are told in it.
    pub backup: TableBackup,
}
