//! Mends that are aborted, cut off and taken up again.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::ops::ControlFlow;

use common::mending::*;
use common::*;
use mendb_rowstore::Database;

#[test]
fn an_aborted_mend_leaves_everything_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_tables(dir.path());
    let before = everything(&database.snapshot().unwrap());
    let shards = |database: &Database| {
        let snapshot = database.snapshot().unwrap();
        TABLES.map(|name| snapshot.describe(name).unwrap())
    };
    let described = shards(&database);
    let since = database.version();
    for round in 0..3 {
        database.begin_mend(OPERATION, &names()).unwrap();
        stage_both(&database);
        database.abort_mend(OPERATION).unwrap();
        database.abort_mend(OPERATION).unwrap();
        assert_eq!(shards(&database), described, "round {round}");
        assert!(everything(&database.snapshot().unwrap()) == before);
    }
    for path in paths(&flights(), TABLES[0]) {
        assert!(changes(&database.snapshot().unwrap(), &path, since).is_empty());
    }
    drop(database);
    let database = open(dir.path());
    assert!(everything(&database.snapshot().unwrap()) == before);
    // No cursor is left of what was staged before.
    database.begin_mend(OPERATION, &names()).unwrap();
    stage_both(&database);
    let staged = everything(&database.mend_snapshot(OPERATION).unwrap());
    assert!(staged == mended());
}

#[test]
fn a_mend_goes_on_after_a_crash_at_every_step() {
    for options in ways() {
        let dir = tempfile::tempdir().unwrap();
        let database = with_tables_in(dir.path(), options.clone());
        let (before, after) = (everything(&database.snapshot().unwrap()), mended());
        let mut crashes = Vec::new();
        let mut crash = |step: &'static str, published: bool| {
            let copy = tempfile::tempdir().unwrap();
            copy_directory(dir.path(), copy.path());
            crashes.push((step, published, copy));
        };
        database.begin_mend(OPERATION, &names()).unwrap();
        crash("begun", false);
        let mut half = two_seats();
        let rest = half.split_off(&id_key(ROWS / 3));
        stage(&database, OPERATION, TABLES[0], 0, &half);
        crash("half staged", false);
        stage(&database, OPERATION, TABLES[0], 0, &rest);
        stage(&database, OPERATION, TABLES[1], 0, &two_seats());
        crash("staged", false);
        database.publish_mend(OPERATION).unwrap();
        crash("published", true);
        let mut broken_off = 0;
        let settle_some = || database.settle_mend(OPERATION, &mut |_| ControlFlow::Break(()));
        while settle_some().unwrap().is_break() {
            assert!(everything(&database.snapshot().unwrap()) == after);
            crash("half settled", true);
            broken_off += 1;
        }
        assert_eq!(broken_off > 0, options.compact_bytes == 0);
        crash("settled", true);
        drop(database);

        for (step, published, copy) in crashes {
            let to_abort = tempfile::tempdir().unwrap();
            copy_directory(copy.path(), &to_abort.path().join("store"));
            let database = Database::open(copy.path(), options.clone()).unwrap();
            let seen = everything(&database.snapshot().unwrap());
            assert!(seen == *if published { &after } else { &before }, "{step}");
            if let Some(mend) = database.describe_mend(OPERATION) {
                assert_eq!(mend.published_at.is_some(), published, "{step}");
                if !published {
                    stage_both(&database);
                }
                let staged = everything(&database.mend_snapshot(OPERATION).unwrap());
                assert!(staged == after, "{step}");
                database.publish_mend(OPERATION).unwrap();
                settle(&database, OPERATION);
            }
            assert!(everything(&database.snapshot().unwrap()) == after, "{step}");
            assert!(database.locks().is_empty());
            drop(database);
            let database = Database::open(copy.path(), options.clone()).unwrap();
            assert!(
                everything(&database.snapshot().unwrap()) == after,
                "{step}, again"
            );
            let table = database.open_table(TABLES[0]).unwrap();
            replace(&database, &table, vec![flight(0, "LH", 1)]);
            if published {
                continue;
            }
            let database = Database::open(&to_abort.path().join("store"), options.clone()).unwrap();
            database.abort_mend(OPERATION).unwrap();
            drop(database);
            let database = Database::open(&to_abort.path().join("store"), options.clone()).unwrap();
            assert!(
                everything(&database.snapshot().unwrap()) == before,
                "{step}, aborted"
            );
            assert!(database.locks().is_empty());
        }
    }
}

#[test]
fn mends_of_the_same_tables_over_and_over_survive_restarts() {
    let dir = tempfile::tempdir().unwrap();
    drop(with_tables(dir.path()));
    for round in 0..8i64 {
        let operation = format!("mend-{round}");
        let database = open(dir.path());
        database.begin_mend(&operation, &names()).unwrap();
        for name in TABLES {
            let rows = wanted((0..50).map(|id| flight(id, "LH", round)));
            stage(&database, &operation, name, 0, &rows);
        }
        drop(database);
        let database = open(dir.path());
        if round % 3 == 2 {
            database.abort_mend(&operation).unwrap();
            continue;
        }
        database.publish_mend(&operation).unwrap();
        drop(database);
        let database = open(dir.path());
        settle(&database, &operation);
        let table = database.open_table(TABLES[0]).unwrap();
        let first = database.snapshot().unwrap().get(&table, &[int(0)]).unwrap();
        assert_eq!(first, Some(flight(0, "LH", round)));
        check(&database.snapshot().unwrap(), TABLES[0]);
    }
}
