//! Mends of a cluster that fail on one shard and are given up.

use std::path::Path;

use serde_json::Value;

use crate::agents::{Cluster, insert, told};

const MEND: [&str; 3] = ["restore", "monday", "--in-place"];
/// Mends that are stopped step by step, at most, until one of them is where it is to be.
const MOST_TRIES: u32 = 5;

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

/// Damages both shards, the second so that a mend has to bring something.
fn damage(cluster: &Cluster, from: u64) {
    let [one, two] = [0, 1].map(|at| &cluster.shards.servers[at]);
    insert(one, 2, from);
    two.query("ALTER TABLE shop.sales DROP PARTITION 202401");
}

/// Has a mend of damaged shards stopped when every shard has staged all of it and waits. Returns its operation. How many steps
/// come before differs from run to run, as agents are looked at by time.
fn staged_on_all(cluster: &Cluster, mend: &[&str]) -> String {
    for _ in 0..MOST_TRIES {
        for point in 1.. {
            if !cluster.stopped_at(mend, point) {
                damage(cluster, 9000);
                break;
            }
            let Some(id) = cluster.unfinished() else {
                continue;
            };
            let shown = cluster.ok(&["operation", "show", &id]);
            if shown["step"] == "commit" && (0..2).all(|at| cluster.holds(at)) {
                return id;
            }
            let output = cluster.command(&["operation", "cancel", &id]).output();
            assert!(output.unwrap().status.success());
        }
    }
    panic!("no step is between the last that is staged and the first that is changed");
}

/// Has a mend tried that makes its part of one shard live, and then fails on the other, as rows come there. Returns the
/// operation.
fn fails_on_one_shard(cluster: &Cluster, mend: &[&str], from: u64) -> String {
    damage(cluster, 9000);
    let id = staged_on_all(cluster, mend);
    insert(&cluster.shards.servers[1], 1, from);
    let failed = cluster.fails(&["operation", "watch", &id]);
    assert!(failed.contains("of shard two"), "{failed}");
    // What it reads stays there until it is over.
    let refused = cluster.fails(&["delete", "monday"]);
    assert!(
        refused.contains(&format!("is needed by operation {id}")),
        "{refused}"
    );
    id
}

#[test]
fn nothing_is_changed_on_any_shard_before_each_has_staged_all() {
    let cluster = Cluster::backed_up();
    damage(&cluster, 9000);
    let damaged = cluster.rows();
    let plan = cluster.ok(&[&MEND[..], &["--dry-run"]].concat());
    let changes = |at: usize| &plan["shards"][at]["told"]["changes"];
    assert!(changes(0) == true && changes(1) == true, "{plan}");
    spoil(&cluster.shards.path("repository/files"));
    let failed = cluster.fails(&MEND);
    assert!(
        failed.contains("step stage") && failed.contains("of shard two"),
        "{failed}"
    );
    assert_eq!(cluster.rows(), damaged);
    let id = cluster.unfinished().unwrap();
    // The agent of the other one waits, and says so.
    let shown = cluster.ok(&["operation", "show", &id]);
    assert_eq!(shown["step"], "stage");
    cluster.ok(&["operation", "cancel", &id]);
    assert_eq!(cluster.rows(), damaged);
    assert_eq!(cluster.unfinished(), None);
}

#[test]
fn a_cancel_does_with_rows_that_came_what_is_said_and_tells_what_it_cannot_take_back() {
    let cluster = Cluster::backed_up();
    let whole = cluster.rows();
    let id = fails_on_one_shard(&cluster, &MEND, 7500);
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
    assert_eq!(
        cluster.rows()[1],
        "202401\t10\t75045\t45\n202402\t10\t10045\t45\n"
    );

    let again = [&MEND[..], &["--no-undo"]].concat();
    let id = fails_on_one_shard(&cluster, &again, 7600);
    assert_eq!(cluster.rows()[0], whole[0]);
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
