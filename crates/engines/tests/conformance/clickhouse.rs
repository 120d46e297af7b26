//! A ClickHouse server keeps every promise, new and old.

use std::fs;

use mendb_engines::clickhouse::{ClickHouse, Connection, ConnectionOptions};
use mendb_engines::{
    Bringing, Engine, FreezeTable, PartFrom, PartStore, PartToBring, Result, StagedPart,
};
use mendb_model::part::{Hash128, TableName};

use crate::copies::Copies;
use crate::part_suite::{self, PartSubject};
use crate::servers::{Flavor, Server, ServerOptions};
use crate::suite::{self, Subject};

const PARTITION: &str = "all";

struct Parts {
    server: Server,
    engine: ClickHouse,
    _state: tempfile::TempDir,
}

fn table(name: &str) -> TableName {
    TableName::new("shop", name)
}

impl Parts {
    fn new(flavor: Flavor) -> Self {
        let server = Server::start(flavor, ServerOptions::default());
        server.create_database("shop");
        server.query(
            "CREATE TABLE shop.t (k UInt64, v String) ENGINE = MergeTree ORDER BY k SETTINGS index_granularity = 8192",
        );
        let state = tempfile::tempdir().unwrap();
        let connection = Connection::open(&ConnectionOptions {
            url: server.url(),
            user: "default".to_owned(),
            password: String::new(),
            data_path: None,
            replica_wait: std::time::Duration::from_secs(30),
        });
        let parts = Self {
            engine: ClickHouse::new(connection.unwrap(), state.path().to_owned()),
            server,
            _state: state,
        };
        parts.edit(0);
        parts.edit(10);
        parts
    }

    /// What a multiset of parts is, whatever their names.
    fn identity(mut hashes: Vec<Hash128>) -> String {
        hashes.sort_unstable();
        format!("{hashes:?}")
    }
}

impl PartSubject for Parts {
    fn engine(&self) -> &dyn Engine {
        &self.engine
    }

    fn create(&self, table: &TableName) {
        self.server
            .query(&format!("CREATE DATABASE IF NOT EXISTS {}", table.database));
        self.server.query(&format!(
            "CREATE TABLE {} (k UInt64, v String) ENGINE = MergeTree PARTITION BY intDiv(k, 1000) ORDER BY k SETTINGS \
             index_granularity = 8192, max_bytes_to_merge_at_max_space_in_pool = 1",
            table.sql()
        ));
    }

    fn insert(&self, table: &TableName, partition: u8, round: u32) {
        let first = u32::from(partition) * 1000 + round;
        self.server.query(&format!(
            "INSERT INTO {} SELECT number + {first}, 'goods' FROM system.numbers LIMIT 100",
            table.sql()
        ));
    }
}

impl Subject for Parts {
    fn engine(&self) -> &dyn Engine {
        &self.engine
    }

    fn edit(&self, round: i64) {
        self.server.query(&format!(
            "INSERT INTO shop.t SELECT number + {round}, 'goods' FROM system.numbers LIMIT 100"
        ));
    }

    fn contents(&self, name: &str) -> Option<String> {
        self.engine.table(&table(name)).unwrap()?;
        let live = self.engine.inventory(&table(name)).unwrap();
        let hashes: Vec<Hash128> = live.parts.iter().map(|part| part.hash).collect();
        (!hashes.is_empty()).then(|| Self::identity(hashes))
    }

    fn freeze(&self, operation: &str) {
        let tables = [FreezeTable {
            name: table("t"),
            partitions: None,
        }];
        PartStore::freeze(&self.engine, operation, &tables).unwrap();
    }

    fn frozen_contents(&self, operation: &str) -> Result<String> {
        let mut hashes = Vec::new();
        for part in self.engine.frozen(operation, &table("t"))? {
            let content = self
                .engine
                .read_part(&part.directory, &part.name, &part.disk)?;
            hashes.push(content.part.hash);
        }
        Ok(Self::identity(hashes))
    }

    fn stage(&self, frozen_by: &str, operation: &str) {
        let (from, to) = (table("t"), table("r"));
        if self.engine.table(&to).unwrap().is_none() {
            let definition = self.engine.table(&from).unwrap().unwrap();
            let databases = std::collections::HashMap::new();
            self.engine
                .create_table(&definition, &to, &databases)
                .unwrap();
        }
        for (place, part) in self
            .engine
            .frozen(frozen_by, &from)
            .unwrap()
            .iter()
            .enumerate()
        {
            let stage = self
                .engine
                .stage_directory(operation, &to, &part.disk)
                .unwrap();
            let sealed = stage.join(format!("{place}-{}", part.name));
            let hash = self
                .engine
                .read_part(&part.directory, &part.name, &part.disk);
            let part_to_bring = PartToBring {
                staged: StagedPart {
                    directory: sealed,
                    name: part.name.clone(),
                    disk: part.disk.clone(),
                    hash: hash.unwrap().part.hash,
                },
                from: PartFrom::Elsewhere(0),
            };
            let copies = &mut Copies(&part.directory);
            let brought = self.engine.bring(&to, &[part_to_bring], copies).unwrap();
            assert!(matches!(brought, Bringing::Done(_)), "{brought:?}");
        }
    }

    fn apply(&self, operation: &str) {
        let to = table("r");
        let disk = self.engine.disks().unwrap()[0].name.clone();
        let stage = self.engine.stage_directory(operation, &to, &disk).unwrap();
        let mut staged: Vec<StagedPart> = fs::read_dir(&stage)
            .unwrap()
            .map(|entry| {
                let directory = entry.unwrap().path();
                let file = directory.file_name().unwrap().to_str().unwrap().to_owned();
                let name = file.split_once('-').unwrap().1.to_owned();
                let part = self
                    .engine
                    .read_part(&directory, &name, &disk)
                    .unwrap()
                    .part;
                StagedPart {
                    directory,
                    name,
                    disk: disk.clone(),
                    hash: part.hash,
                }
            })
            .collect();
        staged.sort_by(|a, b| a.directory.cmp(&b.directory));
        assert!(staged.iter().all(|part| part.name.starts_with(PARTITION)));
        self.engine.attach(&to, &staged).unwrap();
    }
}

fn keeps_every_promise(flavor: Flavor) {
    for (name, promise) in suite::ALL {
        println!("{name}");
        promise(&Parts::new(flavor));
    }
    part_suite::keeps_every_promise(&Parts::new(flavor));
}

#[test]
fn clickhouse_of_today_keeps_every_promise() {
    keeps_every_promise(Flavor::Current);
}

#[test]
fn clickhouse_of_2018_keeps_every_promise() {
    keeps_every_promise(Flavor::V18);
}
