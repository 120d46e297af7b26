//! What can go wrong, by what the caller can do about it.

use std::path::PathBuf;

use mendb_model::schema::SchemaError;
use mendb_model::{ColumnType, Malformed};

/// The result of a call to the store.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call did nothing.
///
/// Unless the variant says otherwise the store is as it was before the call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process, or another [`crate::Database`] or [`crate::Snapshot`] of this one, has the directory open.
    #[error("{} is open in another process; one process at a time can change a row store", dir.display())]
    Locked {
        /// The directory of the store.
        dir: PathBuf,
    },
    /// The disk or the file system failed.
    #[error("the row store in {} failed; {hint}", dir.display())]
    Storage {
        /// The directory of the store.
        dir: PathBuf,
        /// What to do.
        hint: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An earlier write failed to reach the disk. Everything that was acknowledged is safe; nothing
    /// more is accepted until the store is opened again.
    #[error(
        "the row store in {} stopped after a failed write; free disk space or repair the disk, then restart the process: \
         nothing that was acknowledged is lost",
        dir.display()
    )]
    Stopped {
        /// The directory of the store.
        dir: PathBuf,
    },
    /// Bytes of the store do not decode or contradict each other.
    #[error("{what} is damaged; restore it from a backup")]
    Damaged {
        /// What was read.
        what: String,
        /// What is wrong with it.
        #[source]
        source: Malformed,
    },
    /// The directory was written by another version of this crate.
    #[error("{} has the row store format {found}; this program reads {expected}: back it up with the version that wrote it, and restore it with this one into another target", dir.display())]
    Format {
        /// The directory of the store.
        dir: PathBuf,
        /// The format found.
        found: u64,
        /// The format this program reads.
        expected: u64,
    },

    /// No table has this name.
    #[error("table {0} does not exist")]
    TableMissing(String),
    /// A table has this name already.
    #[error("table {0} already exists")]
    TableExists(String),
    /// The table has no such index.
    #[error("table {table} has no index {index}")]
    IndexMissing {
        /// The table.
        table: String,
        /// The index asked for.
        index: String,
    },
    /// A name that cannot be a table's.
    #[error("the table cannot be created")]
    Name(#[from] mendb_model::name::BadName),
    /// A schema that is none.
    #[error("the schema of table {table} is not valid")]
    Schema {
        /// The table.
        table: String,
        /// What is wrong with it.
        #[source]
        source: SchemaError,
    },
    /// A column added later would be NULL in the rows that are there.
    #[error(
        "column {column} cannot be added to table {table} as NOT NULL: its rows have no value for it"
    )]
    AddedNotNull {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// The client's view of a table is not the current one: it opens the table again.
    #[error("schema version mismatch: {path} expected {expected} got {got}")]
    SchemaVersion {
        /// `/table`, `/table/index` or `/table/index/indexImplTable`.
        path: String,
        /// The store's version.
        expected: u64,
        /// The client's version.
        got: u64,
    },
    /// The table was dropped and another of its name made since the client opened it.
    #[error("table {0} is another one than was opened; open it again")]
    TableReplaced(String),
    /// The table is being restored.
    #[error("table {table} is being restored by operation {operation}; wait for its end")]
    BeingRestored {
        /// The table.
        table: String,
        /// The operation that restores it.
        operation: String,
    },
    /// The table is being backed up.
    #[error("table {table} is being backed up by operation {operation}; wait for its end")]
    BeingBackedUp {
        /// The table.
        table: String,
        /// The operation that backs it up.
        operation: String,
    },
    /// The table is being mended: it is read as ever, and written when the mend is over.
    #[error(
        "table {table} is being mended by operation {operation} and cannot be changed until it is done"
    )]
    BeingMended {
        /// The table.
        table: String,
        /// The operation that mends it.
        operation: String,
    },
    /// Rows were staged for a table that the operation is not mending.
    #[error("table {table} is not being mended by operation {operation}")]
    NotMending {
        /// The table.
        table: String,
        /// The operation that wanted to stage.
        operation: String,
    },
    /// The operation mends no table: it never began, or it is over.
    #[error("operation {operation} is mending no table")]
    NoMend {
        /// The operation.
        operation: String,
    },
    /// A mend was begun again for other tables.
    #[error("operation {operation} is mending other tables already: {}", tables.join(", "))]
    MendOfOthers {
        /// The operation.
        operation: String,
        /// The tables it mends.
        tables: Vec<String>,
    },
    /// Readers see the mended rows: nothing more can be staged, and to take them back is another mend.
    #[error(
        "the mend of operation {operation} is published, readers see it; undo it instead: mendb undo {operation}"
    )]
    MendPublished {
        /// The operation.
        operation: String,
    },
    /// A mend that is not published cannot be settled.
    #[error("the mend of operation {operation} is not published yet; publish it first")]
    MendUnpublished {
        /// The operation.
        operation: String,
    },
    /// Rows were loaded into a table that the operation is not restoring.
    #[error("table {table} is not being restored by operation {operation}")]
    NotRestoring {
        /// The table.
        table: String,
        /// The operation that wanted to load.
        operation: String,
    },
    /// The captured versions do not fit the schema.
    #[error("the captured versions of table {table} are not those of its indexes")]
    VersionsMismatch {
        /// The table.
        table: String,
    },
    /// A stream was to be rotated that the table does not carry: changes since its start are not known.
    #[error("table {table} does not carry the change stream {stream}; take a full backup first")]
    StreamMissing {
        /// The table.
        table: String,
        /// The stream.
        stream: String,
    },

    /// A row does not have one value per column, or names a column twice or one that is not there.
    #[error("table {table}: {detail}")]
    RowShape {
        /// The table.
        table: String,
        /// What is wrong.
        detail: String,
    },
    /// A value of another type.
    #[error("table {table}: column {column} of type {column_type} cannot hold {value}")]
    WrongType {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Its type.
        column_type: ColumnType,
        /// The value given.
        value: String,
    },
    /// NULL for a NOT NULL column.
    #[error("table {table}: column {column} is NOT NULL and has no value")]
    NotNull {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A key of a table or of an index is longer than [`mendb_model::key::MAX_KEY_BYTES`].
    #[error(
        "a key of {path} has {bytes} bytes; the most is {}",
        mendb_model::key::MAX_KEY_BYTES
    )]
    KeyTooLong {
        /// The table, or the table and index.
        path: String,
        /// The length of the key.
        bytes: usize,
    },
    /// A row is longer than [`crate::MAX_ROW_BYTES`].
    #[error(
        "a row of table {table} has {bytes} bytes; the most is {}",
        crate::MAX_ROW_BYTES
    )]
    RowTooLong {
        /// The table.
        table: String,
        /// The length of the row.
        bytes: usize,
    },
    /// Two rows would share the columns of a unique index.
    #[error("unique index {index} of table {table} already has a row for {key}")]
    Unique {
        /// The table.
        table: String,
        /// The index.
        index: String,
        /// The indexed columns of the row, as a user would write them.
        key: String,
        /// The keys of both rows; the first is one that the batch writes.
        rows: Box<[Vec<u8>; 2]>,
    },

    /// Keys to load or apply are not ascending.
    #[error("the rows for shard {shard} are not in ascending key order")]
    Unordered {
        /// The shard.
        shard: crate::ShardId,
    },
    /// A key to load or apply is not in the range of the shard.
    #[error("key {key} does not belong to shard {shard}")]
    WrongShard {
        /// The shard.
        shard: crate::ShardId,
        /// The key, as hex digits.
        key: String,
    },
    /// A change to stage sets some columns only: what the others become would depend on the row that
    /// is there.
    #[error(
        "a change to stage for shard {shard} sets some columns only; stage whole rows and erases"
    )]
    PartialChange {
        /// The shard.
        shard: crate::ShardId,
    },
    /// Rows to stage were sent to a shard of an index.
    #[error("shard {shard} is one of {path}: rows of an index follow from those of its table")]
    IndexShard {
        /// The shard.
        shard: crate::ShardId,
        /// The table and index.
        path: String,
    },
    /// Rows of a shard were to be staged one by one that is being rebuilt, or the other way round.
    #[error(
        "the mend of shard {shard} began the other way, rebuilding it or staging its rows one by one; abort the mend"
    )]
    OtherMethod {
        /// The shard.
        shard: crate::ShardId,
    },
    /// What a mend rebuilds is not rebuilt to its end, so that it can be neither read nor published.
    #[error("{path} is rebuilt in part only; go on with the mend, or abort it")]
    RebuiltInPart {
        /// The shard, or the table and index of which some shards are not rebuilt.
        path: String,
    },
    /// There is no shard boundary at the key, so there is nothing to merge.
    #[error("{path} has no shard boundary at {key}")]
    NoBoundary {
        /// The table, or the table and index.
        path: String,
        /// The key, as hex digits.
        key: String,
    },
}

impl Error {
    /// Whether the same call may succeed later without anything being changed by the caller: another
    /// process or operation has to end first.
    pub fn is_retriable(&self) -> bool {
        matches!(
            self,
            Self::Locked { .. }
                | Self::BeingRestored { .. }
                | Self::BeingBackedUp { .. }
                | Self::BeingMended { .. }
        )
    }

    /// Bytes of the store that do not decode.
    pub(crate) fn damaged(what: impl Into<String>, source: Malformed) -> Self {
        Self::Damaged {
            what: what.into(),
            source,
        }
    }
}
