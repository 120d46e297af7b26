//! Shards that a mend rebuilds beside the live ones.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

use common::mending::*;
use common::*;
use mendb_model::RowBlockBuilder;
use mendb_model::name::TablePath;
use mendb_rowstore::{Database, Error, ShardId};

fn files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("shards")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn shards(database: &Database) -> Vec<ShardId> {
    let all = TABLES.iter().flat_map(|name| paths(&flights(), name));
    let shards = all.flat_map(|path| database.shards(&path).unwrap());
    shards.map(|shard| shard.id).collect()
}

/// As [`with_tables`], with rows that are too large to lie in records.
fn with_large_rows(dir: &Path) -> (Database, Everything) {
    let database = with_tables(dir);
    for name in TABLES {
        let table = database.open_table(name).unwrap();
        let row = |id| flight(id, &"LH".repeat(200), 1);
        replace(&database, &table, (0..ROWS).map(row).collect());
    }
    let everything = everything(&database.snapshot().unwrap());
    (database, everything)
}

#[test]
fn a_rebuilt_shard_takes_the_place_of_the_live_one_and_its_file_goes_with_the_last_reader() {
    let dir = tempfile::tempdir().unwrap();
    let (database, live) = with_large_rows(dir.path());
    let wanted = mended();
    let before = shards(&database);
    for name in TABLES {
        for path in paths(&flights(), name) {
            database.compact(&path).unwrap();
        }
    }
    let files_before = files(dir.path());
    database.begin_mend(OPERATION, &names()).unwrap();
    rebuild_both(&database, &wanted);
    assert!(everything(&database.snapshot().unwrap()) == live);
    let reader = database.snapshot().unwrap();
    database.publish_mend(OPERATION).unwrap();
    assert!(everything(&reader) == live);
    assert!(
        files_before
            .iter()
            .all(|file| files(dir.path()).contains(file))
    );
    drop(reader);
    assert!(everything(&database.snapshot().unwrap()) == wanted);
    assert!(
        !files_before
            .iter()
            .any(|file| files(dir.path()).contains(file))
    );
    let after = shards(&database);
    assert!(after.iter().all(|shard| !before.contains(shard)));
    // What hides nothing is not packed.
    assert_eq!(settle(&database, OPERATION), 0);
    assert_eq!(shards(&database), after);
}

#[test]
fn what_was_rebuilt_goes_when_the_mend_is_aborted_or_never_heard_of_again() {
    for reopens in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (database, live) = with_large_rows(dir.path());
        let files_before = files(dir.path());
        let mut wanted = live.clone();
        for rows in wanted.values_mut() {
            rows.values_mut().for_each(|row| row.push(0));
        }
        // Rows of the backup as they were: all stay.
        database.begin_mend(OPERATION, &names()).unwrap();
        rebuild_both(&database, &live);
        assert!(files(dir.path()).len() > files_before.len());
        let database = if reopens {
            drop(database);
            open(dir.path())
        } else {
            database
        };
        assert!(everything(&database.mend_snapshot(OPERATION).unwrap()) == live);
        assert!(files(dir.path()).len() > files_before.len());
        database.abort_mend(OPERATION).unwrap();
        assert_eq!(files(dir.path()), files_before);
        assert!(everything(&database.snapshot().unwrap()) == live);
        drop(database);
        let database = open(dir.path());
        assert!(everything(&database.snapshot().unwrap()) == live);
        drop(wanted);
    }
}

#[test]
fn a_shard_is_mended_on_one_road_only() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_tables(dir.path());
    let wanted = mended();
    let path = TablePath::table(TABLES[0]);
    let shard = database.shards(&path).unwrap().remove(0);
    let nothing = RowBlockBuilder::new().finish();
    database.begin_mend(OPERATION, &names()).unwrap();
    stage(&database, OPERATION, TABLES[0], 0, &two_seats());
    let refused = database.rebuild_mend(shard.id, OPERATION, &[], &nothing, true);
    assert!(
        matches!(refused, Err(Error::OtherMethod { .. })),
        "{refused:?}"
    );
    database.abort_mend(OPERATION).unwrap();

    database.begin_mend(OPERATION, &names()).unwrap();
    rebuild_shard(&database, OPERATION, &shard, &wanted[&path], 50);
    let key = wanted[&path].keys().next().unwrap().clone();
    let changes = changes_of([(&key, &None)]);
    let source = mendb_rowstore::RowSource { step: 0, index: 9 };
    let refused = database.stage_mend(shard.id, OPERATION, source, &changes);
    assert!(
        matches!(refused, Err(Error::OtherMethod { .. })),
        "{refused:?}"
    );
}

#[test]
fn what_is_rebuilt_in_part_is_neither_read_nor_published() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_tables(dir.path());
    let live = everything(&database.snapshot().unwrap());
    let wanted = mended();
    let refused = |database: &Database| {
        let read = database.mend_snapshot(OPERATION).map(|_| ());
        assert!(matches!(read, Err(Error::RebuiltInPart { .. })), "{read:?}");
        let published = database.publish_mend(OPERATION);
        assert!(
            matches!(published, Err(Error::RebuiltInPart { .. })),
            "{published:?}"
        );
        assert!(everything(&database.snapshot().unwrap()) == live);
        database.abort_mend(OPERATION).unwrap();
    };
    let path = TablePath::table(TABLES[0]);
    let shard = database.shards(&path).unwrap().remove(0);
    database.begin_mend(OPERATION, &names()).unwrap();
    let mut block = RowBlockBuilder::new();
    for (key, row) in wanted[&path].iter().take(100) {
        block.push(key, row);
    }
    database
        .rebuild_mend(shard.id, OPERATION, &[], &block.finish(), false)
        .unwrap();
    refused(&database);

    // Of an index, all shards or none.
    let path = TablePath::index(TABLES[0], "by_carrier");
    let at = mendb_model::key::encode(&[mendb_model::ColumnType::Utf8], [text("C").as_ref()]);
    database.split(&path, &at).unwrap();
    let shard = database.shards(&path).unwrap().remove(1);
    database.begin_mend(OPERATION, &names()).unwrap();
    stage_both(&database);
    rebuild_shard(&database, OPERATION, &shard, &wanted[&path], 50);
    refused(&database);
}

#[test]
fn a_mend_that_rebuilds_goes_on_after_a_crash_at_every_step() {
    for options in ways() {
        let dir = tempfile::tempdir().unwrap();
        let database = with_tables_in(dir.path(), options.clone());
        let (before, after) = (everything(&database.snapshot().unwrap()), mended());
        let mut crashes = Vec::new();
        let mut crash = |published: bool| {
            let copy = tempfile::tempdir().unwrap();
            copy_directory(dir.path(), copy.path());
            crashes.push((published, copy));
        };
        database.begin_mend(OPERATION, &names()).unwrap();
        crash(false);
        for (path, rows) in &after {
            for shard in database.shards(path).unwrap() {
                let rows: Vec<_> = rows
                    .iter()
                    .filter(|(key, _)| shard.range.contains(key))
                    .collect();
                for (at, some) in rows.chunks(200).enumerate() {
                    let mut block = RowBlockBuilder::new();
                    for (key, row) in some {
                        block.push(key, row);
                    }
                    let is_last = (at + 1) * 200 >= rows.len();
                    let rebuilt =
                        database.rebuild_mend(shard.id, OPERATION, &[], &block.finish(), is_last);
                    rebuilt.unwrap();
                    crash(false);
                }
                if rows.is_empty() {
                    rebuild_shard(&database, OPERATION, &shard, &Default::default(), 1);
                }
            }
        }
        database.publish_mend(OPERATION).unwrap();
        crash(true);
        settle(&database, OPERATION);
        crash(true);
        drop(database);

        for (step, (published, copy)) in crashes.into_iter().enumerate() {
            let to_abort = tempfile::tempdir().unwrap();
            copy_directory(copy.path(), &to_abort.path().join("store"));
            let database = Database::open(copy.path(), options.clone()).unwrap();
            let seen = everything(&database.snapshot().unwrap());
            assert!(seen == *if published { &after } else { &before }, "{step}");
            if database.describe_mend(OPERATION).is_some() {
                if !published {
                    rebuild_both(&database, &after);
                    let staged = everything(&database.mend_snapshot(OPERATION).unwrap());
                    assert!(staged == after, "{step}");
                }
                database.publish_mend(OPERATION).unwrap();
                settle(&database, OPERATION);
            }
            assert!(everything(&database.snapshot().unwrap()) == after, "{step}");
            assert!(database.locks().is_empty());
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
        }
    }
}
