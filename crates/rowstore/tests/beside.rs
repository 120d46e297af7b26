//! Everything at once: who writes, in bulk or not, mends, splits, cuts and reads beside each other.
//!
//! `MENDB_BESIDE_ROUNDS=200 cargo test -p mendb-rowstore --test beside` does so much of each.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use common::mending::{OPERATION, Wanted, changes_of, value};
use common::*;
use mendb_model::Value;
use mendb_model::name::TablePath;
use mendb_rowstore::{Database, Error, Options, RowSource, Snapshot, Staged, StreamCut};

const TABLE: &str = "flights";
/// Who writes which rows: ids of this remainder.
const WRITERS: i64 = 3;
const ROWS: i64 = 60;

/// A row whose text is long enough that a few make a run of many blocks.
fn row(id: i64, round: usize) -> Vec<Value> {
    let carrier = text(&format!("c{}", (id + round as i64) % 7));
    let code = text(&format!("{id} {}", "x".repeat(100 * (id as usize % 90))));
    vec![int(id), carrier, int(round as i64), code]
}

fn ids(writer: i64, round: usize) -> impl Iterator<Item = i64> {
    let all = (0..ROWS * WRITERS).filter(move |id| id % WRITERS == writer);
    // Each round leaves some as they are.
    all.filter(move |id| (id / WRITERS + round as i64) % 4 != 0)
}

/// Whether a row is gone after a round in which it was written.
fn is_erased(id: i64, round: usize) -> bool {
    (id + round as i64) % 5 == 0
}

/// Does it until the table is open to it.
fn until_open<T>(mut what: impl FnMut() -> Result<T, Error>) -> T {
    loop {
        match what() {
            Ok(done) => return done,
            Err(Error::BeingMended { .. } | Error::BeingBackedUp { .. }) => thread::yield_now(),
            Err(error) => panic!("{error:?}"),
        }
    }
}

fn puts(writer: i64, round: usize) -> Vec<Put> {
    let put = |id| match is_erased(id, round) {
        true => Put::Erase(vec![int(id)]),
        false => Put::Replace(row(id, round)),
    };
    ids(writer, round).map(put).collect()
}

fn write(database: &Database, writer: i64, rounds: usize, in_bulk: bool) {
    for round in 0..rounds {
        until_open(|| {
            let table = database.open_table(TABLE)?;
            match put(database, &table, puts(writer, round), in_bulk) {
                // A cut raises the versions.
                Err(Error::SchemaVersion { .. }) => Err(Error::BeingMended {
                    table: TABLE.to_owned(),
                    operation: String::new(),
                }),
                other => other,
            }
        });
    }
}

fn mend(database: &Database, writer: i64, rounds: usize) {
    let tables = [TABLE.to_owned()];
    for round in 0..rounds {
        until_open(|| database.begin_mend(OPERATION, &tables));
        let mut wanted = Wanted::new();
        for id in ids(writer, round) {
            let row = (!is_erased(id, round)).then(|| value(&flights(), &row(id, round)));
            wanted.insert(id_key(id), row);
        }
        let stage = |index: u32, wanted: &Wanted| {
            for shard in database.shards(&TablePath::table(TABLE)).unwrap() {
                let of_shard = wanted.iter().filter(|(key, _)| shard.range.contains(key));
                let changes = changes_of(of_shard);
                let source = RowSource { step: 0, index };
                let staged = database.stage_mend(shard.id, OPERATION, source, &changes);
                assert!(matches!(staged.unwrap(), Staged::Done(_)));
            }
        };
        // First something else, so that there are runs over runs.
        let others = ids(writer, round).step_by(2);
        let others = others.map(|id| (id_key(id), Some(value(&flights(), &row(id, round + 1)))));
        stage(0, &others.collect());
        if round % 3 == 0 {
            let looked = database.mend_snapshot(OPERATION).unwrap();
            check(&looked, TABLE);
        }
        if round % 4 == 1 {
            database.abort_mend(OPERATION).unwrap();
            until_open(|| database.begin_mend(OPERATION, &tables));
        }
        thread::scope(|scope| {
            let (even, odd): (Wanted, Wanted) = wanted
                .clone()
                .into_iter()
                .partition(|(key, _)| key[key.len() - 1] % 2 == 0);
            let stage = &stage;
            scope.spawn(move || stage(1, &even));
            scope.spawn(move || stage(2, &odd));
            scope.spawn(|| check(&database.mend_snapshot(OPERATION).unwrap(), TABLE));
        });
        database.publish_mend(OPERATION).unwrap();
        let settled = database.settle_mend(OPERATION, &mut |_| ControlFlow::Continue(()));
        assert!(settled.unwrap().is_continue());
    }
}

fn reshape(database: &Database, round: usize) {
    let path = &paths(&flights(), TABLE)[round % 3];
    let done = match round % 4 {
        0 | 1 if path.index.is_none() => {
            database.split(path, &id_key((round as i64 * 37) % (ROWS * WRITERS)))
        }
        0 | 1 => {
            let at = text(&format!("c{}", round % 7));
            let at = mendb_model::key::encode(&[mendb_model::ColumnType::Utf8], [at.as_ref()]);
            database.split(path, &at)
        }
        2 => match database.shards(path).unwrap().get(1) {
            Some(right) => database.merge(path, &right.range.start),
            None => Ok(()),
        },
        _ => database.compact(path),
    };
    match done {
        Ok(()) | Err(Error::BeingMended { .. } | Error::NoBoundary { .. }) => {}
        Err(error) => panic!("{error:?}"),
    }
}

/// Cuts, and follows the changes from cut to cut.
fn follow(database: &Database, rounds: usize, is_over: &dyn Fn() -> bool) {
    let tables = [TABLE.to_owned()];
    let cut = |how| {
        let cut = until_open(|| database.cut("backup", &tables, "s", how));
        database.unlock("backup").unwrap();
        cut
    };
    let all = |snapshot: &Snapshot| -> Vec<_> {
        let paths = paths(&flights(), TABLE).into_iter();
        paths.map(|path| (encoded(snapshot, &path), path)).collect()
    };
    let mut before = cut(StreamCut::Attach);
    let mut round = 0;
    while !is_over() || round < 2 {
        let after = cut(StreamCut::Rotate);
        for ((rows, path), (reached, _)) in all(&before).into_iter().zip(all(&after)) {
            let changed = changes(&after, &path, before.version());
            let types = types(&flights(), &path);
            assert!(
                applied(rows, &changed, &types) == reached,
                "changes of {path}"
            );
        }
        database.release_stream("s", after.version()).unwrap();
        before = after;
        round += 1;
        if round > rounds * 20 {
            break;
        }
    }
}

/// What is there after all rounds.
fn expected(rounds: usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut rows = BTreeMap::new();
    for writer in 0..WRITERS {
        for round in 0..rounds {
            for id in ids(writer, round) {
                match is_erased(id, round) {
                    true => rows.remove(&id_key(id)),
                    false => rows.insert(id_key(id), value(&flights(), &row(id, round))),
                };
            }
        }
    }
    rows
}

#[test]
fn who_writes_mends_splits_cuts_and_reads_do_so_beside_each_other() {
    let rounds = std::env::var("MENDB_BESIDE_ROUNDS").ok();
    let rounds = rounds.and_then(|rounds| rounds.parse().ok()).unwrap_or(6);
    for (compact_bytes, split_bytes) in [(64 << 10, 128 << 10), (0, u64::MAX), (u64::MAX, 96 << 10)]
    {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            compact_bytes,
            split_bytes,
            ..small()
        };
        let database = Database::open(dir.path(), options.clone()).unwrap();
        database.create_table(TABLE, flights(), vec![]).unwrap();
        let left = AtomicUsize::new(3);
        let is_over = || left.load(Ordering::Acquire) == 0;
        thread::scope(|scope| {
            let write = |writer, in_bulk| {
                write(&database, writer, rounds, in_bulk);
                left.fetch_sub(1, Ordering::AcqRel);
            };
            scope.spawn(move || write(0, false));
            scope.spawn(move || write(1, true));
            scope.spawn(|| {
                mend(&database, 2, rounds);
                left.fetch_sub(1, Ordering::AcqRel);
            });
            scope.spawn(|| {
                let mut round = 0;
                while !is_over() {
                    reshape(&database, round);
                    round += 1;
                }
            });
            scope.spawn(|| follow(&database, rounds, &is_over));
            scope.spawn(|| {
                while !is_over() {
                    check(&database.snapshot().unwrap(), TABLE);
                    let elsewhere = Snapshot::open(dir.path()).unwrap().unwrap();
                    check(&elsewhere, TABLE);
                }
            });
        });
        let rows = |database: &Database| {
            let snapshot = database.snapshot().unwrap();
            check(&snapshot, TABLE);
            encoded(&snapshot, &TablePath::table(TABLE))
        };
        assert!(rows(&database) == expected(rounds));
        drop(database);
        let database = Database::open(dir.path(), options).unwrap();
        assert!(rows(&database) == expected(rounds));
    }
}
