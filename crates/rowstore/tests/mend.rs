//! Tables that are mended while they are read: before, then after, never between.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use common::mending::*;
use common::*;
use mendb_model::key::KeyRange;
use mendb_model::name::TablePath;
use mendb_model::{Change, ColumnType, RowBlockBuilder, Value};
use mendb_rowstore::{
    Database, Error, MendDescription, Options, PathState, Snapshot, Source, Staged, StagedRows,
    StreamCut, WriteBatch,
};

const OPERATION: &str = "mend-1";
const TABLES: [&str; 2] = ["arrivals", "departures"];
const ROWS: i64 = 600;

fn names() -> Vec<String> {
    TABLES.map(str::to_owned).into()
}

/// Two tables of flights in two shards each, partly packed, all with one seat and a change stream.
fn with_tables(dir: &std::path::Path) -> Database {
    let database = open(dir);
    for name in TABLES {
        database
            .create_table(name, flights(), vec![id_key(ROWS / 2)])
            .unwrap();
        let table = database.open_table(name).unwrap();
        let row = |id| flight(id, "LH", 1);
        replace(&database, &table, (0..ROWS).map(row).collect());
        database.compact(&TablePath::table(name)).unwrap();
        replace(&database, &table, (ROWS..ROWS + 20).map(row).collect());
    }
    database
        .cut("backup-1", &names(), "s", StreamCut::Attach)
        .unwrap();
    database.unlock("backup-1").unwrap();
    database
}

/// Wanted: two seats everywhere, every tenth row gone, some new ones.
fn two_seats() -> Wanted {
    let mut all =
        wanted((0..ROWS + 40).map(|id| flight(id, if id % 2 == 0 { "LH" } else { "BA" }, 2)));
    all.extend(gone((0..ROWS).step_by(10)));
    all
}

fn rows_of_wanted(wanted: &Wanted) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let rows = wanted.iter();
    rows.filter_map(|(key, row)| Some((key.clone(), row.clone()?)))
        .collect()
}

type Everything = BTreeMap<TablePath, BTreeMap<Vec<u8>, Vec<u8>>>;

/// All rows of both tables and their indexes; checks each table on the way.
fn everything(snapshot: &Snapshot) -> Everything {
    let mut all = Everything::new();
    for name in TABLES {
        check(snapshot, name);
        for path in paths(&flights(), name) {
            let rows = encoded(snapshot, &path);
            all.insert(path, rows);
        }
    }
    all
}

/// What is there after the mend, worked out by writing it as a client.
fn mended() -> Everything {
    let dir = tempfile::tempdir().unwrap();
    let database = with_tables(dir.path());
    for name in TABLES {
        let table = database.open_table(name).unwrap();
        let mut batch = WriteBatch::new();
        for id in 0..ROWS + 40 {
            if id < ROWS && id % 10 == 0 {
                batch.erase(&table, vec![int(id)]).unwrap();
            } else {
                let carrier = if id % 2 == 0 { "LH" } else { "BA" };
                batch.replace(&table, flight(id, carrier, 2)).unwrap();
            }
        }
        database.write(batch).unwrap();
    }
    everything(&database.snapshot())
}

fn stage_both(database: &Database) {
    for name in TABLES {
        stage(database, OPERATION, name, 0, &two_seats());
    }
}

#[test]
fn readers_of_two_tables_see_before_and_then_after_and_nothing_between() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_tables(dir.path());
    let before = everything(&database.snapshot());
    let after = mended();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut seen_before, mut seen_after) = (0, 0);
            loop {
                let last = done.load(Ordering::Acquire);
                let seen = everything(&database.snapshot());
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
        let begun = everything(&database.snapshot());
        assert!(begun == before);
        database.publish_mend(OPERATION).unwrap();
        assert!(everything(&database.snapshot()) == after);
        settle(&database, OPERATION);
        done.store(true, Ordering::Release);
        let (_, seen_after) = reader.join().unwrap();
        assert!(seen_after > 0);
    });
    assert!(database.locks().is_empty());
}

#[test]
fn snapshots_from_before_go_on_reading_what_they_saw() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_tables(dir.path());
    let mut seen = Vec::new();
    let mut remember = |snapshot: Snapshot| {
        let all = everything(&snapshot);
        seen.push((snapshot, all));
    };
    remember(database.snapshot());
    database.begin_mend(OPERATION, &names()).unwrap();
    // From before there is any layer.
    remember(database.snapshot());
    remember(database.mend_snapshot(OPERATION).unwrap());
    stage_both(&database);
    remember(database.snapshot());
    remember(database.mend_snapshot(OPERATION).unwrap());
    database.publish_mend(OPERATION).unwrap();
    remember(database.snapshot());
    settle(&database, OPERATION);
    remember(database.snapshot());
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
    let expected = StagedRows {
        upserted: 6,
        erased: 3,
        kept: 14,
    };
    assert_eq!(first, expected);
    let again = stage(&database, OPERATION, TABLES[0], 0, &some);
    assert_eq!(again, StagedRows::default());
    // From another source they are compared, and are as they are wanted.
    let other = stage(&database, OPERATION, TABLES[0], 1, &some);
    let kept = StagedRows {
        kept: 23,
        ..StagedRows::default()
    };
    assert_eq!(other, kept);
    // Back to what is live, and to what never was.
    let mut back = wanted([flight(10, "LH", 1), flight(20, "LH", 1)]);
    back.extend(gone([9_000]));
    let back = stage(&database, OPERATION, TABLES[0], 2, &back);
    let expected = StagedRows {
        upserted: 2,
        erased: 1,
        kept: 0,
    };
    assert_eq!(back, expected);
    database.publish_mend(OPERATION).unwrap();
    let cut = database.snapshot().version();
    settle(&database, OPERATION);
    check(&database.snapshot(), TABLES[0]);
    let logged = changes(&database.snapshot(), &TablePath::table(TABLES[0]), cut);
    assert_eq!(logged.len(), 6, "three upserts and one insert, two erases");

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
fn what_would_change_a_table_is_refused_with_the_operation_while_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_tables(dir.path());
    let name = TABLES[0];
    let path = TablePath::table(name);
    let begun_at = database.begin_mend(OPERATION, &names()).unwrap();
    assert_eq!(database.begin_mend(OPERATION, &names()).unwrap(), begun_at);
    let table = database.open_table(name).unwrap();
    let refused = |result: Result<(), Error>| {
        let error = result.unwrap_err();
        assert_eq!(
            error.to_string(),
            "table arrivals is being mended by operation mend-1 and cannot be changed until it is done; \
             wait for it or cancel it: mendb operation cancel mend-1"
        );
        assert!(error.is_retriable());
    };
    let all_refused = || {
        let mut batch = WriteBatch::new();
        batch.replace(&table, flight(1, "LH", 9)).unwrap();
        refused(database.write(batch).map(drop));
        refused(database.drop_table(name));
        refused(database.add_column(name, column("x", ColumnType::Bool, false)));
        refused(database.split(&path, &id_key(7)));
        refused(database.merge(&path, &id_key(ROWS / 2)));
        refused(database.compact(&path));
        refused(database.begin_mend("mend-2", &names()).map(drop));
        let cut = database.cut("backup-2", &names(), "s", StreamCut::Rotate);
        refused(cut.map(drop));
    };
    all_refused();
    let state = |published_at| PathState::Mending {
        operation: OPERATION.to_owned(),
        begun_at,
        published_at,
    };
    let locks = |published_at| TABLES.map(|name| (name.to_owned(), state(published_at)));
    assert_eq!(database.locks(), locks(None));
    let described = |published_at| MendDescription {
        tables: names(),
        begun_at,
        published_at,
    };
    assert_eq!(database.describe_mend(OPERATION), Some(described(None)));
    assert_eq!(rows(&database.snapshot(), &table).len() as i64, ROWS + 20);

    let published_at = database.publish_mend(OPERATION).unwrap();
    assert_eq!(database.publish_mend(OPERATION).unwrap(), published_at);
    all_refused();
    assert_eq!(database.locks(), locks(Some(published_at)));
    let found = database.describe_mend(OPERATION);
    assert_eq!(found, Some(described(Some(published_at))));

    settle(&database, OPERATION);
    settle(&database, OPERATION);
    assert_eq!(database.describe_mend(OPERATION), None);
    replace(&database, &table, vec![flight(1, "LH", 9)]);
    database.split(&path, &id_key(7)).unwrap();
    check(&database.snapshot(), name);
}

#[test]
fn a_mend_is_asked_for_in_order_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_tables(dir.path());
    let source = Source { step: 0, index: 0 };
    let shard = database.shards(&TablePath::table(TABLES[0])).unwrap()[0].id;
    let changes = changes_of(&wanted([flight(1, "LH", 5)]));
    let stage = |operation: &str| database.stage_mend(shard, operation, source, &changes);
    let says = |error: Error, text: &str| assert_eq!(error.to_string(), text);
    says(
        stage(OPERATION).unwrap_err(),
        "table arrivals is not being mended by operation mend-1",
    );
    says(
        database.publish_mend(OPERATION).unwrap_err(),
        "operation mend-1 is mending no table",
    );
    assert!(matches!(
        database.mend_snapshot(OPERATION),
        Err(Error::NoMend { .. })
    ));
    let missing = database.begin_mend(OPERATION, &["arrivals".to_owned(), "x".to_owned()]);
    assert!(matches!(missing, Err(Error::TableMissing(_))));
    assert!(database.locks().is_empty(), "all tables or none");

    database.begin_mend(OPERATION, &names()).unwrap();
    let others = database.begin_mend(OPERATION, &names()[..1]);
    says(
        others.unwrap_err(),
        "operation mend-1 is mending other tables already: arrivals, departures",
    );
    assert!(matches!(stage("mend-2"), Err(Error::NotMending { .. })));
    let index = TablePath::index(TABLES[0], "by_carrier");
    let index = database.shards(&index).unwrap()[0].id;
    let into_index = database.stage_mend(index, OPERATION, source, &changes);
    assert!(matches!(into_index, Err(Error::IndexShard { .. })));
    let unsettled = database.settle_mend(OPERATION, &mut |_| ControlFlow::Continue(()));
    says(
        unsettled.unwrap_err(),
        "the mend of operation mend-1 is not published yet; publish it first",
    );
    assert!(matches!(stage(OPERATION), Ok(Staged::Done(_))));
    database.publish_mend(OPERATION).unwrap();
    let published = "the mend of operation mend-1 is published, readers see it; undo it instead: \
                     mendb undo mend-1";
    says(stage(OPERATION).unwrap_err(), published);
    says(database.abort_mend(OPERATION).unwrap_err(), published);
    settle(&database, OPERATION);
    database.abort_mend(OPERATION).unwrap();
    database.drop_table(TABLES[0]).unwrap();
    assert_eq!(stage(OPERATION).unwrap(), Staged::Gone);
}

#[test]
fn changes_that_are_not_whole_rows_in_order_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_tables(dir.path());
    database.begin_mend(OPERATION, &names()).unwrap();
    let before = everything(&database.mend_snapshot(OPERATION).unwrap());
    let shard = database.shards(&TablePath::table(TABLES[0])).unwrap()[0].id;
    let stage = |changes: &[(i64, Vec<u8>)]| {
        let mut block = RowBlockBuilder::new();
        for (id, change) in changes {
            block.push(&id_key(*id), change);
        }
        let source = Source { step: 0, index: 0 };
        database.stage_mend(shard, OPERATION, source, &block.finish())
    };
    let row = value(&flights(), &flight(1, "LH", 7));
    let reset = Change::reset(row.clone(), 1).encode();
    let partial = Change::upsert(mendb_model::ColumnSet::of([1]), row.clone(), 1).encode();
    let partial = stage(&[(1, reset.clone()), (2, partial)]);
    assert!(matches!(partial, Err(Error::PartialChange { .. })));
    let unordered = stage(&[(2, reset.clone()), (1, reset.clone())]);
    assert!(matches!(unordered, Err(Error::Unordered { .. })));
    let outside = stage(&[(ROWS, reset.clone())]);
    assert!(matches!(outside, Err(Error::WrongShard { .. })));
    let cut_off = Change::reset(row[..row.len() - 1].to_vec(), 1).encode();
    for bad in [cut_off, b"no change".to_vec()] {
        let damaged = stage(&[(1, reset.clone()), (2, bad)]).unwrap_err();
        let text = format!("a change for shard {shard} of arrivals is damaged");
        assert!(damaged.to_string().starts_with(&text), "{damaged}");
    }
    assert!(everything(&database.mend_snapshot(OPERATION).unwrap()) == before);
}

#[test]
fn an_aborted_mend_leaves_everything_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_tables(dir.path());
    let before = everything(&database.snapshot());
    let shards = |database: &Database| {
        let snapshot = database.snapshot();
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
        assert!(everything(&database.snapshot()) == before);
    }
    for path in paths(&flights(), TABLES[0]) {
        assert!(changes(&database.snapshot(), &path, since).is_empty());
    }
    drop(database);
    let database = open(dir.path());
    assert!(everything(&database.snapshot()) == before);
    // No cursor is left of what was staged before.
    database.begin_mend(OPERATION, &names()).unwrap();
    stage_both(&database);
    let staged = everything(&database.mend_snapshot(OPERATION).unwrap());
    assert!(staged == mended());
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
    let live = database.snapshot();
    let live_digest = live.read_digest(&path, &range).unwrap();
    database.begin_mend(OPERATION, &names()).unwrap();
    stage_both(&database);
    let staged = database.mend_snapshot(OPERATION).unwrap();
    let digest = staged.describe(TABLES[0]).unwrap().rows.digest();
    let read = staged.read_digest(&path, &KeyRange::all()).unwrap();
    assert_eq!(digest, read);
    assert_ne!(staged.read_digest(&path, &range).unwrap(), live_digest);
    let now = database.snapshot();
    assert_eq!(now.read_digest(&path, &range).unwrap(), live_digest);
    database.publish_mend(OPERATION).unwrap();
    let published = database.describe(TABLES[0]).unwrap();
    assert_eq!(published.rows.digest(), digest);
    settle(&database, OPERATION);
    assert_eq!(database.describe(TABLES[0]).unwrap().rows.digest(), digest);
}

#[test]
fn change_streams_carry_exactly_what_a_mend_changed() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_tables(dir.path());
    let before = database.snapshot();
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

#[test]
fn a_mend_goes_on_after_a_crash_at_every_step() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_tables(dir.path());
    let (before, after) = (everything(&database.snapshot()), mended());
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
    for batches in 1..4 {
        let mut left = batches;
        let broken = database.settle_mend(OPERATION, &mut |_| {
            left -= 1;
            match left {
                0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        });
        assert!(broken.unwrap().is_break());
        assert!(everything(&database.snapshot()) == after);
        crash("half settled", true);
    }
    settle(&database, OPERATION);
    crash("settled", true);
    drop(database);

    for (step, published, copy) in crashes {
        let to_abort = tempfile::tempdir().unwrap();
        copy_directory(copy.path(), &to_abort.path().join("store"));
        let database = open(copy.path());
        let seen = everything(&database.snapshot());
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
        assert!(everything(&database.snapshot()) == after, "{step}");
        assert!(database.locks().is_empty());
        drop(database);
        let database = open(copy.path());
        assert!(everything(&database.snapshot()) == after, "{step}, again");
        let table = database.open_table(TABLES[0]).unwrap();
        replace(&database, &table, vec![flight(0, "LH", 1)]);
        if published {
            continue;
        }
        let database = open(&to_abort.path().join("store"));
        database.abort_mend(OPERATION).unwrap();
        drop(database);
        let database = open(&to_abort.path().join("store"));
        assert!(
            everything(&database.snapshot()) == before,
            "{step}, aborted"
        );
        assert!(database.locks().is_empty());
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
        let first = database.snapshot().get(&table, &[int(0)]).unwrap();
        assert_eq!(first, Some(flight(0, "LH", round)));
        check(&database.snapshot(), TABLES[0]);
    }
}

#[test]
fn a_row_whose_index_key_would_be_too_long_is_refused_with_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_tables(dir.path());
    database.begin_mend(OPERATION, &names()).unwrap();
    let before = database.version();
    let long = vec![int(1), text(&"x".repeat(1 << 20)), int(1), Value::Null];
    let error = database.stage_mend(
        database.shards(&TablePath::table(TABLES[0])).unwrap()[0].id,
        OPERATION,
        Source { step: 0, index: 0 },
        &changes_of(&wanted([long])),
    );
    assert!(
        matches!(&error, Err(Error::KeyTooLong { path, .. }) if path == "arrivals/by_carrier"),
        "{error:?}"
    );
    assert_eq!(database.version(), before);
}

#[test]
fn many_rows_are_staged_and_settled_in_bounded_batches() {
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    database.create_table("flights", flights(), vec![]).unwrap();
    let tables = ["flights".to_owned()];
    let all = wanted((0..80_000).map(|id| flight(id, &"x".repeat(100), id)));
    let begun_at = database.begin_mend(OPERATION, &tables).unwrap();
    stage(&database, OPERATION, "flights", 0, &all);
    assert!(database.version() >= begun_at + 2, "more than one commit");
    database.publish_mend(OPERATION).unwrap();
    let mut batches = Vec::new();
    let settled = database.settle_mend(OPERATION, &mut |rows| {
        batches.push(rows);
        ControlFlow::Continue(())
    });
    assert!(settled.unwrap().is_continue());
    assert!(batches.len() > 3, "{batches:?}");
    assert_eq!(batches.iter().sum::<u64>(), 3 * 80_000);
    check(&database.snapshot(), "flights");
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
    check(&database.snapshot(), "flights");
    assert!(encoded(&database.snapshot(), &path) == rows_of_wanted(&all));
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
                    let source = Source { step: 0, index: 0 };
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
        database.snapshot(),
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
