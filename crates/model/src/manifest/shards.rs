//! The shards of a table in a backup, and where the repository lists them.
//!
//! A manifest is read whenever backups are listed, so it stays small. Where a table has many shards, the
//! manifest sums them up and names documents that list them, each for a stretch of keys: a reader of some
//! keys of a table reads only the list of those keys.

use serde::{Deserialize, Serialize};

use super::ShardBackup;
use crate::digest::Digest;
use crate::key::hex_bytes;
use crate::part::ObjectRef;

/// The rows or changes of one sharded table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardedData {
    /// The AlterVersion of the table after the snapshot was taken and its stream attached or rotated.
    pub schema_version: u64,
    /// Its shards at the snapshot, in key order, covering all keys.
    #[serde(flatten)]
    pub shards: Shards,
}

/// Where the shards of a table are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shards {
    /// In the manifest itself: in one that is being drafted, where they are few, and in all manifests of
    /// format 1.
    #[serde(rename = "shards")]
    Here(Vec<ShardBackup>),
    /// In documents beside the manifest.
    #[serde(rename = "listed")]
    Listed(ListedShards),
}

/// Shards that documents list, summed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedShards {
    /// What they are together.
    #[serde(flatten)]
    pub totals: ShardTotals,
    /// The documents, in key order; each is an array of [`ShardBackup`].
    pub lists: Vec<ShardList>,
}

/// One document about shards that follow each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardList {
    /// The document.
    #[serde(flatten)]
    pub at: ObjectRef,
    /// How many shards it lists.
    pub shards: u32,
    /// Where the keys of its first shard begin.
    #[serde(with = "hex_bytes")]
    pub first_key: Vec<u8>,
}

/// What the shards of a table are together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardTotals {
    /// How many.
    pub count: u64,
    /// Digest of all rows at the snapshot.
    pub digest: Digest,
    /// Segments.
    pub segments: u64,
    /// Rows or changes in the segments.
    pub rows: u64,
    /// Bytes of the segments.
    pub bytes: u64,
}

impl ShardTotals {
    /// What these shards are together.
    pub fn of<'a>(shards: impl IntoIterator<Item = &'a ShardBackup>) -> Self {
        let mut totals = Self::default();
        for shard in shards {
            totals.count += 1;
            totals.digest.merge(shard.digest);
            for segment in &shard.segments {
                totals.segments += 1;
                totals.rows = totals.rows.saturating_add(segment.digest.rows);
                totals.bytes = totals.bytes.saturating_add(segment.bytes);
            }
        }
        totals
    }
}

impl ShardedData {
    /// Data whose shards the manifest itself lists.
    pub fn here(schema_version: u64, shards: Vec<ShardBackup>) -> Self {
        let shards = Shards::Here(shards);
        Self {
            schema_version,
            shards,
        }
    }

    /// What its shards are together.
    pub fn totals(&self) -> ShardTotals {
        match &self.shards {
            Shards::Here(shards) => ShardTotals::of(shards),
            Shards::Listed(listed) => listed.totals,
        }
    }

    /// Digest of all rows at the snapshot.
    pub fn digest(&self) -> Digest {
        self.totals().digest
    }

    /// The shards that the manifest itself lists; `None` where other documents list them.
    pub fn shards_here(&self) -> Option<&[ShardBackup]> {
        match &self.shards {
            Shards::Here(shards) => Some(shards),
            Shards::Listed(_) => None,
        }
    }

    /// The documents that list its shards; none where the manifest does.
    pub fn lists(&self) -> &[ShardList] {
        match &self.shards {
            Shards::Here(_) => &[],
            Shards::Listed(listed) => &listed.lists,
        }
    }

    /// A shard of a draft. `None` where there is none, or other documents list it: these never change.
    pub fn drafted_shard(&mut self, shard: u32) -> Option<&mut ShardBackup> {
        match &mut self.shards {
            Shards::Here(shards) => shards.get_mut(shard as usize),
            Shards::Listed(_) => None,
        }
    }
}
