//! The manifest: the JSON that makes a backup exist.
//!
//! It is written last. By it a reader can check every object of the backup by size and BLAKE3,
//! its place in the chain by the parent's hash, and a restore by the digests.

mod shards;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::shards::{ListedShards, ShardList, ShardTotals, ShardedData, Shards};
use crate::digest::Digest;
use crate::key::{KeyRange, hex_bytes};
use crate::name::{BackupId, BackupKind, TablePath};
use crate::part::{ObjectRef, PartList, PartStoreBackup, PartTable, TableName};
use crate::schema::TableSchema;
use crate::target::TargetMark;
use crate::unfolded::{UNFOLDED, table_schema, transactions_schema};
use crate::version::Version;

/// The format of a backup of one target.
///
/// Format 1 had no documents that list shards.
pub const FORMAT_VERSION: u32 = 2;

/// The format of a backup of a cluster. A mendb that does not know it refuses such a backup: it would take the tables of
/// all shards for those of one server.
pub const CLUSTER_FORMAT_VERSION: u32 = 3;

/// The format of an increment that keeps its changes one by one beside the folded ones, and the newest that is read. A
/// mendb that does not know it refuses such a backup: it would lose them from the manifest, and leave their objects.
pub const UNFOLDED_FORMAT_VERSION: u32 = 4;

/// One backup of a collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// See [`FORMAT_VERSION`], [`CLUSTER_FORMAT_VERSION`] and [`UNFOLDED_FORMAT_VERSION`].
    pub format_version: u32,
    /// The mendb that wrote it.
    pub tool_version: String,
    /// The collection.
    pub collection: String,
    /// The backup.
    pub backup_id: BackupId,
    /// A name the user gave it, unique in the collection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The operation that wrote it: a repeated attempt of that operation finds its own manifest.
    pub operation_id: String,
    /// The target that it was taken of; `None` in backups from before mendb noted that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetMark>,
    /// What the increment stands on; a full backup stands on nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// The commit of the target that the backup holds: all of it and nothing later.
    pub snapshot_version: Version,
    /// The tables of a collection of a row store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableBackup>,
    /// What a backup of a part store holds instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_store: Option<PartStoreBackup>,
    /// What it was folded from; without, it holds what was written when it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compacted: Option<Compacted>,
    /// Of an increment that keeps its changes one by one, the transactions that made them, also of tables whose changes
    /// it does not keep so ([`crate::unfolded`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transactions: Option<ShardedData>,
    /// Which commits it has, where the target tells when each was; not of the state before a mend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commits: Option<Commits>,
}

/// Which commits a backup has, in microseconds since 1970 by the clock of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commits {
    /// None of this moment or a later one.
    pub none_from_us: i64,
    /// All that were before this moment; `None` where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_before_us: Option<i64>,
}

/// What was folded into a backup: backups before it, which are no restore points any more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compacted {
    /// BLAKE3 of the manifests that this one took the place of, as hex digits, oldest first. What stands
    /// on the backup may name it by one of them: it holds the same restore point.
    pub stands_for: Vec<String>,
    /// The backups that went, oldest first. When the first was a full one, so is this, whatever its id
    /// says.
    pub folded: Vec<BackupId>,
}

/// The backup before an increment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Its id.
    pub backup_id: BackupId,
    /// BLAKE3 of its manifest, as hex digits.
    pub manifest_blake3: String,
}

/// A table in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableBackup {
    /// Its name.
    pub table: String,
    /// Its schema at the snapshot.
    pub schema: TableSchema,
    /// Its rows.
    pub rows: ShardedData,
    /// Its indexes, in the order of the schema.
    pub indexes: Vec<IndexBackup>,
    /// What the schema does not say of a table of a foreign database. Only the engine that wrote it reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<serde_json::Value>,
    /// How the changes of an increment were found, where the target keeps none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes_by: Option<ChangeMethod>,
    /// Why the change stream of the chain, where it has one, did not tell them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untold: Option<String>,
    /// Of the state before a mend of some keys: these are what they were then, the others what they are in the parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<OnlyKeys>,
    /// The changes of an increment one by one, where it keeps them ([`crate::unfolded`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfolded: Option<ShardedData>,
}

/// The keys that a backup has as they were at its snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnlyKeys {
    /// They are in this range.
    #[serde(flatten)]
    pub range: KeyRange,
    /// And of these, those that it has changes of.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub changed: bool,
}

/// How changes are found where a target keeps none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeMethod {
    /// A change stream tells which keys were written since the parent.
    Stream,
    /// Each row tells whether it may have been written since the parent; counts tell where rows are gone.
    RowVersions,
    /// All rows are compared with those of the parent.
    AllRows {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for ChangeMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream => f.write_str("the change stream"),
            Self::RowVersions => f.write_str("row versions"),
            Self::AllRows { reason } => write!(f, "comparing all rows: {reason}"),
        }
    }
}

/// An index in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexBackup {
    /// Its name.
    pub index: String,
    /// The version of the index entity.
    pub schema_version: u64,
    /// The rows of its implementation table.
    pub rows: ShardedData,
}

/// One shard of a table in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardBackup {
    /// Its keys.
    pub range: KeyRange,
    /// Digest of the rows it had at the snapshot, in an increment too: restoring up to here is
    /// proved by it.
    pub digest: Digest,
    /// Its rows (full) or the changes since the parent (incremental), in key order.
    pub segments: Vec<Segment>,
}

/// One Parquet object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Its name below the directory of the backup.
    pub object: String,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 of its bytes, as hex digits.
    pub blake3: String,
    /// Digest of the rows or changes in it, and their number: of a full backup, those of a shard's
    /// segments add up to the shard's.
    pub digest: Digest,
    /// The first key in it.
    #[serde(with = "hex_bytes")]
    pub first_key: Vec<u8>,
    /// The last key in it.
    #[serde(with = "hex_bytes")]
    pub last_key: Vec<u8>,
    /// How its row groups are fetched alone; without, it is fetched whole. Segments written before
    /// mendb kept groups have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<SegmentGroups>,
}

/// The row groups of a segment: stretches of the object that can be fetched, checked and decoded each
/// without the others.
///
/// A group ends where the next one begins or, the last one, where the footer does: groups and footer
/// cover the object except the four bytes of magic at its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentGroups {
    /// What tells how a group is decoded: the metadata of the file, from the end of the last group to
    /// the end of the object.
    pub footer: Stretch,
    /// The groups, in key order.
    pub list: Vec<SegmentGroup>,
}

/// Some of the rows of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentGroup {
    /// The first key in it. Its last one lies before the first of the next group.
    #[serde(with = "hex_bytes")]
    pub first_key: Vec<u8>,
    /// How many rows or changes.
    pub rows: u64,
    /// Its bytes in the object.
    #[serde(flatten)]
    pub at: Stretch,
}

/// Bytes of an object that can be checked alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// Where they begin.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
    /// Their BLAKE3, as hex digits.
    pub blake3: String,
}

impl Stretch {
    /// Where they lie in the object.
    ///
    /// Numbers that no object can have give a range that ends at the highest offset there is.
    pub fn range(&self) -> std::ops::Range<u64> {
        self.offset..self.offset.saturating_add(self.bytes)
    }
}

impl Manifest {
    /// Whether it holds all rows or changes. The id says so, except of an increment that a full backup was
    /// folded into: it keeps its id, and stands on nothing.
    pub fn kind(&self) -> BackupKind {
        match (&self.compacted, &self.parent) {
            (Some(_), None) => BackupKind::Full,
            _ => self.backup_id.kind(),
        }
    }

    /// Whether it has every table that was asked for, with all its keys.
    pub fn is_complete(&self) -> bool {
        let has_all_keys = self.tables.iter().all(|table| table.only.is_none());
        has_all_keys && self.part_store.as_ref().is_none_or(|store| store.complete)
    }

    /// Whether it took the place of the manifest with this BLAKE3, and holds the same restore point.
    pub fn stands_for(&self, manifest_blake3: &str) -> bool {
        let compacted = self.compacted.iter();
        let mut before = compacted.flat_map(|compacted| &compacted.stands_for);
        before.any(|blake3| blake3 == manifest_blake3)
    }

    /// Every sharded table of the backup with its data, tables first.
    pub fn sharded_tables(&self) -> impl Iterator<Item = (TablePath, &ShardedData)> {
        self.tables.iter().flat_map(TableBackup::sharded_tables)
    }

    /// Everything of which it names segments: [`Self::sharded_tables`], and changes one by one with their transactions.
    pub fn stored_tables(&self) -> impl Iterator<Item = (TablePath, &ShardedData)> {
        let unfolded = self.tables.iter().filter_map(|table| {
            let changes = table.unfolded.as_ref()?;
            Some((TablePath::unfolded(&table.table), changes))
        });
        let transactions = self.transactions.iter();
        let transactions = transactions.map(|of| (TablePath::transactions(), of));
        self.sharded_tables().chain(unfolded).chain(transactions)
    }

    /// The same, to be changed.
    pub fn stored_tables_mut(&mut self) -> impl Iterator<Item = (TablePath, &mut ShardedData)> {
        let tables = self.tables.iter_mut();
        let tables = tables.flat_map(TableBackup::stored_tables_mut);
        let transactions = self.transactions.iter_mut();
        tables.chain(transactions.map(|of| (TablePath::transactions(), of)))
    }

    /// The schema of what a path names of it.
    pub fn schema_of(&self, path: &TablePath) -> Option<TableSchema> {
        match path.is_transactions() {
            true => Some(transactions_schema()),
            false => self.table(&path.table)?.schema_of(path.index.as_deref()),
        }
    }

    /// Has it keep no changes one by one, as what was folded does not.
    pub fn forget_unfolded(&mut self) {
        if self.transactions.take().is_some() {
            self.format_version = FORMAT_VERSION;
        }
        for table in &mut self.tables {
            table.unfolded = None;
        }
    }

    /// The data of one sharded table.
    pub fn sharded_table(&self, path: &TablePath) -> Option<&ShardedData> {
        if path.is_transactions() {
            return self.transactions.as_ref();
        }
        let table = self.table(&path.table)?;
        match &path.index {
            None => Some(&table.rows),
            Some(_) if path.is_unfolded() => table.unfolded.as_ref(),
            Some(name) => Some(
                &table
                    .indexes
                    .iter()
                    .find(|index| index.index == *name)?
                    .rows,
            ),
        }
    }

    /// Gives a table of a draft, by its place, a list of its parts. One that is not there changes nothing.
    pub(crate) fn put_part_list(&mut self, table_idx: u32, list: PartList) {
        let table = self
            .part_store
            .as_mut()
            .and_then(|store| store.tables.get_mut(table_idx as usize));
        if let Some(table) = table {
            table.lists.push(list);
        }
    }

    /// Makes a draft of parts one that lacks a table.
    pub(crate) fn lack(&mut self, table: TableName, reason: String) {
        if let Some(store) = &mut self.part_store {
            store.lack(table, reason);
        }
    }

    /// Gives a shard of a draft its segments. A shard that the manifest does not have changes nothing.
    pub fn put_shard(&mut self, path: &TablePath, shard: u32, segments: Vec<Segment>) {
        let mut stored = self.stored_tables_mut();
        let data = stored.find(|(stored, _)| stored == path);
        if let Some(shard) = data.and_then(|(_, data)| data.drafted_shard(shard)) {
            shard.segments = segments;
        }
    }

    /// Gives a shard of the draft of an increment what was found of it. A shard that the manifest does not have
    /// changes nothing.
    pub(crate) fn put_found(
        &mut self,
        path: &TablePath,
        shard: u32,
        segments: Vec<Segment>,
        digest: Digest,
    ) {
        let mut tables = self.tables.iter_mut();
        let table = tables.find(|table| path.index.is_none() && table.table == path.table);
        if let Some(drafted) = table.and_then(|table| table.rows.drafted_shard(shard)) {
            *drafted = ShardBackup {
                range: drafted.range.clone(),
                digest,
                segments,
            };
        }
    }

    /// Gives a shard of the draft of a full backup the digest of what was copied of it, where the target keeps
    /// none. A shard that the manifest does not have, or whose digest is known, changes nothing.
    pub(crate) fn sum_up_shard(&mut self, path: &TablePath, shard: u32) {
        let mut tables = self.tables.iter_mut();
        let table = tables.find(|table| path.index.is_none() && table.table == path.table);
        let drafted = table.and_then(|table| table.rows.drafted_shard(shard));
        if let Some(drafted) = drafted.filter(|shard| shard.digest == Digest::default()) {
            let segments = drafted.segments.iter();
            drafted.digest = segments.map(|segment| segment.digest).sum();
        }
    }

    /// The table of a name.
    pub fn table(&self, name: &str) -> Option<&TableBackup> {
        self.tables.iter().find(|table| table.table == name)
    }

    /// Every document that the manifest names: those that list shards, and those of a part store's tables.
    pub fn documents(&self) -> impl Iterator<Item = &ObjectRef> {
        let lists = self.stored_tables().flat_map(|(_, data)| data.lists());
        let tables = self.part_store.iter().flat_map(|store| &store.tables);
        let of_parts = tables.flat_map(PartTable::documents);
        lists.map(|list| &list.at).chain(of_parts)
    }

    /// Bytes that it added to the repository, the manifest not counted.
    pub fn bytes(&self) -> u64 {
        let segments = (self.stored_tables()).map(|(_, data)| data.totals().bytes);
        let documents = self.documents().map(|document| document.bytes);
        let tables = self.part_store.iter().flat_map(|store| &store.tables);
        let files = tables.flat_map(|table| table.lists.iter().map(|list| list.new_bytes));
        segments.chain(documents).chain(files).sum()
    }

    /// Rows or changes of its tables, those of indexes not counted.
    pub fn rows(&self) -> u64 {
        if let Some(store) = &self.part_store {
            return store.tables.iter().map(PartTable::rows).sum();
        }
        let tables = self.tables.iter();
        tables.map(|table| table.rows.totals().rows).sum()
    }
}

impl TableBackup {
    /// The table and its index implementation tables.
    pub fn sharded_tables(&self) -> impl Iterator<Item = (TablePath, &ShardedData)> {
        let indexes = self.indexes.iter();
        std::iter::once((TablePath::table(&self.table), &self.rows))
            .chain(indexes.map(|index| (TablePath::index(&self.table, &index.index), &index.rows)))
    }

    /// The same, to be changed.
    pub fn sharded_tables_mut(&mut self) -> impl Iterator<Item = (TablePath, &mut ShardedData)> {
        let table = &self.table;
        let indexes = self.indexes.iter_mut();
        std::iter::once((TablePath::table(table), &mut self.rows)).chain(
            indexes.map(move |index| (TablePath::index(table, &index.index), &mut index.rows)),
        )
    }

    /// The same, and its changes one by one.
    fn stored_tables_mut(&mut self) -> impl Iterator<Item = (TablePath, &mut ShardedData)> {
        let table = &self.table;
        let indexes = self.indexes.iter_mut();
        let unfolded = self.unfolded.iter_mut();
        std::iter::once((TablePath::table(table), &mut self.rows))
            .chain(
                indexes.map(move |index| (TablePath::index(table, &index.index), &mut index.rows)),
            )
            .chain(unfolded.map(move |changes| (TablePath::unfolded(table), changes)))
    }

    /// The schema of the table, of the implementation table of one of its indexes, or of its changes one by one.
    pub fn schema_of(&self, index: Option<&str>) -> Option<TableSchema> {
        match index {
            None => Some(self.schema.clone()),
            Some(UNFOLDED) if self.unfolded.is_some() => table_schema(&self.schema),
            Some(name) => Some(self.schema.implementation(self.schema.index(name)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(id: &str, more: &serde_json::Value) -> Manifest {
        let mut json = serde_json::json!({
            "format_version": FORMAT_VERSION,
            "tool_version": "0.1.0",
            "collection": "shop",
            "backup_id": id,
            "operation_id": "backup-1",
            "snapshot_version": 1,
        });
        let fields = more.as_object().unwrap().clone();
        json.as_object_mut().unwrap().extend(fields);
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn an_increment_that_a_full_backup_was_folded_into_is_a_full_one() {
        let id = "20260821151519Z_incremental";
        let parent =
            serde_json::json!({"backup_id": "20260821141425Z_full", "manifest_blake3": "aa"});
        let compacted = serde_json::json!({"stands_for": ["bb", "cc"], "folded": []});
        let plain = manifest(id, &serde_json::json!({"parent": parent}));
        let shorter = manifest(
            id,
            &serde_json::json!({"parent": parent, "compacted": compacted}),
        );
        let whole = manifest(id, &serde_json::json!({"compacted": compacted}));
        let torn = manifest(id, &serde_json::json!({}));
        let kinds = [&plain, &shorter, &whole, &torn].map(Manifest::kind);
        use BackupKind::{Full, Incremental};
        assert_eq!(kinds, [Incremental, Incremental, Full, Incremental]);
        assert!(whole.stands_for("bb") && whole.stands_for("cc") && !whole.stands_for("aa"));
        assert!(!plain.stands_for("bb"));
    }

    #[test]
    fn a_segment_from_before_there_were_groups_is_one_without() {
        let mut json = serde_json::json!({
            "object": "goods/0000-3fa9c1-0.0000.parquet",
            "bytes": 500,
            "blake3": "aa",
            "digest": "3:00000000000000000000000000000001",
            "first_key": "01",
            "last_key": "03",
        });
        let segment: Segment = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(segment.groups, None);
        assert_eq!(serde_json::to_value(&segment).unwrap(), json);
        json["groups"] = serde_json::json!({
            "footer": {"offset": 300, "bytes": 200, "blake3": "bb"},
            "list": [{"first_key": "01", "rows": 3, "offset": 4, "bytes": 296, "blake3": "cc"}],
        });
        let segment: Segment = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(segment.groups.as_ref().unwrap().list[0].at.range(), 4..300);
        assert_eq!(serde_json::to_value(&segment).unwrap(), json);
    }
}
