//! ZooKeeper that is lost before a mend or in the middle of one, and comes back.

use crate::points::points;
use crate::shard::{MEND, Shard, parts};

/// Every so manieth step: a lost session takes seconds to be noticed.
const FEW: usize = 19;

#[test]
fn a_replica_without_its_keeper_is_refused_by_name_before_anything_is_removed() {
    let mut shard = Shard::backed_up();
    let whole = shard.equal();
    shard.damage();
    let before = parts(&shard.here.server);
    shard.keeper.kill();
    lost(&shard);
    let refused = shard.here.fails(1, &[&MEND[..], &["--dry-run"]].concat());
    assert!(
        refused.contains("replica here of shop.sales is read-only"),
        "{refused}"
    );
    assert_eq!(parts(&shard.here.server), before);
    shard.keeper.restart();
    found(&shard);
    shard.here.ok(&MEND);
    assert_eq!(shard.equal(), whole);
}

#[test]
fn a_mend_ends_after_its_keeper_was_lost_in_the_middle_and_came_back() {
    let mut shard = Shard::backed_up();
    let whole = shard.equal();
    for point in points(FEW) {
        shard.damage();
        if !shard.stopped_at(&MEND, point) {
            return assert_eq!(shard.equal(), whole);
        }
        shard.keeper.kill();
        let id = shard.unfinished();
        let arguments: Vec<&str> = match &id {
            Some(id) => vec!["operation", "watch", id],
            None => MEND.to_vec(),
        };
        let mut going_on = shard.here.command(&arguments).spawn().unwrap();
        shard.here.server.query("SELECT sleep(2)");
        shard.keeper.restart();
        let status = going_on.wait().unwrap();
        if !status.success() {
            // It had asked often enough.
            found(&shard);
            match shard.unfinished() {
                Some(id) => drop(shard.here.ok(&["operation", "resume", &id])),
                None => drop(shard.here.ok(&MEND)),
            }
        }
        found(&shard);
        assert_eq!(shard.equal(), whole, "stopped at step {point}");
        shard.leaves_nothing_behind();
    }
}

fn lost(shard: &Shard) {
    until(shard, "1\n");
}

fn found(shard: &Shard) {
    until(shard, "0\n");
}

/// Waits until both servers say whether they have lost their keeper.
fn until(shard: &Shard, told: &str) {
    let question = "SELECT toUInt8(is_readonly OR is_session_expired) FROM system.replicas";
    shard.until("servers do not notice their keeper", |server| {
        server.query(question) == told
    });
}
