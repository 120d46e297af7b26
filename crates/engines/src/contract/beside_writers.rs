//! Mends of a store whose writers go on until the moment of the publish.
//!
//! ```text
//! look at a range     its rows are read, and what differs from the wanted ones is staged
//! lock                writers wait from here on
//! look again          at the ranges that were written since
//! publish             all that is staged becomes live at one moment; what it replaced is kept
//! ```
//!
//! *Crash*: what is staged may go with the server; then the lock finds ranges that nobody has looked at. What a
//! publish replaced is as durable as the publish.

use mendb_model::digest::Digest;
use mendb_model::key::KeyRange;
use mendb_model::operation::RowScope;
use mendb_model::{RowBlock, Version};

use super::live_rows::BlockSink;
use crate::error::Result;

/// What [`super::rows::RowStore`] has for it. The state before is read by
/// [`super::rows::RowStore::read_changes`], as what the publish took the place of.
pub trait BesideWriters: Send + Sync {
    /// *assess*: begins to look at a range of a table: what was staged of it goes. Its rows are read after this,
    /// and those that differ are staged by [`super::rows::RowStore::stage_mend`].
    ///
    /// # Errors
    /// The table is not held by the operation, or the store fails.
    fn begin_look(&self, operation: &str, table: &str, range: &KeyRange) -> Result<Look>;

    /// *assess*: notes that all of a range that is to be another is staged, and the digests of the rows that were read
    /// and of those that there are to be.
    ///
    /// # Errors
    /// As [`Self::begin_look`].
    fn end_look(
        &self,
        operation: &str,
        table: &str,
        range: &KeyRange,
        look: &Look,
        digests: LookedDigests,
    ) -> Result<()>;

    /// Checks what keys of a table are chosen by, and tells it in words that mean the same to every caller.
    ///
    /// # Errors
    /// It cannot be told of the rows of the table, with the reason.
    fn check_scope(&self, table: &str, scope: &RowScope) -> Result<RowScope>;

    /// *assess*: which keys of a table that differ are mended, for each of the changes that lead from the live rows to the wanted
    /// ones. What was written since begins to count with the lock.
    ///
    /// # Errors
    /// When a row was written is not known, or the store fails.
    fn key_scopes(
        &self,
        table: &str,
        scope: &RowScope,
        changes: &RowBlock<&[u8]>,
    ) -> Result<Vec<KeyScope>>;

    /// *read*: of each of some keys the low half of the number of the transaction that wrote its live row, as the publish
    /// of a mend noted its own in the versions of what it replaced; `None` where there is no row.
    ///
    /// # Errors
    /// There is no such table, a key is none of it, or the store fails.
    fn writers_of(&self, table: &str, keys: &[&[u8]]) -> Result<Vec<Option<u32>>>;

    /// *read*: the live rows of a range that may have been written since a version, in key order, and how many rows the
    /// range has at the same moment. More than `most` of them are not handed over.
    ///
    /// # Errors
    /// There is no such table, or the store fails.
    fn read_written_since(
        &self,
        table: &str,
        range: &KeyRange,
        since: Version,
        most: u64,
        sink: BlockSink<'_>,
    ) -> Result<RowsSince>;

    /// *assess*: of each of some keys whether something is staged of it.
    ///
    /// # Errors
    /// As [`Self::begin_look`].
    fn are_staged(&self, operation: &str, table: &str, keys: &[&[u8]]) -> Result<Vec<bool>>;

    /// *apply*: makes writers of the tables wait until what is returned is dropped, but no longer than `max_wait_ms`:
    /// what would take longer is given up, and changes nothing. Readers go on.
    ///
    /// # Errors
    /// Remedy retry: writers did not end in time. Another process has taken over, or the store fails.
    fn lock_out<'a>(
        &'a self,
        operation: &str,
        wanted: &[WantedTable],
        max_wait_ms: Option<u64>,
    ) -> Result<Box<dyn Publishing + 'a>>;

    /// *read*: the ranges of a table as they were looked at, with the digests of the rows before and after the publish,
    /// in key order.
    ///
    /// # Errors
    /// The operation has not published, or the store fails.
    fn exchanged(&self, operation: &str, table: &str) -> Result<Vec<(KeyRange, LookedDigests)>>;

    /// *read*: the version of the state before the publish of an operation: increments may stand on it.
    ///
    /// # Errors
    /// As [`Self::exchanged`].
    fn version_before(&self, operation: &str) -> Result<Version>;

    /// How many milliseconds writers waited for the publish of an operation; 0 of one that is over.
    ///
    /// # Errors
    /// The store fails.
    fn writers_waited_ms(&self, operation: &str) -> Result<u64>;
}

/// When a look began, in the words of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look(pub(crate) u64);

/// What the versions of the rows of a range tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsSince {
    /// All that may have been written were handed over, unless the sink stopped it.
    Told {
        /// So many rows the range has.
        rows: u64,
    },
    /// More may have been written than were asked for: none was handed over.
    TooMany,
    /// They do not tell what was written since then. What was handed over is of no use.
    Unknown,
}

/// The digests of the rows of a range.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LookedDigests {
    /// Of those that were read.
    pub found: Digest,
    /// Of those that there are to be.
    pub wanted: Digest,
}

/// Whether a key is mended whose live row is another than the wanted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyScope {
    /// It is mended.
    Chosen,
    /// It is not among those that are mended.
    Beside,
    /// Its row was written after the moment that was named, and stays.
    Newer {
        /// When, in microseconds since 1970.
        written_us: i64,
    },
}

/// What a table is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedTable {
    /// Its name.
    pub table: String,
    /// The ranges that it is looked at in, in key order, each with the digest of its wanted rows; `None` where not all
    /// keys that differ are mended: what the rows are to be is then known from each look. They cover all keys, or those
    /// that are mended: the others stay as they are.
    pub shards: Vec<(KeyRange, Option<Digest>)>,
}

/// Tables whose writers wait.
pub trait Publishing {
    /// *assess*: the ranges that nobody has looked at, or that were written since, by their tables.
    ///
    /// # Errors
    /// The lock is lost, or the store fails.
    fn drifted(&mut self) -> Result<Vec<(String, KeyRange)>>;

    /// *apply*: makes live what is staged, proves that the tables are what was wanted, and keeps what was
    /// replaced, all or nothing.
    ///
    /// # Errors
    /// A rule of the database refuses it, it would not be what is wanted, or the store fails: nothing was
    /// changed then. Where the answer is lost, [`super::rows::RowStore::is_published`] tells.
    fn publish(self: Box<Self>) -> Result<()>;
}
