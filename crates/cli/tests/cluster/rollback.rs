//! Mends of a cluster that fail on one shard and are given up.

use std::path::Path;

use serde_json::Value;

use crate::agents::{Cluster, insert, told};

const MEND: [&str; 3] = ["restore", "monday", "--in-place"];

/// Spoils every byte of the files of a repository, whose sizes stay.
fn spoil(directory: &Path) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            spoil(&path);
            continue;
        }
        let spoiled: Vec<u8> = std::fs::read(&path).unwrap().iter().map(|it| !it).collect();
        std::fs::write(&path, spoiled).unwrap();
    }
}

/// Damages both shards so that one can be mended and the other cannot be any more, and has that tried. Returns the
/// operation, which has failed.
fn fails_on_one_shard(cluster: &Cluster, mend: &[&str]) -> String {
    let [one, two] = [0, 1].map(|at| &cluster.shards.servers[at]);
    insert(one, 2, 9000);
    two.query("ALTER TABLE shop.sales DROP PARTITION 202401");
    let plan = cluster.ok(&[mend, &["--dry-run"]].concat());
    let download = |at: usize| &plan["shards"][at]["told"]["total"]["download_bytes"];
    assert_eq!(download(0), 0, "{plan}");
    assert_ne!(download(1), 0, "{plan}");
    spoil(&cluster.shards.path("repository/files"));
    let failed = cluster.fails(mend);
    assert!(failed.contains("of shard two"), "{failed}");
    let id = cluster.unfinished().unwrap();
    // What it reads stays there until it is over.
    let refused = cluster.fails(&["delete", "monday"]);
    assert!(
        refused.contains(&format!("is needed by operation {id}")),
        "{refused}"
    );
    id
}

#[test]
fn a_cancel_does_with_rows_that_came_what_is_said_and_tells_what_it_cannot_take_back() {
    let cluster = Cluster::backed_up();
    let whole = cluster.rows();
    let id = fails_on_one_shard(&cluster, &MEND);
    assert_eq!(cluster.rows()[0], whole[0]);
    // Into what was mended.
    insert(&cluster.shards.servers[0], 2, 7000);

    let refused = cluster.fails(&["operation", "cancel", &id, "--on-concurrent-insert", "fail"]);
    assert!(
        refused.contains("into table shop.sales since the mend"),
        "{refused}"
    );
    assert!(
        refused.contains(&format!("mendb operation resume {id}")),
        "{refused}"
    );
    let refused = cluster.fails(&["operation", "resume", &id]);
    assert!(
        refused.contains("into table shop.sales since the mend"),
        "{refused}"
    );
    let resume = ["operation", "resume", &id, "--on-concurrent-insert", "keep"];
    let ended = cluster.ok(&resume);
    assert_eq!(ended["state"], "cancelled");
    assert_eq!(cluster.unfinished(), None);
    // Ten rows that were wrong, and ten that came.
    assert_eq!(
        cluster.rows()[0],
        "202401\t10\t45\t45\n202402\t30\t160135\t135\n"
    );
    assert_eq!(cluster.rows()[1], "202402\t10\t10045\t45\n");

    let again = [&MEND[..], &["--no-undo"]].concat();
    let failed = cluster.fails(&again);
    assert!(failed.contains("of shard two"), "{failed}");
    assert_eq!(cluster.rows()[0], whole[0]);
    let id = cluster.unfinished().unwrap();
    let mut cancel = cluster.command(&["operation", "cancel", &id, "--output", "json"]);
    let output = cancel.output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    let ended: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(ended["state"], "cancelled");
    let why = ended["error"].as_str().unwrap();
    assert!(why.contains("shard one stays as it was mended"), "{why}");
    assert_eq!(cluster.rows()[0], whole[0]);

    let backup = cluster.ok(&["backup", "shop"]);
    let id = backup["operation_id"].as_str().unwrap();
    let cancel = ["operation", "cancel", id, "--on-concurrent-insert", "keep"];
    let output = cluster.command(&cancel).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
}
