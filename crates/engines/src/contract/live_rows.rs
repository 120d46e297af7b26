//! What rows are there, for those who only look.

use std::ops::ControlFlow;

use mendb_model::digest::Digest;
use mendb_model::key::KeyRange;
use mendb_model::name::TablePath;
use mendb_model::{RowBlock, TableSchema};

use super::LockKind;
use crate::error::Result;

/// The tables of a row store, either as they are at each call or all as of one commit:
/// [`super::rows::RowStore::snapshot`].
pub trait LiveRows: Send + Sync {
    /// *inspect*: a live table, or `None`.
    ///
    /// # Errors
    /// The catalogue cannot be read.
    fn inspect(&self, table: &str) -> Result<Option<LiveTable>>;

    /// *inspect*: the last commit.
    fn version(&self) -> u64;

    /// *assess*: the shards of a table or index as they are now, in key order, covering all keys, with
    /// the digests that are kept with each write.
    ///
    /// # Errors
    /// The table or index is missing.
    fn shards(&self, path: &TablePath) -> Result<Vec<LiveShard>>;

    /// *assess*: the rows of a range as they are now, in key order, those after `after`.
    ///
    /// # Errors
    /// The table or index is missing, or the store cannot be read.
    fn scan(
        &self,
        path: &TablePath,
        range: &KeyRange,
        after: Option<&[u8]>,
        sink: BlockSink<'_>,
    ) -> Result<()>;

    /// *assess*: the rows of ascending keys as they are now; `None` for a key that has none. Holds the
    /// rows of all keys given.
    ///
    /// # Errors
    /// The table or index is missing, or the store cannot be read.
    fn rows_of(&self, path: &TablePath, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>>;

    /// *assess*: which live rows keep some wanted ones from being there too, by the rules that the schema
    /// of the table has now, as that of a unique index. The wanted rows are encoded, with their keys. Each
    /// meets live rows of other keys, whether these are wanted too or not.
    ///
    /// # Errors
    /// The table is missing, a row is none of it, or the store cannot be read.
    fn conflicts(
        &self,
        table: &str,
        wanted: &RowBlock<&[u8]>,
        found: ConflictSink<'_>,
    ) -> Result<()>;

    /// *assess*: the changes of a range after a version until now, one a key, in key order. They are
    /// complete only where a stream has needed all of them.
    ///
    /// # Errors
    /// The table or index is missing, or the store cannot be read.
    fn changes_since(
        &self,
        path: &TablePath,
        range: &KeyRange,
        since_version: u64,
        sink: BlockSink<'_>,
    ) -> Result<()>;
}

/// A shard as it is on the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveShard {
    /// Its keys.
    pub range: KeyRange,
    /// The digest of its rows.
    pub digest: Digest,
    /// The bytes of its rows, roughly.
    pub bytes: u64,
}

/// Takes blocks as they are read; it stops the reading by breaking.
pub type BlockSink<'a> = &'a mut dyn FnMut(&RowBlock<&[u8]>) -> ControlFlow<()>;

/// Two rows of which a rule of the schema allows one only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict<'a> {
    /// The rule: the name of a unique index.
    pub rule: &'a str,
    /// What both rows have there, as people write it.
    pub value: &'a str,
    /// The key of the row that is wanted.
    pub wanted: &'a [u8],
    /// The key of the row that lives.
    pub holder: &'a [u8],
}

/// Takes conflicts as they are found; it stops the search by breaking.
pub type ConflictSink<'a> = &'a mut dyn FnMut(Conflict<'_>) -> ControlFlow<()>;

/// A table as it lives on the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveTable {
    /// Its schema.
    pub schema: TableSchema,
    /// Its change streams.
    pub streams: Vec<LiveStream>,
    /// What is done to it. Of a table that is being mended changes are not complete between the moment
    /// readers see the mend and its end; one that is being restored is hidden from readers.
    pub locked: Option<LockKind>,
}

/// A change stream on the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveStream {
    /// Its name.
    pub name: String,
    /// It holds every change after this version.
    pub since_version: u64,
    /// The version of the last cut that attached or rotated it. A target that was set back to an
    /// earlier state, or is a copy of another, does not know of later cuts.
    pub cut_version: u64,
}

impl LiveTable {
    /// Whether its rows stand in each other's way by rules: [`LiveRows::conflicts`].
    pub fn has_rules(&self) -> bool {
        self.schema.indexes.iter().any(|index| index.unique)
    }
}

impl LiveStream {
    /// Whether it holds every change since the cut that a backup made at this version: it reaches back
    /// that far, and it saw that cut.
    pub fn continues(&self, version: u64) -> bool {
        self.since_version <= version && version <= self.cut_version
    }
}
