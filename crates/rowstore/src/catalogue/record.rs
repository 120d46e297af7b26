//! A table as it lies in the `catalogue` tree: JSON under its name, and its shards behind it, each under the
//! name, a zero byte, the name of its index or nothing, a zero byte, and its id, 8 bytes big-endian. Names have
//! no zero bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use mendb_model::key::KeyRange;
use mendb_model::name::TablePath;
use mendb_model::{Malformed, TableSchema};
use serde::{Deserialize, Serialize};

use crate::catalogue::layout::Layout;
use crate::catalogue::path_state::PathState;
use crate::catalogue::shard::Shard;
use crate::catalogue::stream_record::StreamRecord;
use crate::catalogue::table_entry::{Born, TableEntry};
use crate::catalogue::versions::Versions;
use crate::error::{Error, Result};
use crate::kernel::ShardId;

#[derive(Serialize, Deserialize)]
struct TableRecord {
    schema: TableSchema,
    versions: Versions,
    state: PathState,
    streams: BTreeMap<String, StreamRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    born: Option<Born>,
}

/// A record of the catalogue: its key and its value.
pub(crate) type Record = (Vec<u8>, Vec<u8>);

/// The record of a shard. It never changes.
pub(crate) fn of_shard(shard: &Shard) -> Record {
    let index = shard.path.index.as_deref().unwrap_or_default();
    let table = shard.path.table.as_bytes();
    let id = shard.id.0.to_be_bytes();
    let key = [table, &[0], index.as_bytes(), &[0], &id].concat();
    (key, encode_range(&shard.range))
}

/// A range as bytes: the length of its start (4, big-endian), the start, and its end behind a 1, or a 0 where it
/// has none. There are as many as shards, and each opening reads them all.
fn encode_range(range: &KeyRange) -> Vec<u8> {
    let length = u32::try_from(range.start.len()).expect("a key is below 4 GiB");
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(&range.start);
    match &range.end {
        Some(end) => {
            bytes.push(1);
            bytes.extend_from_slice(end);
        }
        None => bytes.push(0),
    }
    bytes
}

fn decode_range(bytes: &[u8]) -> Option<KeyRange> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (start, rest) = rest.split_at_checked(length)?;
    let end = match rest.split_first()? {
        (1, end) => Some(end.to_vec()),
        (0, []) => None,
        _ => return None,
    };
    let start = start.to_vec();
    Some(KeyRange { start, end })
}

/// The shard of a record; `None` of another table, or of none.
fn shard_of(table: &str, (key, value): &Record) -> Option<Arc<Shard>> {
    let path = key.strip_prefix(table.as_bytes())?.strip_prefix(&[0])?;
    let (path, id) = path.split_last_chunk::<8>()?;
    let path = match std::str::from_utf8(path.strip_suffix(&[0])?).ok()? {
        "" => TablePath::table(table),
        index => TablePath::index(table, index),
    };
    let range = decode_range(value)?;
    let id = ShardId(u64::from_be_bytes(*id));
    Some(Arc::new(Shard::new(id, path, range)))
}

/// Whether a key is that of a table, not of a shard.
pub(crate) fn is_of_table(key: &[u8]) -> bool {
    !key.contains(&0)
}

impl TableEntry {
    /// The record of the table, without its shards.
    pub(crate) fn record(&self) -> Record {
        let record = TableRecord {
            schema: self.layout.schema.clone(),
            versions: self.versions.clone(),
            state: self.state.clone(),
            streams: self.streams.clone(),
            born: self.born.clone(),
        };
        let value = serde_json::to_vec(&record);
        let value = value.expect("a table record has only text as map keys");
        (self.name.clone().into_bytes(), value)
    }

    /// Reads a table and its shards.
    pub(crate) fn decode((name, bytes): &Record, shards: &[Record]) -> Result<Self> {
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
        let mut by_path: BTreeMap<Option<String>, Vec<Arc<Shard>>> = BTreeMap::new();
        for shard in shards {
            let shard = shard_of(table, shard);
            let shard = shard.ok_or_else(|| damaged("the record of a shard is none".to_owned()))?;
            let of_path = by_path.entry(shard.path.index.clone()).or_default();
            of_path.push(shard);
        }
        let mut shards_of = |index: Option<&str>| {
            let mut shards = by_path
                .remove(&index.map(str::to_owned))
                .unwrap_or_default();
            shards.sort_by(|one, other| one.range.start.cmp(&other.range.start));
            if covers_all(&shards) {
                return Ok(shards);
            }
            let of = index.unwrap_or("the table");
            Err(damaged(format!("the shards of {of} leave a gap")))
        };
        let rows = shards_of(None)?;
        let mut indexes = BTreeMap::new();
        for index in &record.schema.indexes {
            indexes.insert(index.name.clone(), shards_of(Some(&index.name))?);
        }
        let is_whole = by_path.is_empty()
            && indexes.len() == record.versions.indexes.len()
            && indexes
                .keys()
                .all(|name| record.versions.indexes.contains_key(name));
        if !is_whole {
            return Err(damaged(
                "its indexes are not those of its schema".to_owned(),
            ));
        }
        Ok(Self {
            name: table.to_owned(),
            versions: record.versions,
            state: record.state,
            streams: record.streams,
            born: record.born,
            rows,
            indexes,
            layout: Arc::new(Layout::new(record.schema)),
        })
    }
}

fn covers_all(shards: &[Arc<Shard>]) -> bool {
    let mut end = Some(Vec::new());
    for shard in shards {
        if end.as_ref() != Some(&shard.range.start) || shard.range.is_empty() {
            return false;
        }
        end.clone_from(&shard.range.end);
    }
    end.is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_range_is_read_as_it_was_written_and_nothing_else_is_one(
            start in proptest::collection::vec(any::<u8>(), 0..20),
            end in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
            cut in 0..24_usize,
        ) {
            let range = KeyRange { start, end };
            let bytes = encode_range(&range);
            prop_assert_eq!(decode_range(&bytes), Some(range.clone()));
            if cut < 5 + range.start.len() {
                prop_assert_eq!(decode_range(&bytes[..cut]), None);
            }
        }
    }
}
