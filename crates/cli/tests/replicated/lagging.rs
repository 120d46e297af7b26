//! Replicas that are down, or that lag.

use serde_json::Value;

use crate::shard::{MEND, Shard, insert, parts};

#[test]
fn a_replica_that_is_down_is_named_and_follows_when_it_is_back() {
    let mut shard = Shard::backed_up();
    let whole = shard.equal();
    shard.damage();
    shard.there.kill();
    inactive(&shard);
    let preview = shard.here.preview(&["shop"]);
    let notes = preview.tables[0].notes.join("; ");
    assert!(
        notes.contains("not active, and to follow later: there"),
        "{notes}"
    );
    let output = shard.here.run(&MEND);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("replica there has") && said.contains("and is not active"),
        "{said}"
    );
    let (proof, _) = shard
        .here
        .fails_with::<Value>(3, &["verify", "shop", "--live", "--replicas"]);
    let replica = &proof["replicas"][0];
    assert_eq!(
        (&replica["replica"], &replica["active"]),
        (&"there".into(), &false.into())
    );
    assert!(replica["steps"].as_u64().unwrap() > 0, "{replica}");
    shard.there.restart();
    assert_eq!(shard.equal(), whole);
}

/// Waits until the keeper has forgotten the server that was killed.
fn inactive(shard: &Shard) {
    for _ in 0..100 {
        let active = "SELECT active_replicas FROM system.replicas";
        if shard.here.server.query(active) == "1\n" {
            return;
        }
        shard.here.server.query("SELECT sleep(0.1)");
    }
    panic!("a killed server is still active");
}

#[test]
fn nothing_is_changed_while_rows_that_another_replica_brought_are_not_here() {
    let shard = Shard::backed_up();
    let whole = shard.equal();
    shard.damage();
    shard.here.server.query("SYSTEM STOP FETCHES shop.sales");
    insert(&shard.there, "sales", 3, 900);
    let before = parts(&shard.here.server);
    let mut command = shard.here.command(&[&MEND[..], &["--dry-run"]].concat());
    let output = command.env("MENDB_CLICKHOUSE_REPLICA_WAIT_S", "1").output();
    let output = output.unwrap();
    let refused = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{refused}");
    for told in [
        "replica here of shop.sales does not catch up",
        "get 202403_",
        "of replica there",
        "during 1 s",
    ] {
        assert!(refused.contains(told), "{refused}");
    }
    assert_eq!(parts(&shard.here.server), before);
    shard.here.server.query("SYSTEM START FETCHES shop.sales");
    shard.here.ok(&MEND);
    assert_eq!(shard.equal(), whole);
}
