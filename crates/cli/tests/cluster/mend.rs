//! A mend of all shards, and its undo.

use crate::agents::{Cluster, insert};

const MEND: [&str; 3] = ["restore", "monday", "--in-place"];

#[test]
fn a_damaged_shard_is_mended_the_other_moves_nothing_and_undo_takes_all_back() {
    let cluster = Cluster::backed_up();
    let whole = cluster.rows();
    let before = cluster.parts(0);
    let two = &cluster.shards.servers[1];
    two.query("ALTER TABLE shop.sales DROP PARTITION 202401");
    insert(two, 2, 9000);
    let damaged = cluster.rows();
    assert_ne!(damaged, whole);

    let plan = cluster.ok(&[&MEND[..], &["--dry-run"]].concat());
    let shards = plan["shards"].as_array().unwrap();
    let changes: Vec<_> = shards
        .iter()
        .map(|shard| &shard["told"]["changes"])
        .collect();
    assert_eq!(changes, [false, true]);
    assert_eq!(cluster.rows(), damaged);

    let mended = cluster.ok(&MEND);
    assert_eq!(cluster.rows(), whole);
    let shards = &mended["shards"];
    assert!(shards[0]["told"].is_null(), "{mended}");
    assert_eq!(shards[1]["told"]["done"]["fetched"]["rows"], 10);
    assert_eq!(cluster.parts(0), before);

    let id = mended["operation_id"].as_str().unwrap();
    let plan = cluster.ok(&["undo", id, "--dry-run"]);
    assert!(plan["shards"][0]["told"].is_null(), "{plan}");
    cluster.ok(&["undo", id]);
    assert_eq!(cluster.rows(), damaged);
    assert_eq!(cluster.parts(0), before);

    // And forward again; then there is nothing left to do anywhere.
    cluster.ok(&MEND);
    assert_eq!(cluster.rows(), whole);
    let again = cluster.ok(&MEND);
    let shards = again["shards"].as_array().unwrap();
    assert!(
        shards.iter().all(|shard| shard["told"].is_null()),
        "{again}"
    );
}

#[test]
fn a_table_that_was_dropped_on_a_shard_comes_back() {
    let cluster = Cluster::backed_up();
    let whole = cluster.rows();
    cluster.shards.servers[1].query("DROP TABLE shop.sales");
    cluster.ok(&MEND);
    assert_eq!(cluster.rows(), whole);
}

#[test]
fn a_backup_of_other_shards_is_refused_with_the_shard() {
    let mut cluster = Cluster::backed_up();
    cluster.names[1] = "three";
    let refused = cluster.fails(&MEND);
    assert!(
        refused.contains("has a shard two, and the cluster has none"),
        "{refused}"
    );
}
