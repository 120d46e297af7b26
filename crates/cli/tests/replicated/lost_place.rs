//! A replica whose place in ZooKeeper somebody has removed.

use crate::shard::{MEND, Shard, parts, rows};

/// What a plan says that has no other table.
fn plan(shard: &Shard) -> String {
    shard.here.fails(1, &[&MEND[..], &["--dry-run"]].concat())
}

#[test]
fn a_replica_that_has_lost_its_place_is_told_what_to_do_and_has_all_when_that_is_done() {
    let shard = Shard::backed_up();
    let whole = shard.equal();
    shard.damage();
    shard.keeper.remove("/shop/sales/replicas/here");
    let before = parts(&shard.here.server);
    let said = plan(&shard);
    assert!(
        said.contains("replica here has lost its place in ZooKeeper or Keeper: /shop/sales/replicas/here is not there"),
        "{said}"
    );
    assert!(
        said.contains("DROP TABLE shop.sales on this server, then mend again"),
        "{said}"
    );
    assert!(!said.contains("RESTORE REPLICA"), "{said}");
    let refused = shard.here.fails(1, &MEND);
    assert!(refused.contains("has lost its place"), "{refused}");
    assert_eq!(parts(&shard.here.server), before);

    shard.here.server.query("DROP TABLE shop.sales");
    shard
        .here
        .ok(&[&MEND[..], &["--on-concurrent-insert", "remove"]].concat());
    shard.sync();
    for server in shard.servers() {
        assert_eq!(rows(server), whole);
    }
    shard.leaves_nothing_behind();
}

#[test]
fn a_table_whose_path_is_gone_is_made_anew_on_each_replica() {
    let shard = Shard::backed_up();
    let whole = shard.equal();
    shard.keeper.remove("/shop/sales");
    let said = plan(&shard);
    assert!(said.contains("/shop/sales is not there any more"), "{said}");

    for server in shard.servers() {
        server.query("DROP TABLE shop.sales");
    }
    shard.here.ok(&MEND);
    // The other one joins it.
    let created = shard
        .here
        .server
        .query("SHOW CREATE TABLE shop.sales FORMAT TabSeparatedRaw");
    shard.there.query(&created);
    assert_eq!(shard.equal(), whole);
}
