//! A server with mendb's engine beside it, and parts that were saved from its tables.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use mendb_engines::clickhouse::{ClickHouse, Connection, ConnectionOptions};
use mendb_engines::{Bringing, Exchange, Origin, PartFrom, PartStore, PartToBring, StagedPart};
use mendb_model::part::{Hash128, OnConcurrentInsert, Part, TableName};
use tempfile::TempDir;

use crate::copies::{Copies, copy};
use crate::servers::{Flavor, Server, ServerOptions};

pub const FLAVORS: [Flavor; 2] = [Flavor::Current, Flavor::V18];
pub const OPERATION: &str = "restore-20261121101500-3fa9c1";

pub struct Bench {
    pub server: Server,
    pub engine: ClickHouse,
    pub table: TableName,
    pub directory: TempDir,
}

/// A part whose files were copied while it was live.
#[derive(Debug, Clone)]
pub struct Saved {
    pub part: Part,
    pub directory: PathBuf,
}

impl Bench {
    pub fn new(flavor: Flavor) -> Self {
        Self::with(flavor, ServerOptions::default())
    }

    pub fn with(flavor: Flavor, options: ServerOptions) -> Self {
        let server = Server::start(flavor, options);
        let directory = tempfile::tempdir().unwrap();
        let engine = open(&server, directory.path());
        server.create_database("d");
        Self {
            server,
            engine,
            table: TableName::new("d", "t"),
            directory,
        }
    }

    /// As another process of mendb sees the same server.
    pub fn reopen(&mut self) {
        self.engine = open(&self.server, self.directory.path());
    }

    pub fn restart(&mut self) {
        self.server.restart();
        self.reopen();
    }

    /// Creates the table, whose merges are stopped, with `(p UInt8, k UInt32, v String)` in partitions of `p`.
    pub fn create(&self, engine: &str) {
        self.create_with(engine, "");
    }

    /// As [`Self::create`], with what comes at the end of the statement.
    pub fn create_with(&self, engine: &str, end: &str) {
        let table = self.table.sql();
        self.server.query(&format!(
            "CREATE TABLE {table} (p UInt8, k UInt32, v String) ENGINE = {engine} \
             PARTITION BY p ORDER BY k {end}"
        ));
        self.server.query(&format!("SYSTEM STOP MERGES {table}"));
    }

    /// Inserts a part of some rows, all with one value of `v`.
    pub fn insert(&self, partition: u8, value: &str, rows: u32) {
        self.server.query(&format!(
            "INSERT INTO {} (p, k, v) SELECT toUInt8({partition}), toUInt32(number), '{value}' \
             FROM system.numbers LIMIT {rows}",
            self.table.sql()
        ));
    }

    pub fn rows(&self) -> u64 {
        let count = format!("SELECT count() FROM {}", self.table.sql());
        self.server.query(&count).trim().parse().unwrap()
    }

    /// The rows in the order of the table, as text.
    pub fn content(&self, settings: &str) -> String {
        let sql = format!("SELECT * FROM {} {settings} FORMAT TSV", self.table.sql());
        self.server.query(&sql)
    }

    pub fn live(&self, partition: &str) -> Vec<Part> {
        let inventory = self.engine.inventory(&self.table).unwrap();
        let parts = inventory.parts.into_iter();
        parts
            .filter(|part| part.partition_id == partition)
            .collect()
    }

    pub fn hashes(&self, partition: &str) -> Vec<Hash128> {
        self.live(partition).iter().map(|part| part.hash).collect()
    }

    /// Where a live part is.
    pub fn path_of(&self, part: &str) -> PathBuf {
        let path = self.server.query(&format!(
            "SELECT path FROM system.parts WHERE active AND database = '{}' AND table = '{}' AND name = '{part}' \
             FORMAT TSVRaw",
            sql_text(&self.table.database),
            sql_text(&self.table.table),
        ));
        PathBuf::from(path.trim_end_matches(['\n', '/']))
    }

    pub fn table_directory(&self) -> PathBuf {
        // Asked at once: a part may go between two questions.
        let path = self.server.query(&format!(
            "SELECT path FROM system.parts WHERE active AND database = '{}' AND table = '{}' LIMIT 1 FORMAT TSVRaw",
            sql_text(&self.table.database),
            sql_text(&self.table.table),
        ));
        let part = PathBuf::from(path.trim_end_matches(['\n', '/']));
        part.parent().unwrap().to_owned()
    }

    /// Copies the live parts of a partition, as a backup would.
    pub fn save(&self, partition: &str) -> Vec<Saved> {
        let parts = self.live(partition).into_iter();
        parts
            .map(|part| {
                // Parts of other tables may have the same name, and the same hash though packed otherwise.
                let saved = self.directory.path().join("saved");
                let number = fs::read_dir(&saved).map_or(0, Iterator::count);
                let directory = saved.join(number.to_string());
                copy(&self.path_of(&part.name), &directory);
                Saved { part, directory }
            })
            .collect()
    }

    /// Stages a saved part under a number, as a worker would.
    pub fn stage(&self, saved: &Saved, number: usize) -> StagedPart {
        let disk = &saved.part.disk;
        let stage = self
            .engine
            .stage_directory(OPERATION, &self.table, disk)
            .unwrap();
        let sealed = stage.join(number.to_string());
        let staged = StagedPart {
            directory: sealed,
            name: saved.part.name.clone(),
            disk: disk.clone(),
            hash: saved.part.hash,
        };
        let part = PartToBring {
            staged: staged.clone(),
            from: PartFrom::Elsewhere(0),
        };
        let copies = &mut Copies(&saved.directory);
        let brought = self.engine.bring(&self.table, &[part], copies).unwrap();
        assert!(matches!(brought, Bringing::Done(_)), "{brought:?}");
        staged
    }

    /// How to get the saved parts together again: from what is live, or else staged.
    pub fn origins(&self, saved: &[Saved]) -> Vec<Origin> {
        let mut live = match saved.first() {
            Some(first) => self.live(&first.part.partition_id),
            None => Vec::new(),
        };
        let origin = |(number, saved): (usize, &Saved)| {
            let hash = saved.part.hash;
            match live.iter().position(|part| part.hash == hash) {
                Some(at) => Origin::Live {
                    name: live.remove(at).name,
                    hash,
                },
                None => Origin::Staged(self.stage(saved, number)),
            }
        };
        saved.iter().enumerate().map(origin).collect()
    }

    /// Exchanges a partition of which all that is live has been seen.
    pub fn exchange(&self, partition: &str, parts: &[Origin]) -> mendb_engines::Result<()> {
        let seen = self.live(partition).into_iter().map(|part| part.name);
        self.exchange_seen(partition, parts, &seen.collect())
    }

    /// Exchanges a partition of which these parts have been seen. What came since stops it.
    pub fn exchange_seen(
        &self,
        partition: &str,
        parts: &[Origin],
        seen: &HashSet<String>,
    ) -> mendb_engines::Result<()> {
        self.exchange_as(partition, parts, seen, OnConcurrentInsert::Fail)
    }

    pub fn exchange_as(
        &self,
        partition_id: &str,
        parts: &[Origin],
        seen: &HashSet<String>,
        on_concurrent_insert: OnConcurrentInsert,
    ) -> mendb_engines::Result<()> {
        let exchange = Exchange {
            partition_id,
            parts,
            seen,
            damaged: &[],
            on_concurrent_insert,
        };
        self.engine.exchange(OPERATION, &self.table, &exchange)
    }

    /// Names of what is in `detached/`, and of tables and of their directories beside those that tests
    /// make.
    pub fn leftovers(&self) -> Vec<String> {
        let listed = |directory: PathBuf| {
            let entries = fs::read_dir(directory).unwrap();
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        };
        let mut names: Vec<String> = listed(self.table_directory().join("detached")).collect();
        for database in listed(self.server.data_path().join("data")) {
            let directory = self.server.data_path().join("data").join(database);
            names.extend(listed(directory).filter(|name| name.contains("__mendb_")));
        }
        let tables = self
            .server
            .query("SELECT name FROM system.tables WHERE name LIKE '%\\_\\_mendb\\_%'");
        names.extend(tables.lines().map(str::to_owned));
        names
    }
}

pub fn open(server: &Server, state: &Path) -> ClickHouse {
    let connection = Connection::open(&ConnectionOptions {
        url: server.url(),
        user: "default".to_owned(),
        password: String::new(),
        data_path: None,
        replica_wait: std::time::Duration::from_secs(30),
    });
    ClickHouse::new(connection.unwrap(), state.join("state"))
}

pub fn hashes(saved: &[Saved]) -> Vec<Hash128> {
    saved.iter().map(|saved| saved.part.hash).collect()
}

pub fn sql_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

/// Copies a directory file by file.
/// Every file of a directory with its content.
pub fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let content = fs::read(&path).unwrap();
            found.push((path, content));
        }
    }
    found.sort();
    found
}
