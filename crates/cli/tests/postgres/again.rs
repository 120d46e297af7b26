//! Rows that were written again since a mend stay when it is undone, and what is refused ends.

use std::thread;

use serde_json::Value;

use crate::postgres_server::Version;
use crate::rewinds::{INCREMENT, streaming, take_back, transaction};
use crate::shop::Shop;

fn report(shop: &Shop, words: &[&str]) -> Value {
    let report = shop.json(words);
    assert_eq!(report["state"], "done", "{report}");
    report
}

/// What a mend has brought back is written again, in each way; and a row that it never touched.
fn write_again(shop: &Shop) {
    shop.sql(
        "UPDATE orders SET note = 'later' WHERE id IN (3, 4);
         DELETE FROM orders WHERE id IN (8, 13);
         INSERT INTO orders (id, customer, note) VALUES (900005, 1, 'later');
         UPDATE orders SET note = 'elsewhere' WHERE id = 2000",
    );
}

const ROWS: &str =
    "SELECT id, note FROM orders WHERE id IN (3, 4, 5, 8, 13, 23, 2000) OR id > 900000 ORDER BY id";

#[test]
fn an_undo_leaves_what_was_written_since_whatever_kind_of_mend_it_was() {
    for version in [Version::Debian, Version::V18] {
        let kinds: [&[&str]; 4] = [
            &[],
            &["--range", "public.orders:..1000000"],
            &["--where", "id > 0"],
            &["--only-changed-by"],
        ];
        for kind in kinds {
            let shop = streaming(version);
            let damage = "UPDATE orders SET note = 'bad' WHERE id IN (3, 5, 8); DELETE FROM orders WHERE id IN (13, 23);
                          INSERT INTO orders (id, customer, note) VALUES (900005, 1, 'bad'), (900006, 1, 'bad')";
            let bad = transaction(&shop, damage);
            let mend = match kind {
                [only] => {
                    assert_eq!(*only, "--only-changed-by");
                    shop.ok(&INCREMENT);
                    take_back(&shop, &bad, &[]).0
                }
                more => shop.mend(more),
            };
            assert_eq!(
                shop.copy(ROWS),
                "3\torder 3\n4\torder 4\n5\torder 5\n8\torder 8\n13\torder 13\n23\torder 23\n2000\torder 2000\n"
            );
            write_again(&shop);
            let planned = shop.json(&["undo", &mend, "--dry-run"]);
            assert_eq!(planned["total"]["rewritten"], 3, "{kind:?} {planned}");
            let keys = planned["rewritten"].as_array().unwrap();
            for (row, key) in keys.iter().zip(["3", "8", "900005"]) {
                assert!(row["key"].as_str().unwrap().contains(key), "{planned}");
            }
            let undone = report(&shop, &["undo", &mend]);
            let total = &undone["total"];
            assert_eq!(
                [&total["rewritten"], &total["upserted"], &total["erased"]],
                [3, 2, 1],
                "{kind:?} {undone}"
            );
            assert_eq!(
                shop.copy(ROWS),
                "3\tlater\n4\tlater\n5\tbad\n2000\telsewhere\n900005\tlater\n900006\tbad\n",
                "{kind:?}"
            );
            // The undo is undone, too; and with what was written again all is as the bad one left it.
            let undo = undone["operation_id"].as_str().unwrap();
            let again = report(&shop, &["undo", undo]);
            assert_eq!(again["total"]["upserted"], 2, "{again}");
            report(&shop, &["undo", &mend, "--include-rewritten"]);
            assert_eq!(
                shop.copy(ROWS),
                "3\tbad\n4\tlater\n5\tbad\n8\tbad\n2000\telsewhere\n900005\tbad\n900006\tbad\n",
                "{kind:?}"
            );
            shop.ok(&["verify", "shop"]);
            shop.assert_nothing_held();
        }
    }
}

#[test]
fn an_undo_where_rows_changed_their_keys_takes_all_of_them_or_none() {
    let shop = streaming(Version::Debian);
    let bad = transaction(
        &shop,
        "UPDATE orders SET id = id + 800000 WHERE id IN (3, 5)",
    );
    shop.ok(&INCREMENT);
    let damaged = shop.content();
    let (mend, _) = take_back(&shop, &bad, &[]);
    shop.sql("UPDATE orders SET note = 'later' WHERE id = 3");
    let there = shop.content();
    for more in [&[][..], &["--dry-run"]] {
        let why = shop.fails(1, &[&["undo", &mend], more].concat());
        assert!(
            why.contains("written again since the mend") && why.contains("--include-rewritten"),
            "{why}"
        );
        assert_eq!(shop.content(), there);
    }
    assert_eq!(shop.unfinished(), [""; 0]);
    report(&shop, &["undo", &mend, "--include-rewritten"]);
    assert_eq!(shop.content(), damaged);
}

#[test]
fn a_mend_that_is_refused_ends_and_is_in_nobodys_way() {
    let shop = streaming(Version::Debian);
    let bad = transaction(&shop, "DELETE FROM customers WHERE id = 77");
    shop.ok(&INCREMENT);
    let there = shop.content();
    let take_back = ["restore", "shop", "--in-place", "--only-changed-by", &bad];
    let why = shop.fails(
        1,
        &[&take_back[..], &["--tables", "public.orders"]].concat(),
    );
    assert!(
        why.contains("that are not there") && why.contains("with nothing changed"),
        "{why}"
    );
    assert_eq!(shop.content(), there);
    assert_eq!(shop.unfinished(), [""; 0]);
    shop.assert_nothing_held();
    shop.ok(&INCREMENT);
    let report = shop.json(&take_back);
    assert_eq!(report["state"], "done", "{report}");
    // So it is where writers would have waited for too long, and where the server does not let it write.
    shop.sql("UPDATE orders SET note = 'x' WHERE id = 8; ALTER TABLE orders ADD CHECK (note <> 'order 8')");
    shop.fails(
        1,
        &[
            "restore",
            "shop",
            "--in-place",
            "--range",
            "public.orders:8..9",
        ],
    );
    assert_eq!(shop.unfinished(), [""; 0]);
    shop.ok(&["verify", "shop"]);
}

#[test]
fn what_was_written_while_the_lock_was_waited_for_is_counted_as_it_became() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop"]);
    let before = shop.content();
    shop.sql("UPDATE orders SET note = 'bad' WHERE id <= 10");
    let mut writer = shop.server.connect();
    writer
        .batch_execute("BEGIN; UPDATE orders SET note = 'order 1' WHERE id = 1; DELETE FROM orders WHERE id > 2990")
        .unwrap();
    let report = thread::scope(|scope| {
        let mend = scope.spawn(|| report(&shop, &["restore", "shop", "--in-place"]));
        let waits =
            "SELECT count(*) FROM pg_locks WHERE mode = 'ShareRowExclusiveLock' AND NOT granted";
        while shop.copy(waits) == "0\n" {
            assert!(!mend.is_finished(), "it does not wait");
        }
        writer.batch_execute("COMMIT").unwrap();
        mend.join().unwrap()
    });
    assert_eq!(shop.content(), before);
    // Nine that differed still, and ten that were gone by then.
    let total = &report["total"];
    assert_eq!([&total["upserted"], &total["erased"]], [19, 0], "{report}");
    // All that were left of orders, as rows were gone that nobody told of; none of customers.
    assert_eq!(total["read"], 2990, "{report}");
}

#[test]
fn flags_without_an_effect_are_refused_and_what_is_advised_works() {
    let shop = streaming(Version::Debian);
    let before = shop.content();
    for flag in ["--accept-schema", "--include-conflicting"] {
        let why = shop.fails(1, &["restore", "shop", "--in-place", flag]);
        assert!(why.contains(flag) && why.contains("no effect"), "{why}");
    }
    let emptied = transaction(
        &shop,
        "UPDATE customers SET balance = 1 WHERE id = 1; TRUNCATE orders",
    );
    shop.ok(&INCREMENT);
    let all = [
        "restore",
        "shop",
        "--in-place",
        "--only-changed-by",
        &emptied,
    ];
    let why = shop.fails(1, &all);
    // Each of the two ways that are told, as it is told.
    let quoted = |after: &str| {
        let at = why.find(after).unwrap_or_else(|| panic!("{after}: {why}")) + after.len();
        why[at..].split('\'').next().unwrap().to_owned()
    };
    let others = quoted("leave it out with --tables '");
    report(&shop, &[&all[..], &["--tables", &others]].concat());
    let at = why.find("mendb restore shop").unwrap();
    let line = why[at..].lines().next().unwrap().replace('\'', "");
    let words: Vec<&str> = line.split_whitespace().skip(1).collect();
    report(&shop, &words);
    assert_eq!(shop.content(), before);
}
