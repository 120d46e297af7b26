//! A mend of all shards, and its undo.

use serde_json::Value;

use crate::agents::{Cluster, insert, told};

const MEND: [&str; 3] = ["restore", "monday", "--in-place"];

/// Whether the table of each shard is as in the backup, which is proved once, as a command says that ends with this code.
fn compared(cluster: &Cluster, code: i32) -> Vec<bool> {
    let verify = ["verify", "monday", "--live", "--replicas"];
    let output = cluster.command(&verify).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{}", told(&output));
    let text = told(&output);
    assert_eq!(text.matches("whole\n").count(), 1, "{text}");
    assert!(text.contains("shard two (https://"), "{text}");

    let json = [&verify[..], &["--output", "json"]].concat();
    let output = cluster.command(&json).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{}", told(&output));
    let proof: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(proof["backups"].as_array().unwrap().len(), 1, "{proof}");
    let shards = proof["shards"].as_array().unwrap();
    let found = shards.iter().map(|shard| {
        let told = &shard["told"];
        assert!(told["backups"].as_array().unwrap().is_empty(), "{proof}");
        told["live_parts"][0]["equal"].as_bool().unwrap()
    });
    found.collect()
}

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

    assert_eq!(compared(&cluster, 3), [true, false]);

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
    assert_eq!(compared(&cluster, 0), [true, true]);

    let id = mended["operation_id"].as_str().unwrap();
    // What the agents did is counted once.
    let shown = cluster.ok(&["operation", "show", id]);
    assert_eq!(shown["rows_done"], shards[1]["told"]["rows_done"]);
    let tasks = shown["shards"].as_array().unwrap();
    assert!(tasks.iter().all(|task| task["attempt"] == 1), "{shown}");
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

    // What kept nothing cannot be undone, which is said before there is an operation.
    insert(&cluster.shards.servers[1], 2, 9100);
    let mended = cluster.ok(&[&MEND[..], &["--no-undo"]].concat());
    let refused = cluster.fails(&["undo", mended["operation_id"].as_str().unwrap()]);
    assert!(
        refused.contains("has kept nothing of table shop.sales"),
        "{refused}"
    );
    assert_eq!(cluster.unfinished(), None);
}

#[test]
fn an_agent_that_has_moved_is_asked_where_the_list_says() {
    let mut cluster = Cluster::backed_up();
    let whole = cluster.rows();
    cluster.shards.servers[1].query("ALTER TABLE shop.sales DROP PARTITION 202401");
    assert!(cluster.stopped_at(&MEND, 4));
    let id = cluster.unfinished().unwrap();
    cluster.move_agent(1);
    cluster.ok(&["operation", "watch", &id, "--cluster", &cluster.list()]);
    assert_eq!(cluster.rows(), whole);
    // And so is the undo of what began where it was.
    let undone = cluster.ok(&["undo", &id]);
    assert_eq!(undone["shards"].as_array().unwrap().len(), 2);
    assert_ne!(cluster.rows(), whole);
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

#[test]
fn a_list_that_gives_each_server_the_name_of_the_other_shard_is_refused() {
    let mut cluster = Cluster::backed_up();
    let whole = cluster.rows();
    cluster.names.swap(0, 1);
    for mend in [&MEND[..], &[&MEND[..], &["--dry-run"]].concat()] {
        let refused = cluster.fails(mend);
        assert!(refused.contains("knows this server as shard"), "{refused}");
    }
    // Its agents refuse it when they plan.
    cluster.ok(&["operation", "cancel", &cluster.unfinished().unwrap()]);
    assert_eq!(cluster.rows(), whole);
}
