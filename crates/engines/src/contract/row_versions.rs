//! Changes that are found by looking at rows, where a store does not keep what they replaced.
//!
//! ```text
//! freeze   how the changes of each table since the last backup are found is told with the snapshot
//! count    rows of a range, and how many of them may have been written since: where none was and none is gone,
//!          nothing changed
//! read     those rows; the last backup tells what they replaced. Where rows are gone, all rows are compared
//! touched  or a stream tells which keys were written: their rows are read, and no others
//! unfolded such a stream also tells each change by itself, and which transaction made it
//! ```
//!
//! What may have been written since is never too little: the engine answers only where it can tell. *Crash*: nothing
//! is kept between two calls but the snapshot.

use mendb_model::key::KeyRange;
use mendb_model::manifest::ChangeMethod;
use mendb_model::name::TablePath;

use super::live_rows::BlockSink;
use crate::error::Result;

/// What [`super::rows::RowStore`] has for it, of a snapshot that was taken with
/// [`since_version`](super::rows::FreezeRequest::since_version).
pub trait RowVersions: Send + Sync {
    /// *read*: how the changes of a table are found in the snapshot of an operation, and the version of that.
    ///
    /// # Errors
    /// The snapshot is gone, or was not taken with a version before it.
    fn found_by(&self, operation: &str, path: &TablePath) -> Result<(ChangeMethod, u64)>;

    /// *read*: how many rows of a range the snapshot of an operation has. `None` where rows of the range cannot be
    /// told from others without reading them.
    ///
    /// # Errors
    /// The snapshot is gone, the table's changes are not found by row versions, or the store cannot be read.
    fn count(
        &self,
        operation: &str,
        path: &TablePath,
        range: &KeyRange,
    ) -> Result<Option<RowCounts>>;

    /// *read*: the rows of a range that may have been written since, in key order.
    ///
    /// # Errors
    /// As [`Self::count`].
    fn read_written(
        &self,
        operation: &str,
        path: &TablePath,
        range: &KeyRange,
        sink: BlockSink<'_>,
    ) -> Result<()>;

    /// *read*: the keys of a range that were written since, in key order, as changes to what the snapshot has of them:
    /// resets and erases that do not say what they replaced.
    ///
    /// # Errors
    /// The snapshot is gone, no stream tells the changes of the table, or the store cannot be read.
    fn read_touched(
        &self,
        operation: &str,
        path: &TablePath,
        range: &KeyRange,
        sink: BlockSink<'_>,
    ) -> Result<()>;

    /// *read*: the changes of a table one by one since then, or the transactions that made them, whichever the path names,
    /// as [`mendb_model::unfolded`] has them, in the order of their keys. Their places begin at `first_place`, and are the
    /// same each time.
    ///
    /// # Errors
    /// The snapshot is gone, no stream told them, or what was kept of them on this machine cannot be read.
    fn read_unfolded(
        &self,
        operation: &str,
        path: &TablePath,
        first_place: u64,
        sink: BlockSink<'_>,
    ) -> Result<()>;
}

/// Rows of a range.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowCounts {
    /// All of them.
    pub rows: u64,
    /// Those that may have been written since.
    pub written: u64,
}
