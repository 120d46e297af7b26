//! What is scheduled is run, once for each time, also over crashes.

use mendb_server::Store;
use mendb_server::store::schedule::{Schedule, Work};
use serde_json::{Map, Value, json};

use crate::server::{Server, World};

/// Adds a schedule as it would be there after `hours` without a server.
fn add(world: &World, name: &str, work: Work, hours: u64) {
    add_at(world, name, work, ("0 * * * *", "Europe/Paris"), hours);
}

/// The same at times of a rule in a zone.
pub fn add_at(world: &World, name: &str, work: Work, (cron, time_zone): (&str, &str), hours: u64) {
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
        cron: cron.to_owned(),
        time_zone: time_zone.to_owned(),
        arguments,
        created_at_ms: since_ms,
        decided_ms: since_ms,
        jitter_s: 0,
        paused_at_ms: None,
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
        assert!(waited_ms < 300_000, "{schedule:#}");
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
fn runs_of_one_collection_at_one_minute_wait_for_each_other() {
    let world = World::new();
    let names = ["a", "b", "c"];
    for (name, work) in names
        .into_iter()
        .zip([Work::Full, Work::Increment, Work::Full])
    {
        add(&world, name, work, 2);
    }
    let server = world.serve();
    for name in names {
        let schedule = ran(&world, &server, name);
        assert_eq!(schedule["runs"][0]["outcome"], "done", "{schedule:#}");
        assert_eq!(schedule["runs"][0]["waits"], Value::Null, "{schedule:#}");
    }
    let operations = world.get(&server, "/v1/operations").json();
    assert_eq!(operations.as_array().unwrap().len(), 3, "{operations:#}");
}

#[test]
fn a_run_waits_for_an_operation_in_its_way_and_says_so_also_over_the_end_of_a_server() {
    let world = World::new();
    let slow = [("MENDB_REPOSITORY_UPLOAD_BYTES_PER_S", "1")];
    let server = world.serve_with(&slow);
    let location = world.begin_without_end(&server);
    add(&world, "nightly", Work::Full, 2);
    let waits = |server: &Server| {
        let begun_ms = mendb_service::env::now_ms();
        loop {
            let schedule = world.get(server, "/v1/schedules/nightly").json();
            if schedule["runs"][0]["waits"].is_string() {
                return schedule;
            }
            let waited_ms = mendb_service::env::now_ms() - begun_ms;
            assert!(waited_ms < 300_000, "{schedule:#}");
            std::thread::yield_now();
        }
    };
    let schedule = waits(&server);
    let why = schedule["runs"][0]["waits"].as_str().unwrap();
    let id = location.rsplit('/').next().unwrap();
    assert!(why.contains(id), "{schedule:#}");
    let listed = world.mendb.ok("schedule list");
    assert!(listed.contains("waits: "), "{listed}");
    server.end();
    let server = world.serve();
    let schedule = ran(&world, &server, "nightly");
    assert_eq!(schedule["runs"][0]["outcome"], "done", "{schedule:#}");
    assert_eq!(world.get(&server, &location).json()["state"], "done");
    let backups = world.get(&server, "/v1/backups").json();
    assert_eq!(backups.as_array().unwrap().len(), 3, "{backups:#}");
}

#[test]
fn a_schedule_is_paused_and_resumed_and_catches_nothing_up() {
    let world = World::new();
    add(&world, "hourly", Work::Full, 5);
    let said = world.mendb.ok("schedule pause hourly");
    assert!(said.contains("paused since"), "{said}");
    let server = world.serve();
    let path = "/v1/schedules/hourly";
    let shown = world.get(&server, path).json();
    assert!(shown["paused_at_ms"].is_u64(), "{shown:#}");
    assert_eq!(shown["next_at"], Value::Null, "{shown:#}");
    let metrics = world.get(&server, "/metrics").body;
    let paused =
        "mendb_schedule_paused{schedule=\"hourly\",collection=\"world\",work=\"full\"} 1\n";
    assert!(metrics.contains(paused), "{metrics}");
    let resumed = world.post(&server, &format!("{path}/resume"), &json!({}));
    assert_eq!(resumed.status, 200, "{resumed:?}");
    let shown = world.get(&server, path).json();
    assert_eq!(shown["paused_at_ms"], Value::Null, "{shown:#}");
    assert!(shown["next_at"].is_string(), "{shown:#}");
    assert_eq!(shown["runs"], json!([]), "{shown:#}");
    let rule =
        json!({ "name": "n", "collection": "world", "work": "full", "cron": "*/70 * * * *" });
    let wrong = world.post(&server, "/v1/schedules", &rule);
    assert_eq!(wrong.status, 400, "{wrong:?}");
    let nothing = world.post(&server, "/v1/schedules/nothing/pause", &json!({}));
    assert_eq!(nothing.status, 404, "{nothing:?}");
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
    add(&world, "proof", Work::Drill, 2);
    let server = world.serve();
    assert_eq!(ran(&world, &server, "proof")["runs"][0]["outcome"], "done");
    let backups = world.get(&server, "/v1/backups").json();
    assert!(
        backups[1]["proven_restorable_at"].is_string(),
        "{backups:#}"
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
    let audit = world.get(&server, "/v1/audit").json();
    assert_eq!(audit.as_array().unwrap().len(), 1, "{audit:#}");
    assert_eq!(audit[0]["outcome"], "done", "{audit:#}");
    assert_eq!(
        audit[0]["operation_id"], operations[0]["operation_id"],
        "{audit:#}"
    );
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
        (
            "schedule add n world full --cron @daily --jitter 2h",
            "more than 1h",
        ),
    ] {
        let said = world.mendb.fails(2, line);
        assert!(said.contains(why), "{line}: {said}");
    }
    let said = world
        .mendb
        .fails(2, "schedule add n world full --cron @daily --sample 5%");
    assert!(said.contains("for drill"), "{said}");
    world
        .mendb
        .ok("schedule add d world drill --cron @daily --sample 5%");
    assert_eq!(
        world.mendb.json("schedule show d")["arguments"],
        serde_json::json!({ "sample": "5%" })
    );
    world
        .mendb
        .ok("schedule add n world prune --cron @daily --keep-within 2d --no-fold");
    for work in ["full", "increment", "verify", "prune --keep-last 1"] {
        let line = format!("schedule add m nowhere {work} --cron @daily");
        let said = world.mendb.fails(1, &line);
        assert!(
            said.contains("there is no collection nowhere"),
            "{work}: {said}"
        );
    }
    let shown = world.mendb.json("schedule show n");
    assert_eq!(
        shown["arguments"],
        serde_json::json!({ "keep_within": "48h", "no_fold": true })
    );
    world.mendb.ok("schedule remove n");
    world.mendb.fails(1, "schedule show n");
}
