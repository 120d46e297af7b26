//! A table as it lies in the `catalogue` tree: JSON under the table's name.

use std::collections::BTreeMap;
use std::sync::Arc;

use mendb_model::key::KeyRange;
use mendb_model::name::TablePath;
use mendb_model::{Malformed, TableSchema};
use serde::{Deserialize, Serialize};

use crate::datashard::{Shard, ShardId};
use crate::error::{Error, Result};
use crate::schemeshard::layout::Layout;
use crate::schemeshard::versions::Versions;
use crate::schemeshard::{Born, Layers, PathState, TableEntry};

#[derive(Serialize, Deserialize)]
struct TableRecord {
    schema: TableSchema,
    versions: Versions,
    state: PathState,
    streams: BTreeMap<String, StreamRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    born: Option<Born>,
    rows: Vec<ShardRecord>,
    indexes: BTreeMap<String, Vec<ShardRecord>>,
}

/// A change stream of a table, and so of its indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StreamRecord {
    /// The version of the last cut that attached or rotated it.
    pub(crate) attached_at: u64,
    /// Changes above this version are needed. Of one that has lapsed the highest there is, so that a program
    /// that knows nothing of that takes no increment by it.
    pub(crate) needed_after: u64,
    /// The bytes of the change log when it was let go because of them; it has lapsed then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) outgrew_bytes: Option<u64>,
}

impl StreamRecord {
    /// One that needs what comes after a version.
    pub(crate) fn attached(version: u64) -> Self {
        Self {
            attached_at: version,
            needed_after: version,
            outgrew_bytes: None,
        }
    }

    /// Whether it has not lapsed.
    pub(crate) fn lasts(&self) -> bool {
        self.outgrew_bytes.is_none()
    }
}

#[derive(Serialize, Deserialize)]
struct ShardRecord {
    id: ShardId,
    range: KeyRange,
}

impl TableEntry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let records = |shards: &[Arc<Shard>]| -> Vec<ShardRecord> {
            let record = |shard: &Arc<Shard>| ShardRecord {
                id: shard.id,
                range: shard.range.clone(),
            };
            shards.iter().map(record).collect()
        };
        let record = TableRecord {
            schema: self.layout.schema.clone(),
            versions: self.versions.clone(),
            state: self.state.clone(),
            streams: self.streams.clone(),
            born: self.born.clone(),
            rows: records(&self.rows),
            indexes: self
                .indexes
                .iter()
                .map(|(name, shards)| (name.clone(), records(shards)))
                .collect(),
        };
        serde_json::to_vec(&record).expect("a table record has only text as map keys")
    }

    /// Reads a table.
    pub(crate) fn decode(name: &[u8], bytes: &[u8]) -> Result<Self> {
        let damaged = |detail: String| {
            let what = format!("the catalogue entry of table {}", name.escape_ascii());
            let source = Malformed {
                what: "table record",
                detail,
            };
            Error::damaged(what, source)
        };
        let table = std::str::from_utf8(name).map_err(|error| damaged(error.to_string()))?;
        let record: TableRecord =
            serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        record
            .schema
            .validate()
            .map_err(|error| damaged(error.to_string()))?;
        let shards = |path: &TablePath, records: Vec<ShardRecord>| {
            if !covers_all(&records) {
                return Err(damaged(format!("the shards of {path} leave a gap")));
            }
            let shard =
                |record: ShardRecord| Arc::new(Shard::new(record.id, path.clone(), record.range));
            Ok(records.into_iter().map(shard).collect::<Vec<_>>())
        };
        let named = record.schema.indexes.iter().map(|index| &index.name);
        let stored = record.indexes.keys().filter(|name| {
            record.schema.index(name).is_some() && record.versions.indexes.contains_key(*name)
        });
        if named.count() != stored.count() {
            return Err(damaged(
                "its indexes are not those of its schema".to_owned(),
            ));
        }
        let mut entry = Self {
            name: table.to_owned(),
            versions: record.versions,
            state: PathState::Ready,
            streams: record.streams,
            born: record.born,
            rows: shards(&TablePath::table(table), record.rows)?,
            indexes: record
                .indexes
                .into_iter()
                .map(|(index, records)| {
                    let path = TablePath::index(table, &index);
                    Ok((index, shards(&path, records)?))
                })
                .collect::<Result<_>>()?,
            layout: Arc::new(Layout::new(record.schema)),
            layers: Layers::new(),
        };
        entry.enter(record.state);
        Ok(entry)
    }
}

fn covers_all(shards: &[ShardRecord]) -> bool {
    let mut end = Some(Vec::new());
    for shard in shards {
        if end.as_ref() != Some(&shard.range.start) || shard.range.is_empty() {
            return false;
        }
        end.clone_from(&shard.range.end);
    }
    end.is_none()
}
