//! A partition gets new content at once.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mendb_engines::{Engine, Origin, PartStore, Remedy};
use mendb_model::part::{Hash128, OnConcurrentInsert, TableName};

use crate::bench::{Bench, FLAVORS, OPERATION, Saved, files, hashes};
use crate::servers::Flavor;

/// A table whose partition 1 was six parts, saved, and is now two of them between others; partition 2
/// was never touched.
fn damaged(bench: &Bench) -> Vec<Saved> {
    bench.create("MergeTree");
    for rows in 1..=6 {
        bench.insert(1, &format!("part {rows}"), rows);
    }
    let saved = bench.save("1");
    let table = bench.table.sql();
    bench
        .server
        .query(&format!("ALTER TABLE {table} DROP PARTITION ID '1'"));
    for (value, rows) in [("extra", 100), ("part 5", 5), ("part 2", 2), ("extra", 200)] {
        bench.insert(1, value, rows);
    }
    bench.insert(2, "other", 7);
    saved
}

#[test]
fn a_partition_has_the_wanted_parts_in_their_order_and_readers_see_nothing_between() {
    for flavor in FLAVORS {
        let bench = Bench::new(flavor);
        let saved = damaged(&bench);
        let others = bench.live("2");
        let parts = bench.origins(&saved);
        let staged = parts
            .iter()
            .filter(|part| matches!(part, Origin::Staged(_)));
        assert_eq!(staged.count(), 4, "two are linked from live parts");
        let before = files(&saved[0].directory);

        let done = AtomicBool::new(false);
        let seen = thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = BTreeSet::new();
                while !done.load(Ordering::SeqCst) {
                    seen.insert(bench.rows());
                }
                seen
            });
            bench.exchange("1", &parts).unwrap();
            done.store(true, Ordering::SeqCst);
            reader.join().unwrap()
        });
        let (old, new) = (307 + 7, 21 + 7);
        assert!(
            seen.iter().all(|rows| [old, new].contains(rows)),
            "{seen:?}"
        );

        assert_eq!(bench.hashes("1"), hashes(&saved));
        assert_eq!(bench.live("2"), others);
        assert_eq!(bench.rows(), new);
        assert_eq!(bench.leftovers(), [""; 0]);
        assert_eq!(files(&saved[0].directory), before);

        // Again, as after a crash that nobody noticed the success of: nothing is moved.
        let live = bench.live("1");
        bench.exchange("1", &parts).unwrap();
        assert_eq!(bench.live("1"), live);
    }
}

#[test]
fn what_was_replaced_is_off_the_disk_when_the_exchange_is_done() {
    for flavor in FLAVORS {
        let bench = Bench::new(flavor);
        let saved = damaged(&bench);
        let directory = bench.table_directory();
        bench.exchange("1", &bench.origins(&saved)).unwrap();
        let live: BTreeSet<String> = bench.live("1").into_iter().map(|part| part.name).collect();
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("1_") && !live.contains(&name) {
                let bytes: usize = files(&entry.path()).iter().map(|(_, b)| b.len()).sum();
                let rows = fs::read_to_string(entry.path().join("count.txt")).unwrap();
                assert_eq!(rows, "0", "{name} has {bytes} bytes");
            }
        }
    }
}

#[test]
fn no_parts_drop_the_partition() {
    for flavor in FLAVORS {
        let bench = Bench::new(flavor);
        damaged(&bench);
        for _ in 0..2 {
            bench.exchange("1", &[]).unwrap();
            assert_eq!(bench.hashes("1"), []);
            assert_eq!(bench.rows(), 7);
        }
    }
}

#[test]
fn order_sensitive_engines_answer_as_before() {
    for flavor in FLAVORS {
        let mut bench = Bench::new(flavor);
        let engines = [
            "ReplacingMergeTree",
            "CollapsingMergeTree(p)",
            "AggregatingMergeTree",
        ];
        // Or newer servers find fault with the columns of the third.
        let settings = match flavor {
            Flavor::Current => "SETTINGS allow_dimensions_outside_sorting_key = 1",
            Flavor::V18 => "",
        };
        for (number, engine) in engines.into_iter().enumerate() {
            bench.table = TableName::new("d", format!("t{number}"));
            let table = bench.table.sql();
            bench.server.query(&format!(
                "CREATE TABLE {table} (p Int8, k UInt32, v String, a AggregateFunction(anyLast, String)) \
                 ENGINE = {engine} ORDER BY k {settings}"
            ));
            bench.server.query(&format!("SYSTEM STOP MERGES {table}"));
            for version in 1..=12 {
                let sign = if version % 3 == 0 { -1 } else { 1 };
                bench.server.query(&format!(
                    "INSERT INTO {table} SELECT toInt8({sign}), toUInt32(number), 'v{version}', \
                     anyLastState('v{version}') FROM (SELECT * FROM system.numbers LIMIT {version}) \
                     GROUP BY number"
                ));
            }
            let answers = || {
                let sql = format!("SELECT p, k, v, finalizeAggregation(a) FROM {table}");
                let finally = bench.server.query(&format!("{sql} FINAL ORDER BY k, v, p"));
                let one_by_one = format!("{sql} SETTINGS max_threads = 1");
                (finally, bench.server.query(&one_by_one))
            };
            let saved = bench.save("all");
            let before = answers();
            // What is left is attached again in the wrong order, and something newer is inserted.
            let mut wrong: Vec<Saved> = saved.iter().skip(3).step_by(2).cloned().collect();
            wrong.reverse();
            bench
                .server
                .query(&format!("ALTER TABLE {table} DROP PARTITION ID 'all'"));
            let wrong: Vec<_> = wrong
                .iter()
                .zip(50..)
                .map(|(saved, n)| bench.stage(saved, n))
                .collect();
            bench.engine.attach(&bench.table, &wrong).unwrap();
            assert_ne!(answers().0, before.0, "{engine}");
            bench.exchange("all", &bench.origins(&saved)).unwrap();
            assert_eq!(bench.hashes("all"), hashes(&saved), "{engine}");
            assert_eq!(answers(), before, "{engine}");
        }
    }
}

#[test]
fn nothing_is_touched_when_a_part_is_gone_or_another() {
    for flavor in FLAVORS {
        let bench = Bench::new(flavor);
        let saved = damaged(&bench);
        let live = bench.live("1");
        let mut parts = bench.origins(&saved);

        let absent = Hash128([7; 16]);
        parts.push(Origin::Live {
            name: "1_1_1_0".to_owned(),
            hash: absent,
        });
        let error = bench.exchange("1", &parts).unwrap_err();
        assert_eq!(error.remedy, Remedy::Replan);
        assert!(error.to_string().contains("1_1_1_0"), "{error}");

        let Some(Origin::Staged(mut other)) = parts
            .iter()
            .find(|p| matches!(p, Origin::Staged(_)))
            .cloned()
        else {
            panic!("parts were staged");
        };
        other.hash = absent;
        let error = bench
            .exchange("1", &[Origin::Staged(other.clone())])
            .unwrap_err();
        assert_eq!(error.remedy, Remedy::Repair);
        assert!(
            error
                .to_string()
                .contains(&*other.directory.to_string_lossy()),
            "{error}"
        );

        other.hash = saved[0].part.hash;
        let error = bench.exchange("2", &[Origin::Staged(other)]).unwrap_err();
        assert_eq!(error.remedy, Remedy::Request);

        assert_eq!(bench.live("1"), live);
    }
}

#[test]
fn a_staging_table_of_an_earlier_attempt_is_made_anew() {
    for flavor in FLAVORS {
        let bench = Bench::new(flavor);
        let saved = damaged(&bench);
        let staging = "d.`t__mendb_3fa9c1`";
        bench
            .server
            .query(&format!("CREATE TABLE {staging} AS d.t"));
        bench
            .server
            .query(&format!("INSERT INTO {staging} SELECT * FROM d.t"));
        bench.exchange("1", &bench.origins(&saved)).unwrap();
        assert_eq!(bench.hashes("1"), hashes(&saved));

        // One of a table that was altered since takes parts, but the live table takes none from it.
        bench
            .server
            .query(&format!("CREATE TABLE {staging} AS d.t"));
        bench.server.query("ALTER TABLE d.t ADD COLUMN w UInt8");
        bench.insert_without(3);
        let wanted = &saved[..3];
        bench.exchange("1", &bench.origins(wanted)).unwrap();
        assert_eq!(bench.hashes("1"), hashes(wanted));
    }
}

#[test]
fn files_of_a_staging_table_that_the_server_forgot_are_removed() {
    // The server of 18.16 forgets a table before it removes its files, and makes none where files are.
    let mut bench = Bench::new(Flavor::V18);
    let saved = damaged(&bench);
    let forget_staging = |bench: &mut Bench| {
        bench.server.query("CREATE TABLE d.t__mendb_3fa9c1 AS d.t");
        bench
            .server
            .query("INSERT INTO d.t__mendb_3fa9c1 SELECT * FROM d.t");
        bench.server.kill();
        let metadata = bench.server.data_path().join("metadata/d");
        fs::remove_file(metadata.join("t__mendb_3fa9c1.sql")).unwrap();
        bench.restart();
        // A server that was started again has forgotten that, too.
        bench.server.query("SYSTEM STOP MERGES d.t");
        assert_eq!(bench.leftovers(), ["t__mendb_3fa9c1"]);
    };
    forget_staging(&mut bench);
    bench.exchange("1", &bench.origins(&saved)).unwrap();
    assert_eq!(bench.hashes("1"), hashes(&saved));
    assert_eq!(bench.leftovers(), [""; 0]);

    forget_staging(&mut bench);
    bench.engine.drop_staged(OPERATION).unwrap();
    assert_eq!(bench.leftovers(), [""; 0]);
}

#[test]
fn inserts_and_exchanges_at_once_lose_no_row() {
    const INSERTS: u32 = 60;
    for flavor in FLAVORS {
        let bench = Bench::new(flavor);
        bench.create("MergeTree");
        bench.insert(1, "first", 1);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..INSERTS {
                    bench.insert(1, &format!("insert {number}"), 1);
                }
                done.store(true, Ordering::SeqCst);
            });
            let mut exchanged = 0;
            while !done.load(Ordering::SeqCst) || exchanged == 0 {
                // All that is live, newest first: whatever comes meanwhile must stay.
                let mut parts: Vec<Origin> = bench
                    .live("1")
                    .into_iter()
                    .map(|part| Origin::Live {
                        name: part.name,
                        hash: part.hash,
                    })
                    .collect();
                parts.reverse();
                let seen = parts.iter().filter_map(|part| match part {
                    Origin::Live { name, .. } => Some(name.clone()),
                    Origin::Staged(_) => None,
                });
                match bench.exchange_seen("1", &parts, &seen.collect()) {
                    Ok(()) => exchanged += 1,
                    Err(error) => assert_eq!(error.remedy, Remedy::Replan, "{error}"),
                }
            }
        });
        assert_eq!(bench.rows(), u64::from(INSERTS) + 1);
        let distinct = format!("SELECT uniqExact(v) FROM {}", bench.table.sql());
        assert_eq!(
            bench.server.query(&distinct).trim(),
            (INSERTS + 1).to_string()
        );
        bench.engine.make_live(OPERATION).unwrap();
        assert_eq!(bench.leftovers(), [""; 0]);
    }
}

/// What is inserted since a partition was looked at stays or goes as is asked, also in the instant in which
/// it is exchanged; and however fast others write, the exchange comes to its end.
#[test]
fn what_comes_meanwhile_stays_or_goes_as_is_asked() {
    for flavor in FLAVORS {
        for policy in [OnConcurrentInsert::Keep, OnConcurrentInsert::Remove] {
            let bench = Bench::new(flavor);
            bench.create("MergeTree");
            bench.insert(1, "old", 3);
            bench.insert(1, "kept", 5);
            let seen = bench.live("1");
            let parts = [Origin::Live {
                name: seen[1].name.clone(),
                hash: seen[1].hash,
            }];
            let seen = seen.into_iter().map(|part| part.name).collect();
            bench.insert(1, "before", 7);
            let (begun, done) = (AtomicBool::new(false), AtomicBool::new(false));
            let inserted = thread::scope(|scope| {
                let writer = scope.spawn(|| {
                    let mut inserted = 0;
                    while !done.load(Ordering::SeqCst) {
                        bench.insert(1, &format!("meanwhile {inserted}"), 1);
                        inserted += 1;
                        begun.store(true, Ordering::SeqCst);
                    }
                    inserted
                });
                while !begun.load(Ordering::SeqCst) {
                    thread::yield_now();
                }
                let exchanged = bench.exchange_as("1", &parts, &seen, policy);
                done.store(true, Ordering::SeqCst);
                exchanged.unwrap();
                writer.join().unwrap()
            });
            let rows = bench.rows();
            match policy {
                OnConcurrentInsert::Keep => assert_eq!(rows, 5 + 7 + inserted),
                _ => assert!((5..5 + inserted).contains(&rows), "{rows} of {inserted}"),
            }
            bench.engine.make_live(OPERATION).unwrap();
            assert_eq!(bench.leftovers(), [""; 0]);
        }
    }
}

#[test]
fn names_may_be_odd() {
    for flavor in FLAVORS {
        let mut bench = Bench::new(flavor);
        bench.server.query("CREATE DATABASE `o'dd \\\\ db`");
        bench.table = TableName::new("o'dd \\ db", "tä`ble.with/odd 'name\\");
        let saved = damaged(&bench);
        bench.exchange("1", &bench.origins(&saved)).unwrap();
        assert_eq!(bench.hashes("1"), hashes(&saved));
        let locks = bench.engine.locks().unwrap();
        assert_eq!(locks.len(), 1);
        assert_eq!(locks[0].table, bench.table.to_string());
        bench.engine.make_live(OPERATION).unwrap();
        assert_eq!(bench.engine.locks().unwrap(), []);
        assert_eq!(bench.leftovers(), [""; 0]);
    }
}

impl Bench {
    /// Inserts a row into a table that has more columns than tests give it.
    fn insert_without(&self, partition: u8) {
        let table = self.table.sql();
        self.server.query(&format!(
            "INSERT INTO {table} (p, k, v) VALUES ({partition}, 1, 'x')"
        ));
    }
}
