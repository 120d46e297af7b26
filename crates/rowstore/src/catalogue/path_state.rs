//! Which operation holds a table, and what that allows.

use serde::{Deserialize, Serialize};

/// Which operation holds a table, and for what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum PathState {
    /// Nobody: clients read, write and change its schema.
    #[default]
    Ready,
    /// An operation backs it up: its schema stays and it cannot be dropped. Set by
    /// [`crate::Database::cut`].
    Backup {
        /// The operation.
        operation: String,
    },
    /// An operation restores it: clients can neither read nor write it. Set by
    /// [`crate::Database::create_restoring`].
    Restoring {
        /// The operation.
        operation: String,
    },
    /// An operation mends it: clients read it, and write it when the operation is over. Its schema and
    /// its shards stay. Set by [`crate::Database::begin_mend`].
    Mending {
        /// The operation.
        operation: String,
        /// The version of the commit that closed it to writers: until it is published, readers see
        /// the rows of this version.
        begun_at: u64,
        /// The version from which on readers see the mended rows; `None` until
        /// [`crate::Database::publish_mend`].
        published_at: Option<u64>,
    },
}

/// What is wanted of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// To read its rows.
    Read,
    /// To write its rows.
    Write,
    /// To split, merge or pack its shards.
    Reshape,
    /// To pack the shards of a table whose mend is published.
    Settle,
    /// To drop it, to change its schema, or to hold it.
    Hold,
}
