//! Tables, rows and indexes, as a client uses them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use mendb_model::key::KeyRange;
use mendb_model::{ColumnType, IndexSchema, TableSchema, Value};
use mendb_rowstore::{Database, Direction, Error, Options, WriteBatch};

fn with_flights(dir: &tempfile::TempDir) -> Database {
    let database = open(dir.path());
    database
        .create_table("flights", flights(), vec![id_key(0), id_key(100)])
        .unwrap();
    database
}

#[test]
fn upsert_sets_the_given_columns_and_replace_all_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_flights(&dir);
    let table = database.open_table("flights").unwrap();
    replace(&database, &table, vec![flight(1, "LH", 100)]);
    let mut batch = WriteBatch::new();
    batch
        .upsert(&table, vec![(0, int(1)), (2, int(120))])
        .unwrap();
    batch
        .upsert(&table, vec![(0, int(2)), (1, text("BA"))])
        .unwrap();
    database.write(batch).unwrap();
    let snapshot = database.snapshot().unwrap();
    assert_eq!(
        rows(&snapshot, &table),
        [
            flight(1, "LH", 120),
            vec![int(2), text("BA"), Value::Null, Value::Null]
        ]
    );
    assert_eq!(
        snapshot.get(&table, &[int(1)]).unwrap(),
        Some(flight(1, "LH", 120))
    );
    assert_eq!(snapshot.get(&table, &[int(3)]).unwrap(), None);
    check(&snapshot, "flights");
}

#[test]
fn several_changes_of_one_key_in_a_batch_happen_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_flights(&dir);
    let table = database.open_table("flights").unwrap();
    let mut batch = WriteBatch::new();
    batch.replace(&table, flight(1, "LH", 100)).unwrap();
    batch.erase(&table, vec![int(1)]).unwrap();
    batch
        .upsert(&table, vec![(0, int(1)), (1, text("BA"))])
        .unwrap();
    batch.replace(&table, flight(2, "LH", 1)).unwrap();
    batch.erase(&table, vec![int(2)]).unwrap();
    database.write(batch).unwrap();
    let snapshot = database.snapshot().unwrap();
    let expected = vec![int(1), text("BA"), Value::Null, Value::Null];
    assert_eq!(rows(&snapshot, &table), [expected]);
    check(&snapshot, "flights");
}

#[test]
fn a_batch_that_changes_nothing_is_no_commit() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_flights(&dir);
    let table = database.open_table("flights").unwrap();
    let version = replace(&database, &table, vec![flight(1, "LH", 100)]);
    assert_eq!(
        replace(&database, &table, vec![flight(1, "LH", 100)]),
        version
    );
    assert_eq!(erase(&database, &table, 9), version);
    assert_eq!(database.version(), version);
}

#[test]
fn scans_read_ranges_in_both_directions_across_shards() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_flights(&dir);
    let table = database.open_table("flights").unwrap();
    replace(
        &database,
        &table,
        (-50..150).map(|id| flight(id, "LH", id)).collect(),
    );
    database
        .compact(&mendb_model::name::TablePath::table("flights"))
        .unwrap();
    replace(
        &database,
        &table,
        (-50..150)
            .step_by(7)
            .map(|id| flight(id, "BA", id))
            .collect(),
    );
    for id in (-50..150).step_by(5) {
        erase(&database, &table, id);
    }
    let snapshot = database.snapshot().unwrap();
    check(&snapshot, "flights");
    let alive = |id: &i64| (id + 50) % 5 != 0;
    for (from, to) in [
        (-60, 200),
        (-50, 150),
        (0, 100),
        (-3, 3),
        (99, 101),
        (7, 7),
        (20, 10),
    ] {
        let range = KeyRange {
            start: id_key(from),
            end: Some(id_key(to)),
        };
        let ids = |direction| -> Vec<i64> {
            let scan = snapshot.scan(&table, range.clone(), direction).unwrap();
            scan.map(|row| match row.unwrap()[0] {
                Value::Int(id) => id,
                ref other => panic!("{other:?}"),
            })
            .collect()
        };
        let mut expected: Vec<i64> = (from.max(-50)..to.min(150)).filter(alive).collect();
        assert_eq!(ids(Direction::Ascending), expected);
        expected.reverse();
        assert_eq!(ids(Direction::Descending), expected);
    }
}

#[test]
fn an_index_is_read_by_the_values_it_begins_with() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_flights(&dir);
    let table = database.open_table("flights").unwrap();
    replace(
        &database,
        &table,
        vec![
            flight(1, "LH", 10),
            flight(2, "BA", 20),
            flight(3, "LH", 30),
        ],
    );
    let snapshot = database.snapshot().unwrap();
    let range = table.index_prefix("by_carrier", &[text("LH")]).unwrap();
    let found: Vec<_> = snapshot
        .scan_index(&table, "by_carrier", range, Direction::Descending)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(
        found,
        [
            vec![text("LH"), int(3), int(30)],
            vec![text("LH"), int(1), int(10)]
        ]
    );
}

#[test]
fn a_unique_index_refuses_a_second_row_and_ignores_null() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_flights(&dir);
    let table = database.open_table("flights").unwrap();
    let coded = |id, code: &str| vec![int(id), text("LH"), int(1), text(code)];
    let write = |rows: Vec<Vec<Value>>, erased: &[i64]| {
        let mut batch = WriteBatch::new();
        for row in rows {
            batch.replace(&table, row).unwrap();
        }
        for id in erased {
            batch.erase(&table, vec![int(*id)]).unwrap();
        }
        database.write(batch)
    };
    write(
        vec![
            coded(1, "A"),
            coded(2, "B"),
            flight(3, "LH", 1),
            flight(4, "LH", 1),
        ],
        &[],
    )
    .unwrap();
    let error = write(vec![coded(5, "A")], &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unique index by_code of table flights already has a row for A"
    );
    assert!(matches!(
        write(vec![coded(5, "C"), coded(6, "C")], &[]),
        Err(Error::Unique { .. })
    ));
    assert!(matches!(
        write(vec![coded(5, "C"), coded(2, "A")], &[]),
        Err(Error::Unique { .. })
    ));
    write(vec![coded(1, "B"), coded(2, "A")], &[]).unwrap();
    write(vec![coded(5, "B")], &[1]).unwrap();
    write(vec![coded(5, "B")], &[]).unwrap();
    let snapshot = database.snapshot().unwrap();
    assert_eq!(snapshot.describe("flights").unwrap().rows.digest().rows, 4);
    check(&snapshot, "flights");
}

#[test]
fn what_does_not_fit_the_schema_is_refused_with_its_column() {
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    let mut schema = flights();
    schema.columns[2].not_null = true;
    database.create_table("flights", schema, vec![]).unwrap();
    let table = database.open_table("flights").unwrap();
    let mut batch = WriteBatch::new();
    let refused = |result: Result<(), Error>, text: &str| {
        assert_eq!(result.unwrap_err().to_string(), text);
    };
    refused(
        batch.replace(&table, vec![int(1), int(2), int(3), Value::Null]),
        "table flights: column carrier of type Utf8 cannot hold Int(2)",
    );
    refused(
        batch.upsert(&table, vec![(0, int(1)), (2, Value::Null)]),
        "table flights: column seats is NOT NULL and has no value",
    );
    refused(
        batch.upsert(&table, vec![(1, text("LH"))]),
        "table flights: key column id is not given",
    );
    refused(
        batch.upsert(&table, vec![(0, int(1)), (9, int(1))]),
        "table flights: there is no column 9",
    );
    refused(
        batch.upsert(&table, vec![(0, int(1)), (0, int(1))]),
        "table flights: column 0 is given twice",
    );
    refused(
        batch.replace(&table, vec![int(1)]),
        "table flights: a row has 4 columns, 1 were given",
    );
    refused(
        batch.erase(&table, vec![Value::Null]),
        "table flights: column id is NOT NULL and has no value",
    );
    assert!(batch.is_empty());
    batch
        .upsert(&table, vec![(0, int(1)), (1, text("LH"))])
        .unwrap();
    assert_eq!(
        database.write(batch).unwrap_err().to_string(),
        "table flights: column seats is NOT NULL and has no value"
    );
}

#[test]
fn long_keys_and_rows_are_refused_and_the_longest_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    let schema = TableSchema {
        columns: vec![
            column("key", ColumnType::String, true),
            column("value", ColumnType::String, false),
        ],
        key: vec!["key".to_owned()],
        indexes: vec![IndexSchema {
            name: "by_value".to_owned(),
            columns: vec!["value".to_owned()],
            cover: vec![],
            unique: false,
        }],
    };
    database.create_table("wide", schema, vec![]).unwrap();
    let table = database.open_table("wide").unwrap();
    let row =
        |key: usize, value: usize| vec![Value::Bytes(vec![7; key]), Value::Bytes(vec![8; value])];
    let longest = mendb_model::key::MAX_KEY_BYTES - 3;
    let mut batch = WriteBatch::new();
    let error = batch.replace(&table, row(longest + 1, 1)).unwrap_err();
    assert!(matches!(error, Error::KeyTooLong { .. }));
    batch.replace(&table, row(100, longest)).unwrap();
    let error = database.write(batch).unwrap_err().to_string();
    assert!(error.starts_with("a key of wide/by_value has "), "{error}");
    let mut batch = WriteBatch::new();
    let error = batch
        .replace(&table, row(1, mendb_rowstore::MAX_ROW_BYTES))
        .unwrap_err();
    assert!(matches!(error, Error::RowTooLong { .. }));
    batch.replace(&table, row(longest - 10, 1)).unwrap();
    batch
        .replace(&table, vec![Value::Bytes(vec![0; 9000]), Value::Null])
        .unwrap();
    database.write(batch).unwrap();
    for path in paths(table.schema(), "wide") {
        database.compact(&path).unwrap();
    }
    check(&database.snapshot().unwrap(), "wide");
    assert_eq!(rows(&database.snapshot().unwrap(), &table).len(), 2);
}

#[test]
fn keys_of_several_columns_and_null_keys_order_as_values_do() {
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    let schema = TableSchema {
        columns: vec![
            column("value", ColumnType::Double, false),
            column("b", ColumnType::Int8, false),
            column("a", ColumnType::Utf8, false),
        ],
        key: vec!["a".to_owned(), "b".to_owned()],
        indexes: vec![],
    };
    database.create_table("t", schema, vec![]).unwrap();
    let table = database.open_table("t").unwrap();
    let row = |a: Value, b: Value| vec![Value::Double(0.5), b, a];
    let ordered = vec![
        row(Value::Null, Value::Null),
        row(Value::Null, int(-1)),
        row(text(""), int(3)),
        row(text("a"), Value::Null),
        row(text("a"), int(-5)),
        row(text("a"), int(5)),
        row(text("a\0"), int(0)),
    ];
    let mut shuffled = ordered.clone();
    shuffled.rotate_left(3);
    replace(&database, &table, shuffled);
    assert_eq!(rows(&database.snapshot().unwrap(), &table), ordered);
    let range = table.prefix(&[text("a")]).unwrap();
    let found = database
        .snapshot()
        .unwrap()
        .scan(&table, range, Direction::Ascending)
        .unwrap()
        .count();
    assert_eq!(found, 3);
    check(&database.snapshot().unwrap(), "t");
}

#[test]
fn an_added_column_is_null_in_old_rows_and_makes_old_views_stale() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_flights(&dir);
    let old = database.open_table("flights").unwrap();
    replace(&database, &old, vec![flight(1, "LH", 100)]);
    let before = database.snapshot().unwrap();
    database
        .add_column("flights", column("gate", ColumnType::Utf8, false))
        .unwrap();
    let new = database.open_table("flights").unwrap();
    let mut batch = WriteBatch::new();
    batch
        .upsert(&new, vec![(0, int(2)), (4, text("A1"))])
        .unwrap();
    database.write(batch).unwrap();
    let after = database.snapshot().unwrap();
    assert_eq!(
        rows(&after, &new)[0],
        [flight(1, "LH", 100), vec![Value::Null]].concat()
    );
    assert_eq!(rows(&before, &old), [flight(1, "LH", 100)]);
    let stale = "schema version mismatch: /flights expected 2 got 1";
    assert_eq!(after.get(&old, &[int(1)]).unwrap_err().to_string(), stale);
    let mut batch = WriteBatch::new();
    batch.erase(&old, vec![int(1)]).unwrap();
    assert_eq!(database.write(batch).unwrap_err().to_string(), stale);
    let versions = &after.describe("flights").unwrap().versions;
    assert!(
        versions
            .indexes
            .values()
            .all(|v| v.entity == 2 && v.implementation == 2)
    );
    let error = database
        .add_column("flights", column("x", ColumnType::Utf8, true))
        .unwrap_err();
    assert!(matches!(error, Error::AddedNotNull { .. }));
    let error = database
        .add_column("flights", column("gate", ColumnType::Utf8, false))
        .unwrap_err();
    assert!(matches!(error, Error::Schema { .. }));
    check(&after, "flights");
}

#[test]
fn a_table_of_the_same_name_is_not_the_one_that_was_opened() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_flights(&dir);
    let old = database.open_table("flights").unwrap();
    database.drop_table("flights").unwrap();
    let mut schema = flights();
    schema.columns.swap(1, 3);
    database.create_table("flights", schema, vec![]).unwrap();
    assert!(matches!(
        database.snapshot().unwrap().get(&old, &[int(1)]),
        Err(Error::TableReplaced(_))
    ));
}

#[test]
fn names_are_checked_and_taken_once() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_flights(&dir);
    let error = |result: Result<(), Error>| result.unwrap_err().to_string();
    assert_eq!(
        error(database.create_table("flights", flights(), vec![])),
        "table flights already exists"
    );
    assert!(matches!(
        database.create_table("a/b", flights(), vec![]),
        Err(Error::Name(_))
    ));
    assert_eq!(
        error(database.drop_table("nope")),
        "table nope does not exist"
    );
    assert_eq!(database.tables(), ["flights"]);
    database.drop_table("flights").unwrap();
    assert!(database.tables().is_empty());
}

#[test]
fn empty_tables_split_merge_pack_and_scan() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_flights(&dir);
    let path = mendb_model::name::TablePath::table("flights");
    database.split(&path, &id_key(50)).unwrap();
    assert_eq!(database.shards(&path).unwrap().len(), 4);
    database.split(&path, &id_key(50)).unwrap();
    assert_eq!(database.shards(&path).unwrap().len(), 4);
    for boundary in [0, 50, 100] {
        database.merge(&path, &id_key(boundary)).unwrap();
    }
    let error = database.merge(&path, &id_key(50)).unwrap_err().to_string();
    assert!(
        error.starts_with("flights has no shard boundary at "),
        "{error}"
    );
    database.compact(&path).unwrap();
    check(&database.snapshot().unwrap(), "flights");
}

#[test]
fn a_second_opening_is_refused_with_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let error = Database::open(dir.path(), Options::default())
        .err()
        .unwrap();
    assert!(error.is_retriable());
    assert_eq!(
        error.to_string(),
        format!(
            "{} is open in another process; one process at a time can change a row store",
            dir.path().display()
        )
    );
    drop(first);
    Database::open(dir.path(), Options::default()).unwrap();
}
