//! Servers that die in the middle of a mend and start again.

use crate::points::points;
use crate::shard::{MEND, Shard};

/// Every so manieth step.
const FEW: usize = 17;

#[test]
fn a_mend_ends_right_after_either_server_died_in_the_middle_of_it() {
    let mut shard = Shard::backed_up();
    let whole = shard.equal();
    for point in points(FEW) {
        shard.damage();
        let is_stopped = shard.stopped_at(&MEND, point);
        shard.here.server.kill();
        shard.here.server.restart();
        shard.there.kill();
        let id = shard.unfinished();
        // The other one is down while it goes on.
        match &id {
            Some(id) => drop(shard.here.ok(&["operation", "watch", id])),
            None => drop(shard.here.ok(&MEND)),
        }
        shard.there.restart();
        assert_eq!(shard.equal(), whole, "stopped at step {point}");
        shard.leaves_nothing_behind();
        if !is_stopped {
            return;
        }
    }
}
