//! A target with two tables of a shop, a repository, and a service that joins them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use mendb_engines::Engine;
use mendb_engines::row::RowEngine;
use mendb_model::name::{BackupKind, OperationId, TablePath};
use mendb_model::operation::{Drill, Limits, Operation, RestoreStrategy, State};
use mendb_model::{Column, ColumnType, IndexSchema, TableSchema, Value};
use mendb_repo::{Repository, RepositoryOptions, RetryPolicy};
use mendb_rowstore::{Database, Options, Table, WriteBatch};
use mendb_service::{BackupOrder, RestoreOrder, Service, Settings};

use crate::apart;

/// Everything a test needs; the directory goes away with it.
pub struct World {
    pub directory: tempfile::TempDir,
    pub database: Database,
    pub service: Arc<Service>,
}

pub fn options() -> RepositoryOptions {
    RepositoryOptions {
        retry: RetryPolicy {
            attempts: 3,
            first_backoff_ms: 1,
            max_backoff_ms: 5,
        },
        segment_bytes: 4096,
        ..RepositoryOptions::default()
    }
}

/// Bounds that let a test see retries and lost workers within a second.
pub fn quick_limits() -> Limits {
    Limits {
        max_in_flight: 3,
        lease_ms: 2_000,
        first_backoff_ms: 5,
        max_backoff_ms: 50,
        ..Limits::default()
    }
}

pub fn open_database(directory: &Path) -> Database {
    let options = Options {
        durable: false,
        ..Options::default()
    };
    Database::open(&directory.join("rows"), options).unwrap()
}

impl World {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file://{}", directory.path().join("repository").display());
        let runtime = runtime();
        let repository = runtime.block_on(Repository::open(&url, options())).unwrap();
        Self::with(directory, repository, |engine| engine, runtime)
    }

    /// A world whose repository is given and whose engine is wrapped.
    pub fn with(
        directory: tempfile::TempDir,
        repository: Repository,
        wrap: impl FnOnce(Arc<dyn Engine>) -> Arc<dyn Engine>,
        runtime: Arc<tokio::runtime::Runtime>,
    ) -> Self {
        Self::with_limits(directory, repository, wrap, runtime, quick_limits())
    }

    /// A world whose operations have these bounds.
    pub fn with_limits(
        directory: tempfile::TempDir,
        repository: Repository,
        wrap: impl FnOnce(Arc<dyn Engine>) -> Arc<dyn Engine>,
        runtime: Arc<tokio::runtime::Runtime>,
        limits: Limits,
    ) -> Self {
        let database = open_database(directory.path());
        let engine = wrap(Arc::new(RowEngine::new(database.clone())));
        let settings = Settings {
            limits,
            target_url: format!("mendb://{}", directory.path().display()),
            host: None,
        };
        let service =
            Service::new(engine, repository, runtime, directory.path(), settings).unwrap();
        Self {
            directory,
            database,
            service: Arc::new(service),
        }
    }

    pub fn backup(&self, kind: BackupKind, label: &str) -> Operation {
        let id = self.order(kind, label).unwrap();
        self.drive(&id)
    }

    pub fn order(&self, kind: BackupKind, label: &str) -> mendb_service::Result<OperationId> {
        self.service.request_backup(&BackupOrder {
            new_repository: false,
            compare_rows: false,
            changes: None,
            collection: "shop".into(),
            kind,
            label: Some(label.into()),
        })
    }

    pub fn restore(&self, to: &str) -> Operation {
        self.restore_by(to, RestoreStrategy::Sequential)
    }

    pub fn restore_by(&self, to: &str, strategy: RestoreStrategy) -> Operation {
        let order = RestoreOrder {
            strategy,
            ..restore_order(to)
        };
        let id = self.service.request_restore(&order).unwrap();
        self.drive(&id)
    }

    pub fn drive(&self, id: &OperationId) -> Operation {
        match std::env::var_os(apart::EACH) {
            None => self.service.drive(&mut |_| {}).unwrap(),
            Some(_) => apart::drive(self),
        }
        self.service.journal().operation(id).unwrap()
    }

    pub fn done(&self, operation: &Operation) {
        let events = self
            .service
            .journal()
            .operation_events(&operation.operation_id)
            .unwrap();
        assert_eq!(
            operation.state,
            State::Done,
            "{:?}\n{events:#?}",
            operation.error
        );
    }

    pub fn table(&self, name: &str) -> Table {
        self.database.open_table(name).unwrap()
    }

    pub fn drop_tables(&self) {
        for table in self.database.tables() {
            self.database.drop_table(&table).unwrap();
        }
    }
}

pub fn restore_order(to: &str) -> RestoreOrder {
    RestoreOrder {
        collection: "shop".into(),
        to: Some(to.into()),
        ..RestoreOrder::default()
    }
}

/// Restores half of each table, to prove it and remove it again.
pub fn drill_order(to: &str) -> RestoreOrder {
    RestoreOrder {
        drill: Some(Drill {
            percent: 50,
            seed: "a".into(),
        }),
        ..restore_order(to)
    }
}

pub fn runtime() -> Arc<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    Arc::new(runtime.unwrap())
}

pub fn column(name: &str, column_type: ColumnType) -> Column {
    Column {
        name: name.into(),
        column_type,
        not_null: false,
    }
}

pub fn orders_schema() -> TableSchema {
    let index = |name: &str, columns: &[&str], cover: &[&str]| IndexSchema {
        name: name.into(),
        columns: columns.iter().map(|c| (*c).into()).collect(),
        cover: cover.iter().map(|c| (*c).into()).collect(),
        unique: false,
    };
    TableSchema {
        columns: vec![
            column("id", ColumnType::Int64),
            column("customer", ColumnType::Utf8),
            column("price", ColumnType::Int64),
            column("note", ColumnType::Utf8),
        ],
        key: vec!["id".into()],
        indexes: vec![
            index("by_customer", &["customer"], &["price"]),
            index("by_price", &["price"], &[]),
        ],
    }
}

pub fn customers_schema() -> TableSchema {
    TableSchema {
        columns: vec![
            column("name", ColumnType::Utf8),
            column("balance", ColumnType::Int64),
        ],
        key: vec!["name".into()],
        indexes: Vec::new(),
    }
}

pub fn order_key(id: i64) -> Vec<u8> {
    mendb_model::key::encode(&[ColumnType::Int64], [Value::Int(id).as_ref()])
}

/// Creates the shop with this many orders, in several shards, and its collection.
pub fn fill(world: &World, orders: i64) {
    let splits = vec![order_key(orders / 4), order_key(orders / 2)];
    world
        .database
        .create_table("orders", orders_schema(), splits)
        .unwrap();
    world
        .database
        .create_table("customers", customers_schema(), Vec::new())
        .unwrap();
    write_orders(world, 0..orders, "first");
    let customers = world.table("customers");
    let mut batch = WriteBatch::new();
    for customer in 0..20 {
        batch
            .replace(
                &customers,
                vec![text(&format!("c{customer:02}")), Value::Int(100)],
            )
            .unwrap();
    }
    world.database.write(batch).unwrap();
    world
        .service
        .create_collection("shop", &["orders".into(), "customers".into()])
        .unwrap();
}

/// Drops the orders and creates them anew in other shards, the first hundred as they were and the others
/// with another note, 30 more than [`fill`] made of 200.
pub fn orders_anew(world: &World) {
    world.database.drop_table("orders").unwrap();
    let splits = vec![order_key(50), order_key(120)];
    world
        .database
        .create_table("orders", orders_schema(), splits)
        .unwrap();
    write_orders(world, 0..100, "first");
    write_orders(world, 100..230, "other");
}

pub fn write_orders(world: &World, ids: std::ops::Range<i64>, note: &str) {
    let orders = world.table("orders");
    let mut batch = WriteBatch::new();
    for id in ids {
        let customer = if id % 7 == 0 {
            Value::Null
        } else {
            text(&format!("c{:02}", id % 20))
        };
        batch
            .replace(
                &orders,
                vec![
                    Value::Int(id),
                    customer,
                    Value::Int(id * 3 % 101),
                    text(note),
                ],
            )
            .unwrap();
    }
    world.database.write(batch).unwrap();
}

/// A round of partial upserts, erases and re-inserts, different for each number.
pub fn edit(world: &World, round: i64) {
    let orders = world.table("orders");
    let mut batch = WriteBatch::new();
    for id in (round * 3..150).step_by(5) {
        batch
            .upsert(
                &orders,
                vec![(0, Value::Int(id)), (2, Value::Int(id + round))],
            )
            .unwrap();
    }
    for id in (round * 2..150).step_by(9) {
        batch.erase(&orders, vec![Value::Int(id)]).unwrap();
    }
    for id in (round..150).step_by(27) {
        batch
            .upsert(
                &orders,
                vec![(0, Value::Int(id)), (3, text(&format!("again {round}")))],
            )
            .unwrap();
    }
    batch
        .replace(
            &orders,
            vec![
                Value::Int(10_000 + round),
                Value::Null,
                Value::Null,
                Value::Null,
            ],
        )
        .unwrap();
    world.database.write(batch).unwrap();
}

pub fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// Every sharded table with all its rows, read raw.
pub type Contents = BTreeMap<String, Vec<(Vec<u8>, Vec<u8>)>>;

pub fn contents(database: &Database) -> Contents {
    let snapshot = database.snapshot().unwrap();
    let mut contents = Contents::new();
    for table in snapshot.tables() {
        let description = snapshot.describe(&table).unwrap();
        let indexes = description
            .schema
            .indexes
            .iter()
            .map(|index| TablePath::index(&table, &index.name));
        for path in std::iter::once(TablePath::table(&table)).chain(indexes) {
            let mut rows = Vec::new();
            for block in snapshot
                .blocks(&path, &mendb_model::KeyRange::all(), None)
                .unwrap()
            {
                rows.extend(block.unwrap().iter().map(|(k, v)| (k.to_vec(), v.to_vec())));
            }
            contents.insert(path.to_string(), rows);
        }
    }
    contents
}
