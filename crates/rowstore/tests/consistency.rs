//! Snapshots, atomicity and crashes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::*;
use mendb_model::key::KeyRange;
use mendb_model::name::TablePath;
use mendb_model::{ColumnType, TableSchema, Value};
use mendb_rowstore::{Database, Direction, Error, Snapshot, StreamCut, Table, WriteBatch};

fn accounts() -> TableSchema {
    TableSchema {
        columns: vec![
            column("id", ColumnType::Int64, true),
            column("balance", ColumnType::Int64, true),
        ],
        key: vec!["id".to_owned()],
        indexes: vec![mendb_model::IndexSchema {
            name: "by_balance".to_owned(),
            columns: vec!["balance".to_owned()],
            cover: vec![],
            unique: false,
        }],
    }
}

fn total(snapshot: &Snapshot, tables: [&Table; 2]) -> i64 {
    let balance = |row: Vec<Value>| match row[1] {
        Value::Int(balance) => balance,
        ref other => panic!("{other:?}"),
    };
    let of = |table| rows(snapshot, table).into_iter().map(balance).sum::<i64>();
    tables.into_iter().map(of).sum()
}

#[test]
fn money_moved_between_tables_is_never_seen_twice_or_not_at_all() {
    const ACCOUNTS: i64 = 40;
    const WRITERS: i64 = 3;
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    for name in ["checking", "savings"] {
        database
            .create_table(name, accounts(), vec![id_key(ACCOUNTS / 2)])
            .unwrap();
    }
    let tables = ["checking", "savings"].map(|name| database.open_table(name).unwrap());
    for table in &tables {
        replace(
            &database,
            table,
            (0..ACCOUNTS).map(|id| vec![int(id), int(100)]).collect(),
        );
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (database, tables) = (&database, &tables);
                scope.spawn(move || {
                    for round in 0..250i64 {
                        // Each writer has accounts of its own, so it knows their balances.
                        let id = (round % (ACCOUNTS / WRITERS)) * WRITERS + writer;
                        let moved = round / (ACCOUNTS / WRITERS) + 1;
                        let mut batch = WriteBatch::new();
                        batch
                            .replace(&tables[0], vec![int(id), int(100 - moved)])
                            .unwrap();
                        batch
                            .replace(&tables[1], vec![int(id), int(100 + moved)])
                            .unwrap();
                        database.write(batch).unwrap();
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            let path = TablePath::table("savings");
            let index = TablePath::index("savings", "by_balance");
            while !done.load(Ordering::Relaxed) {
                database.split(&path, &id_key(7)).unwrap();
                database.compact(&index).unwrap();
                database.merge(&path, &id_key(7)).unwrap();
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let snapshot = database.snapshot().unwrap();
                assert_eq!(
                    total(&snapshot, [&tables[0], &tables[1]]),
                    2 * 100 * ACCOUNTS
                );
                check(&snapshot, "savings");
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    let snapshot = database.snapshot().unwrap();
    assert_eq!(
        total(&snapshot, [&tables[0], &tables[1]]),
        2 * 100 * ACCOUNTS
    );
    for name in ["checking", "savings"] {
        check(&snapshot, name);
    }
}

#[test]
fn a_batch_that_fails_in_one_table_changes_none() {
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    database.create_table("flights", flights(), vec![]).unwrap();
    database
        .create_table("accounts", accounts(), vec![])
        .unwrap();
    let flights = database.open_table("flights").unwrap();
    let accounts = database.open_table("accounts").unwrap();
    let coded = |id| vec![int(id), Value::Null, Value::Null, text("X")];
    replace(&database, &flights, vec![coded(1)]);
    let version = database.version();
    let mut batch = WriteBatch::new();
    batch.replace(&accounts, vec![int(1), int(5)]).unwrap();
    batch.replace(&flights, coded(2)).unwrap();
    assert!(matches!(database.write(batch), Err(Error::Unique { .. })));
    assert_eq!(database.version(), version);
    assert!(rows(&database.snapshot().unwrap(), &accounts).is_empty());
    for name in ["flights", "accounts"] {
        check(&database.snapshot().unwrap(), name);
    }
}

#[test]
fn a_snapshot_and_its_scans_outlive_writes_splits_and_drops() {
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    database.create_table("flights", flights(), vec![]).unwrap();
    let table = database.open_table("flights").unwrap();
    let path = TablePath::table("flights");
    replace(
        &database,
        &table,
        (0..3_000).map(|id| flight(id, "LH", id)).collect(),
    );
    database.compact(&path).unwrap();
    replace(
        &database,
        &table,
        (0..3_000)
            .step_by(3)
            .map(|id| flight(id, "BA", id))
            .collect(),
    );
    let snapshot = database.snapshot().unwrap();
    let before = rows(&snapshot, &table);
    let mut scan = snapshot
        .scan(&table, KeyRange::all(), Direction::Ascending)
        .unwrap();
    let first = scan.next().unwrap().unwrap();
    replace(
        &database,
        &table,
        (0..3_000).map(|id| flight(id, "XX", 0)).collect(),
    );
    database.split(&path, &id_key(1_500)).unwrap();
    database.merge(&path, &id_key(1_500)).unwrap();
    database.drop_table("flights").unwrap();
    database
        .create_table("flights", accounts(), vec![])
        .unwrap();
    check(&snapshot, "flights");
    assert_eq!(rows(&snapshot, &table), before);
    drop(snapshot);
    let rest: Vec<_> = scan.map(Result::unwrap).collect();
    assert_eq!([vec![first], rest].concat(), before);
}

#[test]
fn dropped_and_replaced_shards_give_their_space_back() {
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    // Files and records of shards.
    let used = || {
        let files = std::fs::read_dir(dir.path().join("shards"))
            .unwrap()
            .count();
        let raw = rusqlite::Connection::open(dir.path().join("store.db")).unwrap();
        let count = "SELECT (SELECT count(*) FROM blocks) + (SELECT count(*) FROM delta)
            + (SELECT count(*) FROM log) + (SELECT count(*) FROM meta)
            + (SELECT count(*) FROM runs)";
        let records: i64 = raw.query_row(count, [], |row| row.get(0)).unwrap();
        (files, records)
    };
    let empty = used();
    database.create_table("flights", flights(), vec![]).unwrap();
    assert_eq!(used().0, 0, "an idle table has no files");
    let table = database.open_table("flights").unwrap();
    let paths = paths(&flights(), "flights");
    let pack = || {
        for path in &paths {
            database.compact(path).unwrap();
        }
    };
    let rows = |seats| (0..3_000).map(|id| flight(id, "LH", seats)).collect();
    replace(&database, &table, rows(1));
    pack();
    let packed = used();
    assert!(packed.0 > 0);
    replace(&database, &table, rows(2));
    let snapshot = database.snapshot().unwrap();
    pack();
    assert!(used().0 > packed.0, "the snapshot keeps the old shards");
    drop(snapshot);
    assert_eq!(used(), packed);
    database.drop_table("flights").unwrap();
    assert_eq!(used(), empty);
}

#[test]
fn who_looks_at_a_store_that_is_open_sees_one_commit_and_stands_in_nobodys_way() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Snapshot::open(dir.path()).unwrap().is_none());
    let files = || {
        std::fs::read_dir(dir.path().join("shards"))
            .unwrap()
            .count()
    };
    let database = open(dir.path());
    database.create_table("flights", flights(), vec![]).unwrap();
    let path = TablePath::table("flights");
    let table = database.open_table("flights").unwrap();
    let rows = |seats| (0..3_000).map(|id| flight(id, "LH", seats)).collect();
    replace(&database, &table, rows(1));
    database.compact(&path).unwrap();
    replace(&database, &table, vec![flight(7, "LH", 2)]);

    let look = Snapshot::open(dir.path()).unwrap().unwrap();
    assert_eq!(look.version(), database.version());
    let before = encoded(&look, &path);
    let mut scan = look
        .scan(&table, KeyRange::all(), Direction::Ascending)
        .unwrap();
    assert!(scan.next().is_some());
    replace(&database, &table, rows(3));
    database.compact(&path).unwrap();
    assert_eq!(files(), 2, "the old file is read");
    database.drop_table("flights").unwrap();
    check(&look, "flights");
    assert_eq!(encoded(&look, &path), before);
    assert_eq!(scan.map(Result::unwrap).count(), 2_999);
    assert!(
        Snapshot::open(dir.path())
            .unwrap()
            .unwrap()
            .tables()
            .is_empty()
    );

    drop(look);
    database.create_table("flights", flights(), vec![]).unwrap();
    let table = database.open_table("flights").unwrap();
    replace(&database, &table, rows(4));
    database.compact(&path).unwrap();
    database.drop_table("flights").unwrap();
    assert_eq!(files(), 0, "nobody reads any of them");
}

#[test]
fn what_was_acknowledged_is_there_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    database.create_table("flights", flights(), vec![]).unwrap();
    let path = TablePath::table("flights");
    let mut crashes = Vec::new();
    let mut crash = |snapshot: Snapshot| {
        let copy = tempfile::tempdir().unwrap();
        copy_directory(dir.path(), copy.path());
        crashes.push((copy, snapshot));
    };
    let write = |ids: std::ops::Range<i64>| {
        let table = database.open_table("flights").unwrap();
        replace(
            &database,
            &table,
            ids.map(|id| flight(id, "LH", id)).collect(),
        );
    };
    write(0..300);
    crash(database.snapshot().unwrap());
    database.split(&path, &id_key(100)).unwrap();
    crash(database.snapshot().unwrap());
    database
        .cut("backup-1", &["flights".to_owned()], "s", StreamCut::Attach)
        .unwrap();
    write(200..400);
    crash(database.snapshot().unwrap());
    database.compact(&path).unwrap();
    database.detach_stream("s").unwrap();
    crash(database.snapshot().unwrap());
    for (copy, expected) in crashes {
        let reopened = open(copy.path());
        let found = reopened.snapshot().unwrap();
        assert_eq!(found.version(), expected.version());
        assert_eq!(
            found.describe("flights").unwrap(),
            expected.describe("flights").unwrap()
        );
        assert_eq!(encoded(&found, &path), encoded(&expected, &path));
        check(&found, "flights");
        // The store goes on where it was, also with ids and versions.
        let table = reopened.open_table("flights").unwrap();
        assert!(replace(&reopened, &table, vec![flight(-1, "BA", 1)]) > expected.version());
        reopened.split(&path, &id_key(50)).unwrap();
        check(&reopened.snapshot().unwrap(), "flights");
    }
}

#[test]
fn a_store_that_was_closed_has_nothing_to_replay_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = TablePath::table("flights");
    let wide = "x".repeat(200);
    open(dir.path())
        .create_table("flights", flights(), vec![])
        .unwrap();
    for round in 0..4 {
        let database = open(dir.path());
        let table = database.open_table("flights").unwrap();
        let rows = (0..8_000).map(|id| flight(id, &wide, round)).collect();
        let version = replace(&database, &table, rows);
        match round {
            0 => database.split(&path, &id_key(4_000)).unwrap(),
            1 => database.compact(&path).unwrap(),
            2 => database.merge(&path, &id_key(4_000)).unwrap(),
            _ => {}
        }
        let snapshot = database.snapshot().unwrap();
        let before = encoded(&snapshot, &path);
        drop((snapshot, table, database));
        assert!(!dir.path().join("store.db-wal").exists(), "round {round}");

        // A write after it lies over what was written before it, also after a crash.
        let database = open(dir.path());
        check(&database.snapshot().unwrap(), "flights");
        assert!(database.version() >= version);
        assert!(encoded(&database.snapshot().unwrap(), &path) == before);
        let table = database.open_table("flights").unwrap();
        replace(&database, &table, vec![flight(round, "LH", -round)]);
        erase(&database, &table, 7_000 + round);
        let copy = tempfile::tempdir().unwrap();
        copy_directory(dir.path(), copy.path());
        let after = encoded(&database.snapshot().unwrap(), &path);
        assert_eq!(after.len(), before.len() - 1);
        let crashed = open(copy.path());
        assert!(encoded(&crashed.snapshot().unwrap(), &path) == after);
        check(&crashed.snapshot().unwrap(), "flights");
    }
}

/// What is said when a store is opened after `damage` was done to its database.
fn refused(damage: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    database.create_table("flights", flights(), vec![]).unwrap();
    drop(database);
    let raw = rusqlite::Connection::open(dir.path().join("store.db")).unwrap();
    raw.execute_batch(damage).unwrap();
    drop(raw);
    let error = Database::open(dir.path(), small()).err().unwrap();
    error
        .to_string()
        .replace(&dir.path().display().to_string(), "DIR")
}

#[test]
fn a_damaged_catalogue_is_an_error_that_names_it() {
    assert_eq!(
        refused("UPDATE catalogue SET v = x'7b7d'"),
        "a record in the tree catalogue of the row store is damaged; restore it from a backup"
    );
    assert_eq!(
        refused("UPDATE catalogue SET v = 1"),
        "DIR/store.db of the row store is damaged; restore it from a backup"
    );
    assert_eq!(
        refused("DELETE FROM catalogue"),
        "the catalogue of the row store in DIR is damaged; restore it from a backup"
    );
    assert_eq!(
        refused("DELETE FROM meta"),
        "DIR/store.db of the row store is damaged; restore it from a backup"
    );
    assert_eq!(
        refused("DROP TABLE catalogue"),
        "DIR/store.db of the row store is damaged; restore it from a backup"
    );
}
