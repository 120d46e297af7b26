//! Readers that look at a partition all the time while it is mended.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::damaged::{MEND, backed_up, damage};
use crate::servers::Flavor;

const SUMS: &str =
    "SELECT count(), sum(id), sum(price) FROM shop.sales WHERE toYYYYMM(day) = 202402";

/// A reader sees the partition as it was or as it is to be, and nothing else.
fn see_before_or_after(flavor: Flavor) {
    let world = backed_up(flavor);
    let after = world.server.query(SUMS);
    for _ in 0..5 {
        damage(&world);
        let before = world.server.query(SUMS);
        assert_ne!(before, after);
        let (over, looks) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !over.load(Ordering::SeqCst) {
                        let seen = world.server.query(SUMS);
                        assert!(
                            seen == before || seen == after,
                            "a reader saw {seen:?}, neither {before:?} nor {after:?}"
                        );
                        looks.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            let mended = world.run(&[&MEND[..], &["--restore-order", "swap"]].concat());
            over.store(true, Ordering::SeqCst);
            assert!(mended.status.success());
        });
        assert!(looks.load(Ordering::SeqCst) > 10, "they looked");
        assert_eq!(world.server.query(SUMS), after);
    }
}

#[test]
fn readers_of_26_9_see_a_partition_before_or_after_it_is_mended() {
    see_before_or_after(Flavor::Current);
}

#[test]
fn readers_of_18_16_see_a_partition_before_or_after_it_is_mended() {
    see_before_or_after(Flavor::V18);
}
