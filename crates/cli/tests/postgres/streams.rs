//! Increments of which a change stream tells what was written: they hold what those that look at rows hold, and what the
//! stream cannot tell is found in the other ways.

use std::fs::File;
use std::path::Path;
use std::thread;

use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;

use crate::increments::{assert_up_to_date, bank, increment, write};
use crate::points::points;
use crate::postgres_server::Version;
use crate::shop::Shop;

const BOTH: [Version; 2] = [Version::Debian, Version::V18];
const SLOTS: &str =
    "SELECT count(*), (SELECT count(*) FROM pg_publication) FROM pg_replication_slots";

/// A shop with a full backup from which on a stream keeps changes.
fn streaming(version: Version) -> Shop {
    let shop = Shop::with_log_for_streams(version);
    shop.ok(&["backup", "shop", "--changes", "stream"]);
    shop
}

/// Why the stream did not tell the changes of each table of an increment.
fn untold(shop: &Shop) -> Vec<Option<String>> {
    let report = shop.json(&["backup", "shop", "--incremental"]);
    let tables = report["tables"].as_array();
    let tables = tables.unwrap_or_else(|| panic!("{report}"));
    let untold = |table: &Value| {
        let why = table["untold"].as_str().map(str::to_owned);
        assert_eq!(why.is_none(), table["changes_by"] == "stream", "{report}");
        why
    };
    tables.iter().map(untold).collect()
}

/// The stream tells nothing of the next increment for a reason, and all of the one after.
fn assert_untold_once(shop: &Shop, reason: &str) {
    shop.sql("UPDATE orders SET note = 'untold' WHERE id < 20");
    let why = untold(shop);
    let [Some(one), Some(other)] = why.as_slice() else {
        panic!("{reason}: {why:?}")
    };
    assert!(one.contains(reason) && other == one, "{why:?}");
    assert_eq!(untold(shop), [None, None], "{reason}");
    assert_up_to_date(shop);
}

#[test]
fn an_increment_that_a_stream_tells_holds_what_was_written_and_nothing_else() {
    for version in BOTH {
        let shop = Shop::with_log_for_streams(version);
        shop.sql(
            "ALTER TABLE customers ADD letter text;
             ALTER TABLE customers ALTER letter SET STORAGE EXTERNAL;
             UPDATE customers SET letter = repeat(name, 1000) WHERE id < 100",
        );
        shop.ok(&["backup", "shop", "--changes", "stream"]);
        for (statements, expected) in [
            ("SELECT 1", [0, 0]),
            // A value that is stored beside the row, and was not changed, is not told.
            (
                "UPDATE customers SET balance = balance + 1 WHERE id % 100 = 3",
                [5, 0],
            ),
            ("UPDATE customers SET letter = 'short' WHERE id = 3", [1, 0]),
            // Rows that are written and stay what they were are no changes.
            ("UPDATE orders SET note = note WHERE id < 500", [0, 0]),
            (
                "INSERT INTO orders (id, customer) VALUES (-1, 1); DELETE FROM orders WHERE id = -1",
                [0, 0],
            ),
            ("DELETE FROM orders WHERE id % 300 = 7", [0, 10]),
            (
                "INSERT INTO orders (customer, amount) SELECT 3, n FROM generate_series(1, 20) n",
                [0, 20],
            ),
            // As many rows as before, and others.
            (
                "DELETE FROM orders WHERE id = 20; INSERT INTO orders (customer, note) VALUES (4, 'instead')",
                [0, 2],
            ),
            ("UPDATE orders SET id = id + 100000 WHERE id = 30", [0, 2]),
            (
                "BEGIN; SAVEPOINT a; UPDATE orders SET note = 'kept' WHERE id = 40; RELEASE a;
                 SAVEPOINT b; UPDATE orders SET note = 'lost' WHERE id = 41; ROLLBACK TO b; COMMIT",
                [0, 1],
            ),
            ("BEGIN; DELETE FROM orders; ROLLBACK", [0, 0]),
            (
                "BEGIN; UPDATE orders SET note = 'twice' WHERE id = 42; PREPARE TRANSACTION 'p'",
                [0, 0],
            ),
            ("COMMIT PREPARED 'p'", [0, 1]),
            ("DELETE FROM customers WHERE id > 490", [10, 60]),
            (
                "SET session_replication_role = replica; UPDATE orders SET note = 'r' WHERE id = 43",
                [0, 1],
            ),
            (
                "SET synchronous_commit = off; UPDATE orders SET note = 'a' WHERE id = 43",
                [0, 1],
            ),
        ] {
            shop.sql(statements);
            let found = increment(&shop, &[]);
            assert_eq!([found[0].0, found[1].0], expected, "{statements}");
            assert_eq!(
                [&found[0].1, &found[1].1],
                ["stream", "stream"],
                "{statements}"
            );
        }
        assert_up_to_date(&shop);
        // What a stream does not tell of: files of tables are others.
        let others = "SELECT count(*) FROM orders WHERE id >= 100";
        let others: u64 = shop.copy(others).trim().parse().unwrap();
        shop.sql("UPDATE orders SET note = 'f' WHERE id = 44");
        for (statements, expected) in [
            ("VACUUM FULL orders", 1),
            (
                "CREATE TABLE kept AS SELECT * FROM orders WHERE id < 100; TRUNCATE orders;
                 INSERT INTO orders (id, customer, amount, note) SELECT id, customer, amount, note FROM kept",
                others,
            ),
        ] {
            shop.sql(statements);
            let report = shop.json(&["backup", "shop", "--incremental"]);
            assert_eq!(report["tables"][0]["changes_by"], "stream");
            let orders = &report["tables"][1];
            assert!(
                orders["untold"].as_str().unwrap().contains("truncated"),
                "{report}"
            );
            assert_eq!(orders["changes"], expected, "{report}");
        }
        assert_eq!(untold(&shop), [None, None]);
        assert_up_to_date(&shop);
        shop.ok(&["verify", "shop"]);
        shop.assert_nothing_held();
    }
}

/// The changes of the newest backup in a repository, as its segments have them: all but the version, which is that of the
/// snapshot.
fn segments(shop: &Shop) -> Vec<String> {
    let backups = shop.json(&["list", "shop"]);
    let newest = backups.as_array().unwrap().last().unwrap();
    let id = newest["backup_id"].as_str().unwrap();
    let directory = shop.directory().join(shop.repository);
    let directory = directory.join("collections/shop").join(id);
    let mut found = Vec::new();
    for table in std::fs::read_dir(directory).unwrap() {
        let table = table.unwrap().path();
        // A stream tells transactions, too.
        if table.is_dir() && !table.ends_with("_mendb_transactions") {
            for segment in std::fs::read_dir(&table).unwrap() {
                rows_of(&segment.unwrap().path(), &mut found);
            }
        }
    }
    found.sort();
    found
}

fn rows_of(segment: &Path, found: &mut Vec<String>) {
    if segment.extension().is_none_or(|end| end != "parquet") {
        return;
    }
    let table = segment.parent().unwrap().file_name().unwrap();
    let reader = SerializedFileReader::new(File::open(segment).unwrap()).unwrap();
    for row in reader.get_row_iter(None).unwrap() {
        let row = row.unwrap();
        let columns = row.get_column_iter();
        let columns = columns.filter(|(name, _)| *name != "_mendb_version");
        let columns: Vec<String> = columns
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        found.push(format!("{}: {}", table.display(), columns.join(" ")));
    }
}

#[test]
fn all_ways_to_find_changes_give_the_same_increments() {
    for version in BOTH {
        let mut shop = streaming(version);
        shop.sql("ALTER TABLE orders DROP CONSTRAINT orders_customer_fkey");
        let ways: [(&str, &str, &[&str]); 3] = [
            ("repository", "stream", &[]),
            ("versions", "row_versions", &[]),
            ("rows", "that was asked for", &["--compare-rows"]),
        ];
        for (repository, ..) in &ways[1..] {
            shop.repository = repository;
            shop.ok(&["backup", "shop", "--new-repository"]);
        }
        let mut lasting = None;
        for round in 0..6 {
            thread::scope(|scope| {
                for writer in 0..3 {
                    let shop = &shop;
                    scope.spawn(move || write(shop, round * 4 + writer, &|done| done == 40));
                }
            });
            // Transactions that have written, and go on over the end of this round.
            let mut client = shop.server.connect();
            client
                .batch_execute(&format!(
                    "BEGIN; SAVEPOINT a; INSERT INTO orders (id, customer) VALUES (200000 + {round}, 1); RELEASE a"
                ))
                .unwrap();
            if let Some(mut before) = lasting.replace(client) {
                before.batch_execute("COMMIT").unwrap();
                shop.sql(&format!("COMMIT PREPARED 'round {}'", round - 1));
            }
            shop.sql(&format!(
                "BEGIN; DELETE FROM orders WHERE id = 200000 - 2 + {round};
                 INSERT INTO orders (id, customer) VALUES (300000 + {round}, 1); PREPARE TRANSACTION 'round {round}'"
            ));
            let mut first = None;
            for (repository, method, more) in ways {
                shop.repository = repository;
                for (_, by) in increment(&shop, more) {
                    assert_eq!(by, method);
                }
                let found = segments(&shop);
                let expected = first.get_or_insert_with(|| found.clone());
                assert_eq!(&found, expected, "round {round} by {method}");
            }
            assert!(first.unwrap().len() > 50);
        }
        for (repository, ..) in ways {
            shop.repository = repository;
            shop.ok(&["verify", "shop"]);
        }
    }
}

#[test]
fn backups_that_a_stream_tells_hold_what_their_snapshots_held_while_others_write() {
    bank(
        &Shop::with_log_for_streams(Version::Debian),
        &["--changes", "stream"],
    );
}

#[test]
fn so_they_do_on_18() {
    let shop = Shop::with_log_for_streams(Version::V18);
    bank(&shop, &["--changes", "stream"]);
    // After mends it stands on the state before the last one.
    let why = untold(&shop);
    assert!(
        why[0].as_ref().unwrap().contains("before a mend"),
        "{why:?}"
    );
    assert_eq!(untold(&shop), [None, None]);
    assert_up_to_date(&shop);
}

#[test]
fn a_stream_that_lost_something_is_told_with_the_reason_and_begins_anew() {
    for version in BOTH {
        let shop = streaming(version);
        shop.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots");
        assert_untold_once(&shop, "its replication slot is gone");
        shop.sql("UPDATE customers SET balance = 9 WHERE id < 5");
        shop.sql(
            "SELECT pg_replication_slot_advance(slot_name, pg_current_wal_lsn()) FROM pg_replication_slots",
        );
        assert_untold_once(&shop, "somebody else has moved");
        shop.sql("DO $$ DECLARE p name; BEGIN SELECT pubname INTO p FROM pg_publication; EXECUTE 'DROP PUBLICATION ' || p; END $$");
        assert_untold_once(&shop, "its publication is gone");
        shop.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'");
        shop.sql("SELECT pg_reload_conf()");
        let status = "SELECT wal_status FROM pg_replication_slots";
        while shop.copy(status) != "lost\n" {
            shop.sql("UPDATE orders SET note = 'w' WHERE id < 100");
            shop.sql("SELECT pg_switch_wal()");
            shop.sql("CHECKPOINT");
        }
        let check = shop.json(&["target", "check"]);
        assert_eq!(check["changes"]["most_bytes"], 1 << 20, "{check}");
        assert_eq!(check["changes"]["slots"][0]["status"], "lost", "{check}");
        shop.sql("ALTER SYSTEM RESET max_slot_wal_keep_size");
        shop.sql("SELECT pg_reload_conf()");
        assert_untold_once(&shop, "has removed the log");
    }
}

/// The newest backup, and where the slot is.
fn newest_and_place(shop: &Shop) -> (String, String) {
    let backups = shop.json(&["list", "shop"]);
    let newest = backups.as_array().unwrap().last().unwrap();
    let id = newest["backup_id"].as_str().unwrap();
    let place = shop.copy("SELECT confirmed_flush_lsn FROM pg_replication_slots");
    (id.to_owned(), place)
}

#[test]
fn the_slot_moves_only_when_the_increment_is_sealed_wherever_a_process_stops() {
    let shop = streaming(Version::Debian);
    for point in points(3) {
        shop.sql(&format!(
            "UPDATE orders SET note = 'point {point}' WHERE id % 50 = 1; DELETE FROM orders WHERE id = {point}"
        ));
        let before = newest_and_place(&shop);
        let output = shop
            .command(&["backup", "shop", "--incremental"])
            .env("MENDB_CRASH_AT", point.to_string())
            .output()
            .unwrap();
        assert!(output.status.success() || output.status.code().is_none());
        let after = newest_and_place(&shop);
        if after.0 == before.0 {
            assert_eq!(after.1, before.1, "stopped at {point}");
        }
        for operation in shop.unfinished() {
            shop.ok(&["operation", "watch", &operation]);
        }
        if newest_and_place(&shop).0 == before.0 {
            // It was stopped before it was an operation.
            shop.ok(&["backup", "shop", "--incremental"]);
        }
        shop.ok(&["verify", "shop", "--live"]);
        if output.status.success() {
            assert_ne!(after.1, before.1);
            break;
        }
    }
    assert_eq!(untold(&shop), [None, None]);
    assert_up_to_date(&shop);
    shop.ok(&["verify", "shop"]);
}

#[test]
fn a_full_backup_that_is_stopped_anywhere_and_given_up_leaves_no_slot() {
    let shop = Shop::with_log_for_streams(Version::Debian);
    for point in points(3) {
        let output = shop
            .command(&["backup", "shop", "--changes", "stream"])
            .env("MENDB_CRASH_AT", point.to_string())
            .output()
            .unwrap();
        if output.status.success() {
            assert_eq!(shop.copy(SLOTS), "1\t1\n");
            return;
        }
        for operation in shop.unfinished() {
            if shop
                .run(&["operation", "cancel", &operation])
                .status
                .success()
            {
                assert_eq!(shop.copy(SLOTS), "0\t0\n", "stopped at {point}");
            } else {
                shop.ok(&["operation", "watch", &operation]);
            }
        }
        if shop.copy(SLOTS) != "0\t0\n" {
            shop.ok(&["backup", "shop", "--changes", "rows"]);
            assert_eq!(shop.copy(SLOTS), "0\t0\n", "stopped at {point}");
        }
    }
    panic!("it never came to its end");
}

#[test]
fn a_slot_goes_with_its_chain_its_collection_and_with_mendb() {
    let shop = streaming(Version::Debian);
    assert_eq!(shop.copy(SLOTS), "1\t1\n");
    let first = shop.copy("SELECT slot_name FROM pg_replication_slots");
    // The next chain is kept as the one before was.
    shop.ok(&["backup", "shop"]);
    assert_eq!(shop.copy(SLOTS), "1\t1\n");
    assert_ne!(
        shop.copy("SELECT slot_name FROM pg_replication_slots"),
        first
    );
    assert_eq!(untold(&shop), [None, None]);
    let shown = shop.json(&["collection", "show", "shop"]);
    let held = &shown["repositories"][0]["held"];
    assert!(held["changes"].is_null(), "{shown}");
    shop.ok(&["backup", "shop", "--changes", "rows"]);
    assert_eq!(shop.copy(SLOTS), "0\t0\n");
    assert_eq!(increment(&shop, &[])[0].1, "row_versions");
    shop.ok(&["backup", "shop"]);
    assert_eq!(shop.copy(SLOTS), "0\t0\n");
    for end in [
        &[
            "collection",
            "forget-repository",
            "shop",
            &shop.repository(),
        ][..],
        &["collection", "drop", "shop"],
        &["target", "detach"],
    ] {
        shop.ok(&["backup", "shop", "--changes", "stream"]);
        assert_eq!(shop.copy(SLOTS), "1\t1\n", "{end:?}");
        shop.ok(end);
        assert_eq!(shop.copy(SLOTS), "0\t0\n", "{end:?}");
        if end[1] == "drop" {
            shop.ok(&[
                "collection",
                "create",
                "shop",
                "--table",
                "public.customers",
                "--table",
                "public.orders",
            ]);
        }
    }
    let left = "SELECT count(*) FROM pg_namespace WHERE nspname = 'mendb'";
    assert_eq!(shop.copy(left), "0\n");
}

#[test]
fn a_mend_leaves_the_slot_and_the_next_increments_go_on() {
    let shop = streaming(Version::Debian);
    shop.damage();
    let damaged = shop.content();
    let mend = shop.mend(&[]);
    assert_eq!(shop.copy(SLOTS), "1\t1\n");
    shop.ok(&["undo", &mend]);
    assert_eq!(shop.content(), damaged);
    assert_untold_once(&shop, "before a mend");
}

#[test]
fn a_table_that_loses_its_identity_is_taken_out_of_the_stream_and_its_writers_go_on() {
    let shop = streaming(Version::Debian);
    shop.sql("ALTER TABLE orders REPLICA IDENTITY NOTHING");
    let why = untold(&shop);
    assert!(
        why[1].as_ref().unwrap().contains("replica identity"),
        "{why:?}"
    );
    shop.sql("UPDATE orders SET note = 'after' WHERE id < 10");
    assert!(untold(&shop)[1].is_some());
    assert_up_to_date(&shop);
}

#[test]
fn a_table_that_a_stream_cannot_tell_of_is_not_published_and_its_writers_go_on() {
    let shop = Shop::with_log_for_streams(Version::Debian);
    shop.sql("ALTER TABLE customers REPLICA IDENTITY NOTHING");
    shop.ok(&["backup", "shop", "--changes", "stream"]);
    let write = "UPDATE customers SET balance = balance + 1 WHERE id < 10;
                 UPDATE orders SET note = 'x' WHERE id < 10";
    shop.sql(write);
    let why = untold(&shop);
    assert!(
        why[0].as_ref().unwrap().contains("replica identity"),
        "{why:?}"
    );
    assert_eq!(why[1], None);
    // With the whole of old rows it tells the keys, too, from the next increment on.
    shop.sql("ALTER TABLE orders REPLICA IDENTITY FULL");
    shop.sql("UPDATE orders SET id = id + 500000 WHERE id < 5");
    assert!(untold(&shop)[1].is_some());
    shop.sql("UPDATE orders SET id = id - 500000, note = 'back' WHERE id > 500000; DELETE FROM orders WHERE id = 9");
    assert_eq!(untold(&shop)[1], None);
    assert_up_to_date(&shop);
    shop.sql("ALTER TABLE orders REPLICA IDENTITY NOTHING");
    let refused = shop.fails(1, &["backup", "shop", "--changes", "stream"]);
    assert!(
        refused.contains("no table can be in a change stream"),
        "{refused}"
    );
    for operation in shop.unfinished() {
        shop.ok(&["operation", "cancel", &operation]);
    }
    // The chain of before has its slot.
    assert_eq!(shop.copy(SLOTS), "1\t1\n");
    // A stranger takes a table out of the publication.
    shop.sql("ALTER TABLE orders REPLICA IDENTITY DEFAULT");
    untold(&shop);
    shop.sql("DO $$ DECLARE p name; BEGIN SELECT pubname INTO p FROM pg_publication; EXECUTE 'ALTER PUBLICATION ' || p || ' DROP TABLE orders'; END $$");
    shop.sql(write);
    let why = untold(&shop);
    assert!(
        why[1].as_ref().unwrap().contains("not published"),
        "{why:?}"
    );
    assert_up_to_date(&shop);
}

#[test]
fn partitions_that_come_and_go_are_noticed() {
    for version in BOTH {
        let mut shop = Shop::empty_on(version);
        shop.server.crash();
        shop.server.start_with(&["wal_level=logical"]);
        shop.sql(
            "CREATE TABLE t (id int, place int, v int, PRIMARY KEY (id, place)) PARTITION BY LIST (place);
             CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1);
             CREATE TABLE t2 (place int NOT NULL, v int, id int NOT NULL, PRIMARY KEY (id, place));
             ALTER TABLE t ATTACH PARTITION t2 FOR VALUES IN (2);
             INSERT INTO t SELECT n, 1 + n % 2, n FROM generate_series(1, 200) n",
        );
        shop.ok(&["collection", "create", "shop", "--table", "public.t"]);
        shop.ok(&["backup", "shop", "--changes", "stream"]);
        for (statements, expected, is_told) in [
            ("UPDATE t SET v = -v WHERE id < 10", 9, true),
            // From one partition into the other.
            ("UPDATE t SET place = 3 - place WHERE id < 5", 8, true),
            (
                "DELETE FROM t2 WHERE id > 190; INSERT INTO t1 VALUES (1000, 1, 1)",
                6,
                true,
            ),
            // Nothing tells what is written to a table that is no partition just then.
            (
                "ALTER TABLE t DETACH PARTITION t2; UPDATE t2 SET v = 7 WHERE id = 11;
                 ALTER TABLE t ATTACH PARTITION t2 FOR VALUES IN (2)",
                1,
                false,
            ),
            ("UPDATE t SET v = 8 WHERE id = 11", 1, true),
            ("ALTER TABLE t DETACH PARTITION t1", 101, false),
            (
                "CREATE TABLE t3 PARTITION OF t FOR VALUES IN (3); INSERT INTO t VALUES (1, 3, 1)",
                1,
                false,
            ),
            ("UPDATE t SET v = 9 WHERE place = 3", 1, true),
        ] {
            shop.sql(statements);
            let report = shop.json(&["backup", "shop", "--incremental"]);
            let table = &report["tables"][0];
            assert_eq!(table["untold"].is_null(), is_told, "{statements}: {report}");
            assert_eq!(table["changes"], expected, "{statements}: {report}");
            shop.ok(&["verify", "shop", "--live"]);
        }
    }
}

#[test]
fn what_does_not_allow_a_stream_is_said_with_what_allows_it() {
    let mut shop = Shop::new();
    let check = |shop: &Shop| {
        let check = shop.json(&["target", "check"]);
        check["changes"]["refused"].as_str().map(str::to_owned)
    };
    assert!(check(&shop).unwrap().contains("wal_level is replica"));
    let refused = shop.fails(1, &["backup", "shop", "--changes", "stream"]);
    assert!(
        refused.contains("ALTER SYSTEM SET wal_level = logical"),
        "{refused}"
    );
    shop.server.crash();
    shop.server.start_with(&["wal_level=logical"]);
    assert_eq!(check(&shop), None);
    assert!(
        shop.ok(&["target", "check"])
            .contains("max_slot_wal_keep_size"),
        "nothing bounds it"
    );
    let misuse = ["backup", "shop", "--incremental", "--changes", "stream"];
    shop.fails(2, &misuse);
    shop.sql(
        "CREATE ROLE keeper LOGIN; ALTER TABLE customers OWNER TO keeper; ALTER TABLE orders OWNER TO keeper;
         ALTER SCHEMA mendb OWNER TO keeper; GRANT ALL ON ALL TABLES IN SCHEMA mendb TO keeper;
         GRANT ALL ON ALL SEQUENCES IN SCHEMA mendb TO keeper;
         ALTER TABLE mendb.target OWNER TO keeper; GRANT CREATE ON DATABASE shop TO keeper",
    );
    shop.role = "keeper".to_owned();
    assert!(
        check(&shop)
            .unwrap()
            .contains("ALTER ROLE keeper REPLICATION")
    );
    let refused = shop.fails(1, &["backup", "shop", "--changes", "stream"]);
    assert!(refused.contains("REPLICATION"), "{refused}");
    shop.sql("ALTER ROLE keeper REPLICATION");
    assert_eq!(check(&shop), None);
    shop.ok(&["backup", "shop", "--changes", "stream"]);
    shop.sql("UPDATE orders SET note = 'x' WHERE id = 3");
    assert_eq!(untold(&shop), [None, None]);
    assert_up_to_date(&shop);
    let slot = &shop.json(&["target", "check"])["changes"]["slots"][0];
    assert_eq!(slot["status"], "reserved", "{slot}");
    assert!(slot["safe_bytes"].is_null(), "{slot}");
    // A role that lost the right to read the slot goes on without it.
    shop.sql("ALTER ROLE keeper NOREPLICATION");
    let why = untold(&shop);
    assert!(why.iter().all(Option::is_some), "{why:?}");
    assert_up_to_date(&shop);
}
