//! The server is killed at one moment after another, each a change of its files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mendb_engines::{Engine, Exchange, Origin, PartStore, Result, StagedPart};
use mendb_model::part::{OnConcurrentInsert, TableName};

use crate::bench::{Bench, FLAVORS, OPERATION, Saved, hashes};
use crate::servers::Server;

/// More tries than any failure here needs.
const TRIES_MAX: u32 = 5;
/// Changes of files between one kill and the next.
const STEP: usize = 5;

/// A server that comes back forgets that merges were stopped, and would merge what was just mended.
const UNMERGED: &str = "SETTINGS max_bytes_to_merge_at_max_space_in_pool = 1, \
                        max_bytes_to_merge_at_min_space_in_pool = 1";

/// Kills the server when its directories have changed some times while something is done; whether it was
/// still being done.
fn kill_after(
    server: &mut Server,
    changes: usize,
    act: impl FnOnce() -> Result<()> + Send,
) -> bool {
    let roots = [
        server.data_path().join("store"),
        server.data_path().join("data"),
    ];
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let acting = scope.spawn(|| {
            let result = act();
            done.store(true, Ordering::SeqCst);
            result
        });
        let mut last = directories(&roots);
        let mut seen = 0;
        while seen < changes && !done.load(Ordering::SeqCst) {
            let now = directories(&roots);
            seen += usize::from(now != last);
            last = now;
        }
        server.kill();
        acting.join().unwrap().is_err()
    })
}

/// All directories below some, as far as they stay while they are listed.
fn directories(roots: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open: Vec<PathBuf> = roots.to_vec();
    while let Some(directory) = open.pop() {
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        let inner = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        open.extend(inner.map(|entry| entry.path()));
        found.insert(directory);
    }
    found
}

/// A table of its own for each try, with four of six parts gone and another in between.
fn damaged(bench: &mut Bench, number: usize) -> Vec<Saved> {
    bench.table = TableName::new("d", format!("t{number}"));
    bench.create_with("MergeTree", UNMERGED);
    for rows in 1..=6 {
        bench.insert(1, &format!("part {rows}"), rows);
    }
    let saved = bench.save("1");
    let table = bench.table.sql();
    bench
        .server
        .query(&format!("ALTER TABLE {table} DROP PARTITION ID '1'"));
    for (value, rows) in [("part 5", 5), ("extra", 100), ("part 2", 2)] {
        bench.insert(1, value, rows);
    }
    bench.insert(2, "other", 7);
    saved
}

#[test]
fn an_exchange_is_completed_wherever_the_server_dies() {
    for flavor in FLAVORS {
        let mut bench = Bench::new(flavor);
        for number in 1.. {
            let saved = damaged(&mut bench, number);
            bench.engine.stop_merges(OPERATION, &bench.table).unwrap();
            let parts = bench.origins(&saved);
            let seen = bench.live("1").into_iter().map(|part| part.name);
            let exchange = Exchange {
                partition_id: "1",
                parts: &parts,
                seen: &seen.collect(),
                damaged: &[],
                on_concurrent_insert: OnConcurrentInsert::Fail,
            };
            let Bench {
                server,
                engine,
                table,
                ..
            } = &mut bench;
            let was_killed = kill_after(server, (number - 1) * STEP, || {
                engine.exchange(OPERATION, table, &exchange)
            });
            bench.restart();
            let mut result = bench.exchange("1", &parts);
            for _ in 0..TRIES_MAX {
                if result.is_ok() {
                    break;
                }
                // The server came back with other parts than it had: planned anew.
                let parts: Vec<Origin> = bench.origins(&saved);
                result = bench.exchange("1", &parts);
            }
            result.unwrap();
            assert_eq!(bench.hashes("1"), hashes(&saved));
            assert_eq!(bench.rows(), 28);
            bench.engine.make_live(OPERATION).unwrap();
            assert_eq!(bench.leftovers(), [""; 0]);
            assert_eq!(bench.engine.locks().unwrap(), []);
            // What the server has on disk is what it comes back with.
            bench.restart();
            let rows = format!("SELECT count(), sum(k) FROM {}", bench.table.sql());
            assert_eq!(bench.server.query(&rows), "28\t56\n");
            if !was_killed {
                assert!(number > 1, "it was killed while it was at it");
                break;
            }
        }
    }
}

#[test]
fn parts_are_attached_once_wherever_the_server_dies() {
    for flavor in FLAVORS {
        let mut bench = Bench::new(flavor);
        for number in 1.. {
            let saved = damaged(&mut bench, number);
            let table = bench.table.sql();
            bench
                .server
                .query(&format!("ALTER TABLE {table} DROP PARTITION ID '1'"));
            let parts: Vec<StagedPart> = saved
                .iter()
                .enumerate()
                .map(|(n, saved)| bench.stage(saved, n))
                .collect();
            let Bench {
                server,
                engine,
                table,
                ..
            } = &mut bench;
            let was_killed =
                kill_after(server, (number - 1) * STEP, || engine.attach(table, &parts));
            bench.restart();
            bench.engine.attach(&bench.table, &parts).unwrap();
            assert_eq!(bench.rows(), 28);
            let rows = format!(
                "SELECT v, count() FROM {} WHERE p = 1 GROUP BY v ORDER BY v",
                bench.table.sql()
            );
            let expected: String = (1..=6)
                .map(|rows| format!("part {rows}\t{rows}\n"))
                .collect();
            assert_eq!(bench.server.query(&rows), expected);
            bench.engine.make_live(OPERATION).unwrap();
            assert_eq!(bench.leftovers(), [""; 0]);
            if !was_killed {
                assert!(number > 1, "it was killed while it was at it");
                break;
            }
        }
    }
}

#[test]
fn merges_are_started_again_by_the_process_that_ends_the_operation() {
    for flavor in FLAVORS {
        let mut bench = Bench::new(flavor);
        bench.create("MergeTree");
        bench
            .server
            .query(&format!("SYSTEM START MERGES {}", bench.table.sql()));
        bench.engine.stop_merges(OPERATION, &bench.table).unwrap();
        bench.insert(1, "a", 1);
        bench.insert(1, "b", 1);
        let merge = format!("OPTIMIZE TABLE {} FINAL", bench.table.sql());
        let refused = bench.server.try_query(&merge).unwrap_err();
        assert!(refused.contains("Code: 236"), "{refused}");

        // A process that knows nothing but what is on disk.
        bench.reopen();
        let locks = bench.engine.locks().unwrap();
        assert_eq!(
            (locks.len(), &*locks[0].table, &*locks[0].operation),
            (1, "d.t", OPERATION)
        );
        bench
            .engine
            .drop_staged("restore-20261121101500-other1")
            .unwrap();
        assert_eq!(bench.engine.locks().unwrap().len(), 1);
        bench.engine.drop_staged(OPERATION).unwrap();
        assert_eq!(bench.engine.locks().unwrap(), []);
        bench.server.query(&merge);
        assert_eq!(bench.hashes("1").len(), 1);

        // A table that went away keeps nobody from ending the operation.
        bench.engine.stop_merges(OPERATION, &bench.table).unwrap();
        bench
            .engine
            .stage_directory(OPERATION, &bench.table, "default")
            .unwrap();
        bench.server.query("DROP DATABASE d");
        bench.engine.make_live(OPERATION).unwrap();
        assert_eq!(bench.engine.locks().unwrap(), []);
    }
}

#[test]
fn files_that_are_staged_go_with_the_operation() {
    for flavor in FLAVORS {
        let bench = Bench::new(flavor);
        let saved = damaged_once(&bench);
        let part = bench.stage(&saved[0], 1);
        let stage: &Path = part.directory.parent().unwrap();
        assert!(stage.starts_with(bench.server.data_path().join("mendb").join(OPERATION)));
        let other = bench
            .engine
            .stage_directory("restore-20261121101500-other1", &bench.table, "default")
            .unwrap();
        bench.engine.drop_staged(OPERATION).unwrap();
        assert!(!stage.exists() && other.exists());
        bench
            .engine
            .drop_stage("restore-20261121101500-other1", &bench.table)
            .unwrap();
        assert!(!other.exists());
        assert_eq!(bench.engine.locks().unwrap(), []);
    }
}

fn damaged_once(bench: &Bench) -> Vec<Saved> {
    bench.create("MergeTree");
    bench.insert(1, "a", 3);
    bench.save("1")
}
