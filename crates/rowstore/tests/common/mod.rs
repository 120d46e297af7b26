//! What the tests of the store share: a table with indexes, and checks of the whole store.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test binary uses its own part of this module, so no lint fires in all of them"
)]

pub mod mending;

use std::collections::BTreeMap;
use std::path::Path;

use mendb_model::key::KeyRange;
use mendb_model::name::TablePath;
use mendb_model::{
    Change, ChangeKind, Column, ColumnType, Digest, IndexSchema, Replaced, TableSchema, Value,
};
use mendb_rowstore::{Database, Direction, Options, Snapshot, Table, WriteBatch};

/// Options that make small data split, pack and flush, and do not wait for the disk.
pub fn small() -> Options {
    Options {
        durable: false,
        trim_bytes: 0,
        cache_bytes: 4 << 20,
        ..Options::default()
    }
}

pub fn open(dir: &Path) -> Database {
    Database::open(dir, small()).unwrap()
}

pub fn column(name: &str, column_type: ColumnType, not_null: bool) -> Column {
    Column {
        name: name.to_owned(),
        column_type,
        not_null,
    }
}

/// Flights: key `id`, an index with covered column, a unique index with a nullable column.
pub fn flights() -> TableSchema {
    TableSchema {
        columns: vec![
            column("id", ColumnType::Int64, true),
            column("carrier", ColumnType::Utf8, false),
            column("seats", ColumnType::Int32, false),
            column("code", ColumnType::Utf8, false),
        ],
        key: vec!["id".to_owned()],
        indexes: vec![
            IndexSchema {
                name: "by_carrier".to_owned(),
                columns: vec!["carrier".to_owned()],
                cover: vec!["seats".to_owned()],
                unique: false,
            },
            IndexSchema {
                name: "by_code".to_owned(),
                columns: vec!["code".to_owned()],
                cover: vec![],
                unique: true,
            },
        ],
    }
}

pub fn int(value: i64) -> Value {
    Value::Int(value)
}

pub fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

/// A flight without code.
pub fn flight(id: i64, carrier: &str, seats: i64) -> Vec<Value> {
    vec![int(id), text(carrier), int(seats), Value::Null]
}

/// What becomes of a row.
#[derive(Debug, Clone)]
pub enum Put {
    Upsert(Vec<(usize, Value)>),
    Replace(Vec<Value>),
    Erase(Vec<Value>),
}

/// Writes as a batch, or in bulk: both are all or nothing.
pub fn put(
    database: &Database,
    table: &Table,
    puts: Vec<Put>,
    in_bulk: bool,
) -> Result<u64, mendb_rowstore::Error> {
    if in_bulk {
        let mut bulk = database.bulk(table);
        for put in puts {
            match put {
                Put::Upsert(row) => bulk.upsert(&row)?,
                Put::Replace(values) => bulk.replace(&values)?,
                Put::Erase(key) => bulk.erase(&key)?,
            }
        }
        let written = bulk.commit(&mut |_| ());
        return written
            .map(|written| written.version)
            .map_err(|refused| refused.error);
    }
    let mut batch = WriteBatch::new();
    for put in puts {
        match put {
            Put::Upsert(row) => batch.upsert(table, row)?,
            Put::Replace(values) => batch.replace(table, values)?,
            Put::Erase(key) => batch.erase(table, key)?,
        }
    }
    database.write(batch)
}

pub fn replace(database: &Database, table: &Table, rows: Vec<Vec<Value>>) -> u64 {
    let mut batch = WriteBatch::new();
    for row in rows {
        batch.replace(table, row).unwrap();
    }
    database.write(batch).unwrap()
}

pub fn erase(database: &Database, table: &Table, id: i64) -> u64 {
    let mut batch = WriteBatch::new();
    batch.erase(table, vec![int(id)]).unwrap();
    database.write(batch).unwrap()
}

pub fn id_key(id: i64) -> Vec<u8> {
    mendb_model::key::encode(&[ColumnType::Int64], [int(id).as_ref()])
}

/// All rows of a table, as a client reads them.
pub fn rows(snapshot: &Snapshot, table: &Table) -> Vec<Vec<Value>> {
    let scan = snapshot.scan(table, KeyRange::all(), Direction::Ascending);
    scan.unwrap().collect::<Result<_, _>>().unwrap()
}

/// All rows of an index, as a client reads them.
pub fn index_rows(snapshot: &Snapshot, table: &Table, index: &str) -> Vec<Vec<Value>> {
    let scan = snapshot.scan_index(table, index, KeyRange::all(), Direction::Ascending);
    scan.unwrap().collect::<Result<_, _>>().unwrap()
}

/// All encoded rows of a path, read as blocks.
pub fn encoded(snapshot: &Snapshot, path: &TablePath) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut rows = BTreeMap::new();
    let mut last: Option<Vec<u8>> = None;
    for block in snapshot.blocks(path, &KeyRange::all(), None).unwrap() {
        let block = block.unwrap();
        assert!(!block.is_empty(), "no block is empty");
        for (key, value) in block.iter() {
            assert!(last.as_deref() < Some(key), "blocks come in key order");
            last = Some(key.to_vec());
            rows.insert(key.to_vec(), value.to_vec());
        }
    }
    rows
}

/// The folded changes of a path since a version.
pub fn changes(snapshot: &Snapshot, path: &TablePath, after: u64) -> BTreeMap<Vec<u8>, Change> {
    let mut changes = BTreeMap::new();
    let blocks = snapshot.changes(path, &KeyRange::all(), after, None);
    for block in blocks.unwrap() {
        for (key, change) in block.unwrap().iter() {
            let change = Change::decode(change).unwrap();
            assert!(change.version > after && change.version <= snapshot.version());
            assert_ne!(
                change.kind,
                ChangeKind::Upsert,
                "a change says all that it left"
            );
            assert_ne!(change.replaced, Replaced::Unknown, "and what it replaced");
            assert!(
                changes.insert(key.to_vec(), change).is_none(),
                "one change a key"
            );
        }
    }
    changes
}

/// The rows after `changes` were made to `rows`, which they say that they replaced.
pub fn applied(
    mut rows: BTreeMap<Vec<u8>, Vec<u8>>,
    changes: &BTreeMap<Vec<u8>, Change>,
    types: &[ColumnType],
) -> BTreeMap<Vec<u8>, Vec<u8>> {
    for (key, change) in changes {
        let before = rows.remove(key);
        assert_eq!(change.replaced, Replaced::of(key, before.as_deref()));
        if let Some(after) = change.apply(before.as_deref(), types).unwrap() {
            rows.insert(key.clone(), after);
        }
    }
    rows
}

/// The paths of a table and its indexes.
pub fn paths(schema: &TableSchema, table: &str) -> Vec<TablePath> {
    let indexes = schema.indexes.iter();
    std::iter::once(TablePath::table(table))
        .chain(indexes.map(|index| TablePath::index(table, &index.name)))
        .collect()
}

/// The value types of a path.
pub fn types(schema: &TableSchema, path: &TablePath) -> Vec<ColumnType> {
    match &path.index {
        None => schema.value_types(),
        Some(index) => schema
            .implementation(schema.index(index).unwrap())
            .value_types(),
    }
}

/// Checks everything that always holds of a table: the shards cover all keys, each shard's digest is
/// that of its rows, both directions agree, and each index holds exactly what follows from the rows.
pub fn check(snapshot: &Snapshot, name: &str) {
    let table = snapshot.open_table(name).unwrap();
    let schema = table.schema().clone();
    for path in paths(&schema, name) {
        let mut end = Some(Vec::new());
        let mut total = Digest::default();
        for shard in snapshot.shards(&path).unwrap() {
            assert_eq!(
                end.as_ref(),
                Some(&shard.range.start),
                "shards of {path} touch"
            );
            let mut digest = Digest::default();
            for block in snapshot.blocks(&path, &shard.range, None).unwrap() {
                for (key, value) in block.unwrap().iter() {
                    assert!(shard.range.contains(key));
                    digest.add(key, value);
                }
            }
            assert_eq!(
                digest, shard.digest,
                "digest of {path} at {:?}",
                shard.range
            );
            total.merge(digest);
            end = shard.range.end;
        }
        assert_eq!(end, None, "shards of {path} cover all keys");
        assert_eq!(total.rows as usize, encoded(snapshot, &path).len());
    }
    let forward = rows(snapshot, &table);
    let mut backward: Vec<_> = snapshot
        .scan(&table, KeyRange::all(), Direction::Descending)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    backward.reverse();
    assert_eq!(forward, backward, "both directions read the same");
    for index in &schema.indexes {
        let implementation = schema.implementation(index);
        let types = implementation.key_types();
        let places: Vec<usize> = implementation
            .columns
            .iter()
            .map(|column| table.column(&column.name).unwrap())
            .collect();
        let project = |row: &Vec<Value>| -> Vec<Value> {
            places.iter().map(|place| row[*place].clone()).collect()
        };
        let mut expected: Vec<Vec<Value>> = forward.iter().map(project).collect();
        let key = |row: &Vec<Value>| {
            mendb_model::key::encode(&types, row.iter().take(types.len()).map(Value::as_ref))
        };
        expected.sort_by_key(key);
        assert_eq!(
            index_rows(snapshot, &table, &index.name),
            expected,
            "index {}",
            index.name
        );
    }
}

/// Copies a directory as it is, like a crash would leave it if all was written through.
pub fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
