//! Another replica goes on where the agent of one is lost, and the one that was lost comes back.

use crate::agents::{Cluster, insert, told};
use crate::points::points;
use crate::replicas::sync;
use crate::rounds::{left, signal};

/// Every so manieth step of the coordinator, and of an agent: each takes some seconds.
const FEW: usize = 5;

/// The agents of shard two: that of the replica that is asked, and that of the other one.
pub const LOST: usize = 2;

const MEND: [&str; 3] = ["restore", "monday", "--in-place"];

/// Two shards of two replicas, backed up and damaged.
pub fn damaged() -> (Cluster, Vec<String>) {
    let cluster = Cluster::with_replicas(2);
    for (shard, from) in [(0, 0), (2, 1000)] {
        for month in 1..=2 {
            insert(&cluster.shards.servers[shard], month, from);
        }
    }
    sync(&cluster);
    cluster.ok(&["backup", "shop", "--label", "monday"]);
    let whole = sync(&cluster);
    damage(&cluster, 0);
    (cluster, whole)
}

pub fn damage(cluster: &Cluster, round: u64) {
    let one = &cluster.shards.servers[0];
    insert(one, 1, 100_000 + 100 * round);
    let two = &cluster.shards.servers[LOST];
    two.query("ALTER TABLE shop.sales DROP PARTITION 202401");
    insert(two, 2, 200_000 + 100 * round);
    sync(cluster);
}

/// Has the other replica of shard two go on.
pub fn take_over(cluster: &Cluster, id: &str) -> std::process::Output {
    let list = cluster.list();
    let resume = [
        "operation",
        "resume",
        id,
        "--replica",
        "two=r2",
        "--cluster",
        &list,
    ];
    cluster.command(&resume).output().unwrap()
}

#[test]
fn whenever_an_agent_is_lost_before_shards_are_changed_another_replica_completes_the_mend() {
    let (mut cluster, whole) = damaged();
    let clean = left(&cluster);
    let (mut taken_over, mut too_late) = (0, 0);
    for point in points(FEW) {
        damage(&cluster, point);
        let is_stopped = cluster.stopped_at(&MEND, point);
        let Some(id) = cluster.unfinished() else {
            if is_stopped {
                continue;
            }
            assert_eq!(sync(&cluster), whole, "not stopped at step {point}");
            break;
        };
        // It is stopped, and wakes when another one has done its part.
        signal(cluster.agent_process(LOST), "-STOP");
        let output = take_over(&cluster, &id);
        signal(cluster.agent_process(LOST), "-CONT");
        if output.status.success() {
            taken_over += 1;
        } else {
            let why = told(&output);
            assert!(
                why.contains("in which only the agent of a shard knows"),
                "{point}: {why}"
            );
            too_late += 1;
            cluster.ok(&["operation", "watch", &id]);
        }
        assert_eq!(sync(&cluster), whole, "stopped at step {point}");
        // What it had begun is given up, and in nobody's way.
        cluster.restart_agent(LOST);
        cluster.ok(&["backup", "shop"]);
        assert_eq!(sync(&cluster), whole, "stopped at step {point}");
        assert_eq!(left(&cluster), clean, "stopped at step {point}");
    }
    assert!(taken_over > 1 && too_late > 0, "{taken_over} {too_late}");
}

#[test]
fn an_agent_that_stops_before_any_of_its_steps_changes_nothing_when_it_wakes() {
    let (mut cluster, whole) = damaged();
    let clean = left(&cluster);
    let mut taken_over = 0;
    for point in points(FEW) {
        damage(&cluster, 1000 + point);
        cluster.restart_agent_to_stop(LOST, point);
        let mut command = cluster.command(&MEND);
        command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let mut coordinator = command.spawn().unwrap();
        // Until it stands still, or all is done.
        let has_stopped = loop {
            if cluster.is_stopped(LOST) {
                break true;
            }
            if coordinator.try_wait().unwrap().is_some() {
                break false;
            }
            std::thread::yield_now();
        };
        coordinator.kill().unwrap();
        coordinator.wait().unwrap();
        let id = cluster.unfinished();
        if let Some(id) = &id {
            let output = take_over(&cluster, id);
            if output.status.success() {
                assert_eq!(sync(&cluster), whole, "stopped at step {point}");
                taken_over += 1;
                signal(cluster.agent_process(LOST), "-CONT");
                cluster.ok(&["backup", "shop"]);
                assert_eq!(left(&cluster), clean, "stopped at step {point}");
            } else {
                let why = told(&output);
                assert!(
                    why.contains("in which only the agent of a shard knows"),
                    "{point}: {why}"
                );
                signal(cluster.agent_process(LOST), "-CONT");
                cluster.ok(&["operation", "watch", id]);
            }
        }
        assert_eq!(sync(&cluster), whole, "stopped at step {point}");
        if !has_stopped {
            break;
        }
    }
    assert!(taken_over > 1, "{taken_over}");
}

#[test]
fn a_backup_is_completed_by_another_replica_and_what_cannot_be_is_refused() {
    let (mut cluster, _) = damaged();
    let mut taken_over = 0;
    for point in points(FEW) {
        if !cluster.stopped_at(&["backup", "shop"], point) {
            break;
        }
        let Some(id) = cluster.unfinished() else {
            continue;
        };
        signal(cluster.agent_process(LOST), "-STOP");
        let output = take_over(&cluster, &id);
        signal(cluster.agent_process(LOST), "-CONT");
        if output.status.success() {
            taken_over += 1;
            let listed = cluster.ok(&["list"]);
            let backups = listed.as_array().unwrap();
            let newest = backups
                .iter()
                .max_by_key(|backup| backup["backup_id"].to_string());
            let id = newest.unwrap()["backup_id"].as_str().unwrap();
            let shown = cluster.ok(&["show", id]);
            let mut replicas = shown["shards"].as_array().unwrap().iter();
            assert!(
                replicas.any(|shard| shard["shard"] == "two" && shard["replica"] == "r2"),
                "{shown}"
            );
            cluster.ok(&["verify", id]);
        } else {
            let why = told(&output);
            assert!(why.contains("no other replica can go on"), "{point}: {why}");
            cluster.ok(&["operation", "watch", &id]);
        }
    }
    assert!(taken_over > 0, "{taken_over}");

    // Another one than there is, one that does it already, and an undo.
    let list = cluster.list();
    let refused = |id: &str, replica: &str| {
        let resume = [
            "operation",
            "resume",
            id,
            "--replica",
            replica,
            "--cluster",
            &list,
        ];
        let output = cluster.command(&resume).output().unwrap();
        assert!(!output.status.success());
        told(&output)
    };
    assert!(cluster.stopped_at(&MEND, 2));
    let id = cluster.unfinished().unwrap();
    let why = refused(&id, "two=r3");
    assert!(
        why.contains("has no replica r3 of a shard two") && why.contains("two=r2"),
        "{why}"
    );
    let why = refused(&id, "two=r1");
    assert!(why.contains("replica r1 is the one that does"), "{why}");
    cluster.ok(&["operation", "watch", &id]);
    let why = refused(&id, "two=r2");
    assert!(why.contains("it is over"), "{why}");
    assert!(cluster.stopped_at(&["undo", &id], 2));
    let undo = cluster.unfinished().unwrap();
    let why = refused(&undo, "two=r2");
    assert!(why.contains("what an undo brings back"), "{why}");
    cluster.ok(&["operation", "watch", &undo]);
    cluster.restart_agent(LOST);
}

/// Runs a command with the time after which agents are lost, and stops its coordinator at a persisted step.
fn stopped_with_a_bound(cluster: &Cluster, arguments: &[&str], point: u64) -> bool {
    let mut command = cluster.command(arguments);
    command
        .env("MENDB_CLUSTER_TAKE_OVER_AFTER_S", "1")
        .env("MENDB_CRASH_AT", point.to_string());
    let output = command.output().unwrap();
    let is_stopped = output.status.code().is_none();
    assert!(is_stopped || output.status.success(), "{}", told(&output));
    is_stopped
}

#[test]
fn an_agent_that_is_lost_is_replaced_by_itself_as_long_as_nothing_is_changed() {
    let (mut cluster, whole) = damaged();
    let clean = left(&cluster);
    let (mut taken_over, mut too_late) = (0, 0);
    for point in points(FEW) {
        damage(&cluster, 2000 + point);
        let is_stopped = stopped_with_a_bound(&cluster, &MEND, point);
        let Some(id) = cluster.unfinished() else {
            if is_stopped {
                continue;
            }
            assert_eq!(sync(&cluster), whole, "not stopped at step {point}");
            break;
        };
        cluster.kill_agent(LOST);
        let shown = cluster.ok(&["operation", "show", &id]);
        if shown["step"] == "commit" {
            too_late += 1;
            cluster.restart_agent(LOST);
        }
        let ended = cluster.ok(&["operation", "watch", &id]);
        assert_eq!(sync(&cluster), whole, "stopped at step {point}");
        if shown["step"] != "commit" {
            taken_over += 1;
            let expected = serde_json::json!([{"shard": "two", "lost": "r1", "by": "r2"}]);
            assert_eq!(ended["taken_over"], expected, "{ended}");
            let shown = cluster.ok(&["operation", "show", &id]);
            let events = shown["events"].to_string();
            let said = "replica r2 does the part of shard two from now on, as r1 is lost";
            assert!(events.contains(said), "{events}");
            // What it had begun is given up, and in nobody's way.
            cluster.restart_agent(LOST);
            cluster.ok(&["backup", "shop"]);
            assert_eq!(sync(&cluster), whole, "stopped at step {point}");
        }
        assert_eq!(left(&cluster), clean, "stopped at step {point}");
    }
    assert!(taken_over > 1 && too_late > 0, "{taken_over} {too_late}");
}

#[test]
fn a_backup_goes_on_by_itself_with_another_replica_and_names_it() {
    let (mut cluster, _) = damaged();
    let mut taken_over = 0;
    for point in points(FEW) {
        if !stopped_with_a_bound(&cluster, &["backup", "shop"], point) {
            break;
        }
        let Some(id) = cluster.unfinished() else {
            continue;
        };
        cluster.kill_agent(LOST);
        let shown = cluster.ok(&["operation", "show", &id]);
        let part = shown["shards"].as_array().unwrap().iter();
        let is_done = |task: &serde_json::Value| {
            task["step"] == "copy" && task["shard_idx"] == 1 && task["status"] == "done"
        };
        let is_needed = shown["step"] != "seal" && !part.clone().any(is_done);
        let ended = cluster.ok(&["operation", "watch", &id]);
        if is_needed && ended["taken_over"].is_array() {
            taken_over += 1;
            let shown = cluster.ok(&["show", ended["backup_id"].as_str().unwrap()]);
            let mut replicas = shown["shards"].as_array().unwrap().iter();
            assert!(
                replicas.any(|shard| shard["shard"] == "two" && shard["replica"] == "r2"),
                "{shown}"
            );
        }
        cluster.ok(&["verify", ended["backup_id"].as_str().unwrap()]);
        cluster.restart_agent(LOST);
    }
    assert!(taken_over > 0, "{taken_over}");
}
