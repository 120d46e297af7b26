//! Tables that are mended while they are read: before, then after, never between.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use common::mending::*;
use common::*;
use mendb_model::key::KeyRange;
use mendb_model::name::TablePath;
use mendb_rowstore::{
    Database, Error, NewTable, Options, RowSource, Snapshot, Staged, StagedCounts, StreamCut,
};

#[test]
fn readers_of_two_tables_see_before_and_then_after_and_nothing_between() {
    for options in ways() {
        let dir = tempfile::tempdir().unwrap();
        let database = with_tables_in(dir.path(), options);
        let before = everything(&database.snapshot().unwrap());
        let after = mended();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let (mut seen_before, mut seen_after) = (0, 0);
                loop {
                    let last = done.load(Ordering::Acquire);
                    let seen = everything(&database.snapshot().unwrap());
                    if seen == after {
                        seen_after += 1;
                    } else {
                        assert!(seen == before, "a reader saw something between");
                        assert_eq!(seen_after, 0, "a reader saw the rows from before again");
                        seen_before += 1;
                    }
                    if last {
                        return (seen_before, seen_after);
                    }
                }
            });
            database.begin_mend(OPERATION, &names()).unwrap();
            stage_both(&database);
            let begun = everything(&database.snapshot().unwrap());
            assert!(begun == before);
            database.publish_mend(OPERATION).unwrap();
            assert!(everything(&database.snapshot().unwrap()) == after);
            settle(&database, OPERATION);
            done.store(true, Ordering::Release);
            let (_, seen_after) = reader.join().unwrap();
            assert!(seen_after > 0);
        });
        assert!(database.locks().is_empty());
    }
}

#[test]
fn snapshots_from_before_go_on_reading_what_they_saw() {
    for options in ways() {
        let dir = tempfile::tempdir().unwrap();
        let database = with_tables_in(dir.path(), options);
        let mut seen = Vec::new();
        let mut remember = |snapshot: Snapshot| {
            let all = everything(&snapshot);
            seen.push((snapshot, all));
        };
        remember(database.snapshot().unwrap());
        database.begin_mend(OPERATION, &names()).unwrap();
        // From before there is any layer.
        remember(database.snapshot().unwrap());
        remember(database.mend_snapshot(OPERATION).unwrap());
        stage_both(&database);
        remember(database.snapshot().unwrap());
        remember(database.mend_snapshot(OPERATION).unwrap());
        database.publish_mend(OPERATION).unwrap();
        remember(database.snapshot().unwrap());
        settle(&database, OPERATION);
        remember(database.snapshot().unwrap());
        // Another mend of the same shards, while what the first one had is still held.
        database.begin_mend("mend-2", &names()).unwrap();
        for name in TABLES {
            stage(&database, "mend-2", name, 0, &gone(0..ROWS));
        }
        remember(database.mend_snapshot("mend-2").unwrap());
        database.abort_mend("mend-2").unwrap();
        for name in TABLES {
            database.compact(&TablePath::table(name)).unwrap();
            database.drop_table(name).unwrap();
        }
        for (at, (snapshot, all)) in seen.iter().enumerate() {
            assert!(everything(snapshot) == *all, "snapshot {at} changed");
        }
    }
}

#[test]
fn only_rows_that_differ_are_staged_and_staging_again_stages_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_tables(dir.path());
    database.begin_mend(OPERATION, &names()).unwrap();
    let mut some = wanted((0..10).map(|id| flight(id, "LH", 1)));
    some.extend(wanted((10..14).map(|id| flight(id, "BA", 3))));
    some.extend(wanted((9_000..9_002).map(|id| flight(id, "BA", 3))));
    some.extend(gone(20..23));
    some.extend(gone(8_000..8_004));
    let first = stage(&database, OPERATION, TABLES[0], 0, &some);
    let expected = StagedCounts {
        upserted: 6,
        erased: 3,
        kept: 14,
        bytes: first.bytes,
    };
    assert_eq!(first, expected);
    assert!(first.bytes > 6 * 8, "{first:?}");
    let again = stage(&database, OPERATION, TABLES[0], 0, &some);
    assert_eq!(again, StagedCounts::default());
    // From another source they are compared, and are as they are wanted.
    let other = stage(&database, OPERATION, TABLES[0], 1, &some);
    let kept = StagedCounts {
        kept: 23,
        ..StagedCounts::default()
    };
    assert_eq!(other, kept);
    // Back to what is live, and to what never was.
    let mut back = wanted([flight(10, "LH", 1), flight(20, "LH", 1)]);
    back.extend(gone([9_000]));
    let back = stage(&database, OPERATION, TABLES[0], 2, &back);
    let expected = StagedCounts {
        upserted: 2,
        erased: 1,
        kept: 0,
        bytes: back.bytes,
    };
    assert_eq!(back, expected);
    let cut = database.version();
    database.publish_mend(OPERATION).unwrap();
    settle(&database, OPERATION);
    check(&database.snapshot().unwrap(), TABLES[0]);
    let logged = changes(
        &database.snapshot().unwrap(),
        &TablePath::table(TABLES[0]),
        cut,
    );
    // Three upserts and one insert, two erases, and three that were changed and changed back.
    assert_eq!(logged.len(), 9);

    database.begin_mend("mend-2", &names()).unwrap();
    let mut wanted_again = some;
    wanted_again.extend(wanted([flight(10, "LH", 1), flight(20, "LH", 1)]));
    wanted_again.extend(gone([9_000]));
    let second = stage(&database, "mend-2", TABLES[0], 0, &wanted_again);
    assert_eq!(second, kept);
    database.publish_mend("mend-2").unwrap();
    assert_eq!(settle(&database, "mend-2"), 0);
}

#[test]
fn what_is_to_be_published_is_proved_before() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_tables(dir.path());
    let path = TablePath::table(TABLES[0]);
    let range = KeyRange {
        start: id_key(100),
        end: Some(id_key(400)),
    };
    let live = database.snapshot().unwrap();
    let live_digest = live.read_digest(&path, &range).unwrap();
    database.begin_mend(OPERATION, &names()).unwrap();
    stage_both(&database);
    let staged = database.mend_snapshot(OPERATION).unwrap();
    let digest = staged.describe(TABLES[0]).unwrap().rows.digest();
    let read = staged.read_digest(&path, &KeyRange::all()).unwrap();
    assert_eq!(digest, read);
    assert_ne!(staged.read_digest(&path, &range).unwrap(), live_digest);
    let now = database.snapshot().unwrap();
    assert_eq!(now.read_digest(&path, &range).unwrap(), live_digest);
    database.publish_mend(OPERATION).unwrap();
    let published = database.describe(TABLES[0]).unwrap();
    assert_eq!(published.rows.digest(), digest);
    settle(&database, OPERATION);
    assert_eq!(database.describe(TABLES[0]).unwrap().rows.digest(), digest);
}

#[test]
fn change_streams_carry_exactly_what_a_mend_changed() {
    for options in ways() {
        let dir = tempfile::tempdir().unwrap();
        let database = with_tables_in(dir.path(), options);
        let before = database.snapshot().unwrap();
        let old = everything(&before);
        database.begin_mend(OPERATION, &names()).unwrap();
        stage_both(&database);
        // The state before can be cut by the operation itself, with the writers kept out.
        let cut = database
            .cut(OPERATION, &names(), "s", StreamCut::Rotate)
            .unwrap();
        assert!(everything(&cut) == old);
        database.publish_mend(OPERATION).unwrap();
        let late = database.cut(OPERATION, &names(), "s", StreamCut::Rotate);
        assert!(matches!(late, Err(Error::BeingMended { .. })));
        settle(&database, OPERATION);
        let after = database
            .cut("backup-2", &names(), "s", StreamCut::Rotate)
            .unwrap();
        let new = everything(&after);
        for (path, old) in &old {
            let changes = changes(&after, path, cut.version());
            let new = &new[path];
            let differing = old
                .keys()
                .chain(new.keys())
                .filter(|key| old.get(*key) != new.get(*key));
            let differing: std::collections::BTreeSet<_> = differing.collect();
            assert!(changes.keys().eq(differing), "changed keys of {path}");
            let reached = applied(old.clone(), &changes, &types(&flights(), path));
            assert!(reached == *new, "changes of {path}");
        }
    }
}

#[test]
fn a_table_that_was_dropped_comes_back_in_the_commit_that_shows_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_tables(dir.path());
    database.begin_mend(OPERATION, &names()).unwrap();
    stage_both(&database);
    let dropped = NewTable {
        name: "delays".to_owned(),
        schema: flights(),
        versions: database.describe(TABLES[0]).unwrap().versions,
        splits: std::collections::BTreeMap::new(),
    };
    database.create_restoring(OPERATION, vec![dropped]).unwrap();
    let table = database.open_table("delays").unwrap();
    let hidden = database.snapshot().unwrap();
    let refused = hidden.get(&table, &[int(1)]);
    assert!(matches!(refused, Err(Error::BeingRestored { .. })));
    let ahead = database.mend_snapshot(OPERATION).unwrap();
    assert_eq!(ahead.get(&table, &[int(1)]).unwrap(), None);
    let version = database.publish_mend(OPERATION).unwrap();
    let published = database.snapshot().unwrap();
    assert_eq!(published.version(), version);
    assert_eq!(published.get(&table, &[int(1)]).unwrap(), None);
    assert!(everything(&published) == mended());
    settle(&database, OPERATION);
    assert!(database.locks().is_empty());
}

#[test]
fn readers_notice_nothing_of_settling_and_streams_can_go_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    {
        let database = with_tables_in(dir.path(), packed());
        let after = mended();
        database.begin_mend(OPERATION, &names()).unwrap();
        stage_both(&database);
        database.publish_mend(OPERATION).unwrap();
        let mut batches = 0;
        let settled = database.settle_mend(OPERATION, &mut |_| {
            batches += 1;
            assert!(
                everything(&database.snapshot().unwrap()) == after,
                "batch {batches}"
            );
            match batches {
                2 => database.release_stream("s", database.version()).unwrap(),
                4 => database.detach_stream("s").unwrap(),
                _ => {}
            }
            ControlFlow::Continue(())
        });
        assert!(settled.unwrap().is_continue());
        assert!(batches > 4);
        assert!(everything(&database.snapshot().unwrap()) == after);
        drop(database);
        assert!(everything(&open(dir.path()).snapshot().unwrap()) == after);
    }
}

#[test]
fn two_may_settle_at_once() {
    for options in ways() {
        let dir = tempfile::tempdir().unwrap();
        let database = with_tables_in(dir.path(), options);
        let cut = database.version();
        let before = everything(&database.snapshot().unwrap());
        database.begin_mend(OPERATION, &names()).unwrap();
        stage_both(&database);
        database.publish_mend(OPERATION).unwrap();
        std::thread::scope(|scope| {
            let settling = [(); 2].map(|()| scope.spawn(|| settle(&database, OPERATION)));
            for settling in settling {
                settling.join().unwrap();
            }
        });
        let after = database.snapshot().unwrap();
        assert!(everything(&after) == mended());
        for path in TABLES.iter().flat_map(|name| paths(&flights(), name)) {
            let reached = applied(
                before[&path].clone(),
                &changes(&after, &path, cut),
                &types(&flights(), &path),
            );
            assert!(reached == encoded(&after, &path), "changes of {path}");
        }
        assert!(database.locks().is_empty());
    }
}

#[test]
fn many_rows_are_staged_in_bounded_batches_and_packed_by_shards() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path(), packed()).unwrap();
    database.create_table("flights", flights(), vec![]).unwrap();
    let tables = ["flights".to_owned()];
    let all = wanted((0..80_000).map(|id| flight(id, &"x".repeat(100), id)));
    let begun_at = database.begin_mend(OPERATION, &tables).unwrap();
    stage(&database, OPERATION, "flights", 0, &all);
    assert!(database.version() >= begun_at + 2, "more than one commit");
    database.publish_mend(OPERATION).unwrap();
    let mut shards = Vec::new();
    let settled = database.settle_mend(OPERATION, &mut |rows| {
        shards.push(rows);
        ControlFlow::Continue(())
    });
    assert!(settled.unwrap().is_continue());
    assert_eq!(shards, [80_000; 3], "the table and two indexes");
    check(&database.snapshot().unwrap(), "flights");
}

#[test]
fn what_a_stream_has_let_go_of_is_gone_when_a_mend_ends() {
    for options in ways() {
        let dir = tempfile::tempdir().unwrap();
        let database = with_tables_in(dir.path(), options);
        let table = database.open_table(TABLES[0]).unwrap();
        replace(&database, &table, vec![flight(5_000, "LH", 1)]);
        database.begin_mend(OPERATION, &names()).unwrap();
        stage_both(&database);
        let cut = database.cut(OPERATION, &names(), "s", StreamCut::Rotate);
        let cut = cut.unwrap().version();
        database.publish_mend(OPERATION).unwrap();
        database.release_stream("s", cut).unwrap();
        let path = TablePath::table(TABLES[0]);
        let held = database.snapshot().unwrap();
        let logged = changes(&held, &path, 0);
        settle(&database, OPERATION);
        assert!(logged.contains_key(&id_key(5_000)));
        assert!(changes(&held, &path, 0) == logged, "snapshots go on");
        let snapshot = database.snapshot().unwrap();
        let (all, needed) = (changes(&snapshot, &path, 0), changes(&snapshot, &path, cut));
        assert!(!all.contains_key(&id_key(5_000)));
        assert!(!needed.is_empty() && all == needed);
    }
}

#[test]
fn the_shards_that_are_left_can_be_rewritten_and_each_change_is_logged_once() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path(), packed()).unwrap();
    database.create_table("flights", flights(), vec![]).unwrap();
    let tables = ["flights".to_owned()];
    let cut = database
        .cut("backup-1", &tables, "s", StreamCut::Attach)
        .unwrap()
        .version();
    database.unlock("backup-1").unwrap();
    let all = wanted((0..80_000).map(|id| flight(id, &"x".repeat(100), id)));
    database.begin_mend(OPERATION, &tables).unwrap();
    stage(&database, OPERATION, "flights", 0, &all);
    database.publish_mend(OPERATION).unwrap();
    let mut settled = 0;
    let broken = database.settle_mend(OPERATION, &mut |rows| {
        settled += rows;
        ControlFlow::Break(())
    });
    assert!(broken.unwrap().is_break());
    assert_eq!(settled % 80_000, 0, "whole shards");
    drop(database);

    let database = Database::open(dir.path(), packed()).unwrap();
    assert_eq!(settled + settle(&database, OPERATION), 3 * 80_000);
    let snapshot = database.snapshot().unwrap();
    check(&snapshot, "flights");
    for path in paths(&flights(), "flights") {
        let changes = changes(&snapshot, &path, cut);
        let rows = encoded(&snapshot, &path);
        assert!(changes.keys().eq(rows.keys()), "changes of {path}");
    }
    assert!(database.locks().is_empty());
}

#[test]
fn a_shard_that_a_mend_makes_too_large_is_relieved_when_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        split_bytes: 128 << 10,
        compact_bytes: 32 << 10,
        ..small()
    };
    let database = Database::open(dir.path(), options).unwrap();
    database.create_table("flights", flights(), vec![]).unwrap();
    let path = TablePath::table("flights");
    database
        .begin_mend(OPERATION, &["flights".to_owned()])
        .unwrap();
    let all = wanted((0..8_000).map(|id| flight(id, "LH", 1)));
    stage(&database, OPERATION, "flights", 0, &all);
    database.publish_mend(OPERATION).unwrap();
    assert_eq!(database.shards(&path).unwrap().len(), 1);
    settle(&database, OPERATION);
    assert!(database.shards(&path).unwrap().len() > 1);
    check(&database.snapshot().unwrap(), "flights");
    assert!(encoded(&database.snapshot().unwrap(), &path) == rows_of_wanted(&all));
}

#[test]
fn a_shard_is_not_written_anew_to_be_split_for_rows_that_mends_have_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        split_bytes: 512 << 10,
        compact_bytes: u64::MAX,
        ..small()
    };
    let database = Database::open(dir.path(), options).unwrap();
    database.create_table("flights", flights(), vec![]).unwrap();
    let path = TablePath::table("flights");
    let mut packed = Vec::new();
    for seats in 1..=8 {
        let operation = format!("mend-{seats}");
        database
            .begin_mend(&operation, &["flights".to_owned()])
            .unwrap();
        let all = wanted((0..6_000).map(|id| flight(id, "LH", seats)));
        stage(&database, &operation, "flights", 0, &all);
        database.publish_mend(&operation).unwrap();
        settle(&database, &operation);
        if seats == 1 {
            database.compact(&path).unwrap();
            packed = database.shards(&path).unwrap();
        }
    }
    assert_eq!(database.shards(&path).unwrap(), packed);
    check(&database.snapshot().unwrap(), "flights");
}

#[test]
fn shards_stage_in_parallel_into_the_same_index() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_tables(dir.path());
    database.begin_mend(OPERATION, &names()).unwrap();
    std::thread::scope(|scope| {
        for shard in database.shards(&TablePath::table(TABLES[0])).unwrap() {
            let database = &database;
            scope.spawn(move || {
                let all = two_seats();
                let of_shard: Vec<_> = all
                    .iter()
                    .filter(|(key, _)| shard.range.contains(key))
                    .collect();
                for some in of_shard.chunks(7) {
                    let changes = changes_of(some.iter().copied());
                    let source = RowSource { step: 0, index: 0 };
                    let staged = database.stage_mend(shard.id, OPERATION, source, &changes);
                    assert!(matches!(staged, Ok(Staged::Done(_))));
                }
            });
        }
    });
    stage(&database, OPERATION, TABLES[1], 0, &two_seats());
    let staged = everything(&database.mend_snapshot(OPERATION).unwrap());
    assert!(staged == mended());
}

#[test]
fn rows_are_looked_up_by_many_keys_through_layer_delta_and_base() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_tables(dir.path());
    database.begin_mend(OPERATION, &names()).unwrap();
    stage_both(&database);
    for snapshot in [
        database.snapshot().unwrap(),
        database.mend_snapshot(OPERATION).unwrap(),
    ] {
        for path in paths(&flights(), TABLES[0]) {
            let rows = encoded(&snapshot, &path);
            // Every key that is there, one before and one after each.
            let keys: std::collections::BTreeSet<Vec<u8>> = rows
                .keys()
                .flat_map(|key| {
                    let before = key[..key.len() - 1].to_vec();
                    [before, key.clone(), [key.as_slice(), &[0]].concat()]
                })
                .collect();
            for reversed in [false, true] {
                let mut keys: Vec<_> = keys.iter().collect();
                if reversed {
                    keys.reverse();
                }
                let found = snapshot.rows_of(&path, keys.iter().copied()).unwrap();
                for (key, row) in keys.iter().zip(found) {
                    assert_eq!(row.unwrap().as_ref(), rows.get(*key));
                }
            }
        }
    }
}

#[test]
fn what_several_sources_say_of_a_key_is_logged_once_and_the_last_counts() {
    for (options, is_packed) in [(unpacked(), false), (packed(), true)] {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(dir.path(), options).unwrap();
        let path = TablePath::table("flights");
        database.create_table("flights", flights(), vec![]).unwrap();
        let table = database.open_table("flights").unwrap();
        replace(
            &database,
            &table,
            (0..3).map(|id| flight(id, "LH", 1)).collect(),
        );
        let tables = ["flights".to_owned()];
        let cut = database
            .cut("backup-1", &tables, "s", StreamCut::Attach)
            .unwrap();
        database.unlock("backup-1").unwrap();
        let before = encoded(&cut, &path);

        database.begin_mend(OPERATION, &tables).unwrap();
        for source in 0..3 {
            // Each fills a block by itself.
            let code = |id| text(&format!("{id} {}", "code".repeat(5_000)));
            let rows = [1, 2].map(|id| vec![int(id), text("LH"), int(source.into()), code(id)]);
            stage(&database, OPERATION, "flights", source, &wanted(rows));
        }
        database.publish_mend(OPERATION).unwrap();
        settle(&database, OPERATION);
        if is_packed {
            database.compact(&path).unwrap();
        }
        let snapshot = database.snapshot().unwrap();
        let changed = changes(&snapshot, &path, cut.version());
        let reached = applied(before, &changed, &types(&flights(), &path));
        assert!(reached == encoded(&snapshot, &path));
        assert_eq!(snapshot.held_back("flights").unwrap()[0].changes, 2);
    }
}

#[test]
fn a_snapshot_of_a_mend_reads_the_same_when_it_was_given_up_and_another_stages() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path(), unpacked()).unwrap();
    database.create_table("flights", flights(), vec![]).unwrap();
    let tables = ["flights".to_owned()];
    let path = TablePath::table("flights");
    let all = |seats| (0..9_000).map(move |id| flight(id, "LH", seats));
    database.begin_mend(OPERATION, &tables).unwrap();
    stage(&database, OPERATION, "flights", 0, &wanted(all(1)));
    let looked = database.mend_snapshot(OPERATION).unwrap();
    let before = encoded(&looked, &path);
    database.abort_mend(OPERATION).unwrap();
    database.begin_mend(OPERATION, &tables).unwrap();
    stage(&database, OPERATION, "flights", 0, &wanted(all(2)));
    assert!(encoded(&looked, &path) == before);
}
