//! Databases and tables of a part store in a backup.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::content::{ObjectRef, PartRecord};
use super::inventory::{Mutation, ServerRun};
use crate::name::matches;

/// A table of a database.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableName {
    /// Its database.
    pub database: String,
    /// Its name in there.
    pub table: String,
}

impl TableName {
    /// The table of a database.
    pub fn new(database: impl Into<String>, table: impl Into<String>) -> Self {
        Self {
            database: database.into(),
            table: table.into(),
        }
    }

    /// Whether comma-separated patterns name it, as `database.table`; `?` and `*` stand for one and
    /// for any characters.
    pub fn matches(&self, patterns: &str) -> bool {
        matches(patterns, &self.to_string())
    }

    /// The name in SQL, quoted.
    pub fn sql(&self) -> String {
        format!("{}.{}", quote(&self.database), quote(&self.table))
    }
}

/// `database.table`, as people write it.
impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.table)
    }
}

/// An identifier in backquotes.
pub fn quote(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// What a table is. Two tables take each other's parts only if keys and columns agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDefinition {
    /// Its name.
    pub name: TableName,
    /// `MergeTree`, `ReplacingMergeTree`, `View`, `Dictionary` …
    pub engine: String,
    /// The statement that creates it, as the server tells it.
    pub create_query: String,
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
}

impl TableDefinition {
    /// Whether its data is in parts.
    pub fn has_parts(&self) -> bool {
        self.engine.ends_with("MergeTree")
    }

    /// Whether it is a replica that a keeper coordinates.
    pub fn is_replicated(&self) -> bool {
        self.engine.starts_with("Replicated")
    }

    /// What keeps parts of this table from being attached to another: the server checks none of it.
    /// Empty when nothing does.
    pub fn differences(&self, live: &Self) -> Vec<String> {
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
    /// Databases of its tables.
    pub databases: Vec<DatabaseBackup>,
    /// Its tables, views and dictionaries, in an order in which they can be created.
    pub tables: Vec<PartTable>,
}

impl PartTable {
    /// Its name.
    pub fn name(&self) -> &TableName {
        &self.definition.name
    }

    /// Rows of its parts.
    pub fn rows(&self) -> u64 {
        self.lists.iter().map(|list| list.rows).sum()
    }

    /// Bytes of its parts' files.
    pub fn data_bytes(&self) -> u64 {
        self.lists.iter().map(|list| list.data_bytes).sum()
    }

    /// Objects of the backup that tell of it, beside the manifest.
    pub fn documents(&self) -> impl Iterator<Item = &ObjectRef> {
        let lists = self.lists.iter().map(|list| &list.at);
        self.current_parts.iter().chain(lists)
    }
}

impl PartStoreBackup {
    /// The table of a name.
    pub fn table(&self, name: &TableName) -> Option<&PartTable> {
        self.tables.iter().find(|table| table.name() == name)
    }
}
