//! Backups of which all shards are of one moment.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::Value;

use crate::agents::{Cluster, insert, told};
use crate::points::points;

/// Every so manieth step of the coordinator: each takes some seconds.
const FEW: usize = 2;

const EXACT: [&str; 3] = ["backup", "shop", "--exact"];

/// Inserts a row into each shard, one after the other: no backup of one moment has it of one shard alone, unless it was
/// taken in between.
fn insert_pair(cluster: &Cluster, id: u64) {
    for server in &cluster.shards.servers {
        server.query(&format!(
            "INSERT INTO shop.sales VALUES ('2024-01-05', {id}, {id})"
        ));
    }
}

/// The rows of the shards in a backup.
fn rows_of(backup: &Value) -> Vec<u64> {
    let shards = backup["shards"].as_array().unwrap();
    shards
        .iter()
        .map(|shard| shard["rows"].as_u64().unwrap())
        .collect()
}

/// Writes a program, and says where.
fn program(cluster: &Cluster, name: &str, text: &str) -> PathBuf {
    let path = cluster.shards.path(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

#[test]
fn shards_and_tables_that_nobody_writes_to_are_of_one_moment_and_it_is_said_of_no_others() {
    let cluster = Cluster::new();
    for server in &cluster.shards.servers {
        insert(server, 1, 0);
        server.query("CREATE TABLE shop.notes (x UInt8) ENGINE = Log");
        server.query("INSERT INTO shop.notes VALUES (1)");
    }
    let taken = cluster.ok(&[&EXACT[..], &["--label", "monday"]].concat());
    assert_eq!(taken["exact"], true, "{taken}");
    assert_eq!(cluster.ok(&["show", "monday"])["exact"], true);
    assert_eq!(cluster.ok(&["backup", "shop"])["exact"], false);
    // What another backup has of a table is not frozen again, and is looked at all the same.
    assert_eq!(cluster.ok(&EXACT)["exact"], true);
}

#[test]
fn wherever_its_coordinator_dies_and_whatever_comes_meanwhile_it_is_of_one_moment_or_fails() {
    let cluster = Cluster::new();
    let mut inserted = 0;
    let (mut done, mut failed) = (0, 0);
    insert_pair(&cluster, inserted);
    for point in points(FEW) {
        if !cluster.stopped_at(&EXACT, point) {
            break;
        }
        inserted += 1;
        insert_pair(&cluster, inserted);
        let Some(id) = cluster.unfinished() else {
            continue;
        };
        let output = cluster.command(&["operation", "watch", &id]).output();
        let output = output.unwrap();
        if output.status.success() {
            let listed = cluster.ok(&["list", "shop"]);
            let newest = listed.as_array().unwrap().iter().max_by_key(|backup| {
                let created = &backup["backup_id"];
                created.as_str().unwrap().to_owned()
            });
            let shown = cluster.ok(&["show", newest.unwrap()["backup_id"].as_str().unwrap()]);
            let rows = rows_of(&shown);
            assert_eq!(rows[0], rows[1], "stopped at step {point}: {shown}");
            assert_eq!(shown["exact"], true);
            done += 1;
        } else {
            let why = told(&output);
            assert!(
                why.contains("did not stay as it was frozen"),
                "stopped at step {point}: {why}"
            );
            failed += 1;
            cluster.ok(&["operation", "cancel", &id]);
        }
    }
    assert!(done > 0 && failed > 0, "{done} done, {failed} failed");
}

#[test]
fn writers_that_its_program_stops_go_on_after_it() {
    let cluster = Cluster::new();
    let stop = program(
        &cluster,
        "stop",
        "touch stopped\nwhile [ -e writing ]; do sleep 0.01; done\necho \"$MENDB_CLUSTER $MENDB_STOPPED_S\" >> told",
    );
    let start = program(&cluster, "start", "rm -f stopped\necho started >> told");
    let [stopped, writing, told] =
        ["stopped", "writing", "told"].map(|name| cluster.shards.path(name));
    let is_over = AtomicBool::new(false);
    let inserted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                std::fs::write(&writing, "").unwrap();
                if !stopped.exists() {
                    insert_pair(&cluster, inserted.fetch_add(1, Ordering::SeqCst));
                }
                std::fs::remove_file(&writing).unwrap();
            }
        });
        let until = |count: u64| {
            while inserted.load(Ordering::SeqCst) < count {
                std::thread::yield_now();
            }
        };
        until(5);
        let mut command = cluster.command(&[&EXACT[..], &["--output", "json"]].concat());
        command
            .env("MENDB_CLUSTER_STOP_INSERTS", &stop)
            .env("MENDB_CLUSTER_START_INSERTS", &start);
        let output = command.output().unwrap();
        // They go on.
        let so_far = inserted.load(Ordering::SeqCst);
        if output.status.success() {
            until(so_far + 3);
        }
        is_over.store(true, Ordering::SeqCst);
        let taken: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", crate::agents::told(&output)));
        let rows = rows_of(&taken);
        assert_eq!(rows[0], rows[1], "{taken}");
        assert!(rows[0] >= 5 && rows[0] <= so_far, "{taken}");
        assert_eq!(taken["exact"], true);
    });
    let told = std::fs::read_to_string(told).unwrap();
    assert_eq!(told, "pair 60\nstarted\n");
}

#[test]
fn inserts_are_started_again_where_stopping_them_fails_and_when_it_is_given_up() {
    let cluster = Cluster::new();
    insert_pair(&cluster, 1);
    let stop = program(&cluster, "stop", "echo no such cluster >&2\nexit 3");
    let start = program(&cluster, "start", "echo started >> told");
    let run = |arguments: &[&str]| {
        let mut command = cluster.command(arguments);
        command
            .env("MENDB_CLUSTER_STOP_INSERTS", &stop)
            .env("MENDB_CLUSTER_START_INSERTS", &start);
        command.output().unwrap()
    };
    let started = || std::fs::read_to_string(cluster.shards.path("told")).unwrap();
    let output = run(&EXACT);
    assert_eq!(output.status.code(), Some(1));
    let why = told(&output);
    assert!(why.contains("no such cluster"), "{why}");
    assert_eq!(started(), "started\n");
    let id = cluster.unfinished().unwrap();
    let output = run(&["operation", "cancel", &id]);
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(started(), "started\nstarted\n");
    assert_eq!(cluster.unfinished(), None);
}
