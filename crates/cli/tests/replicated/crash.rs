//! A mend that stops at persisted steps, and the process that comes after it.

use crate::points::{MOST_POINTS, points};
use crate::shard::{MEND, Rows, Shard, rows};

/// Every so manieth step: each takes some seconds.
const FEW: usize = 7;

/// `after` gets the step, what the damaged rows were, and the operation.
fn at_points(after: impl Fn(&Shard, u64, &Rows, &str)) {
    let shard = Shard::backed_up();
    let whole = shard.equal();
    for point in points(FEW) {
        shard.damage();
        let damaged = rows(&shard.there);
        if !shard.stopped_at(&MEND, point) {
            assert_eq!(shard.equal(), whole);
            assert!(point > 20, "it was stopped {point} times only");
            return;
        }
        match shard.unfinished() {
            Some(id) => after(&shard, point, &damaged, &id),
            None => drop(shard.here.ok(&MEND)),
        }
        assert_eq!(shard.equal(), whole, "stopped at step {point}");
        shard.leaves_nothing_behind();
    }
    panic!("a mend has more than {MOST_POINTS} persisted steps");
}

#[test]
fn a_mend_that_stops_anywhere_is_completed_on_all_replicas() {
    at_points(|shard, _, _, id| drop(shard.here.ok(&["operation", "watch", id])));
}

#[test]
fn a_mend_that_stops_anywhere_is_cancelled_on_all_replicas() {
    at_points(|shard, point, damaged, id| {
        let output = shard.here.run(&["operation", "cancel", id]);
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            shard.sync();
            for server in shard.servers() {
                assert_eq!(rows(server), *damaged, "stopped at step {point}");
            }
            shard.here.ok(&MEND);
        } else {
            assert!(
                said.contains("let it finish") || said.contains("is done"),
                "stopped at step {point}: {said}"
            );
            shard.here.ok(&["operation", "watch", id]);
        }
    });
}
