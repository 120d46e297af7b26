//! Cuts, change streams and locks.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use common::*;
use mendb_model::name::TablePath;
use mendb_model::{ChangeKind, Value};
use mendb_rowstore::{Database, Error, PathState, StreamCut, WriteBatch};

fn tables() -> Vec<String> {
    vec!["flights".to_owned()]
}

fn with_flights(dir: &tempfile::TempDir) -> Database {
    let database = open(dir.path());
    database
        .create_table("flights", flights(), vec![id_key(0)])
        .unwrap();
    database
}

#[test]
fn a_cut_raises_table_index_and_implementation_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_flights(&dir);
    let old = database.open_table("flights").unwrap();
    for expected in 2..5 {
        let cut = database
            .cut("backup-1", &tables(), "s", StreamCut::Attach)
            .unwrap();
        let versions = cut.describe("flights").unwrap().versions;
        assert_eq!(versions.table, expected);
        for index in versions.indexes.values() {
            assert_eq!((index.entity, index.implementation), (expected, expected));
        }
        assert_eq!(
            &versions,
            database.open_table("flights").unwrap().versions()
        );
    }
    let mut batch = WriteBatch::new();
    batch.replace(&old, flight(1, "LH", 1)).unwrap();
    assert_eq!(
        database.write(batch).unwrap_err().to_string(),
        "schema version mismatch: /flights expected 4 got 1"
    );
}

#[test]
fn a_locked_table_is_written_and_split_but_neither_altered_nor_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_flights(&dir);
    let cut = |operation: &str| database.cut(operation, &tables(), "s", StreamCut::Attach);
    cut("backup-1").unwrap();
    cut("backup-1").unwrap();
    let table = database.open_table("flights").unwrap();
    replace(&database, &table, vec![flight(1, "LH", 1)]);
    database
        .split(&TablePath::table("flights"), &id_key(5))
        .unwrap();
    let held = "table flights is being backed up by operation backup-1; wait for its end";
    let refused = |result: Result<(), Error>| assert_eq!(result.unwrap_err().to_string(), held);
    refused(database.drop_table("flights"));
    refused(database.add_column("flights", column("x", mendb_model::ColumnType::Bool, false)));
    refused(cut("backup-2").map(drop));
    let state = PathState::Backup {
        operation: "backup-1".to_owned(),
    };
    assert_eq!(database.locks(), [("flights".to_owned(), state)]);
    database.unlock("backup-2").unwrap();
    assert_eq!(database.locks().len(), 1);
    database.unlock("backup-1").unwrap();
    database.unlock("backup-1").unwrap();
    assert!(database.locks().is_empty());
    database.drop_table("flights").unwrap();
}

#[test]
fn changes_of_a_key_fold_and_carry_which_columns_were_set() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_flights(&dir);
    let table = database.open_table("flights").unwrap();
    replace(
        &database,
        &table,
        (1..=4).map(|id| flight(id, "LH", id)).collect(),
    );
    let cut = database
        .cut("backup-1", &tables(), "s", StreamCut::Attach)
        .unwrap();
    let table = database.open_table("flights").unwrap();
    let upsert = |columns: Vec<(usize, Value)>| {
        let mut batch = WriteBatch::new();
        batch.upsert(&table, columns).unwrap();
        database.write(batch).unwrap();
    };
    upsert(vec![(0, int(1)), (1, text("BA"))]);
    upsert(vec![(0, int(1)), (2, int(9))]);
    erase(&database, &table, 2);
    erase(&database, &table, 3);
    upsert(vec![(0, int(3)), (2, int(7))]);
    let now = database.snapshot();
    let found = changes(&now, &TablePath::table("flights"), cut.version());
    let kinds: Vec<_> = found.iter().map(|(key, c)| (key.clone(), c.kind)).collect();
    assert_eq!(
        kinds,
        [
            (id_key(1), ChangeKind::Upsert),
            (id_key(2), ChangeKind::Erase),
            (id_key(3), ChangeKind::Reset)
        ]
    );
    let set = &found[&id_key(1)].set;
    assert!(set.contains(0) && set.contains(1) && !set.contains(2));
    let path = TablePath::table("flights");
    let after: Vec<_> = now
        .changes(
            &path,
            &mendb_model::KeyRange::all(),
            cut.version(),
            Some(&id_key(1)),
        )
        .unwrap()
        .flat_map(|block| {
            block
                .unwrap()
                .iter()
                .map(|(k, _)| k.to_vec())
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(after, [id_key(2), id_key(3)]);
}

#[test]
fn nothing_is_logged_without_a_stream() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_flights(&dir);
    let table = database.open_table("flights").unwrap();
    replace(&database, &table, vec![flight(1, "LH", 1)]);
    assert!(changes(&database.snapshot(), &TablePath::table("flights"), 0).is_empty());
    let error = database
        .cut("backup-1", &tables(), "s", StreamCut::Rotate)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "table flights does not carry the change stream s; take a full backup first"
    );
    assert!(
        database.locks().is_empty(),
        "a cut that fails locks nothing"
    );
}

#[test]
fn a_release_trims_only_what_no_stream_needs() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_flights(&dir);
    let path = TablePath::table("flights");
    let cut = |stream: &str, how| {
        let cut = database.cut("backup-1", &tables(), stream, how).unwrap();
        database.unlock("backup-1").unwrap();
        cut.version()
    };
    let write = |id| {
        let table = database.open_table("flights").unwrap();
        replace(&database, &table, vec![flight(id, "LH", 1)]);
    };
    let keys = || -> Vec<Vec<u8>> {
        changes(&database.snapshot(), &path, 0)
            .into_keys()
            .collect()
    };
    let a = cut("a", StreamCut::Attach);
    write(1);
    cut("b", StreamCut::Attach);
    write(2);
    let a2 = cut("a", StreamCut::Rotate);
    write(3);
    assert_eq!(keys(), [id_key(1), id_key(2), id_key(3)]);
    database.release_stream("a", a2).unwrap();
    assert_eq!(keys(), [id_key(2), id_key(3)]);
    database.release_stream("a", a).unwrap();
    let streams = database.streams("flights").unwrap();
    assert_eq!(
        streams[0].needed_after, a2,
        "a stream never needs more again"
    );
    database.split(&path, &id_key(3)).unwrap();
    database.merge(&path, &id_key(0)).unwrap();
    assert_eq!(keys(), [id_key(2), id_key(3)]);
    database.detach_stream("b").unwrap();
    assert_eq!(keys(), [id_key(3)]);
    let versions = database.describe("flights").unwrap().versions;
    database.detach_stream("b").unwrap();
    assert_eq!(database.describe("flights").unwrap().versions, versions);
    database.detach_stream("a").unwrap();
    assert!(keys().is_empty());
    assert!(database.streams("flights").unwrap().is_empty());
    let index = TablePath::index("flights", "by_carrier");
    assert!(changes(&database.snapshot(), &index, 0).is_empty());
    cut("a", StreamCut::Attach);
    write(4);
    assert_eq!(keys(), [id_key(4)]);
    database.detach_stream("a").unwrap();
    assert!(keys().is_empty());
}

#[test]
fn snapshot_and_changes_have_neither_gap_nor_overlap_under_writers() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_flights(&dir);
    let writers = 3;
    let last = 300;
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let database = database.clone();
            scope.spawn(move || {
                for round in 0..last {
                    // Cuts make the view stale at any time: open it again and go on.
                    loop {
                        let table = database.open_table("flights").unwrap();
                        let mut batch = WriteBatch::new();
                        let id = i64::from(round % 20) * 10 + i64::from(writer) - 100;
                        batch
                            .replace(&table, flight(id, &format!("w{writer}"), round.into()))
                            .unwrap();
                        match database.write(batch) {
                            Ok(_) => break,
                            Err(Error::SchemaVersion { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            });
        }
        let path = TablePath::table("flights");
        let mut chain: BTreeMap<TablePath, _> = BTreeMap::new();
        let mut since = 0;
        for round in 0..12 {
            let how = if round == 0 {
                StreamCut::Attach
            } else {
                StreamCut::Rotate
            };
            let cut = database.cut("backup-1", &tables(), "s", how).unwrap();
            match round % 4 {
                1 => database.split(&path, &id_key(50)).unwrap(),
                2 => database.compact(&path).unwrap(),
                3 => database.merge(&path, &id_key(50)).unwrap(),
                _ => {}
            }
            for path in paths(&flights(), "flights") {
                let now = encoded(&cut, &path);
                let reached = match chain.remove(&path) {
                    None => now.clone(),
                    Some(rows) => {
                        let changes = changes(&cut, &path, since);
                        applied(rows, &changes, &types(&flights(), &path))
                    }
                };
                assert_eq!(reached, now, "{path} at cut {round}");
                chain.insert(path, reached);
            }
            since = cut.version();
            database.release_stream("s", since).unwrap();
            check(&cut, "flights");
        }
    });
    check(&database.snapshot(), "flights");
}
