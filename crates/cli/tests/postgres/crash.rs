//! A process that stops at one persisted step of a mend after the other, and servers that crash.

use crate::points::{MOST_POINTS, points};
use crate::shop::Shop;

/// Mends in a process that stops at a step; `false` where it was over before.
fn stopped_at(shop: &Shop, point: u64) -> bool {
    let output = shop
        .command(&["restore", "shop", "--in-place", "--to", "monday"])
        .env("MENDB_CRASH_AT", point.to_string())
        .output()
        .unwrap();
    assert!(
        output.status.success() || output.status.code().is_none(),
        "it was stopped, it did not fail: {output:?}"
    );
    output.status.code().is_none()
}

#[test]
fn a_mend_that_is_stopped_at_any_step_is_finished_or_cancelled_by_the_next_process() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop", "--label", "monday"]);
    let mended = shop.content();
    shop.damage();
    let damaged = shop.content();
    let mut last = 0;
    for point in points(3) {
        let was_stopped = stopped_at(&shop, point);
        let content = shop.content();
        assert!(
            content == damaged || content == mended,
            "stopped at {point}"
        );
        match shop.unfinished().as_slice() {
            [] => {}
            [operation] if point % 2 == 0 => {
                // Cancelled: as it was before, or it is too late and it goes on.
                let cancelled = shop.run(&["operation", "cancel", operation]);
                if cancelled.status.success() {
                    assert_eq!(shop.content(), damaged, "cancelled after {point}");
                } else {
                    shop.ok(&["operation", "watch", operation]);
                    assert_eq!(
                        shop.content(),
                        mended,
                        "too late to be cancelled after {point}"
                    );
                }
            }
            [operation] => {
                shop.ok(&["operation", "watch", operation]);
                assert_eq!(shop.content(), mended, "finished after {point}");
            }
            more => panic!("one operation at most: {more:?}"),
        }
        shop.assert_nothing_held();
        if shop.content() == mended {
            let operations = shop.json(&["operation", "list"]);
            let mends = operations.as_array().unwrap().iter();
            let mends = mends.filter(|it| it["kind"] == "mend" && it["state"] == "done");
            let newest = mends
                .map(|it| it["operation_id"].as_str().unwrap())
                .max()
                .unwrap();
            shop.ok(&["undo", newest]);
            assert_eq!(shop.content(), damaged, "taken back after {point}");
        }
        last = point;
        if !was_stopped {
            break;
        }
    }
    assert!(
        (10..MOST_POINTS - 3).contains(&last),
        "{last} persisted steps"
    );
    shop.ok(&["verify", "shop"]);
}

#[test]
fn a_server_that_crashes_in_a_mend_is_mended_when_it_is_back() {
    let mut shop = Shop::new();
    shop.ok(&["backup", "shop", "--label", "monday"]);
    let mended = shop.content();
    shop.damage();
    for point in [3, 6, 9, 12] {
        assert!(stopped_at(&shop, point));
        shop.server.crash();
        shop.server.start();
        for operation in shop.unfinished() {
            shop.ok(&["operation", "watch", &operation]);
        }
        shop.mend(&["--to", "monday"]);
        assert_eq!(shop.content(), mended, "after {point}");
        shop.assert_nothing_held();
        shop.damage();
    }
}

#[test]
fn a_restore_beside_that_is_stopped_at_any_step_is_finished_by_the_next_process() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop"]);
    let rename = "public.customers=public.customers2,public.orders=public.orders2";
    for point in points(3) {
        let output = shop
            .command(&["restore", "shop", "--rename", rename])
            .env("MENDB_CRASH_AT", point.to_string())
            .output()
            .unwrap();
        for operation in shop.unfinished() {
            shop.ok(&["operation", "watch", &operation]);
        }
        let there =
            "SELECT to_regclass('orders2') IS NOT NULL AND to_regclass('customers2') IS NOT NULL";
        if shop.copy(there) == "t\n" {
            shop.ok(&["verify", "shop", "--live", "--rename", rename]);
            shop.sql("DROP TABLE orders2, customers2");
        }
        shop.assert_nothing_held();
        if output.status.success() {
            return;
        }
    }
    panic!("more than {MOST_POINTS} persisted steps");
}
