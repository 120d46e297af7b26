//! Tables that an operation rebuilds: loading, applying, crashes in between.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use common::*;
use mendb_model::change::partial_row;
use mendb_model::name::TablePath;
use mendb_model::{Change, ColumnType, Digest, RowBlock, RowBlockBuilder, TableSchema, Value, row};
use mendb_rowstore::{
    Applied, Database, Error, IndexVersions, NewTable, PathState, RowSource, ShardId, StreamCut,
    Versions, WriteBatch,
};

const OPERATION: &str = "restore-1";

fn versions() -> Versions {
    let index = IndexVersions {
        entity: 6,
        implementation: 5,
    };
    Versions {
        table: 7,
        indexes: ["by_carrier", "by_code"]
            .map(|name| (name.to_owned(), index))
            .into(),
    }
}

fn new_flights() -> NewTable {
    NewTable {
        name: "flights".to_owned(),
        schema: flights(),
        versions: versions(),
        splits: BTreeMap::from([(None, vec![id_key(1_000)])]),
    }
}

fn restoring(dir: &tempfile::TempDir) -> Database {
    let database = open(dir.path());
    database
        .create_restoring(OPERATION, vec![new_flights()])
        .unwrap();
    database
}

fn source(index: u32) -> RowSource {
    RowSource { step: 0, index }
}

fn value(seats: i64) -> Vec<u8> {
    row::encode(
        &flights().value_types(),
        &[text("LH"), int(seats), Value::Null],
    )
}

fn block(ids: impl IntoIterator<Item = i64>, seats: i64) -> RowBlock {
    let mut block = RowBlockBuilder::new();
    for id in ids {
        block.push(&id_key(id), &value(seats));
    }
    block.finish()
}

fn path() -> TablePath {
    TablePath::table("flights")
}

fn shard(database: &Database, id: i64) -> ShardId {
    let shards = database.shards(&path()).unwrap();
    shards
        .into_iter()
        .find(|shard| shard.range.contains(&id_key(id)))
        .unwrap()
        .id
}

fn load(database: &Database, at: u32, block: &RowBlock) -> Applied {
    let shard = shard(database, 0);
    database.load(shard, OPERATION, source(at), block).unwrap()
}

/// What a path holds, by id.
fn seats(database: &Database) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let snapshot = database.snapshot().unwrap();
    let rows = encoded(&snapshot, &path());
    let mut digest = Digest::default();
    for (key, value) in &rows {
        digest.add(key, value);
    }
    assert_eq!(snapshot.describe("flights").unwrap().rows.digest(), digest);
    rows
}

fn expected(parts: &[(std::ops::Range<i64>, i64)]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let rows = parts
        .iter()
        .flat_map(|(ids, seats)| ids.clone().map(|id| (id_key(id), value(*seats))));
    rows.collect()
}

#[test]
fn loading_again_changes_nothing_and_overlaps_continue() {
    let dir = tempfile::tempdir().unwrap();
    let database = restoring(&dir);
    assert_eq!(
        load(&database, 0, &block(0..500, 1)),
        Applied::Done { rows: 500 }
    );
    let version = database.version();
    assert_eq!(
        load(&database, 0, &block(0..500, 1)),
        Applied::Done { rows: 0 }
    );
    assert_eq!(database.version(), version);
    assert_eq!(
        load(&database, 0, &block(300..700, 2)),
        Applied::Done { rows: 200 }
    );
    assert_eq!(seats(&database), expected(&[(0..500, 1), (500..700, 2)]));
    // Another source is behind no cursor: its rows win.
    assert_eq!(
        load(&database, 1, &block(100..200, 3)),
        Applied::Done { rows: 100 }
    );
    assert_eq!(
        load(&database, 1, &block(650..800, 4)),
        Applied::Done { rows: 150 }
    );
    let all = [
        (0..100, 1),
        (100..200, 3),
        (200..500, 1),
        (500..650, 2),
        (650..800, 4),
    ];
    assert_eq!(seats(&database), expected(&all));
    drop(database);
    let database = open(dir.path());
    assert_eq!(
        load(&database, 1, &block(650..800, 9)),
        Applied::Done { rows: 0 }
    );
    assert_eq!(
        load(&database, 0, &block(800..900, 5)),
        Applied::Done { rows: 100 }
    );
    assert_eq!(
        seats(&database),
        expected(&[&all[..], &[(800..900, 5)]].concat())
    );
}

#[test]
fn changes_apply_once_over_loaded_rows() {
    let dir = tempfile::tempdir().unwrap();
    let database = restoring(&dir);
    load(&database, 0, &block(0..10, 1));
    let types = flights().value_types();
    let (set, row) = partial_row(&types, &[None, Some(int(50)), None]);
    let mut changes = RowBlockBuilder::new();
    changes.push(&id_key(1), &Change::erase(9).encode());
    changes.push(
        &id_key(2),
        &Change::upsert(set.clone(), row.clone(), 9).encode(),
    );
    changes.push(&id_key(3), &Change::reset(value(60), 9).encode());
    changes.push(&id_key(20), &Change::upsert(set, row.clone(), 9).encode());
    changes.push(&id_key(21), &Change::erase(9).encode());
    let changes = changes.finish();
    let step = RowSource { step: 1, index: 0 };
    let apply = || {
        database
            .apply(shard(&database, 0), OPERATION, step, &changes)
            .unwrap()
    };
    assert_eq!(apply(), Applied::Done { rows: 5 });
    assert_eq!(apply(), Applied::Done { rows: 0 });
    let mut all = expected(&[(0..1, 1), (2..3, 50), (3..4, 60), (4..10, 1)]);
    all.insert(id_key(20), row);
    assert_eq!(seats(&database), all);
    database.compact(&path()).unwrap();
    assert_eq!(seats(&database), all);
    // After an erase behind the base the rows can be loaded there again.
    assert_eq!(
        load(&database, 2, &block(30..40, 7)),
        Applied::Done { rows: 10 }
    );
    all.extend(expected(&[(30..40, 7)]));
    assert_eq!(seats(&database), all);
}

#[test]
fn a_shard_that_was_split_or_merged_is_gone_and_its_heirs_keep_the_cursors() {
    let dir = tempfile::tempdir().unwrap();
    let database = restoring(&dir);
    let old = shard(&database, 0);
    load(&database, 0, &block(0..500, 1));
    database.split(&path(), &id_key(400)).unwrap();
    let gone = database
        .load(old, OPERATION, source(0), &block(0..600, 1))
        .unwrap();
    assert_eq!(gone, Applied::Gone);
    assert_eq!(
        load(&database, 0, &block(0..400, 9)),
        Applied::Done { rows: 0 }
    );
    let right = shard(&database, 400);
    let applied = database
        .load(right, OPERATION, source(0), &block(400..600, 9))
        .unwrap();
    assert_eq!(applied, Applied::Done { rows: 100 });
    let error = database
        .load(right, OPERATION, source(0), &block(0..10, 1))
        .unwrap_err();
    assert!(matches!(error, Error::WrongShard { .. }));
    database.merge(&path(), &id_key(400)).unwrap();
    assert_eq!(seats(&database), expected(&[(0..500, 1), (500..600, 9)]));
    // The left side got to 499 only: what lies behind is sent again, and is the same.
    assert_eq!(
        load(&database, 0, &block(400..600, 9)),
        Applied::Done { rows: 100 }
    );
    assert_eq!(seats(&database), expected(&[(0..500, 1), (500..600, 9)]));
}

#[test]
fn rows_out_of_order_are_refused_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let database = restoring(&dir);
    for ids in [vec![1, 3, 2], vec![1, 1]] {
        let result = database.load(shard(&database, 0), OPERATION, source(0), &block(ids, 1));
        assert!(matches!(result, Err(Error::Unordered { .. })));
    }
    assert!(seats(&database).is_empty());
}

#[test]
fn a_table_under_restore_is_closed_to_clients_and_opens_with_the_captured_versions() {
    let dir = tempfile::tempdir().unwrap();
    let database = restoring(&dir);
    database
        .create_restoring(OPERATION, vec![new_flights()])
        .unwrap();
    assert_eq!(
        database
            .create_restoring("restore-2", vec![new_flights()])
            .unwrap_err()
            .to_string(),
        "table flights already exists"
    );
    let table = database.open_table("flights").unwrap();
    let held = "table flights is being restored by operation restore-1; wait for its end";
    let refused = |result: Result<(), Error>| assert_eq!(result.unwrap_err().to_string(), held);
    let mut batch = WriteBatch::new();
    batch.replace(&table, flight(1, "LH", 1)).unwrap();
    refused(database.write(batch).map(drop));
    refused(
        database
            .snapshot()
            .unwrap()
            .get(&table, &[int(1)])
            .map(drop),
    );
    refused(database.drop_table("flights"));
    refused(database.add_column("flights", column("x", ColumnType::Bool, false)));
    refused(
        database
            .cut("backup-1", &["flights".to_owned()], "s", StreamCut::Attach)
            .map(drop),
    );
    let state = PathState::Restoring {
        operation: OPERATION.to_owned(),
    };
    assert_eq!(database.locks(), [("flights".to_owned(), state)]);
    let error = database.load(shard(&database, 0), "restore-2", source(0), &block(0..1, 1));
    assert!(matches!(error, Err(Error::NotRestoring { .. })));

    load(&database, 0, &block(0..10, 1));
    load_indexes(&database, 0..10);
    database.finish_restore(OPERATION).unwrap();
    database.finish_restore(OPERATION).unwrap();
    assert_eq!(database.describe("flights").unwrap().versions, versions());
    replace(&database, &table, vec![flight(1, "BA", 1)]);
    check(&database.snapshot().unwrap(), "flights");
    let late = database.load(shard(&database, 0), OPERATION, source(0), &block(0..1, 1));
    assert!(matches!(late, Err(Error::NotRestoring { .. })));
}

/// Loads the index rows of the rows that [`block`] makes with one seat.
fn load_indexes(database: &Database, ids: std::ops::Range<i64>) {
    let schema = flights();
    for index in &schema.indexes {
        let implementation: TableSchema = schema.implementation(index);
        let (types, values) = (implementation.key_types(), implementation.value_types());
        let mut block = RowBlockBuilder::new();
        for id in ids.clone() {
            let (first, cover) = match index.name.as_str() {
                "by_carrier" => (text("LH"), vec![int(1)]),
                _ => (Value::Null, vec![]),
            };
            let key = mendb_model::key::encode(&types, [first.as_ref(), int(id).as_ref()]);
            block.push(&key, &row::encode(&values, &cover));
        }
        let path = TablePath::index("flights", &index.name);
        let shard = database.shards(&path).unwrap()[0].id;
        database
            .load(shard, OPERATION, source(9), &block.finish())
            .unwrap();
    }
}

#[test]
fn an_aborted_restore_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let database = restoring(&dir);
    load(&database, 0, &block(0..10, 1));
    let old = shard(&database, 0);
    let snapshot = database.snapshot().unwrap();
    database.abort_restore(OPERATION).unwrap();
    database.abort_restore(OPERATION).unwrap();
    assert!(database.tables().is_empty());
    assert_eq!(
        database
            .load(old, OPERATION, source(0), &block(0..1, 1))
            .unwrap(),
        Applied::Gone
    );
    assert_eq!(encoded(&snapshot, &path()).len(), 10);
    database
        .create_restoring(OPERATION, vec![new_flights()])
        .unwrap();
    assert_eq!(
        load(&database, 0, &block(0..10, 1)),
        Applied::Done { rows: 10 }
    );
}

#[test]
fn shards_load_in_parallel() {
    let dir = tempfile::tempdir().unwrap();
    let database = restoring(&dir);
    std::thread::scope(|scope| {
        for start in [0, 1_000] {
            let database = &database;
            scope.spawn(move || {
                for at in (0..1_000).step_by(100) {
                    let from = start + at;
                    let rows = block(from..from + 100, 1);
                    let shard = shard(database, start);
                    let applied = database.load(shard, OPERATION, source(0), &rows).unwrap();
                    assert_eq!(applied, Applied::Done { rows: 100 });
                }
            });
        }
    });
    assert_eq!(seats(&database), expected(&[(0..2_000, 1)]));
}
