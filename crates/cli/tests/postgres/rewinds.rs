//! One bad transaction, or all of a span of time, is taken back; what came after stays.

use serde_json::Value;

use crate::postgres_server::Version;
use crate::shop::Shop;

const BOTH: [Version; 2] = [Version::Debian, Version::V18];
pub const INCREMENT: [&str; 3] = ["backup", "shop", "--incremental"];

/// A shop with a full backup from which on a stream keeps changes, and a table beside it that notes transactions.
pub fn streaming(version: Version) -> Shop {
    let shop = Shop::with_log_for_streams(version);
    shop.sql("CREATE TABLE seen (place serial, number text)");
    shop.ok(&["backup", "shop", "--changes", "stream"]);
    shop
}

/// Runs statements in a transaction, and returns its number.
pub fn transaction(shop: &Shop, statements: &str) -> String {
    shop.sql(&format!(
        "BEGIN; INSERT INTO seen (number) SELECT pg_current_xact_id()::text; {statements}; COMMIT"
    ));
    last_seen(shop)
}

fn last_seen(shop: &Shop) -> String {
    let last = shop.copy("SELECT number FROM seen ORDER BY place DESC LIMIT 1");
    last.trim().to_owned()
}

pub fn now(shop: &Shop) -> String {
    let now = shop.copy(
        "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
    );
    now.trim().to_owned()
}

/// Takes something back, and returns the operation and what was done.
pub fn take_back(shop: &Shop, what: &str, more: &[&str]) -> (String, Value) {
    let mut all = vec!["restore", "shop", "--in-place", "--only-changed-by", what];
    all.extend(more);
    let report = shop.json(&all);
    assert_eq!(report["state"], "done", "{report}");
    let operation = report["operation_id"].as_str().unwrap().to_owned();
    (operation, report["total"].clone())
}

/// What it would do.
fn plan(shop: &Shop, what: &str) -> Value {
    shop.json(&[
        "restore",
        "shop",
        "--in-place",
        "--only-changed-by",
        what,
        "--dry-run",
    ])
}

/// That it is refused, and why.
pub fn refused(shop: &Shop, what: &str) -> String {
    shop.fails(
        1,
        &["restore", "shop", "--in-place", "--only-changed-by", what],
    )
}

/// Transactions, as `mendb diff` tells them.
fn listed(shop: &Shop, what: &str) -> Vec<Value> {
    let arguments = ["diff", "shop", "--changed-by", what, "--output", "json"];
    let lines = shop.ok(&arguments);
    let lines = lines.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn one_bad_transaction_among_ten_thousand_good_ones_is_taken_back_and_the_others_stay() {
    for version in BOTH {
        let shop = streaming(version);
        // The model has what the good ones did, and nothing of the bad one.
        shop.sql(
            "CREATE TABLE model AS SELECT id, customer, amount, note FROM orders;
             ALTER TABLE model ADD PRIMARY KEY (id);
             CREATE TABLE wrote (id int, n int)",
        );
        let good = |from: usize, to: usize| {
            shop.sql(&format!(
                "DO $$ DECLARE key int; BEGIN
                     FOR n IN {from}..{to} LOOP
                         SET LOCAL synchronous_commit = off;
                         key := 1 + (n * 37) % 1500;
                         UPDATE orders SET note = 'good ' || n WHERE id = key;
                         UPDATE model SET note = 'good ' || n WHERE id = key;
                         INSERT INTO wrote VALUES (key, n);
                         COMMIT;
                     END LOOP;
                 END $$"
            ));
        };
        good(1, 5_000);
        shop.ok(&INCREMENT);
        let bad = transaction(
            &shop,
            "UPDATE orders SET amount = 0, note = 'bad' WHERE id % 50 = 7",
        );
        good(5_001, 7_000);
        shop.ok(&INCREMENT);
        good(7_001, 9_990);
        // Since the newest increment somebody wrote, too.
        shop.ok(&INCREMENT);
        good(9_991, 10_000);
        let [found] = listed(&shop, &bad).try_into().unwrap();
        assert_eq!(found["transaction"].to_string(), bad);
        assert_eq!(
            found["tables"],
            serde_json::json!([{"table": "public.orders", "inserted": 0, "updated": 60, "deleted": 0, "truncated": false}])
        );
        let again = "id IN (SELECT id FROM wrote WHERE n > 5000)";
        let count = |of: &str| -> u64 {
            let count = format!("SELECT count(*) FROM orders WHERE id % 50 = 7 AND {of}");
            shop.copy(&count).trim().parse().unwrap()
        };
        let (rewritten, alone) = (count(again), count(&format!("NOT {again}")));
        assert!(rewritten > 10 && alone > 10, "{rewritten} {alone}");
        let planned = plan(&shop, &bad);
        assert_eq!(planned["total"]["rewritten"], rewritten, "{planned}");
        assert_eq!(
            planned["rewritten"].as_array().unwrap().len() as u64,
            rewritten
        );
        assert_eq!(planned["total"]["upserted"], alone, "{planned}");
        let damaged = shop.content();
        let (operation, done) = take_back(&shop, &bad, &[]);
        assert_eq!([&done["rewritten"], &done["upserted"]], [rewritten, alone]);
        let differ = |condition: &str| {
            shop.copy(&format!(
                "SELECT count(*) FROM orders o FULL JOIN model m USING (id)
                 WHERE (o.customer, o.amount, o.note) IS DISTINCT FROM (m.customer, m.amount, m.note) AND {condition}"
            ))
        };
        assert_eq!(differ(&format!("NOT (id % 50 = 7 AND {again})")), "0\n");
        // What was written again is left: the later note, and the amount of the bad one.
        assert_eq!(differ("o.note IS DISTINCT FROM m.note"), "0\n");
        assert_eq!(differ("o.amount = 0"), format!("{rewritten}\n"));
        shop.ok(&["undo", &operation]);
        assert_eq!(shop.content(), damaged);
        // Or taken as well.
        let (_, done) = take_back(&shop, &bad, &["--include-rewritten"]);
        assert_eq!(done["upserted"], rewritten + alone, "{done}");
        assert_eq!(differ("o.amount IS DISTINCT FROM m.amount"), "0\n");
        assert_eq!(
            shop.copy("SELECT count(*) FROM orders WHERE amount = 0"),
            "0\n"
        );
        shop.ok(&INCREMENT);
        shop.ok(&["verify", "shop"]);
        shop.ok(&["verify", "shop", "--live"]);
        shop.assert_nothing_held();
    }
}

#[test]
fn what_a_transaction_did_is_taken_back_whatever_it_was_and_undo_brings_it_again() {
    for version in BOTH {
        let shop = Shop::with_log_for_streams(version);
        shop.sql(
            "CREATE TABLE seen (place serial, number text);
             ALTER TABLE customers ADD letter text;
             ALTER TABLE customers ALTER letter SET STORAGE EXTERNAL;
             UPDATE customers SET letter = repeat(name, 1000) WHERE id < 100",
        );
        shop.ok(&["backup", "shop", "--changes", "stream"]);
        for (statements, wrote) in [
            // A large value beside the row is not told again; a good one changed the rest of the row before.
            ("UPDATE customers SET balance = -5 WHERE id < 50", 49),
            ("UPDATE customers SET letter = NULL WHERE id < 10", 9),
            (
                "UPDATE customers SET letter = repeat('y', 9000) WHERE id BETWEEN 90 AND 110",
                21,
            ),
            ("DELETE FROM orders WHERE id % 30 = 4", 100),
            (
                "INSERT INTO orders (id, customer, note) VALUES (900001, 5, 'bad'), (900002, 6, NULL)",
                2,
            ),
            ("UPDATE orders SET id = id + 700000 WHERE id < 20", 38),
            (
                "UPDATE orders SET note = 'a' WHERE id = 30; DELETE FROM orders WHERE id = 30;
              INSERT INTO orders (id, customer, note) VALUES (30, 4, 'b')",
                1,
            ),
            (
                "SAVEPOINT a; UPDATE orders SET note = 'kept' WHERE id = 40; RELEASE a;
              SAVEPOINT b; UPDATE orders SET note = 'lost' WHERE id = 41; ROLLBACK TO b;
              UPDATE orders SET note = 'kept' WHERE id = 42",
                2,
            ),
            ("DELETE FROM customers WHERE id BETWEEN 200 AND 205", 42),
            (
                "UPDATE customers SET name = 'x' || name WHERE id < 9; INSERT INTO orders (id, customer) VALUES (900003, 8)",
                9,
            ),
        ] {
            shop.sql("UPDATE customers SET balance = balance + 1 WHERE id < 60");
            let before = shop.content();
            let bad = transaction(&shop, statements);
            let damaged = shop.content();
            shop.ok(&INCREMENT);
            // Rows beside it go on.
            let (operation, done) = take_back(&shop, &bad, &[]);
            assert_eq!(shop.content(), before, "{statements}");
            let total = |field: &str| done[field].as_u64().unwrap();
            assert_eq!(
                total("upserted") + total("erased"),
                wrote,
                "{statements}: {done}"
            );
            shop.ok(&["undo", &operation]);
            assert_eq!(shop.content(), damaged, "{statements}");
            let planned = plan(&shop, &bad);
            assert!(
                planned["total"]["rewritten"].is_null(),
                "{statements}: {planned}"
            );
            take_back(&shop, &bad, &[]);
            assert_eq!(shop.content(), before, "{statements}");
        }
        shop.ok(&INCREMENT);
        shop.ok(&["verify", "shop"]);
        shop.ok(&["verify", "shop", "--live"]);
    }
}

#[test]
fn a_prepared_transaction_is_one_by_its_own_number_from_its_commit_on() {
    let shop = streaming(Version::Debian);
    let before = shop.content();
    shop.sql(
        "BEGIN; INSERT INTO seen (number) SELECT pg_current_xact_id()::text;
         UPDATE orders SET note = 'bad' WHERE id < 30; PREPARE TRANSACTION 'p'",
    );
    shop.ok(&INCREMENT);
    shop.sql("COMMIT PREPARED 'p'");
    let bad = last_seen(&shop);
    let why = refused(&shop, &bad);
    assert!(
        why.contains(&format!("has a change of transaction {bad}")),
        "{why}"
    );
    assert!(why.contains("mendb backup shop --incremental"), "{why}");
    shop.ok(&INCREMENT);
    take_back(&shop, &bad, &[]);
    assert_eq!(shop.content(), before);
}

#[test]
fn all_that_committed_in_a_span_of_time_is_taken_back() {
    for version in BOTH {
        let shop = streaming(version);
        transaction(&shop, "UPDATE orders SET note = 'before' WHERE id < 10");
        let (from, before) = (now(&shop), shop.content());
        for n in 0..20 {
            let statements = format!(
                "UPDATE orders SET amount = -{n}, note = 'bad' WHERE id % 100 = {n}; DELETE FROM orders WHERE id = 2000 + {n}"
            );
            transaction(&shop, &statements);
            if n == 8 {
                shop.ok(&INCREMENT);
            }
        }
        let until = now(&shop);
        let damaged = shop.content();
        shop.sql("UPDATE orders SET note = 'later' WHERE id IN (101, 102, 55)");
        shop.ok(&INCREMENT);
        let span = format!("{from}..{until}");
        let found = listed(&shop, &span);
        assert_eq!(found.len(), 20);
        assert!(found.iter().all(|one| {
            let did = &one["tables"][0];
            did["deleted"].as_u64().unwrap() + did["updated"].as_u64().unwrap() > 29
        }));
        let planned = plan(&shop, &span);
        let left = planned["rewritten"].as_array().unwrap();
        assert_eq!(left.len(), 2, "{planned}");
        assert_eq!(left[0]["table"], "public.orders");
        assert!(
            left[0]["key"].as_str().unwrap().contains("101"),
            "{planned}"
        );
        assert!(left[0]["by"]["transaction"].is_u64(), "{planned}");
        let (operation, done) = take_back(&shop, &span, &[]);
        assert_eq!(done["rewritten"], 2, "{done}");
        let others = "SELECT * FROM orders WHERE id NOT IN (101, 102, 55) ORDER BY id";
        let mended = shop.copy(others);
        shop.ok(&["undo", &operation]);
        shop.sql(
            "UPDATE orders SET amount = -1, note = 'bad' WHERE id = 101;
                  UPDATE orders SET amount = -2, note = 'bad' WHERE id = 102;
                  UPDATE orders SET note = 'order 55' WHERE id = 55",
        );
        assert_eq!(shop.content(), damaged);
        // With the rows that were written again all is as before.
        take_back(&shop, &span, &["--include-rewritten"]);
        assert_eq!(shop.content(), before);
        assert_eq!(shop.copy(others), mended);
        // What is written since the newest increment is not known.
        let why = refused(&shop, &format!("{from}..2100-01-01T00:00:00Z"));
        assert!(why.contains("reaches beyond the newest backup"), "{why}");
        let why = refused(&shop, &format!("2020-01-01T00:00:00Z..{until}"));
        assert!(why.contains("full backup"), "{why}");
        let quiet = format!("{}..{}", now(&shop), now(&shop));
        shop.ok(&INCREMENT);
        assert!(listed(&shop, &quiet).is_empty());
        let why = refused(&shop, &quiet);
        assert!(why.contains("has a change of what committed from"), "{why}");
    }
}

#[test]
fn foreign_keys_hold_when_a_transaction_is_taken_back() {
    let shop = streaming(Version::Debian);
    let bad = transaction(&shop, "DELETE FROM customers WHERE id = 77");
    let worse = transaction(&shop, "INSERT INTO customers (name) VALUES ('eve')");
    shop.sql(
        "INSERT INTO orders (customer, note) SELECT id, 'good' FROM customers WHERE name = 'eve'",
    );
    shop.ok(&INCREMENT);
    let there = shop.content();
    // Children alone would point to nothing.
    let only = ["--tables", "public.orders"];
    let mut all = vec!["restore", "shop", "--in-place", "--only-changed-by", &bad];
    all.extend(only);
    let why = shop.fails(1, &all);
    assert!(why.contains("customers"), "{why}");
    cancel(&shop);
    assert_eq!(shop.content(), there);
    take_back(&shop, &bad, &[]);
    let children = shop.copy("SELECT count(*) FROM orders WHERE customer = 77");
    assert_eq!(children, "6\n");
    // Somebody relies on what the other one brought.
    let why = refused(&shop, &worse);
    assert!(why.contains("orders"), "{why}");
    cancel(&shop);
    assert_eq!(
        shop.copy("SELECT count(*) FROM orders WHERE note = 'good'"),
        "1\n"
    );
    shop.assert_nothing_held();
}

pub fn cancel(shop: &Shop) {
    for operation in shop.unfinished() {
        shop.ok(&["operation", "cancel", &operation]);
    }
}

#[test]
fn what_cannot_be_taken_back_is_refused_by_name() {
    let shop = streaming(Version::Debian);
    let why = refused(&shop, "123456789");
    assert!(
        why.contains("transaction 123456789") && why.contains("full backup alone"),
        "{why}"
    );
    let emptied = transaction(
        &shop,
        "UPDATE customers SET balance = 1 WHERE id = 1; TRUNCATE orders",
    );
    shop.ok(&INCREMENT);
    let found = listed(&shop, &emptied);
    let tables = found[0]["tables"].as_array().unwrap();
    assert_eq!(tables[1]["truncated"], true, "{found:?}");
    let why = refused(&shop, &emptied);
    assert!(
        why.contains("TRUNCATE") && why.contains("public.orders"),
        "{why}"
    );
    let (_, done) = take_back(&shop, &emptied, &["--tables", "public.customers"]);
    assert_eq!(done["upserted"], 1);
    // A table whose changes the stream did not tell.
    let lost = transaction(&shop, "UPDATE customers SET balance = 2 WHERE id = 2");
    shop.sql("ALTER TABLE customers REPLICA IDENTITY NOTHING; ALTER TABLE customers REPLICA IDENTITY DEFAULT");
    shop.sql("VACUUM FULL customers");
    shop.ok(&INCREMENT);
    let why = refused(&shop, &lost);
    assert!(why.contains("public.customers one by one"), "{why}");
    // An increment that is found in another way keeps none.
    let slot = shop.copy("SELECT slot_name FROM pg_replication_slots");
    shop.sql(&format!(
        "SELECT pg_drop_replication_slot('{}')",
        slot.trim()
    ));
    let silent = transaction(&shop, "UPDATE customers SET balance = 3 WHERE id = 3");
    shop.ok(&INCREMENT);
    let why = refused(&shop, &silent);
    assert!(
        why.contains("does not keep its changes one by one"),
        "{why}"
    );
    // What that one wrote counts as written again, by somebody.
    let bad = transaction(&shop, "UPDATE customers SET balance = 4 WHERE id IN (4, 5)");
    shop.ok(&INCREMENT);
    let slot = shop.copy("SELECT slot_name FROM pg_replication_slots");
    shop.sql(&format!(
        "SELECT pg_drop_replication_slot('{}')",
        slot.trim()
    ));
    shop.sql("UPDATE customers SET balance = 5 WHERE id = 5");
    shop.ok(&INCREMENT);
    let planned = plan(&shop, &bad);
    assert_eq!(planned["total"]["rewritten"], 1, "{planned}");
    assert_eq!(planned["total"]["upserted"], 1, "{planned}");
    // So it is after a mend: the next increment stands on the state before it.
    shop.mend(&[]);
    shop.fails(
        2,
        &[
            "restore",
            "shop",
            "--in-place",
            "--only-changed-by",
            "yesterday",
        ],
    );
    shop.fails(2, &["restore", "shop", "--in-place", "--include-rewritten"]);
    shop.fails(2, &["restore", "shop", "--only-changed-by", &bad]);
}

#[test]
fn one_after_the_other_is_taken_back_and_so_is_a_mend_that_did_it() {
    let shop = streaming(Version::V18);
    let before = shop.content();
    let bad: Vec<String> = (0..3)
        .map(|n| {
            let id = 10 + n;
            let statements = format!("UPDATE orders SET note = 'bad' WHERE id % 40 = {id}");
            transaction(&shop, &statements)
        })
        .collect();
    shop.ok(&INCREMENT);
    for one in bad.iter().rev() {
        take_back(&shop, one, &[]);
        // The mend itself is a transaction that the next increment knows.
        shop.ok(&INCREMENT);
    }
    assert_eq!(shop.content(), before);
    let all = listed(&shop, "2020-01-01T00:00:00Z..");
    assert_eq!(all.len(), 6, "{all:?}");
    let mended = all.last().unwrap()["transaction"].to_string();
    // What was planned is done, and nothing else where it is another by now.
    let planned = [
        "restore",
        "shop",
        "--in-place",
        "--only-changed-by",
        &mended,
    ];
    let save = |file| shop.ok(&[&planned[..], &["--dry-run", "--plan", file]].concat());
    save("drifted.json");
    shop.sql("UPDATE orders SET amount = 1 WHERE id = 2999");
    shop.fails(3, &["restore", "--plan", "drifted.json"]);
    cancel(&shop);
    save("planned.json");
    let report = shop.json(&["restore", "--plan", "planned.json"]);
    assert_eq!(report["total"]["upserted"], 75, "{report}");
    assert_eq!(
        shop.copy("SELECT count(*) FROM orders WHERE note = 'bad'"),
        "75\n"
    );
    shop.ok(&["verify", "shop"]);
}

#[test]
fn folding_forgets_what_single_transactions_did_and_the_next_increments_keep_it_again() {
    let shop = streaming(Version::Debian);
    let bad = transaction(&shop, "UPDATE orders SET note = 'bad' WHERE id < 100");
    shop.ok(&INCREMENT);
    shop.sql("UPDATE orders SET note = 'later' WHERE id < 50");
    shop.ok(&INCREMENT);
    assert_eq!(listed(&shop, &bad).len(), 1);
    // An older mendb would lose the single changes: it is to refuse such an increment, and no other backup.
    assert_eq!(formats(&shop), [2, 4, 4]);
    let planned = shop.json(&["chain", "compact", "shop", "--dry-run"]);
    assert_eq!(planned["forgets_transactions"], true, "{planned}");
    let folded = shop.ok(&["chain", "compact", "shop"]);
    assert!(folded.contains("single transactions"), "{folded}");
    let why = refused(&shop, &bad);
    assert!(
        why.contains("does not keep its changes one by one"),
        "{why}"
    );
    assert!(listed(&shop, &bad).is_empty());
    assert_eq!(formats(&shop), [2, 2]);
    let left = format!(
        "find {}/{}/collections -path '*_mendb_*' -name '*.parquet'",
        shop.directory().display(),
        shop.repository
    );
    let left = std::process::Command::new("sh")
        .args(["-c", &left])
        .output();
    assert!(left.unwrap().stdout.is_empty(), "their segments go, too");
    shop.ok(&["verify", "shop"]);
    shop.ok(&["verify", "shop", "--live"]);
    let next = transaction(&shop, "UPDATE orders SET note = 'worse' WHERE id = 1");
    shop.ok(&INCREMENT);
    let there = shop.content();
    let (operation, done) = take_back(&shop, &next, &[]);
    assert_eq!(done["upserted"], 1);
    assert_eq!(shop.copy("SELECT note FROM orders WHERE id = 1"), "later\n");
    shop.ok(&["undo", &operation]);
    assert_eq!(shop.content(), there);
    shop.ok(&["verify", "shop"]);
}

/// The formats of the manifests of all backups, oldest first.
fn formats(shop: &Shop) -> Vec<u64> {
    let listed = shop.json(&["list", "shop"]);
    let ids = listed.as_array().unwrap().iter();
    let format = |backup: &Value| {
        let id = backup["backup_id"].as_str().unwrap();
        shop.json(&["show", id])["format_version"].as_u64().unwrap()
    };
    ids.map(format).collect()
}
