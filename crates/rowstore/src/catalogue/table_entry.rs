//! A table of a catalogue.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::catalogue::layout::Layout;
use crate::catalogue::path_state::{Access, PathState};
use crate::catalogue::shard::Shard;
use crate::catalogue::stream_record::StreamRecord;
use crate::catalogue::versions::Versions;
use crate::error::{Error, Result};

/// How a table came to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Born {
    /// The version of the commit that created it.
    pub version: u64,
    /// The operation that restored it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_by: Option<String>,
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
