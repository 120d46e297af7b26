//! Rows that come through another replica while a mend is at work.

use crate::points::points;
use crate::shard::{MEND, Shard, insert, rows};

const FEW: usize = 5;
const LATE: &str = "SELECT count() FROM shop.sales WHERE id >= 5000";

/// Whether the state before is frozen, and with it planned what goes.
fn is_planned(shard: &Shard) -> bool {
    let shadow = shard.here.server.data_path().join("shadow");
    let frozen = std::fs::read_dir(shadow).into_iter().flatten().flatten();
    let mut frozen = frozen.map(|entry| entry.file_name());
    frozen.any(|name| name.to_string_lossy().starts_with("mendb"))
}

#[test]
fn what_comes_through_another_replica_stays_where_that_is_asked_for() {
    let shard = Shard::backed_up();
    let whole = shard.equal();
    let arguments = [&MEND[..], &["--on-concurrent-insert", "keep"]].concat();
    let mut kept = 0;
    for point in points(FEW) {
        shard.damage();
        let is_stopped = shard.stopped_at(&arguments, point);
        let is_planned = is_planned(&shard);
        for month in [1, 2] {
            insert(&shard.there, "sales", month, 5000 + point);
        }
        let unfinished = shard.unfinished();
        match &unfinished {
            Some(id) => drop(shard.here.ok(&["operation", "watch", id])),
            None if is_stopped => drop(shard.here.ok(&arguments)),
            None => {}
        }
        shard.sync();
        let late = shard.there.query(LATE);
        // Where it was stopped when all was done, the next one removes what came before that began.
        if is_planned && (unfinished.is_some() || !is_stopped) {
            assert_eq!(late, "20\n", "stopped at step {point}");
            kept += 1;
        }
        if !is_stopped {
            assert!(kept > 1, "{kept}");
            return;
        }
        shard.here.ok(&MEND);
        assert_eq!(shard.equal(), whole);
        forget(&shard);
    }
}

/// Lets go of what was kept.
fn forget(shard: &Shard) {
    for operation in shard.here.operations() {
        let id = operation["operation_id"].as_str().unwrap();
        if operation["kind"] == "restore" || operation["kind"] == "mend" {
            shard.here.run(&["operation", "forget", id]);
        }
    }
}

#[test]
fn what_comes_through_another_replica_stops_a_mend_and_is_named() {
    let shard = Shard::backed_up();
    let whole = shard.equal();
    let mut stopped = 0;
    for point in points(FEW) {
        shard.damage();
        let is_stopped = shard.stopped_at(&MEND, point);
        if !is_stopped {
            break;
        }
        insert(&shard.there, "sales", 2, 6000 + point);
        if let Some(id) = shard.unfinished() {
            let output = shard.here.run(&["operation", "watch", &id]);
            let said = String::from_utf8_lossy(&output.stderr);
            if !output.status.success() {
                assert!(
                    said.contains("parts came after the mend was planned: 202402_"),
                    "{said}"
                );
                assert_ne!(rows(&shard.there), whole);
                shard.here.ok(&["operation", "resume", &id]);
                stopped += 1;
            }
        }
        shard.here.ok(&MEND);
        assert_eq!(shard.equal(), whole, "stopped at step {point}");
    }
    assert!(stopped > 0);
}
