//! Merges that either replica begins while a mend is at work.

use crate::points::points;
use crate::shard::{MEND, Shard, insert, rows};

/// Every so manieth step.
const FEW: usize = 11;

#[test]
fn merges_of_any_replica_in_the_middle_of_a_mend_change_no_row() {
    let shard = Shard::new();
    shard.create_with(
        "sales",
        "MergeTree",
        "",
        "max_bytes_to_merge_at_max_space_in_pool = 100000000",
    );
    for month in 1..=4 {
        for from in 0..6 {
            insert(&shard.here.server, "sales", month, from * 10);
            insert(&shard.there, "sales", month, from * 10 + 1000);
        }
    }
    shard.sync();
    shard.here.backup(&["shop", "--tables", "shop.*"]);
    let whole = rows(&shard.there);
    for point in points(FEW) {
        shard
            .there
            .query("ALTER TABLE shop.sales DROP PARTITION 202401");
        insert(&shard.there, "sales", 2, 7000 + point * 10);
        insert(&shard.here.server, "sales", 3, 8000 + point * 10);
        shard.sync();
        let is_stopped = shard.stopped_at(&MEND, point);
        // Here merges stay stopped for so long, and the other one does what either of them finds to merge.
        shard.there.query("SELECT sleep(1)");
        if let Some(id) = shard.unfinished() {
            shard.here.ok(&["operation", "watch", &id]);
        }
        shard.here.ok(&MEND);
        shard.sync();
        for server in shard.servers() {
            assert_eq!(rows(server), whole, "stopped at step {point}");
        }
        if !is_stopped {
            return;
        }
    }
}
