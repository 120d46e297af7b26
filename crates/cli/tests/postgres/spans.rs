//! Spans of time are exact, and what is not known of transactions is said.

use crate::postgres_server::Version;
use crate::rewinds::{INCREMENT, cancel, now, refused, streaming, take_back, transaction};
use crate::shop::Shop;

fn told(shop: &Shop, what: &str) -> (String, String) {
    let output = shop.run(&["diff", "shop", "--changed-by", what]);
    assert!(output.status.success());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

#[test]
fn what_committed_right_before_a_backup_or_right_behind_one_is_never_left_out_of_a_span() {
    for version in [Version::Debian, Version::V18] {
        let shop = Shop::with_log_for_streams(version);
        shop.sql("CREATE TABLE seen (place serial, number text)");
        let early = now(&shop);
        transaction(&shop, "UPDATE orders SET note = 'early' WHERE id = 1");
        shop.ok(&["backup", "shop", "--changes", "stream"]);
        let from = now(&shop);
        transaction(&shop, "UPDATE orders SET note = 'bad' WHERE id = 2");
        let until = now(&shop);
        shop.ok(&INCREMENT);
        let late = now(&shop);
        transaction(&shop, "UPDATE orders SET note = 'late' WHERE id = 3");
        let later = now(&shop);
        // What is in the full backup nobody knows the transactions of, and the late one is in no increment yet.
        let why = refused(&shop, &format!("{early}..{until}"));
        assert!(
            why.contains("are in the full backup") && why.contains("begin at 20"),
            "{why}"
        );
        let why = refused(&shop, &format!("{from}..{later}"));
        assert!(why.contains("has all that committed before 20"), "{why}");
        assert!(why.contains("mendb backup shop --incremental"), "{why}");
        let (found, note) = told(&shop, &format!("{early}..{later}"));
        assert_eq!(found.matches("committed").count(), 1, "{found}");
        assert!(
            note.contains("full backup") && note.contains("reaches beyond"),
            "{note}"
        );
        let (_, done) = take_back(&shop, &format!("{from}..{until}"), &[]);
        assert_eq!(done["upserted"], 1, "{done}");
        shop.ok(&INCREMENT);
        let (_, done) = take_back(&shop, &format!("{late}..{later}"), &[]);
        assert_eq!(done["upserted"], 1, "{done}");
        assert_eq!(
            shop.copy("SELECT note FROM orders WHERE id < 4 ORDER BY id"),
            "early\norder 2\norder 3\n"
        );
    }
}

#[test]
fn an_end_that_is_left_out_is_that_of_the_chain_and_bad_ones_are_told_from_each_other() {
    let shop = streaming(Version::Debian);
    let before = shop.content();
    for n in 1..4 {
        let statements = format!("UPDATE orders SET amount = -1 WHERE id = {n}");
        transaction(&shop, &statements);
        shop.ok(&INCREMENT);
    }
    let until = now(&shop);
    shop.ok(&INCREMENT);
    let open = format!("..{until}");
    let all = [
        "restore",
        "shop",
        "--in-place",
        "--only-changed-by",
        &open,
        "--dry-run",
    ];
    let planned = shop.ok(&all);
    assert!(
        planned.contains("what committed from the full backup on until 20"),
        "{planned}"
    );
    take_back(&shop, &open, &[]);
    assert_eq!(shop.content(), before);
    let future = format!("{until}..2100-01-01T00:00:00Z");
    let why = refused(&shop, &future);
    assert!(
        why.contains("and into the future") && why.contains("leave its end out"),
        "{why}"
    );
    for (bad, what) in [
        ("2026-11-21T08:00:00..2026-11-21T09:00:00", "with an offset"),
        ("2026-11-21T09:00:00Z..2026-11-21T08:00:00Z", "is empty"),
        ("yesterday", "neither the number"),
    ] {
        let all = ["restore", "shop", "--in-place", "--only-changed-by", bad];
        let why = shop.fails(2, &all);
        assert!(why.contains(what), "{why}");
    }
}

#[test]
fn tables_of_which_it_is_not_known_what_a_transaction_did_to_them_are_named() {
    let shop = Shop::with_log_for_streams(Version::Debian);
    shop.sql(
        "CREATE TABLE seen (place serial, number text);
         ALTER TABLE customers REPLICA IDENTITY NOTHING",
    );
    shop.ok(&["backup", "shop", "--changes", "stream"]);
    let bad = transaction(
        &shop,
        "UPDATE customers SET balance = -1 WHERE id = 7; UPDATE orders SET note = 'bad' WHERE id = 7",
    );
    shop.ok(&INCREMENT);
    let (found, note) = told(&shop, &bad);
    assert!(found.contains("public.orders: 1 updated"), "{found}");
    assert!(
        note.contains("public.customers") && note.contains("replica identity"),
        "{note}"
    );
    assert!(note.contains("outside of collection shop"), "{note}");
    let all = ["restore", "shop", "--in-place", "--only-changed-by", &bad];
    let planned = shop.json(&[&all[..], &["--dry-run"]].concat());
    assert_eq!(
        planned["untold"][0]["table"], "public.customers",
        "{planned}"
    );
    let output = shop.run(&all);
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("left as it is, is what transaction") && said.contains("public.customers"),
        "{said}"
    );
    assert_eq!(
        shop.copy("SELECT balance FROM customers WHERE id = 7"),
        "-1.00\n"
    );
    cancel(&shop);
}
