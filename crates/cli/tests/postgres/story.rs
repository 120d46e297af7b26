//! Somebody ran an UPDATE without WHERE.

use std::process::Command;

use crate::postgres_server::Version;
use crate::shop::{CUSTOMERS, ORDERS, Shop};

#[test]
fn an_update_without_where_is_mended_where_it_happened_and_can_be_taken_back() {
    mended_and_taken_back(&Shop::new());
}

#[test]
fn an_update_without_where_is_mended_on_18_too() {
    mended_and_taken_back(&Shop::on(Version::V18));
}

fn mended_and_taken_back(shop: &Shop) {
    let before = shop.content();
    let check = shop.json(&["target", "check"]);
    let tables = check["tables"].as_array().unwrap();
    assert!(
        tables.iter().all(|table| table["can_be_mended"] == true),
        "{check}"
    );
    assert_eq!(check["missing"].as_array().unwrap().len(), 0, "{check}");
    shop.ok(&["backup", "shop", "--label", "monday"]);
    shop.ok(&["verify", "shop", "--live"]);
    shop.ok(&["diff", "shop"]);
    shop.damage();
    let damaged = shop.content();
    assert_ne!(damaged, before);

    shop.fails(3, &["verify", "shop", "--live"]);
    let diff = shop.run(&[
        "diff",
        "monday",
        "--rows",
        "--tables",
        "public.customers",
        "--output",
        "json",
    ]);
    assert_eq!(diff.status.code(), Some(3));
    assert_eq!(String::from_utf8(diff.stdout).unwrap().lines().count(), 501);

    let plan = shop.json(&["restore", "shop", "--in-place", "--dry-run"]);
    assert_eq!(plan["total"]["upserted"], 500 + 300);
    assert_eq!(plan["total"]["erased"], 41);
    assert_eq!(shop.content(), damaged, "a plan changes nothing");

    let mend = shop.mend(&[]);
    assert_eq!(shop.content(), before);
    shop.ok(&["verify", "monday", "--live"]);
    shop.ok(&["diff", "monday"]);
    shop.assert_nothing_held();
    let backups = shop.json(&["list", "shop"]);
    let labels = backups
        .as_array()
        .unwrap()
        .iter()
        .map(|backup| backup["label"].as_str().unwrap());
    assert_eq!(
        labels.collect::<Vec<_>>(),
        ["monday", &format!("before-{mend}")]
    );
    shop.ok(&["verify", "shop"]);

    let undo = shop.json(&["undo", &mend]);
    assert_eq!(shop.content(), damaged);
    shop.ok(&["undo", undo["operation_id"].as_str().unwrap()]);
    assert_eq!(shop.content(), before);
    shop.assert_nothing_held();

    shop.ok(&["target", "detach"]);
    let left = "SELECT count(*) FROM pg_namespace WHERE nspname = 'mendb'";
    assert_eq!(shop.copy(left), "0\n");
    assert_eq!(shop.content(), before);
    // The backups are there, and a plan that is asked for again begins anew.
    shop.ok(&["verify", "monday", "--live"]);
    assert_eq!(shop.copy(left), "0\n", "who looks leaves nothing");
}

#[test]
fn each_of_several_backups_is_mended_to_and_undone_from_in_any_order() {
    let shop = Shop::new();
    let mut contents = Vec::new();
    for round in 0..3 {
        contents.push(shop.content());
        shop.ok(&["backup", "shop", "--label", &format!("round-{round}")]);
        shop.sql(&format!(
            "UPDATE customers SET balance = balance + {round} WHERE id % 3 = {round};
             DELETE FROM orders WHERE id % 17 = {round};
             INSERT INTO orders (customer, amount) SELECT 1 + n, {round} FROM generate_series(1, 50) n"
        ));
    }
    for round in [1, 0, 2, 0, 1] {
        let before = shop.content();
        let mend = shop.mend(&["--to", &format!("round-{round}")]);
        assert_eq!(shop.content(), contents[round], "round {round}");
        shop.ok(&["undo", &mend]);
        assert_eq!(shop.content(), before, "back from round {round}");
        shop.mend(&["--to", &format!("round-{round}")]);
    }
    shop.ok(&["verify", "shop"]);
    shop.assert_nothing_held();
}

#[test]
fn a_backup_is_restored_beside_with_its_rules_and_sequences() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop", "--label", "monday"]);
    let before = shop.content();
    shop.damage();
    let mend = shop.mend(&[]);
    shop.ok(&["undo", &mend]);
    // A full backup, and an increment on it.
    for (to, expected) in [
        ("monday", &before),
        (&*format!("before-{mend}"), &shop.content()),
    ] {
        for strategy in ["sequential", "merged"] {
            let rename = "public.customers=public.customers2,public.orders=public.orders2";
            shop.ok(&[
                "restore",
                "shop",
                "--to",
                to,
                "--rename",
                rename,
                "--strategy",
                strategy,
            ]);
            for (query, expected) in [CUSTOMERS, ORDERS].iter().zip(&expected.0) {
                let query = query
                    .replace("customers", "customers2")
                    .replace("orders", "orders2");
                assert_eq!(&shop.copy(&query), expected, "{to} {strategy}");
            }
            shop.ok(&["verify", to, "--live", "--rename", rename]);
            let rules = shop.copy(
                "SELECT pg_get_constraintdef(oid) FROM pg_constraint
                 WHERE conrelid = 'customers2'::regclass AND contype IN ('p', 'u', 'c') ORDER BY 1",
            );
            let own = shop.copy(
                "SELECT pg_get_constraintdef(oid) FROM pg_constraint
                 WHERE conrelid = 'customers'::regclass AND contype IN ('p', 'u', 'c') ORDER BY 1",
            );
            assert_eq!(rules, own);
            let index = "SELECT count(*) FROM pg_indexes WHERE tablename = 'orders2' AND indexdef LIKE '%INCLUDE (amount)'";
            assert_eq!(shop.copy(index), "1\n");
            // Their sequences go on behind the rows.
            shop.sql("INSERT INTO orders2 (customer) VALUES (1); INSERT INTO customers2 (name) VALUES ('new')");
            shop.assert_nothing_held();
            shop.sql("DROP TABLE customers2, orders2");
        }
    }
    let refused = shop.fails(1, &["restore", "shop"]);
    assert!(refused.contains("already exists"), "{refused}");
}

#[test]
fn what_this_target_has_no_way_for_is_refused_by_name() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop"]);
    for arguments in [
        &["table", "digest", "public.orders"][..],
        &["table", "drop", "public.orders"],
    ] {
        let refused = shop.fails(2, arguments);
        assert!(refused.contains("is a PostgreSQL database"), "{refused}");
    }
    shop.sql("ALTER TABLE orders ALTER note TYPE text");
    let refused = shop.fails(1, &["restore", "shop", "--in-place"]);
    assert!(refused.contains("character varying(40)"), "{refused}");
    shop.sql("DROP TABLE orders");
    let refused = shop.fails(1, &["restore", "shop", "--in-place"]);
    assert!(refused.contains("does not exist"), "{refused}");
    shop.ok(&["restore", "shop", "--tables", "public.orders"]);
    shop.ok(&["restore", "shop", "--in-place"]);
    shop.ok(&["verify", "shop", "--live"]);
}

#[test]
fn another_journal_and_another_process_are_refused() {
    let shop = Shop::new();
    let other = shop.run(&[
        "collection",
        "create",
        "other",
        "--table",
        "public.orders",
        "--state",
        "/tmp/mendb-no-such-state",
    ]);
    let _ = std::fs::remove_dir_all("/tmp/mendb-no-such-state");
    let said = String::from_utf8(other.stderr).unwrap();
    assert_eq!(other.status.code(), Some(2), "{said}");
    assert!(said.contains("the journal in"), "{said}");
    let mut holder = shop.server.connect();
    // The lock of the process that works on it.
    holder
        .batch_execute("SELECT pg_advisory_lock(469853168738)")
        .unwrap();
    let said = shop.fails(1, &["backup", "shop"]);
    assert!(said.contains("another mendb works on"), "{said}");
}

#[test]
fn a_store_that_cannot_keep_the_rules_of_a_table_says_so() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop"]);
    let output = Command::new(env!("CARGO_BIN_EXE_mendb"))
        .env("XDG_STATE_HOME", shop.directory().join("state"))
        .current_dir(shop.directory())
        .args(["--repository", &shop.repository()])
        .args(["restore", "shop", "--output", "json"])
        .args([
            "--rename",
            "public.customers=customers,public.orders=orders",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let note = "note: public.customers, public.orders with columns, key and rows alone";
    assert!(said.contains(note), "{said}");
}
