//! Cuts, change streams and locks.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use common::*;
use mendb_model::name::TablePath;
use mendb_model::{ChangeKind, Replaced, Value};
use mendb_rowstore::{Database, Error, HeldBack, Options, PathState, StreamCut, WriteBatch};

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
fn changes_of_a_key_fold_into_the_row_that_they_left_and_say_which_they_replaced() {
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
    let now = database.snapshot().unwrap();
    let found = changes(&now, &TablePath::table("flights"), cut.version());
    let kinds: Vec<_> = found.iter().map(|(key, c)| (key.clone(), c.kind)).collect();
    assert_eq!(
        kinds,
        [
            (id_key(1), ChangeKind::Reset),
            (id_key(2), ChangeKind::Erase),
            (id_key(3), ChangeKind::Reset)
        ]
    );
    let path = TablePath::table("flights");
    let (before, after) = (encoded(&cut, &path), encoded(&now, &path));
    for (key, change) in &found {
        let [before, after] = [&before, &after].map(|rows| rows.get(key).map(Vec::as_slice));
        assert_eq!(change.replaced, Replaced::of(key, before));
        assert_eq!(change.apply(None, &[]).unwrap().as_deref(), after);
    }
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
    assert!(
        changes(
            &database.snapshot().unwrap(),
            &TablePath::table("flights"),
            0
        )
        .is_empty()
    );
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
        changes(&database.snapshot().unwrap(), &path, 0)
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
    assert!(changes(&database.snapshot().unwrap(), &index, 0).is_empty());
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
    check(&database.snapshot().unwrap(), "flights");
}

/// A store whose change logs may hold some KiB.
fn open_narrow(dir: &tempfile::TempDir) -> Database {
    let options = Options {
        log_bytes: 8 << 10,
        ..small()
    };
    Database::open(dir.path(), options).unwrap()
}

fn write_rows(database: &Database, rounds: std::ops::Range<i64>) {
    for round in rounds {
        let table = database.open_table("flights").unwrap();
        let rows = (0..20).map(|id| flight(id, &format!("carrier {round}"), round));
        replace(database, &table, rows.collect());
    }
}

#[test]
fn the_stream_that_was_left_alone_lapses_when_the_log_is_too_large_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let database = open_narrow(&dir);
    database
        .create_table("flights", flights(), vec![id_key(0)])
        .unwrap();
    let cut = |stream: &str, how| {
        let cut = database.cut("backup-1", &tables(), stream, how)?;
        database.unlock("backup-1")?;
        Ok::<_, Error>(cut)
    };
    cut("left", StreamCut::Attach).unwrap();
    let mut rows = encoded(
        &cut("used", StreamCut::Attach).unwrap(),
        &TablePath::table("flights"),
    );
    let mut since = database.version();
    for round in 0..20 {
        write_rows(&database, round..round + 1);
        let now = cut("used", StreamCut::Rotate).unwrap();
        let path = TablePath::table("flights");
        let changes = changes(&now, &path, since);
        rows = applied(rows, &changes, &types(&flights(), &path));
        assert_eq!(rows, encoded(&now, &path));
        since = now.version();
        database.release_stream("used", since).unwrap();
    }
    let stream = |name: &str| {
        let streams = database.streams("flights").unwrap();
        streams.into_iter().find(|s| s.name == name).unwrap()
    };
    assert!(stream("left").outgrew_bytes.unwrap() > 8 << 10);
    assert_eq!(stream("used").outgrew_bytes, None);
    let error = cut("left", StreamCut::Rotate).unwrap_err();
    assert!(matches!(error, Error::StreamMissing { .. }), "{error}");
    // Begun anew, it is as good as any.
    cut("left", StreamCut::Attach).unwrap();
    assert_eq!(stream("left").outgrew_bytes, None);
    cut("left", StreamCut::Rotate).unwrap();
}

fn held_back(database: &Database) -> Vec<HeldBack> {
    let snapshot = database.snapshot().unwrap();
    snapshot.held_back("flights").unwrap()
}

#[test]
fn a_log_that_was_left_too_large_is_let_go_of_when_the_store_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_flights(&dir);
    database
        .cut("backup-1", &tables(), "s", StreamCut::Attach)
        .unwrap();
    database.unlock("backup-1").unwrap();
    write_rows(&database, 0..20);
    let held = held_back(&database).remove(0);
    assert_eq!((held.stream.as_str(), held.changes), ("s", 400));
    assert!(held.bytes > 8 << 10, "{held:?}");
    drop(database);
    let database = open_narrow(&dir);
    let streams = database.streams("flights").unwrap();
    assert!(streams[0].outgrew_bytes.is_some());
    assert_eq!(held_back(&database)[0].changes, 0);
    // What happens now is kept for nobody.
    write_rows(&database, 20..21);
    assert_eq!(held_back(&database)[0].changes, 0);
    check(&database.snapshot().unwrap(), "flights");
}

#[test]
fn each_stream_holds_back_what_came_after_its_own_last_cut() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_flights(&dir);
    for (round, stream) in [(0, "one"), (1, "two")] {
        database
            .cut("backup-1", &tables(), stream, StreamCut::Attach)
            .unwrap();
        database.unlock("backup-1").unwrap();
        write_rows(&database, round..round + 1);
    }
    let held = held_back(&database);
    let told: Vec<_> = held
        .iter()
        .map(|held| (held.stream.as_str(), held.changes))
        .collect();
    assert_eq!(told, [("one", 40), ("two", 20)]);
    assert!(held[0].bytes > held[1].bytes);
    database.detach_stream("one").unwrap();
    assert_eq!(held_back(&database).len(), 1);
}

#[test]
fn a_table_tells_how_it_came_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_flights(&dir);
    let born = database.describe("flights").unwrap().born.unwrap();
    assert_eq!((born.version, born.restored_by), (database.version(), None));
    drop(database);
    let database = open(dir.path());
    assert!(database.describe("flights").unwrap().born.is_some());
}

#[test]
fn a_store_keeps_the_first_id_that_it_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_flights(&dir);
    let version = database.version();
    assert_eq!(database.identify("a").unwrap(), "a");
    assert_eq!(database.identify("b").unwrap(), "a");
    assert_eq!(database.version(), version, "no reader sees it");
    drop(database);
    assert_eq!(open(dir.path()).identify("c").unwrap(), "a");
}
