//! Rows whose keys a transaction changed: both keys go back together, or stay together.

use serde_json::Value;

use crate::postgres_server::Version;
use crate::rewinds::{INCREMENT, take_back, transaction};
use crate::shop::Shop;

const ALL: &str = "SELECT id, v FROM t ORDER BY id";

fn table() -> Shop {
    let mut shop = Shop::empty_on(Version::Debian);
    shop.server.crash();
    shop.server.start_with(&["wal_level=logical"]);
    shop.sql(
        "CREATE TABLE seen (place serial, number text);
         CREATE TABLE t (id int PRIMARY KEY, v int);
         INSERT INTO t SELECT n, n FROM generate_series(1, 20) n",
    );
    shop.ok(&["collection", "create", "shop", "--table", "public.t"]);
    shop.ok(&["backup", "shop", "--changes", "stream"]);
    shop
}

fn plan(shop: &Shop, what: &str, more: &[&str]) -> Value {
    let mut all = vec!["restore", "shop", "--in-place", "--only-changed-by", what];
    all.extend(["--dry-run"]);
    all.extend(more);
    shop.json(&all)
}

/// The keys that stay, each with the other for which it does.
fn stay(plan: &Value) -> Vec<(String, Option<String>)> {
    let rows = plan["rewritten"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    rows.iter()
        .map(|row| (text(&row["key"]).unwrap(), text(&row["with"])))
        .collect()
}

#[test]
fn a_row_whose_key_was_changed_is_never_there_under_both_keys() {
    for is_since_the_newest in [false, true] {
        let shop = table();
        let before = shop.copy(ALL);
        let bad = transaction(
            &shop,
            "UPDATE t SET id = 101 WHERE id = 1; UPDATE t SET v = 0 WHERE id = 5;
             DELETE FROM t WHERE id = 6; INSERT INTO t VALUES (106, 6)",
        );
        shop.ok(&INCREMENT);
        shop.sql("UPDATE t SET v = -1 WHERE id IN (101, 106)");
        if !is_since_the_newest {
            shop.ok(&INCREMENT);
        }
        let damaged = shop.copy(ALL);
        let planned = plan(&shop, &bad, &[]);
        let mut left = stay(&planned);
        left.sort();
        assert_eq!(left.len(), 3, "{planned}");
        let is = |at: usize, key: &str, with: Option<&str>| {
            assert!(left[at].0.contains(key), "{planned}");
            let other = left[at].1.as_deref();
            let is_it = with.is_none_or(|with| other.is_some_and(|other| other.contains(with)));
            assert_eq!(other.is_some(), with.is_some(), "{planned}");
            assert!(is_it, "{planned}");
        };
        is(0, "1", Some("101"));
        is(1, "101", None);
        // A row that went, and another that came, have nothing to do with each other.
        is(2, "106", None);
        let (operation, done) = take_back(&shop, &bad, &[]);
        assert_eq!(done["rewritten"], 3, "{done}");
        assert_eq!(
            shop.copy("SELECT id, v FROM t WHERE id IN (1, 101, 5, 6, 106) ORDER BY id"),
            "5\t5\n6\t6\n101\t-1\n106\t-1\n"
        );
        shop.ok(&["undo", &operation]);
        assert_eq!(shop.copy(ALL), damaged);
        take_back(&shop, &bad, &["--include-rewritten"]);
        assert_eq!(shop.copy(ALL), before);
        shop.ok(&["verify", "shop"]);
    }
}

#[test]
fn chains_of_key_changes_and_rows_that_change_places_go_back_as_a_whole_or_not_at_all() {
    let shop = table();
    let before = shop.copy(ALL);
    let bad = transaction(
        &shop,
        "UPDATE t SET id = 101 WHERE id = 1; UPDATE t SET id = 102 WHERE id = 101;
         UPDATE t SET id = 103 WHERE id = 3; UPDATE t SET id = 3 WHERE id = 4; UPDATE t SET id = 4 WHERE id = 103;
         UPDATE t SET id = 107 WHERE id = 7",
    );
    // Others moved one on, wrote to one of those that changed places, and put another row where one was.
    shop.sql("UPDATE t SET id = 202 WHERE id = 102; UPDATE t SET v = -3 WHERE id = 3");
    shop.sql("UPDATE t SET id = 7 WHERE id = 9");
    shop.ok(&INCREMENT);
    let damaged = shop.copy(ALL);
    let planned = plan(&shop, &bad, &[]);
    assert_eq!(planned["total"]["upserted"], 0, "{planned}");
    let (_, done) = take_back(&shop, &bad, &[]);
    assert_eq!(shop.copy(ALL), damaged, "{done}");
    // All of them, also the row that took the place of one, as it was before.
    take_back(&shop, &bad, &["--include-rewritten"]);
    assert_eq!(shop.copy(ALL), before);
    shop.ok(&["verify", "shop"]);
}

#[test]
fn a_row_of_which_one_key_is_not_chosen_stays_under_the_other() {
    let shop = table();
    let before = shop.copy(ALL);
    let bad = transaction(
        &shop,
        "UPDATE t SET id = id + 100 WHERE id < 4; UPDATE t SET v = 0 WHERE id = 5",
    );
    shop.ok(&INCREMENT);
    let damaged = shop.copy(ALL);
    let some = ["--range", "public.t:..50"];
    let planned = plan(&shop, &bad, &some);
    assert_eq!(stay(&planned).len(), 3, "{planned}");
    assert_eq!(planned["rewritten"][0]["beside"], true, "{planned}");
    let (operation, _) = take_back(&shop, &bad, &some);
    assert_eq!(
        shop.copy("SELECT id, v FROM t WHERE id < 6"),
        "4\t4\n5\t5\n"
    );
    shop.ok(&["undo", &operation]);
    assert_eq!(shop.copy(ALL), damaged);
    let (operation, _) = take_back(&shop, &bad, &["--where", "id <> 102"]);
    assert_eq!(
        shop.copy("SELECT id FROM t WHERE id < 4 OR id > 99 ORDER BY id"),
        "1\n3\n102\n"
    );
    shop.ok(&["undo", &operation]);
    take_back(&shop, &bad, &[]);
    assert_eq!(shop.copy(ALL), before);
}

#[test]
fn a_row_that_goes_from_one_partition_into_another_is_one_row() {
    let mut shop = Shop::empty_on(Version::V18);
    shop.server.crash();
    shop.server.start_with(&["wal_level=logical"]);
    shop.sql(
        "CREATE TABLE seen (place serial, number text);
         CREATE TABLE t (id int, place int, v int, PRIMARY KEY (id, place)) PARTITION BY LIST (place);
         CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1);
         CREATE TABLE t2 PARTITION OF t FOR VALUES IN (2);
         INSERT INTO t SELECT n, 1, n FROM generate_series(1, 20) n",
    );
    shop.ok(&["collection", "create", "shop", "--table", "public.t"]);
    shop.ok(&["backup", "shop", "--changes", "stream"]);
    let all = "SELECT * FROM t ORDER BY id, place";
    let before = shop.copy(all);
    let bad = transaction(&shop, "UPDATE t SET place = 2 WHERE id < 3");
    shop.sql("UPDATE t SET v = -1 WHERE id = 1");
    shop.ok(&INCREMENT);
    take_back(&shop, &bad, &[]);
    assert_eq!(
        shop.copy("SELECT * FROM t WHERE id < 3 ORDER BY id, place"),
        "1\t2\t-1\n2\t1\t2\n"
    );
    take_back(&shop, &bad, &["--include-rewritten"]);
    assert_eq!(shop.copy(all), before);
}
