//! Readers and writers beside a mend.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::shop::Shop;

#[test]
fn readers_see_the_tables_before_or_after_a_mend_and_nothing_between() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop"]);
    shop.damage();
    let states = "SELECT (SELECT sum(hashtextextended(c::text, 0)) FROM customers c),
                         (SELECT sum(hashtextextended(o::text, 0)) FROM orders o)";
    let damaged = shop.copy(states);
    let over = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = BTreeSet::new();
            while !over.load(Ordering::SeqCst) {
                seen.insert(shop.copy(states));
            }
            seen
        });
        shop.mend(&[]);
        over.store(true, Ordering::SeqCst);
        reader.join().unwrap()
    });
    let mended = shop.copy(states);
    let known = BTreeSet::from([damaged, mended]);
    assert!(seen.is_subset(&known), "{seen:?} {known:?}");
}

/// Writers go on all the time. What they had written when the mend was published is in the backup that it took of the
/// state before, and what they wrote after that stays.
#[test]
fn what_writers_write_meanwhile_is_in_the_state_before_or_stays() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop", "--label", "monday"]);
    shop.damage();
    let backed_up = shop.copy("SELECT max(id) FROM orders WHERE note IS NOT NULL");
    assert!(!backed_up.is_empty());
    let over = AtomicBool::new(false);
    let (mend, written) = thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let (shop, over) = (&shop, &over);
                scope.spawn(move || {
                    let mut client = shop.server.connect();
                    let mut written = Vec::new();
                    let mut number = 1_000_000 * (writer + 1);
                    while !over.load(Ordering::SeqCst) {
                        number += 1;
                        let (commit, id) = (number % 5 > 0, number);
                        client
                            .batch_execute(&format!(
                                "BEGIN; SAVEPOINT a; INSERT INTO orders (id, customer, note) VALUES ({id}, 3, 'meanwhile');
                                 RELEASE a; {}",
                                if commit { "COMMIT" } else { "ROLLBACK" }
                            ))
                            .unwrap();
                        written.extend(commit.then_some(id));
                    }
                    written
                })
            })
            .collect();
        let mend = shop.mend(&[]);
        over.store(true, Ordering::SeqCst);
        let written = writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap());
        (mend, written.collect::<BTreeSet<i64>>())
    });
    let ids = |table: &str| -> BTreeSet<i64> {
        let text = shop.copy(&format!("SELECT id FROM {table} WHERE note = 'meanwhile'"));
        text.lines().map(|id| id.parse().unwrap()).collect()
    };
    let rename = "public.orders=public.orders2";
    shop.ok(&[
        "restore",
        "shop",
        "--to",
        &format!("before-{mend}"),
        "--tables",
        "public.orders",
        "--rename",
        rename,
    ]);
    let (before, after) = (ids("orders2"), ids("orders"));
    assert!(before.is_disjoint(&after));
    assert_eq!(&before | &after, written);
    // Without them all is as it was backed up.
    shop.sql("DELETE FROM orders WHERE note = 'meanwhile'");
    shop.ok(&["verify", "monday", "--live"]);
}

#[test]
fn a_writer_that_does_not_end_is_waited_for_and_holds_no_other_up() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop"]);
    let before = shop.content();
    shop.damage();
    let mut writer = shop.server.connect();
    writer
        .batch_execute("BEGIN; UPDATE orders SET amount = 1 WHERE id = 1")
        .unwrap();
    thread::scope(|scope| {
        let mend = scope.spawn(|| shop.mend(&[]));
        // Until the mend waits for the lock.
        let waits =
            "SELECT count(*) FROM pg_locks WHERE mode = 'ShareRowExclusiveLock' AND NOT granted";
        while shop.copy(waits) == "0\n" {
            assert!(!mend.is_finished(), "it does not wait");
        }
        // It gives way to who wants to write.
        shop.sql("UPDATE orders SET amount = 2 WHERE id = 2");
        writer.batch_execute("COMMIT").unwrap();
        mend.join().unwrap();
    });
    assert_eq!(shop.content(), before);
}
