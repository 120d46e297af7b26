//! Tables of many shards: what they hold is right, and a shard costs no more than a few records.
//!
//! `MENDB_SHARDS=10000 cargo test -p mendb-rowstore --test many_shards -- --nocapture` has so many, and prints how
//! long each step takes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::time::Instant;

use common::{check, flight, flights, id_key, int, replace, text};
use mendb_model::Value;
use mendb_rowstore::{Database, Options};

fn shards() -> i64 {
    let shards = std::env::var("MENDB_SHARDS");
    shards.map_or(300, |shards| shards.parse().unwrap())
}

/// Runs a step, and prints how long it takes.
fn step<T>(name: &str, step: impl FnOnce() -> T) -> T {
    #[expect(clippy::disallowed_methods, reason = "it is printed, and nothing else")]
    let begun = Instant::now();
    let done = step();
    println!("{name}: {:?}", begun.elapsed());
    done
}

fn open(dir: &Path) -> Database {
    Database::open(dir, Options::default()).unwrap()
}

#[test]
fn a_small_shard_costs_a_few_records_and_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let shards = shards();
    let database = step("first open", || open(dir.path()));
    let split_at = (1..shards).map(|shard| id_key(shard * 10)).collect();
    step("create", || {
        let created = database.create_table("flights", flights(), split_at);
        created.unwrap();
    });
    assert_eq!(
        database.describe("flights").unwrap().rows.shards.len() as i64,
        shards
    );
    let table = database.open_table("flights").unwrap();
    step("first write", || {
        replace(&database, &table, vec![flight(5, "LH", 1)])
    });
    step("write to another shard", || {
        replace(&database, &table, vec![flight(shards * 5, "LH", 1)])
    });
    step("a row to every shard", || {
        let rows = (0..shards)
            .map(|shard| flight(shard * 10, "SN", shard))
            .collect();
        replace(&database, &table, rows);
    });
    step("snapshot and check", || {
        check(&database.snapshot().unwrap(), "flights");
    });
    drop((table, database));
    let database = step("open", || open(dir.path()));
    let packed = step("pack", || {
        let path = mendb_model::name::TablePath::table("flights");
        database.compact(&path).unwrap();
        std::fs::read_dir(dir.path().join("shards"))
            .unwrap()
            .count() as i64
    });
    assert_eq!(packed, 0);
    check(&database.snapshot().unwrap(), "flights");
    drop(database);
    let database = step("open packed", || open(dir.path()));
    step("drop", || database.drop_table("flights").unwrap());
    assert_eq!(
        std::fs::read_dir(dir.path().join("shards"))
            .unwrap()
            .count(),
        0
    );
    drop(database);
    let bytes = dir.path().join("store.db").metadata().unwrap().len();
    println!("left: {bytes} bytes");
}

#[test]
fn a_bulk_write_to_many_shards_keeps_some_of_it_in_files_until_it_commits() {
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    let split_at = (1..400).map(|shard| id_key(shard * 10)).collect();
    database
        .create_table("flights", flights(), split_at)
        .unwrap();
    let table = database.open_table("flights").unwrap();
    replace(&database, &table, vec![flight(5, "LH", 1)]);
    let files = || {
        std::fs::read_dir(dir.path().join("shards"))
            .unwrap()
            .count()
    };
    let write = |bytes| {
        let mut bulk = database.bulk(&table);
        for id in 0..4_000 {
            let code = format!("{id} {}", "x".repeat(bytes));
            bulk.replace(&[int(id), Value::Null, int(1), text(&code)])
                .unwrap();
        }
        bulk.commit(&mut |_| ()).unwrap();
        check(&database.snapshot().unwrap(), "flights");
    };
    write(10);
    // Those of the indexes, which are a shard each.
    assert!(files() <= 2, "{} files", files());
    // Few for each shard, and much for all of them.
    write(10_000);
    assert!(files() > 20, "{} files", files());
}
