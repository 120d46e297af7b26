//! What is scheduled is run, once for each time, also over crashes.

use mendb_server::Store;
use mendb_server::store::schedule::{Schedule, Work};
use serde_json::{Map, Value};

use crate::server::{Server, World};

/// Adds a schedule as it would be there after `hours` without a server.
fn add(world: &World, name: &str, work: Work, hours: u64) {
    let store = Store::open(&world.mendb.path().join("mendb-data/target")).unwrap();
    let now_ms = mendb_service::env::now_ms();
    let since_ms = now_ms - hours * 3_600_000;
    let mut arguments = Map::new();
    if work == Work::Prune {
        arguments.insert("keep_last".to_owned(), 1.into());
    }
    let schedule = Schedule {
        name: name.to_owned(),
        work,
        collection: "world".to_owned(),
        cron: "0 * * * *".to_owned(),
        time_zone: "Europe/Paris".to_owned(),
        arguments,
        created_at_ms: since_ms,
        decided_ms: since_ms,
    };
    assert!(store.add_schedule(&schedule).unwrap());
}

/// Waits until the last run of a schedule is over.
fn ran(world: &World, server: &Server, name: &str) -> Value {
    let begun_ms = mendb_service::env::now_ms();
    loop {
        let schedule = world.get(server, &format!("/v1/schedules/{name}")).json();
        if schedule["runs"][0]["outcome"].is_string() {
            return schedule;
        }
        let waited_ms = mendb_service::env::now_ms() - begun_ms;
        assert!(waited_ms < 30_000, "{schedule:#}");
        std::thread::yield_now();
    }
}

#[test]
fn times_without_a_server_are_caught_up_by_one_run() {
    let world = World::new();
    add(&world, "hourly", Work::Increment, 5);
    let server = world.serve();
    let schedule = ran(&world, &server, "hourly");
    let runs = schedule["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 1, "{schedule:#}");
    assert_eq!(runs[0]["outcome"], "done");
    assert_eq!(runs[0]["missed"], 4);
    // There was nothing that an increment could stand on.
    let backups = world.get(&server, "/v1/backups").json();
    assert_eq!(backups[0]["kind"], "full");
    assert!(schedule["next_at"].is_string());
    let audit = world.get(&server, "/v1/audit").json();
    assert_eq!(audit[0]["who"], "schedule hourly");
}

#[test]
fn all_kinds_of_work_are_done() {
    let world = World::new();
    for label in ["a", "b"] {
        world
            .mendb
            .ok(&format!("backup world --label {label} --quiet"));
    }
    add(&world, "check", Work::Verify, 2);
    let server = world.serve();
    assert_eq!(ran(&world, &server, "check")["runs"][0]["outcome"], "done");
    let metrics = world.get(&server, "/metrics").body;
    assert!(
        metrics.contains("mendb_last_proof_timestamp_seconds{collection=\"world\"}"),
        "{metrics}"
    );
    server.end();
    add(&world, "keep", Work::Prune, 2);
    let server = world.serve();
    let pruned = ran(&world, &server, "keep");
    assert_eq!(pruned["runs"][0]["outcome"], "done", "{pruned:#}");
    assert_eq!(
        world
            .get(&server, "/v1/backups")
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn a_run_that_a_crash_cut_off_is_done_once() {
    let world = World::new();
    add(&world, "hourly", Work::Full, 3);
    for at in [1, 3, 5, 8] {
        // It may die before it says anything.
        let mut command = world.mendb.command("serve --listen 127.0.0.1:0");
        command.env("MENDB_CRASH_AT", at.to_string());
        assert!(!command.output().unwrap().status.success(), "{at}");
    }
    let server = world.serve();
    let schedule = ran(&world, &server, "hourly");
    assert_eq!(
        schedule["runs"].as_array().unwrap().len(),
        1,
        "{schedule:#}"
    );
    assert_eq!(schedule["runs"][0]["outcome"], "done", "{schedule:#}");
    let operations = world.get(&server, "/v1/operations").json();
    assert_eq!(operations.as_array().unwrap().len(), 1, "{operations:#}");
    assert_eq!(
        world
            .get(&server, "/v1/backups")
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn what_is_wrong_with_a_schedule_is_told_when_it_is_added() {
    let world = World::new();
    for (line, why) in [
        ("schedule add n world full --cron x", "five"),
        (
            "schedule add n world full --cron @daily --time-zone Mars/North",
            "no time zone",
        ),
        ("schedule add n world prune --cron @daily", "no rule"),
        (
            "schedule add n world full --cron @daily --keep-last 2",
            "for prune",
        ),
    ] {
        let said = world.mendb.fails(2, line);
        assert!(said.contains(why), "{line}: {said}");
    }
    world
        .mendb
        .ok("schedule add n world prune --cron @daily --keep-within 2d --no-fold");
    let shown = world.mendb.json("schedule show n");
    assert_eq!(
        shown["arguments"],
        serde_json::json!({ "keep_within": "48h", "no_fold": true })
    );
    world.mendb.ok("schedule remove n");
    world.mendb.fails(1, "schedule show n");
}
