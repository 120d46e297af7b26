//! Readers of either replica that look at a partition all the time while it is mended.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::shard::{MEND, Shard, insert};

const SUMS: &str = "SELECT count(), sum(id), sum(v) FROM shop.sales WHERE toYYYYMM(day) = 202402";

#[test]
fn readers_of_each_replica_see_a_partition_before_or_after_it_is_mended() {
    let shard = Shard::backed_up();
    let after = shard.there.query(SUMS);
    for round in 0..3 {
        insert(&shard.there, "sales", 2, 1000 + round);
        shard.sync();
        let before = shard.there.query(SUMS);
        assert_ne!(before, after);
        let over = AtomicBool::new(false);
        let looks = [AtomicU64::new(0), AtomicU64::new(0)];
        std::thread::scope(|scope| {
            for (server, looks) in shard.servers().into_iter().zip(&looks) {
                scope.spawn(|| {
                    while !over.load(Ordering::SeqCst) {
                        let seen = server.query(SUMS);
                        assert!(
                            seen == before || seen == after,
                            "a reader saw {seen:?}, neither {before:?} nor {after:?}"
                        );
                        looks.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            let mended = shard.here.run(&MEND);
            shard.sync();
            over.store(true, Ordering::SeqCst);
            assert!(
                mended.status.success(),
                "{}",
                String::from_utf8_lossy(&mended.stderr)
            );
        });
        assert!(
            looks.iter().all(|looks| looks.load(Ordering::SeqCst) > 10),
            "they looked"
        );
        assert_eq!(
            shard.servers().map(|server| server.query(SUMS)),
            [after.clone(), after.clone()]
        );
    }
}
