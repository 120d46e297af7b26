//! What a user asked for, resolved and validated: enough to run the operation without asking again.

use serde::{Deserialize, Serialize};

use std::collections::BTreeMap;
use std::fmt;

use crate::digest::Digest;
use crate::key::KeyRange;
use crate::name::{BackupId, OperationId};
use crate::operation::cluster::ClusterRequest;
use crate::operation::drill::Drill;
use crate::operation::maintenance::MaintenanceRequest;
use crate::operation::rewind::{Rewind, UntoldTable};
use crate::operation::task::MendedRows;
use crate::part::{
    Difference, Exclusion, Grade, OnConcurrentInsert, PartitionMethod, Redefining, TableDefinition,
    TableName, Unmatched,
};
use crate::target::TargetMark;
use crate::version::Version;

/// The request behind an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for an operation, and a mend of rows has the backup of the state before in its"
)]
pub enum Request {
    /// Take a backup.
    Backup(BackupRequest),
    /// Restore a chain into tables that are absent.
    Restore(RestoreRequest),
    /// Take a backup of a part store.
    PartBackup(PartBackupRequest),
    /// Bring tables of a part store to a backup, in place; absent ones are created.
    Mend(MendRequest),
    /// Bring tables of a row store to a backup, in place; absent ones are created.
    MendRows(RowMendRequest),
    /// Fold or remove backups, or remove files that none needs, in the repository alone.
    Maintain(MaintenanceRequest),
    /// Back up or mend the shards of a cluster, each by the agent of a server.
    Cluster(ClusterRequest),
}

/// Take a backup of a collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRequest {
    /// The collection.
    pub collection: String,
    /// The backup that will exist.
    pub backup_id: BackupId,
    /// A name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The member tables.
    pub tables: Vec<String>,
    /// The newest backup when the increment was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ChainLink>,
    /// The change stream that the chain of this backup reads: named after its full backup.
    pub stream: String,
    /// Of a full backup of a target that keeps changes only where it is asked to: it is, for the increments on this one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps_changes: bool,
    /// Commit up to which the parent reaches; an increment holds the changes after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_version: Option<Version>,
    /// Streams of older chains, to be detached when this full backup exists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub old_streams: Vec<String>,
    /// Of an increment of a target that keeps no changes: what it is found by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<FoundBy>,
}

/// What an increment is found by where the target keeps no changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundBy {
    /// The backups up to the parent, oldest first: what changed rows were is looked up in them.
    pub chain: Vec<ChainLink>,
    /// Compare all rows, also where their versions tell which changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compare_rows: bool,
}

/// Restore a chain of backups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRequest {
    /// The collection.
    pub collection: String,
    /// The full backup and the increments up to the chosen one, in order.
    pub chain: Vec<ChainLink>,
    /// Which tables, and under which names.
    pub tables: Vec<TableMapping>,
    /// How the backups of the chain become rows.
    #[serde(default)]
    pub strategy: RestoreStrategy,
    /// The target that the backup was taken of, if that is known to be another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_target: Option<TargetMark>,
    /// Tables of the backup of whose definition the target keeps the columns, the key and the indexes of the schema,
    /// and nothing of what the database that they were taken of says beside ([`TableBackup::native`]).
    ///
    /// [`TableBackup::native`]: crate::manifest::TableBackup::native
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plain_tables: Vec<String>,
    /// Of a drill, what is restored to be proved and removed again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<Drill>,
}

/// How a restore makes rows of a chain of backups. The result is the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreStrategy {
    /// The full backup is loaded, then one increment after another is applied.
    #[default]
    Sequential,
    /// The chain is folded while it is read, and each row of the end is written once.
    Merged,
}

/// A backup named so that no other can take its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainLink {
    /// The backup.
    pub backup_id: BackupId,
    /// BLAKE3 of its manifest, as hex digits.
    pub manifest_blake3: String,
}

/// A table of a backup and its name on the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableMapping {
    /// In the backup.
    pub source: String,
    /// On the target.
    pub target: String,
}

/// Take a backup of tables of a part store. Each is complete by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartBackupRequest {
    /// The collection.
    pub collection: String,
    /// The backup that will exist.
    pub backup_id: BackupId,
    /// A name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Comma-separated patterns of `database.table` that were asked for.
    pub patterns: String,
    /// The tables they named, in an order in which they can be created.
    pub tables: Vec<TableName>,
    /// What was left out of them, by those who asked for it.
    #[serde(default, skip_serializing_if = "Exclusion::is_empty")]
    pub exclude: Exclusion,
    /// Patterns that fitted nothing when it was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmatched: Vec<Unmatched>,
    /// Comma-separated patterns of partitions, if not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<String>,
    /// An earlier backup whose files need not be uploaded again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<ChainLink>,
    /// Whether credentials in definitions are left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_secrets: bool,
    /// The shard whose part it is of the backup of a cluster: then that has the manifest, which another process puts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_shard: Option<String>,
    /// Whether it fails unless all tables are frozen at one moment, as far as their rows tell.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exact: bool,
    /// Whether it waits to be resumed when its tables are frozen, and once more when they have been looked at again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub holds: bool,
}

/// Bring tables of a part store to what a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MendRequest {
    /// Where the wanted parts come from.
    pub source: MendSource,
    /// Which tables, under which names, in an order in which they can be created.
    pub tables: Vec<TableMend>,
    /// Tables that were asked for and are not mended, with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stopped: Vec<StoppedTable>,
    /// Patterns that fitted nothing when it was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmatched: Vec<Unmatched>,
    /// Tables whose definition is another one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub different: Vec<DifferentTable>,
    /// Databases of the target by those of the backup, where they differ.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub databases: BTreeMap<String, String>,
    /// Comma-separated patterns of partitions, if not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<String>,
    /// Whether parts are brought; else only tables are created.
    pub data: bool,
    /// The order of work of a partition.
    pub order: PartitionMethod,
    /// What to do with parts that came after planning.
    pub on_concurrent_insert: OnConcurrentInsert,
    /// Whether the state before is kept so that the mend can be undone; decided by the disk when not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_undo: Option<bool>,
    /// Whether the server checks the tables, byte for byte, at the end.
    pub check_table: bool,
    /// Whether every byte of the parts that stay is read and proved before that is decided.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub check_kept: bool,
    /// Whether mutations that were not finished when the backup was made are applied at the end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub apply_mutations: bool,
    /// Whether it waits to be resumed when all is staged and nothing is live yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub holds: bool,
    /// Of a drill, what is restored to be proved and removed again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<Drill>,
}

/// Where the parts of a mend come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "from")]
pub enum MendSource {
    /// A backup of the repository.
    Backup {
        /// Its collection.
        collection: String,
        /// The backup.
        link: ChainLink,
        /// The target that it was taken of, if that is known to be another one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of_target: Option<TargetMark>,
        /// Of the backup of a cluster, the shard.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shard: Option<String>,
    },
    /// What another mend has kept on the target to be undone by.
    Undo {
        /// That mend.
        operation_id: OperationId,
    },
    /// A backup that clickhouse-backup made.
    Imported {
        /// Where it is.
        url: String,
        /// Its name.
        name: String,
    },
}

/// A table to be mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableMend {
    /// In the backup.
    pub source: TableName,
    /// On the target.
    pub target: TableName,
    /// Whether it has to be created: it did not exist when the mend was asked for.
    pub create: bool,
    /// Whether a table of the name exists whose schema differs: it is renamed aside first.
    #[serde(default)]
    pub replace: bool,
    /// Whether it has parts: views and dictionaries do not.
    pub has_parts: bool,
    /// Where in its keeper it is created, if not where the backup says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_path: Option<String>,
    /// Whether its replica has lost its place in the keeper, which the server makes anew before the table is looked at.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restore_place: bool,
    /// What its definition is brought to where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redefine: Option<Redefinition>,
    /// Of a table that a mend created and that goes when the mend is undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<TableUndo>,
}

/// What becomes of a table, view or dictionary that a mend created, when the mend is undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "how")]
pub enum TableUndo {
    /// It goes, unless rows that somebody brought stay in it.
    Drop,
    /// It goes, and what the mend had put aside gets its name back.
    PutBack {
        /// The name of that.
        aside: TableName,
    },
}

/// A definition that is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redefinition {
    /// What it is to be, in names of the target.
    pub to: TableDefinition,
    /// What it was, to be taken back.
    pub before: TableDefinition,
}

impl Redefinition {
    /// The change that takes it back.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            to: self.before.clone(),
            before: self.to.clone(),
        }
    }
}

/// A table, view or dictionary whose definition is not that of the backup, in what does not keep its
/// parts from being mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferentTable {
    /// On the target.
    pub target: TableName,
    /// In what it differs.
    pub differences: Vec<Difference>,
    /// How that is mended; `None` where it is left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mended_by: Option<Redefining>,
}

impl DifferentTable {
    /// Whether queries answer otherwise than in the backup, and go on to.
    pub fn leaves_other_answers(&self) -> bool {
        let mut differences = self.differences.iter();
        self.mended_by.is_none() && differences.any(|found| found.grade == Grade::Answers)
    }
}

/// A table that is not mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedTable {
    /// On the target.
    pub target: TableName,
    /// Why.
    pub reason: String,
    /// What can be done about it; empty where nothing is known to help.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub advice: String,
}

/// Bring tables of a row store to what a backup of their collection holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowMendRequest {
    /// The backup that holds the state before, by which the mend can be undone: the next increment of
    /// the chain where there can be one, else a full backup.
    pub before: BackupRequest,
    /// The full backup and the increments up to the wanted one, in order.
    pub chain: Vec<ChainLink>,
    /// How the rows that differ are found.
    #[serde(rename = "road")]
    pub find_by: FindBy,
    /// Which tables.
    pub tables: Vec<RowTableMend>,
    /// The mend that it takes back, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<OperationId>,
    /// What the target must be when it begins, of a mend that was planned before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expected: Vec<ExpectedShard>,
    /// What it was then found to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned: Option<MendedRows>,
    /// The target that the backup was taken of, if that is known to be another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_target: Option<TargetMark>,
    /// Whether writers go on until it is published. The state before is known only then: it is an increment on
    /// the wanted backup, taken of what the publish replaced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub beside_writers: bool,
    /// Writers wait no longer for the publish, where they wait for that only: it is given up then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_write_wait_ms: Option<u64>,
    /// Where transactions are taken back, tables of the collection of which it is not known what they wrote there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untold: Vec<UntoldTable>,
}

impl RowMendRequest {
    /// How a table is mended to take transactions back; `None` where it is not.
    pub fn rewind_of(&self, table: &str) -> Option<&Rewind> {
        let mut tables = self.tables.iter();
        let mended = tables.find(|mended| mended.table == table)?;
        mended.scope.rewind.as_ref()
    }
}

/// How a mend of rows finds those that differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum FindBy {
    /// Keys that changed since the wanted backup: those in the increments after it, and in the one that
    /// the mend takes itself.
    Changes {
        /// The increments after the wanted backup, in order.
        later: Vec<ChainLink>,
    },
    /// Keys that changed since the wanted backup: those in the backups after it, and those whose rows were written since
    /// the last of these, by the versions of rows. Ranges of which these do not tell everything are read, and compared.
    Versions {
        /// The increments after the wanted backup, in order.
        later: Vec<ChainLink>,
        /// The version of the last of them, or of the wanted one.
        since: Version,
    },
    /// Digests of key ranges, live and in the wanted backup: ranges whose digests differ are read.
    Digests {
        /// Why changes are not known.
        reason: String,
    },
}

/// A table of a row store to be mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowTableMend {
    /// Its name, in the backup and on the target.
    pub table: String,
    /// Whether it has to be created: it did not exist when the mend was asked for.
    pub create: bool,
    /// The keys that are mended, if not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<KeyRange>,
    /// Single keys outside of the range that are mended with it, ascending: their rows hold what rows of the
    /// range get back, and may be there once only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<KeyRange>,
    /// Columns that it got since the backup: the rows that are brought back have NULL there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added_columns: Vec<String>,
    /// Which of the keys that differ are mended, if not all.
    #[serde(default, skip_serializing_if = "RowScope::is_all")]
    pub scope: RowScope,
}

/// Which of the keys that differ are mended. The others stay what they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowScope {
    /// Those of which the live row or the wanted one fulfils this, in the words of the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Not those whose live row was written later, in microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_newer_than_us: Option<i64>,
    /// Those that the wanted backup itself has changes of: it is the state before a mend of chosen keys.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub changed_only: bool,
    /// Of these, what becomes of those whose rows others wrote again since that mend; without, they go back as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_since: Option<WrittenSince>,
    /// Those that some transactions wrote, which go back to what they were before: the wanted backup is the one up to
    /// which later writes are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewind: Option<Rewind>,
}

/// What becomes of rows of a mend that is taken back which others wrote again since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WrittenSince {
    /// They stay.
    Stay,
    /// They refuse it: rows changed their keys, so that one row may be under two of them.
    Refuse,
}

impl RowScope {
    /// Whether all of them are mended.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }
}

impl RowTableMend {
    /// Whether a key is mended.
    pub fn mends(&self, key: &[u8]) -> bool {
        let in_range = self.range.as_ref().is_none_or(|range| range.contains(key));
        let alone = |one: &KeyRange| one.start.as_slice().cmp(key);
        in_range || self.also.binary_search_by(alone).is_ok()
    }

    /// What of a key range is mended; `None` for nothing.
    pub fn part_of(&self, range: &KeyRange) -> Option<KeyRange> {
        let part = match &self.range {
            Some(chosen) => chosen.intersect(range),
            None => range.clone(),
        };
        (!part.is_empty()).then_some(part)
    }
}

/// A key range of a table, and the digest that its rows must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedShard {
    /// The table.
    pub table: String,
    /// The keys.
    pub range: KeyRange,
    /// The digest of the rows.
    pub digest: Digest,
}

/// A table of a target, told from every other: names of part stores may have dots in them, so that two
/// of them are printed alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetTable<'a> {
    /// Of a row store.
    Rows(&'a str),
    /// Of a part store.
    Parts(&'a TableName),
}

/// Its name, as people write it.
impl fmt::Display for TargetTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(name) => f.write_str(name),
            Self::Parts(name) => name.fmt(f),
        }
    }
}
