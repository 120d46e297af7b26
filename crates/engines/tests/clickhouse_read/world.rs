//! A server with the engine beside it, and what tests ask of both.

use std::collections::BTreeMap;
use std::path::Path;

use mendb_engines::clickhouse::{ClickHouse, Connection, ConnectionOptions};
use mendb_engines::{EngineError, FreezeTable, FrozenTable, PartStore};
use mendb_model::part::{Hash128, Inventory, PartitionPatterns, Selection, TableName};
use tempfile::TempDir;

use crate::servers::{Flavor, Server, ServerOptions};

pub const FLAVORS: [Flavor; 2] = [Flavor::Current, Flavor::V18];

/// A server with a database `d`, and an engine beside it.
pub struct World {
    pub server: Server,
    pub state: TempDir,
    pub engine: ClickHouse,
}

impl World {
    pub fn new(flavor: Flavor) -> Self {
        Self::with(flavor, ServerOptions::default())
    }

    pub fn with(flavor: Flavor, options: ServerOptions) -> Self {
        let server = Server::start(flavor, options);
        server.create_database("d");
        let state = tempfile::tempdir().unwrap();
        let engine = open(&options_of(&server), state.path()).unwrap();
        Self {
            server,
            state,
            engine,
        }
    }

    /// A table that every insert adds a part to.
    pub fn create(&self, table: &str, columns: &str, rest: &str) -> TableName {
        let name = TableName::new("d", table);
        let sql = name.sql();
        self.server
            .query(&format!("CREATE TABLE {sql} {columns} {rest}"));
        name
    }

    /// As another process of mendb, after the server or mendb died.
    pub fn reopen(&mut self) {
        self.engine = open(&options_of(&self.server), self.state.path()).unwrap();
    }

    pub fn names_and_hashes(&self, name: &TableName) -> BTreeMap<String, Hash128> {
        by_name(&self.engine.inventory(name).unwrap())
    }
}

pub fn open(options: &ConnectionOptions, state: &Path) -> Result<ClickHouse, EngineError> {
    let connection = Connection::open(options)?;
    Ok(ClickHouse::new(connection, state.to_owned()))
}

pub fn options_of(server: &Server) -> ConnectionOptions {
    ConnectionOptions {
        url: server.url(),
        user: "default".to_owned(),
        password: String::new(),
        data_path: None,
        replica_wait: std::time::Duration::from_secs(30),
    }
}

pub fn by_name(inventory: &Inventory) -> BTreeMap<String, Hash128> {
    let parts = inventory.parts.iter();
    parts.map(|part| (part.name.clone(), part.hash)).collect()
}

pub fn whole(name: &TableName) -> FreezeTable {
    FreezeTable {
        name: name.clone(),
        partitions: None,
    }
}

/// Reads every frozen part and compares it with what the freeze said was live.
pub fn check_frozen(engine: &ClickHouse, frozen: &FrozenTable) {
    let current = by_name(&frozen.current_parts);
    for part in &frozen.parts {
        let content = engine
            .read_part(&part.directory, &part.name, &part.disk)
            .unwrap();
        assert_eq!(Some(&content.part.hash), current.get(&part.name));
        assert!(!content.files.is_empty());
    }
}

/// What patterns of tables select.
pub fn selection(patterns: &str) -> Selection {
    Selection {
        tables: patterns.to_owned(),
        ..Selection::default()
    }
}

/// Ids of the table's partitions that patterns name.
pub fn partition_ids(engine: &ClickHouse, name: &TableName, patterns: &str) -> Vec<String> {
    let patterns = PartitionPatterns::new(patterns);
    let partitions = engine.partitions(name).unwrap().into_iter();
    let named = partitions.filter(|partition| patterns.name(partition));
    named.map(|partition| partition.id).collect()
}

pub fn refused<T>(result: Result<T, EngineError>) -> EngineError {
    match result {
        Ok(_) => panic!("it is not refused"),
        Err(error) => error,
    }
}

/// Statements that make parts of every kind that a server of the flavor knows, in `d`.
pub fn parts_of_every_kind(flavor: Flavor) -> Vec<&'static str> {
    let mut statements = vec![
        "CREATE TABLE d.months (k UInt32, at Date, s String, n Nullable(Float64)) ENGINE = MergeTree \
         PARTITION BY toYYYYMM(at) ORDER BY k",
        "INSERT INTO d.months SELECT number, toDate('2024-01-01') + number % 70, toString(number), NULL \
         FROM system.numbers LIMIT 500",
        "CREATE TABLE d.whole (k UInt32, v UInt64) ENGINE = ReplacingMergeTree ORDER BY k",
        "INSERT INTO d.whole SELECT number, number FROM system.numbers LIMIT 100",
        "INSERT INTO d.whole SELECT number, number + 1 FROM system.numbers LIMIT 100",
        "OPTIMIZE TABLE d.whole FINAL",
        "CREATE TABLE d.tuples (k Int32, s String) ENGINE = MergeTree PARTITION BY (k, s) ORDER BY k",
        "INSERT INTO d.tuples VALUES (-1, 'it''s'), (2, 'b,c')",
    ];
    if flavor == Flavor::Current {
        statements.extend([
            "CREATE TABLE d.wide (k UInt32, s String, a Array(UInt32), t Tuple(x UInt8, y Nullable(String)), \
             INDEX i s TYPE bloom_filter, PROJECTION p (SELECT s, sum(k) GROUP BY s)) ENGINE = MergeTree \
             ORDER BY k SETTINGS min_bytes_for_wide_part = 0, min_rows_for_wide_part = 0",
            "INSERT INTO d.wide SELECT number, toString(number % 10), [number], (1, NULL) FROM numbers(1000)",
            "ALTER TABLE d.wide UPDATE s = 'changed' WHERE k < 10 SETTINGS mutations_sync = 1",
            "CREATE TABLE d.deleted (k UInt32) ENGINE = MergeTree ORDER BY k",
            "INSERT INTO d.deleted SELECT number FROM numbers(1000)",
            "DELETE FROM d.deleted WHERE k = 20",
            "CREATE TABLE d.packed (k UInt32, s String, PROJECTION p (SELECT s, count() GROUP BY s)) \
             ENGINE = MergeTree ORDER BY k SETTINGS min_bytes_for_full_part_storage = 1000000000",
            "INSERT INTO d.packed SELECT number, toString(number % 10) FROM numbers(1000)",
        ]);
    }
    statements
}
