//! The catalogue: which tables there are, in which state, at which versions, in which shards.
//!
//! # Consistency
//! A catalogue never changes; a commit that changes it makes another. A snapshot holds the one of its
//! version, so a table, its indexes and their implementation tables are always seen at versions that
//! belong together.

pub(crate) mod cut;
pub(crate) mod lapse;
pub(crate) mod layout;
pub(crate) mod mending;
pub(crate) mod record;
pub(crate) mod restoring;
pub(crate) mod streams;
pub(crate) mod tables;
pub(crate) mod versions;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mendb_model::key::KeyRange;
use mendb_model::name::TablePath;
use serde::{Deserialize, Serialize};

use crate::datashard::{Shard, ShardId};
use crate::error::{Error, Result};
use layout::Layout;
pub(crate) use record::StreamRecord;
use versions::Versions;

/// Who holds a table.
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

/// How a table came to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Born {
    /// The version of the commit that created it.
    pub version: u64,
    /// The operation that restored it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_by: Option<String>,
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

/// A table with all that belongs to it.
#[derive(Clone)]
pub(crate) struct TableEntry {
    pub(crate) name: String,
    pub(crate) layout: Arc<Layout>,
    pub(crate) versions: Versions,
    pub(crate) state: PathState,
    pub(crate) streams: BTreeMap<String, StreamRecord>,
    /// How it came to be; `None` for tables of stores from before that was kept.
    pub(crate) born: Option<Born>,
    /// The shards of its rows in key order, covering all keys.
    pub(crate) rows: Vec<Arc<Shard>>,
    /// The same of each index's implementation table.
    pub(crate) indexes: BTreeMap<String, Vec<Arc<Shard>>>,
}

impl TableEntry {
    /// Whether a change stream needs what happens to its rows.
    pub(crate) fn keeps_changes(&self) -> bool {
        self.streams.values().any(StreamRecord::lasts)
    }

    /// Every shard of the table and its indexes.
    pub(crate) fn all_shards(&self) -> impl Iterator<Item = &Arc<Shard>> + Clone {
        self.rows.iter().chain(self.indexes.values().flatten())
    }

    /// The shards of the table or of one index.
    pub(crate) fn shards(&self, index: Option<&str>) -> Result<&[Arc<Shard>]> {
        match index {
            None => Ok(&self.rows),
            Some(index) => match self.indexes.get(index) {
                Some(shards) => Ok(shards),
                None => Err(Error::IndexMissing {
                    table: self.name.clone(),
                    index: index.to_owned(),
                }),
            },
        }
    }

    /// The layout of the table or of one index's implementation table.
    pub(crate) fn layout_of(&self, index: Option<&str>) -> Result<&Arc<Layout>> {
        let Some(index) = index else {
            return Ok(&self.layout);
        };
        match self.layout.index(index) {
            Some(layout) => Ok(&layout.implementation),
            None => Err(Error::IndexMissing {
                table: self.name.clone(),
                index: index.to_owned(),
            }),
        }
    }

    pub(crate) fn shards_mut(&mut self, index: Option<&str>) -> Option<&mut Vec<Arc<Shard>>> {
        match index {
            None => Some(&mut self.rows),
            Some(index) => self.indexes.get_mut(index),
        }
    }

    /// The version at which the mend of the table was published, if it was.
    pub(crate) fn published_at(&self) -> Option<u64> {
        match self.state {
            PathState::Mending { published_at, .. } => published_at,
            _ => None,
        }
    }

    /// Refuses what the operation that holds the table does not allow.
    pub(crate) fn check(&self, wanted: Access) -> Result<()> {
        let table = self.name.clone();
        match (&self.state, wanted) {
            (PathState::Ready, _)
            | (PathState::Backup { .. }, Access::Read | Access::Write | Access::Reshape)
            | (PathState::Restoring { .. }, Access::Reshape)
            | (PathState::Mending { .. }, Access::Read)
            | (
                PathState::Mending {
                    published_at: Some(_),
                    ..
                },
                Access::Settle,
            ) => Ok(()),
            (PathState::Backup { operation }, _) => Err(Error::BeingBackedUp {
                table,
                operation: operation.clone(),
            }),
            (PathState::Restoring { operation }, _) => Err(Error::BeingRestored {
                table,
                operation: operation.clone(),
            }),
            (PathState::Mending { operation, .. }, _) => Err(Error::BeingMended {
                table,
                operation: operation.clone(),
            }),
        }
    }
}

/// The shard that holds `key`, of shards in key order that cover all keys.
pub(crate) fn route<'a>(shards: &'a [Arc<Shard>], key: &[u8]) -> &'a Arc<Shard> {
    let after = shards.partition_point(|shard| shard.range.start.as_slice() <= key);
    &shards[after.saturating_sub(1)]
}

/// Those that have keys of a range, of shards in key order that touch each other.
pub(crate) fn within<'a>(shards: &'a [Arc<Shard>], range: &KeyRange) -> &'a [Arc<Shard>] {
    let ends_before = |shard: &Arc<Shard>| {
        let end = shard.range.end.as_ref();
        end.is_some_and(|end| *end <= range.start)
    };
    let first = shards.partition_point(ends_before);
    let begins_before = |shard: &Arc<Shard>| {
        let end = range.end.as_ref();
        end.is_none_or(|end| shard.range.start < *end)
    };
    let behind = shards.partition_point(begins_before);
    if range.is_empty() {
        return &[];
    }
    shards.get(first..behind).unwrap_or_default()
}

/// All tables of one version.
#[derive(Clone, Default)]
pub(crate) struct Catalogue {
    tables: BTreeMap<String, Arc<TableEntry>>,
    shards: HashMap<ShardId, Arc<Shard>>,
}

impl Catalogue {
    pub(crate) fn table(&self, name: &str) -> Result<&Arc<TableEntry>> {
        self.tables
            .get(name)
            .ok_or_else(|| Error::TableMissing(name.to_owned()))
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }

    pub(crate) fn tables(&self) -> impl Iterator<Item = &Arc<TableEntry>> {
        self.tables.values()
    }

    pub(crate) fn shards(&self, path: &TablePath) -> Result<&[Arc<Shard>]> {
        self.table(&path.table)?.shards(path.index.as_deref())
    }

    pub(crate) fn shard(&self, id: ShardId) -> Option<&Arc<Shard>> {
        self.shards.get(&id)
    }

    pub(crate) fn insert(&mut self, entry: TableEntry) {
        self.remove(&entry.name);
        for shard in entry.all_shards() {
            self.shards.insert(shard.id, shard.clone());
        }
        self.tables.insert(entry.name.clone(), Arc::new(entry));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        if let Some(entry) = self.tables.remove(name) {
            for shard in entry.all_shards() {
                self.shards.remove(&shard.id);
            }
        }
    }
}
