//! Mends of some keys: the others stay as they are, whatever was done to them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::postgres_server::Version;
use crate::shop::Shop;

const IN_RANGE: &str = "SELECT * FROM public.orders WHERE id >= 1000 AND id < 2000 ORDER BY id";
const BESIDE: &str = "SELECT * FROM public.orders WHERE id < 1000 OR id >= 2000 ORDER BY id";
const RANGE: &str = "public.orders:1000..2000";

fn both(shop: &Shop) -> [String; 2] {
    [IN_RANGE, BESIDE].map(|query| shop.copy(query))
}

#[test]
fn some_keys_are_mended_and_the_mend_is_undone() {
    for version in [Version::Debian, Version::V18] {
        let shop = Shop::on(version);
        shop.ok(&["backup", "shop", "--label", "monday"]);
        shop.sql("UPDATE orders SET note = 'tuesday' WHERE id % 10 = 1");
        shop.ok(&["backup", "shop", "--incremental", "--label", "tuesday"]);
        let [tuesday, _] = both(&shop);
        let customers = shop.content().0[0].clone();
        shop.damage();
        let damaged = both(&shop);
        let plan = shop.json(&[
            "restore",
            "shop",
            "--in-place",
            "--range",
            RANGE,
            "--dry-run",
        ]);
        assert_eq!(plan["total"]["upserted"], 100);
        assert_eq!(plan["total"]["erased"], 0);
        let mend = shop.mend(&["--range", RANGE]);
        assert_eq!(both(&shop), [tuesday.clone(), damaged[1].clone()]);
        assert_ne!(shop.content().0[0], customers, "other tables stay, too");
        shop.ok(&["verify", "shop"]);
        let undo = shop.json(&["undo", &mend]);
        assert_eq!(both(&shop), damaged);
        shop.ok(&["undo", undo["operation_id"].as_str().unwrap()]);
        assert_eq!(both(&shop), [tuesday.clone(), damaged[1].clone()]);
        // The rest of the backup is still there to be mended to, and is the newest that has all keys.
        shop.mend(&[]);
        shop.ok(&["verify", "tuesday", "--live"]);
        assert_eq!(both(&shop)[0], tuesday);
        shop.ok(&["verify", "shop"]);
        shop.assert_nothing_held();
    }
}

#[test]
fn the_state_before_a_mend_of_some_keys_is_not_taken_for_that_of_all() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop", "--label", "monday"]);
    shop.damage();
    let damaged = both(&shop);
    let mend = shop.mend(&["--range", RANGE]);
    let before = format!("before-{mend}");
    for arguments in [
        &["restore", "shop", "--in-place", "--to", &before][..],
        &[
            "restore",
            "shop",
            "--in-place",
            "--to",
            &before,
            "--range",
            "public.orders:500..1500",
        ],
        &[
            "restore",
            "shop",
            "--to",
            &before,
            "--rename",
            "public.orders=public.orders2",
        ],
        &["diff", &before],
        &["verify", &before, "--live"],
    ] {
        let refused = shop.fails(1, arguments);
        assert!(refused.contains("holds only those of"), "{refused}");
        assert!(refused.contains(&format!("mendb undo {mend}")), "{refused}");
    }
    // Some of these keys.
    shop.mend(&["--to", &before, "--range", "public.orders:1000..1500"]);
    let first = "SELECT * FROM public.orders WHERE id >= 1000 AND id < 1500 ORDER BY id";
    assert!(damaged[0].starts_with(&shop.copy(first)));
    // Increments stand on what has all keys.
    shop.ok(&["backup", "shop", "--incremental"]);
    shop.ok(&["verify", "shop", "--live"]);
    let backups = shop.json(&["list", "shop"]);
    let last = backups.as_array().unwrap().last().unwrap();
    assert_eq!(last["parent"], backups[0]["backup_id"], "{backups}");
}

#[test]
fn keys_of_several_columns_are_mended_by_the_first() {
    let shop = Shop::empty();
    shop.sql(
        "CREATE TABLE tenants (tenant text COLLATE \"C\", id int, v text, PRIMARY KEY (tenant, id));
         INSERT INTO tenants SELECT 't' || n % 7, n, 'v' || n FROM generate_series(1, 700) n",
    );
    shop.ok(&["collection", "create", "shop", "--table", "public.tenants"]);
    shop.ok(&["backup", "shop"]);
    let of = |tenant: &str| {
        shop.copy(&format!(
            "SELECT * FROM tenants WHERE tenant = '{tenant}' ORDER BY id"
        ))
    };
    let before = of("t3");
    shop.sql("UPDATE tenants SET v = 'oops'; DELETE FROM tenants WHERE id % 3 = 0; INSERT INTO tenants VALUES ('t3', -1, 'x')");
    let other = of("t4");
    let mend = shop.mend(&["--range", "public.tenants:t3..t4"]);
    assert_eq!((of("t3"), of("t4")), (before, other));
    shop.ok(&["undo", &mend]);
    assert!(of("t3").starts_with("t3\t-1\tx\n"));
    shop.ok(&["verify", "shop"]);
    shop.assert_nothing_of_mends_held();
}

#[test]
fn writers_of_other_keys_go_on_and_lose_nothing() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop"]);
    let [wanted, _] = both(&shop);
    shop.damage();
    let over = AtomicBool::new(false);
    let written = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut client = shop.server.connect();
            let mut written = 0;
            while !over.load(Ordering::SeqCst) {
                written += 1;
                let write = format!(
                    "INSERT INTO orders (id, customer, amount) VALUES ({}, 3, {written});
                     UPDATE orders SET amount = {written} WHERE id IN (5, 2500)",
                    100_000 + written
                );
                client.batch_execute(&write).unwrap();
            }
            written
        });
        let mended = catch_unwind(AssertUnwindSafe(|| {
            let mend = shop.mend(&["--range", RANGE]);
            shop.ok(&["undo", &mend]);
            shop.mend(&["--range", RANGE]);
        }));
        over.store(true, Ordering::SeqCst);
        mended.unwrap();
        writer.join().unwrap()
    });
    assert_eq!(both(&shop)[0], wanted);
    let found = shop.copy("SELECT count(*), max(amount) FROM orders WHERE id > 100000");
    assert_eq!(found, format!("{written}\t{written}.00\n"));
    let one = shop.copy("SELECT DISTINCT amount FROM orders WHERE id IN (5, 2500)");
    assert_eq!(one, format!("{written}.00\n"));
}
