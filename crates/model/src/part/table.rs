//! Databases and tables of a part store in a backup.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::aspect::Aspect;
use super::content::{ObjectRef, PartRecord};
use super::definition::Definition;
use super::inventory::{Mutation, ServerRun};
use super::secret::{HIDDEN, Secret};
use super::selection::{Exclusion, Unmatched};
use super::table_name::TableName;
use crate::target::TargetMark;

/// The setting that says where granules end: parts of old servers are read wrongly with another one.
const GRANULARITY: &str = "index_granularity";

/// Row policies of a table: by their names, what follows `CREATE ROW POLICY name ON table`.
pub type RowPolicies = BTreeMap<String, String>;

/// What a table is. Two tables take each other's parts only if keys and columns agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDefinition {
    /// Its name.
    pub name: TableName,
    /// `MergeTree`, `ReplacingMergeTree`, `View`, `Dictionary` …
    pub engine: String,
    /// The statement that creates it, as it may be shown: with [`super::secret::HIDDEN`] for credentials.
    pub create_query: String,
    /// The statement with its credentials, where it has any and they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_query: Option<Secret>,
    /// The partition key as an expression; empty for none.
    pub partition_key: String,
    /// The sorting key as an expression.
    pub sorting_key: String,
    /// The primary key as an expression.
    #[serde(default)]
    pub primary_key: String,
    /// Columns with their types, in order; those that are computed and not stored are left out.
    pub columns: Vec<(String, String)>,
    /// Its storage policy; empty where there are none.
    #[serde(default)]
    pub storage_policy: String,
    /// Whether rows, columns or parts go by a TTL.
    #[serde(default)]
    pub has_ttl: bool,
    /// Its row policies by name, as they would be created; `None` where the server does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_policies: Option<RowPolicies>,
}

impl TableDefinition {
    /// Whether its data is in parts.
    pub fn has_parts(&self) -> bool {
        has_parts(&self.engine)
    }

    /// Whether its data is in files that are no parts; each such table is taken for one part.
    pub fn has_files(&self) -> bool {
        has_files(&self.engine)
    }

    /// Whether the server keeps rows for it that no backup has, whatever else that has of it.
    pub fn keeps_rows_elsewhere(&self) -> bool {
        let is_only_in_memory = self.has_files() && !is_persistent(&self.create_query);
        is_only_in_memory || ROWS_ELSEWHERE.contains(&self.engine.as_str())
    }

    /// Whether it is a replica that a keeper coordinates.
    pub fn is_replicated(&self) -> bool {
        self.engine.starts_with("Replicated")
    }

    /// The statement that creates it as it was; `None` where its credentials are not known.
    pub fn statement(&self) -> Option<&str> {
        match &self.whole_query {
            Some(whole) => Some(whole.reveal()),
            None => (!self.create_query.contains(HIDDEN)).then_some(&self.create_query),
        }
    }

    /// What keeps parts of this table from being attached to another: the server checks none of it.
    /// Empty when nothing does. What else may differ is told by [`Self::differences`].
    pub fn obstacles(&self, live: &Self) -> Vec<String> {
        let engine = |table: &Self| table.engine.trim_start_matches("Replicated").to_owned();
        let mut differences = Vec::new();
        let mut differ = |what: &str, here: &str, there: &str| {
            if here != there {
                differences.push(format!("{what} {here:?} in the backup, {there:?} now"));
            }
        };
        differ("engine", &engine(self), &engine(live));
        differ("partition key", &self.partition_key, &live.partition_key);
        differ("sorting key", &self.sorting_key, &live.sorting_key);
        differ("primary key", &self.primary_key, &live.primary_key);
        let granularity = |table: &Self| {
            let definition = Definition::read(&table.create_query);
            let told = definition.as_ref()?.clause(Aspect::Setting, GRANULARITY);
            told.map(str::to_owned)
        };
        if let (Some(here), Some(there)) = (granularity(self), granularity(live)) {
            differ(GRANULARITY, &here, &there);
        }
        for (name, kind) in &self.columns {
            match live.columns.iter().find(|(column, _)| column == name) {
                Some((_, there)) => differ(&format!("column {name}"), kind, there),
                None => differ(&format!("column {name}"), kind, "absent"),
            }
        }
        for (name, kind) in &live.columns {
            if !self.columns.iter().any(|(column, _)| column == name) {
                differ(&format!("column {name}"), "absent", kind);
            }
        }
        differences
    }

    /// Whether the order of its parts decides what a query answers: which of two rows of one key wins.
    pub fn is_order_sensitive(&self) -> bool {
        self.engine.trim_start_matches("Replicated") != "MergeTree"
    }
}

/// Engines of tables whose data is in files that are no parts.
const WITH_FILES: [&str; 5] = ["Join", "Log", "Set", "StripeLog", "TinyLog"];

/// Engines of tables that have rows which no backup has.
const ROWS_ELSEWHERE: [&str; 6] = [
    "Buffer",
    "EmbeddedRocksDB",
    "File",
    "KeeperMap",
    "Memory",
    "TimeSeries",
];

/// Whether tables of an engine have their data in parts.
pub fn has_parts(engine: &str) -> bool {
    engine.ends_with("MergeTree")
}

/// Whether tables of an engine have their data in files that are no parts.
pub fn has_files(engine: &str) -> bool {
    WITH_FILES.contains(&engine)
}

/// Whether what a Join or a Set has is on disk: it is, unless its statement says otherwise.
fn is_persistent(create_query: &str) -> bool {
    let words: String = create_query.split_whitespace().collect();
    !words.contains("persistent=0") && !words.contains("persistent=false")
}

/// A database in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseBackup {
    /// Its name.
    pub name: String,
    /// `Atomic`, `Ordinary` …
    pub engine: String,
    /// The statement that creates it.
    pub create_query: String,
}

/// A list of parts with their files: an object of the backup that holds an array of
/// [`super::PartRecord`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartList {
    /// The object.
    #[serde(flatten)]
    pub at: ObjectRef,
    /// Parts in it.
    pub parts: u64,
    /// Rows of them.
    pub rows: u64,
    /// Bytes of their files.
    pub data_bytes: u64,
    /// Bytes of files that the repository did not have before.
    pub new_bytes: u64,
}

impl PartList {
    /// The entry for a list that is stored, which brought so many bytes that were new.
    pub fn of(at: ObjectRef, records: &[PartRecord], new_bytes: u64) -> Self {
        Self {
            at,
            parts: records.len() as u64,
            rows: records.iter().map(|record| record.part.rows).sum(),
            data_bytes: records.iter().map(PartRecord::bytes).sum(),
            new_bytes,
        }
    }
}

/// A table in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartTable {
    /// What it was.
    pub definition: TableDefinition,
    /// `CurrentParts`: the parts that were live when it was frozen, whether or not they were backed up.
    /// An object that holds a [`super::Inventory`]; `None` for what has no parts, and in backups that were
    /// made without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_parts: Option<ObjectRef>,
    /// Only these partitions were backed up, if not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<Vec<String>>,
    /// Mutations that were not finished when it was frozen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mutations: Vec<Mutation>,
    /// Its parts.
    pub lists: Vec<PartList>,
}

/// The contents of a backup of a part store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartStoreBackup {
    /// The version of the server, as it tells it.
    pub server_version: String,
    /// The server process it was taken from; `None` in imported backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<ServerRun>,
    /// Comma-separated patterns of `database.table` that chose the tables.
    #[serde(default)]
    pub patterns: String,
    /// What was left out of them, by those who asked for it.
    #[serde(default, skip_serializing_if = "Exclusion::is_empty")]
    pub exclude: Exclusion,
    /// Databases of its tables.
    pub databases: Vec<DatabaseBackup>,
    /// Its tables, views and dictionaries, in an order in which they can be created.
    pub tables: Vec<PartTable>,
    /// Whether it has every table that was asked for: see [`Self::lack`].
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub complete: bool,
    /// Tables that were asked for and that it does not have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<MissingTable>,
    /// Tables that were dropped while it was taken: it does not have them, and lacks nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<TableName>,
    /// Patterns that fitted nothing when it was taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmatched: Vec<Unmatched>,
    /// Whether all of it is proved to be of one moment: no row came into any of its tables, or went, while they were frozen
    /// one after another.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exact: bool,
    /// The shards of a cluster, of which it holds the tables of one replica each; none where it is of one server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<ShardOfCluster>,
}

/// A shard of a cluster in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardOfCluster {
    /// Its name in the cluster.
    pub shard: String,
    /// The replica that was backed up.
    pub replica: String,
    /// The server, as what it writes alone names it.
    pub target: TargetMark,
    /// The version of the server.
    pub server_version: String,
    /// The server process it was taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<ServerRun>,
    /// When its tables were frozen, by the clock of the server, in milliseconds since 1970. Servers tell whole seconds.
    pub frozen_at_ms: u64,
    /// Databases of its tables.
    pub databases: Vec<DatabaseBackup>,
    /// How many of the tables are its own. They come after those of the shards before.
    pub tables: usize,
    /// How many of the tables that the backup lacks are its own, in the same order.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missing: usize,
    /// How many of the tables that were dropped meanwhile are its own, in the same order.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// A table that a backup lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingTable {
    /// Its name.
    pub name: TableName,
    /// Why it could not be backed up.
    pub reason: String,
}

fn yes() -> bool {
    true
}

fn is_true(value: &bool) -> bool {
    *value
}

impl PartTable {
    /// Its name.
    pub fn name(&self) -> &TableName {
        &self.definition.name
    }

    /// Whether the backup has its data, be it none: backups that others made, and those of before tables
    /// of files were taken for parts, have only definitions of these.
    pub fn has_data(&self) -> bool {
        let definition = &self.definition;
        definition.has_parts() || definition.has_files() && self.current_parts.is_some()
    }

    /// Whether it may have had rows of which the backup has none.
    pub fn is_only_defined(&self) -> bool {
        let definition = &self.definition;
        definition.keeps_rows_elsewhere() || definition.has_files() && !self.has_data()
    }

    /// Rows of its parts.
    pub fn rows(&self) -> u64 {
        self.lists.iter().map(|list| list.rows).sum()
    }

    /// Bytes of its parts' files.
    pub fn data_bytes(&self) -> u64 {
        self.lists.iter().map(|list| list.data_bytes).sum()
    }

    /// Objects of the backup that describe it, beside the manifest.
    pub fn documents(&self) -> impl Iterator<Item = &ObjectRef> {
        let lists = self.lists.iter().map(|list| &list.at);
        self.current_parts.iter().chain(lists)
    }
}

impl PartStoreBackup {
    /// The backup of a server that holds nothing yet, and lacks nothing.
    pub fn new(server_version: String, run: Option<ServerRun>) -> Self {
        Self {
            server_version,
            run,
            patterns: String::new(),
            exclude: Exclusion::default(),
            databases: Vec::new(),
            tables: Vec::new(),
            complete: true,
            missing: Vec::new(),
            dropped: Vec::new(),
            unmatched: Vec::new(),
            exact: false,
            shards: Vec::new(),
        }
    }

    /// Leaves the credentials of its definitions out.
    pub fn drop_secrets(&mut self) {
        for table in &mut self.tables {
            table.definition.whole_query = None;
        }
    }

    /// Makes it a backup that lacks a table: what it has of it goes.
    pub fn lack(&mut self, name: TableName, reason: String) {
        self.tables.retain(|table| *table.name() != name);
        self.complete = false;
        if self.missing.iter().all(|missing| missing.name != name) {
            self.missing.push(MissingTable { name, reason });
        }
    }

    /// The table of a name.
    pub fn table(&self, name: &TableName) -> Option<&PartTable> {
        self.tables.iter().find(|table| table.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backquotes_tell_names_with_dots_apart() {
        let (one, other) = (TableName::new("a.b", "c"), TableName::new("a", "b.c"));
        assert_eq!(one.to_string(), other.to_string());
        for pattern in ["`a.b`.c", "`a.b`.`c`", "`a.?`.*", "x, `a.b`.c"] {
            assert!(one.matches(pattern) && !other.matches(pattern), "{pattern}");
        }
        for pattern in ["a.`b.c`", "`a`.`b.c`", "a.`*`"] {
            assert!(other.matches(pattern) && !one.matches(pattern), "{pattern}");
        }
        assert!(one.matches("a.b.c") && other.matches("a.b.c"));
        assert!(!one.matches("`a.b`c") && !one.matches("`a.b"));
    }

    #[test]
    fn a_backup_that_lacks_a_table_says_so_and_a_complete_one_is_stored_as_before() {
        let mut store = PartStoreBackup::new("26.9".to_owned(), None);
        let json = serde_json::to_value(&store).unwrap();
        assert!(json.get("complete").is_none() && json.get("missing").is_none());
        let read: PartStoreBackup = serde_json::from_value(json).unwrap();
        assert_eq!(read, store);
        store.lack(TableName::new("d", "t"), "it is on the moon".to_owned());
        let json = serde_json::to_value(&store).unwrap();
        assert_eq!(json["complete"], false);
        assert_eq!(json["missing"][0]["reason"], "it is on the moon");
    }
}
