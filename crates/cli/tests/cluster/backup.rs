//! One backup of all shards.

use serde_json::Value;

use crate::agents::{Cluster, insert, told};

#[test]
fn one_backup_has_one_replica_of_each_shard_and_how_close_they_were_frozen() {
    let cluster = Cluster::new();
    for (server, from) in cluster.shards.servers.iter().zip([0, 1000]) {
        insert(server, 1, from);
    }
    insert(&cluster.shards.servers[1], 2, 5000);
    let taken = cluster.ok(&["backup", "shop", "--label", "monday"]);
    // They stand in the order in which they were done.
    let mut shards = taken["shards"].as_array().unwrap().clone();
    shards.sort_by_key(|shard| shard["shard"].to_string());
    let told = |name: &str| -> Vec<&Value> { shards.iter().map(|shard| &shard[name]).collect() };
    assert_eq!(told("shard"), ["one", "two"]);
    assert_eq!(told("rows"), [10, 20]);
    assert!(taken["skew_ms"].as_u64().unwrap() < 30_000, "{taken}");
    assert_eq!(taken["complete"], true);

    let shown = cluster.ok(&["show", "monday"]);
    assert_eq!(shown["skew_ms"], taken["skew_ms"]);
    let data = shown["data"].as_array().unwrap();
    let mut owners: Vec<&Value> = data.iter().map(|table| &table["shard"]).collect();
    owners.sort_by_key(ToString::to_string);
    assert_eq!(owners, ["one", "two"]);

    // It is one restore point.
    let listed = cluster.ok(&["list", "shop"]);
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(
        (&listed[0]["label"], &listed[0]["rows"]),
        (&"monday".into(), &30.into())
    );

    // A mendb that knows no clusters refuses it.
    let id = listed[0]["backup_id"].as_str().unwrap();
    let manifest = format!("repository/collections/shop/{id}/manifest.json");
    let manifest = std::fs::read(cluster.shards.path(&manifest)).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["format_version"], 3);

    // The next one stores what is new.
    insert(&cluster.shards.servers[0], 3, 0);
    let next = cluster.ok(&["backup", "shop"]);
    assert_eq!(next["totals"]["rows"], 40);
    let bytes = |taken: &Value| taken["totals"]["new_bytes"].as_u64().unwrap();
    assert!(bytes(&next) < bytes(&taken), "{next}");
    // All of it can be read again, and garbage is none of it.
    cluster.ok(&["repository", "tidy"]);
    let proof = cluster.ok(&["verify", "shop"]);
    assert_eq!(proof["backups"].as_array().unwrap().len(), 2, "{proof}");
    assert!(proof["shards"].is_null(), "{proof}");
}

#[test]
fn a_shard_without_a_server_refuses_a_backup_before_anything_is_begun() {
    let mut cluster = Cluster::new();
    cluster.shards.servers[1].kill();
    let refused = cluster.fails(&["backup", "shop"]);
    assert!(
        refused.contains("no server of shard two of cluster pair answers"),
        "{refused}"
    );
    assert_eq!(cluster.unfinished(), None);
    assert!(!cluster.shards.path("repository").exists());
}

#[test]
fn what_cannot_be_told_of_a_cluster_is_refused() {
    let cluster = Cluster::new();
    let output = cluster
        .command(&["backup", "shop", "--incremental"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).contains("--incremental and --cluster do not go together"));
    let output = cluster.command(&["restore", "shop"]).output().unwrap();
    assert!(
        told(&output).contains("add --in-place"),
        "{}",
        told(&output)
    );
}
