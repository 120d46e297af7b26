//! A shard of two replicas, the ZooKeeper that they agree over, and the program that mends one of them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::servers::zookeeper::ZooKeeper;
use crate::servers::{Flavor, ReplicaOptions, Server, ServerOptions};
use crate::world::{NO_MERGES, World};

/// How often it is looked whether replicas are equal, each time a tenth of a second later.
const LOOKS_MAX: u32 = 300;

/// Keeps servers from merging parts of ten rows, some 800 bytes each. Replicas would run no mutation of a part either
/// that is larger than this.
const NO_MERGES_OF_TWO: &str = "max_bytes_to_merge_at_max_space_in_pool = 1200, max_bytes_to_merge_at_min_space_in_pool = 1200";

pub const MEND: [&str; 3] = ["restore", "shop", "--in-place"];

/// Two servers, `here` and `there`.
pub struct Shard {
    pub here: World,
    pub there: Server,
    pub keeper: ZooKeeper,
}

impl Shard {
    pub fn new() -> Self {
        let keeper = ZooKeeper::start();
        let replica = |name: &str| ServerOptions {
            replica: Some(ReplicaOptions {
                name: name.to_owned(),
                shard: "one".to_owned(),
                zookeeper_port: keeper.port(),
            }),
            ..ServerOptions::default()
        };
        let here = World::with(Flavor::V18, replica("here"));
        let there = Server::start(Flavor::V18, replica("there"));
        let shard = Self {
            here,
            there,
            keeper,
        };
        for server in shard.servers() {
            server.create_database("shop");
        }
        shard
    }

    pub fn servers(&self) -> [&Server; 2] {
        [&self.here.server, &self.there]
    }

    /// Creates a table on both. Nothing merges by itself.
    pub fn create(&self, table: &str, engine: &str, arguments: &str) {
        self.create_with(table, engine, arguments, NO_MERGES);
    }

    pub fn create_with(&self, table: &str, engine: &str, arguments: &str, settings: &str) {
        for server in self.servers() {
            server.query(&format!(
                "CREATE TABLE shop.{table} (day Date, id UInt64, v Int64, sign Int8) \
                 ENGINE = Replicated{engine}('/shop/{table}', '{{replica}}'{arguments}) \
                 PARTITION BY toYYYYMM(day) ORDER BY id SETTINGS {settings}, index_granularity = 8192"
            ));
        }
    }

    /// A table with two parts in each of four months, on both replicas, and a backup of it.
    pub fn backed_up() -> Self {
        let shard = Self::new();
        shard.create_with("sales", "MergeTree", "", NO_MERGES_OF_TWO);
        for month in 1..=4 {
            insert(&shard.here.server, "sales", month, 0);
            insert(&shard.there, "sales", month, 100);
        }
        shard.sync();
        shard.here.backup(&["shop", "--tables", "shop.*"]);
        shard
    }

    /// Drops a month through one replica, inserts into another through the other, and updates rows of the third.
    pub fn damage(&self) {
        self.there
            .query("ALTER TABLE shop.sales DROP PARTITION 202401");
        insert(&self.here.server, "sales", 2, 700);
        self.mutate("ALTER TABLE shop.sales UPDATE v = v + 1 WHERE day >= '2024-03-01' AND day < '2024-04-01' AND id < 50");
    }

    /// Runs a mutation of `shop.sales`, and waits until each part on both was reached. 18.16 never calls one done that
    /// came after a partition was replaced.
    pub fn mutate(&self, sql: &str) {
        let begun = "SELECT count() FROM system.mutations";
        let before = self.here.server.query(begun);
        self.here.server.query(sql);
        self.until("a mutation does not begin", |server| {
            server.query(begun) != before
        });
        let numbers = self.here.server.query(
            "SELECT block_numbers.partition_id AS partition_id, block_numbers.number AS number FROM system.mutations \
             ARRAY JOIN block_numbers ORDER BY mutation_id DESC, partition_id LIMIT 1 BY partition_id",
        );
        assert!(numbers.contains("202404"), "{numbers}");
        for (partition_id, number) in numbers.lines().filter_map(|line| line.split_once('\t')) {
            let before = format!(
                "SELECT count() FROM system.parts WHERE active AND table = 'sales' \
                 AND partition_id = '{partition_id}' AND data_version < {number}"
            );
            self.until("a mutation does not end", |server| {
                server.query(&before) == "0\n"
            });
        }
        self.sync();
    }

    /// Waits until something holds of both servers.
    pub fn until(&self, otherwise: &str, holds: impl Fn(&Server) -> bool) {
        for _ in 0..LOOKS_MAX {
            if self.servers().into_iter().all(&holds) {
                return;
            }
            self.here.server.query("SELECT sleep(0.1)");
        }
        panic!("{otherwise}");
    }

    /// Waits until both have the same parts.
    pub fn sync(&self) {
        for _ in 0..LOOKS_MAX {
            let [here, there] = self.servers().map(parts);
            let queued = "SELECT count() FROM system.replication_queue";
            let is_idle = self
                .servers()
                .iter()
                .all(|server| server.query(queued) == "0\n");
            if is_idle && here == there && self.is_led() {
                return;
            }
            self.here.server.query("SELECT sleep(0.1)");
        }
        let [here, there] = self.servers().map(parts);
        let queues = self.servers().map(|server| {
            server.query("SELECT type, new_part_name, last_exception, postpone_reason FROM system.replication_queue")
        });
        panic!("replicas do not become equal: {here:?}\n{there:?}\n{queues:?}");
    }

    /// Whether one of them leads each table: it drops partitions for the other.
    fn is_led(&self) -> bool {
        let count = |server: &Server, which: &str| {
            let sql = format!("SELECT count() FROM system.replicas WHERE {which}");
            server.query(&sql).trim().parse::<u32>().unwrap()
        };
        let led = self.servers().map(|server| count(server, "is_leader"));
        led.iter().sum::<u32>() == count(&self.there, "1")
    }

    /// Proves that both have the same parts with the same rows, and returns the rows of each table.
    pub fn equal(&self) -> Rows {
        self.sync();
        let [here, there] = self.servers().map(rows);
        assert_eq!(here, there);
        let proof = self
            .here
            .json::<Value>(&["verify", "shop", "--live", "--replicas"]);
        for replica in proof["replicas"].as_array().unwrap() {
            assert_eq!(replica["equal"], true, "{replica}");
        }
        here
    }

    /// The operation that is not over.
    pub fn unfinished(&self) -> Option<String> {
        let output = self.here.run(&["operation", "list", "--output", "json"]);
        // Before the first command there is no journal.
        let operations: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let is_open = |operation: &&Value| {
            !["done", "cancelled"].contains(&operation["state"].as_str().unwrap())
        };
        let operation = operations.iter().find(is_open)?;
        Some(operation["operation_id"].as_str().unwrap().to_owned())
    }

    /// Runs a command that is stopped at a persisted step. Returns whether it was.
    pub fn stopped_at(&self, arguments: &[&str], point: u64) -> bool {
        let mut command = self.here.command(arguments);
        let output = command
            .env("MENDB_CRASH_AT", point.to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let is_stopped = output.status.code().is_none();
        assert!(is_stopped || output.status.success(), "{said}");
        is_stopped
    }

    /// No table of a mend is left on any server, and no part of one in `detached/` here. A server that starts puts there
    /// as `ignored_…` what was replaced moments before it died.
    pub fn leaves_nothing_behind(&self) {
        for server in self.servers() {
            let staging = "SELECT name FROM system.tables WHERE name LIKE '%\\\\_\\\\_mendb\\\\_%'";
            assert_eq!(server.query(staging), "");
        }
        let data = self.here.server.data_path();
        let detached = data.join("data/shop/sales/detached");
        let names = std::fs::read_dir(detached).unwrap();
        let names: Vec<String> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with("ignored_"))
            .collect();
        assert_eq!(names, Vec::<String>::new());
        assert!(!data.join("mendb/held").exists());
    }
}

/// Inserts a block of ten rows.
pub fn insert(server: &Server, table: &str, month: u32, from: u64) {
    server.query(&format!(
        "INSERT INTO shop.{table} SELECT toDate('2024-{month:02}-05'), number + {from}, number, 1 \
         FROM system.numbers LIMIT 10"
    ));
}

/// Names of live parts by table.
pub fn parts(server: &Server) -> String {
    server.query("SELECT table, name, rows FROM system.parts WHERE active AND database = 'shop' ORDER BY table, name")
}

/// Sums of all rows by table and month.
pub type Rows = BTreeMap<String, String>;

pub fn rows(server: &Server) -> Rows {
    let tables = server.query(
        "SELECT name FROM system.tables WHERE database = 'shop' AND engine LIKE 'Replicated%'",
    );
    let sums = tables.lines().map(|table| {
        let sql = format!(
            "SELECT toYYYYMM(day) AS month, count(), sum(id), sum(v), sum(cityHash64(id, v, sign)) \
             FROM shop.{table} GROUP BY month ORDER BY month"
        );
        (table.to_owned(), server.query(&sql))
    });
    sums.collect()
}
