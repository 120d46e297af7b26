//! What is asked for over HTTP happens, once, and is told.

use std::io::BufRead;

use serde_json::json;

use crate::client::open;
use crate::server::World;

const BACKUPS: &str = "/v1/collections/world/backups";
const RESTORES: &str = "/v1/collections/world/restores";

#[test]
fn a_backup_is_taken_a_table_is_mended_as_it_was_previewed_and_the_mend_is_undone() {
    let world = World::new();
    let server = world.serve();
    let operation = world.done(&server, BACKUPS, &json!({ "label": "monday" }));
    assert_eq!(operation["kind"], "full_backup");
    assert!(operation["steps"].as_array().unwrap().len() > 1);
    let backups = world.get(&server, BACKUPS).json();
    assert_eq!(backups[0]["label"], "monday");
    let shown = world.get(&server, &format!("{BACKUPS}/monday")).json();
    assert_eq!(shown["collection"], "world");
    server.end();
    // Somebody damages the table.
    world.mendb.write(
        "wrong.jsonl",
        "{\"name\":\"Lyon\",\"people\":0}\n{\"name\":\"Utopia\"}\n",
    );
    world.mendb.ok("table import cities wrong.jsonl --quiet");
    let damaged = world.mendb.ok("table export cities");
    let server = world.serve();
    let diff = world.get(&server, "/v1/diff?before=monday").json();
    assert_eq!(diff["tables"][0]["rows"]["changed"], 1, "{diff:#}");
    let preview = world.post(
        &server,
        RESTORES,
        &json!({ "in_place": true, "dry_run": true }),
    );
    assert_eq!(preview.status, 200, "{preview:?}");
    assert_eq!(
        preview.json()["tables"][0]["table"],
        "cities",
        "{preview:?}"
    );
    let plan = preview.header("mendb-plan").unwrap().to_owned();
    let mend = world.done(&server, &format!("/v1/plans/{plan}"), &json!({}));
    // What was planned is not there any more.
    let again = world.post(&server, &format!("/v1/plans/{plan}"), &json!({}));
    assert_eq!(again.status, 409, "{again:?}");
    assert_eq!(again.json()["kind"], "fix_input");
    let unknown = world.post(&server, "/v1/plans/x", &json!({}));
    assert_eq!(unknown.status, 404, "{unknown:?}");
    let id = mend["operation_id"].as_str().unwrap();
    let undo = world.done(&server, &format!("/v1/operations/{id}/undo"), &json!({}));
    assert_eq!(undo["kind"], "undo");
    server.end();
    assert_eq!(world.mendb.ok("table export cities"), damaged);
}

#[test]
fn a_request_that_is_repeated_with_its_key_begins_one_operation() {
    let world = World::new();
    let server = world.serve();
    let take = |server: &crate::server::Server, key: &str, label: &str| {
        let headers = [("Idempotency-Key", key)];
        let body = json!({ "label": label });
        server.ask_with("POST", BACKUPS, Some(&world.token), &headers, &body)
    };
    let first = take(&server, "k1", "a");
    assert_eq!(first.status, 202, "{first:?}");
    let location = first.header("location").unwrap().to_owned();
    world.wait(&server, &location);
    assert_eq!(
        take(&server, "k1", "a").header("location"),
        Some(location.as_str())
    );
    let other = take(&server, "k1", "b");
    assert_eq!(other.status, 422, "{other:?}");
    assert_eq!(take(&server, "bad key", "a").status, 400);
    // The key means what was done for it, also when the record of that is gone.
    let second = take(&server, "k2", "c");
    let of_second = second.header("location").unwrap().to_owned();
    world.wait(&server, &of_second);
    let gone = server.ask("DELETE", &of_second, Some(&world.token), &json!(null));
    assert_eq!(gone.status, 200, "{gone:?}");
    let again = take(&server, "k2", "c");
    assert_eq!(again.status, 410, "{again:?}");
    let id = of_second.rsplit('/').next().unwrap();
    assert_eq!(again.json()["operation"], id, "{again:?}");
    let other = take(&server, "k2", "d");
    assert_eq!(other.status, 422, "{other:?}");
    // Of somebody else the same key is another.
    let bob = world.token("bob", "operator");
    let of_bob = server.ask_with(
        "POST",
        BACKUPS,
        Some(&bob),
        &[("Idempotency-Key", "k1")],
        &json!({}),
    );
    assert_ne!(of_bob.header("location"), Some(location.as_str()));
    world.wait(&server, of_bob.header("location").unwrap());
    server.kill();
    let server = world.serve();
    assert_eq!(
        take(&server, "k1", "a").header("location"),
        Some(location.as_str())
    );
    assert_eq!(take(&server, "k2", "c").status, 410);
    assert_eq!(
        world.get(&server, BACKUPS).json().as_array().unwrap().len(),
        3
    );
}

#[test]
fn operations_are_listed_by_pages_and_filters() {
    let world = World::new();
    let server = world.serve();
    for label in ["a", "b", "c"] {
        world.done(&server, BACKUPS, &json!({ "label": label }));
    }
    let all = world.get(&server, "/v1/operations").json();
    let all: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["operation_id"].clone())
        .collect();
    let page = world.get(&server, "/v1/operations?limit=2&newest_first=true");
    assert_eq!(page.json()[0]["operation_id"], all[2]);
    let next = page.header("link").unwrap();
    assert_eq!(
        next,
        format!("<?after={}>; rel=\"next\"", all[1].as_str().unwrap())
    );
    let after = all[1].as_str().unwrap();
    let last = world.get(
        &server,
        &format!("/v1/operations?limit=2&newest_first=true&after={after}"),
    );
    assert_eq!(last.json()[0]["operation_id"], all[0]);
    assert_eq!(last.header("link"), None);
    let none = world.get(&server, "/v1/operations?in_state=failed").json();
    assert_eq!(none, json!([]));
    let wrong = world.get(&server, "/v1/operations?colour=red");
    assert_eq!(wrong.status, 400, "{wrong:?}");
}

/// An operation that was cut off and then paused.
fn paused(world: &World) -> String {
    let mut command = world.mendb.command("backup world");
    let crashed = command.env("MENDB_CRASH_AT", "9").output().unwrap();
    assert!(!crashed.status.success());
    let operations = world.mendb.json("operation list --newest-first");
    let id = operations[0]["operation_id"].as_str().unwrap();
    world.mendb.ok(&format!("operation pause {id}"));
    format!("/v1/operations/{id}")
}

#[test]
fn an_operation_is_resumed_cancelled_and_forgotten() {
    let world = World::new();
    let location = paused(&world);
    let server = world.serve();
    assert_eq!(world.get(&server, &location).json()["paused"], true);
    // It ends nowhere by itself: the answer is what the command line says, and no fault of the server.
    let end = world.get(&server, &format!("{location}/end"));
    assert_eq!(end.status, 409, "{end:?}");
    let told = end.json();
    assert!(
        told["detail"].as_str().unwrap().contains("is paused"),
        "{told:#}"
    );
    assert!(
        told["hint"].as_str().unwrap().contains("operation resume"),
        "{told:#}"
    );
    assert_eq!(told["report"]["paused"], true, "{told:#}");
    let early = server.ask("DELETE", &location, Some(&world.token), &json!(null));
    assert_eq!(early.status, 422, "{early:?}");
    let resumed = world.post(&server, &format!("{location}/resume"), &json!({}));
    assert!([200, 202].contains(&resumed.status), "{resumed:?}");
    assert_eq!(world.wait(&server, &location)["state"], "done");
    let late = world.post(&server, &format!("{location}/pause"), &json!({}));
    assert_eq!(late.status, 422, "{late:?}");
    server.end();
    let location = paused(&world);
    let server = world.serve();
    let cancelled = world.post(&server, &format!("{location}/cancel"), &json!({}));
    assert!([200, 202].contains(&cancelled.status), "{cancelled:?}");
    assert_eq!(world.wait(&server, &location)["state"], "cancelled");
    let end = world.get(&server, &format!("{location}/end"));
    assert_eq!(end.status, 409, "{end:?}");
    assert_eq!(end.json()["report"]["state"], "cancelled", "{end:?}");
    let gone = server.ask("DELETE", &location, Some(&world.token), &json!(null));
    assert_eq!(gone.status, 200, "{gone:?}");
    assert_eq!(world.get(&server, &location).status, 404);
}

#[test]
fn backups_are_verified_pruned_compacted_and_deleted() {
    let world = World::new();
    let server = world.serve();
    for label in ["a", "b", "c"] {
        world.done(&server, BACKUPS, &json!({ "label": label }));
    }
    let verified = world.post(
        &server,
        "/v1/collections/world/verify",
        &json!({ "live": true }),
    );
    assert_eq!(
        (verified.status, verified.header("mendb-verdict")),
        (200, Some("done")),
        "{verified:?}"
    );
    let preview = world.post(
        &server,
        "/v1/collections/world/prune",
        &json!({ "keep_last": 1, "dry_run": true }),
    );
    assert_eq!(preview.json()["dry_run"], true, "{preview:?}");
    let pruned = world.done(
        &server,
        "/v1/collections/world/prune",
        &json!({ "keep_last": 2 }),
    );
    assert_eq!(pruned["kind"], "prune", "{pruned:#}");
    let compacted = world.post(&server, "/v1/collections/world/compact", &json!({}));
    assert_eq!(compacted.status, 200, "{compacted:?}");
    let deleted = server.ask(
        "DELETE",
        &format!("{BACKUPS}/b"),
        Some(&world.token),
        &json!(null),
    );
    assert_eq!(deleted.status, 202, "{deleted:?}");
    let location = deleted.header("location").unwrap().to_owned();
    assert_eq!(world.wait(&server, &location)["state"], "done");
    let left = world.get(&server, BACKUPS).json();
    assert_eq!(left.as_array().unwrap().len(), 1);
    assert_eq!(left[0]["label"], "c");
    let gone = server.ask(
        "DELETE",
        &format!("{BACKUPS}/b"),
        Some(&world.token),
        &json!(null),
    );
    assert_eq!(gone.status, 404, "{gone:?}");
}

#[test]
fn who_reads_events_hears_of_operations_and_goes_on_where_he_was() {
    let world = World::new();
    let server = world.serve();
    let bearer = format!("Bearer {}", world.token);
    let headers = [("Authorization", bearer.as_str())];
    let mut reader = open(server.address, "GET", "/v1/events", &headers, "");
    assert_eq!(reader.status, 200);
    let mut line = String::new();
    reader.stream.read_line(&mut line).unwrap();
    let begun = world.post(&server, BACKUPS, &json!({}));
    let id = begun.json()["operation_id"].as_str().unwrap().to_owned();
    let (mut last, mut is_done) = (String::new(), false);
    while !is_done {
        let mut line = String::new();
        assert!(reader.stream.read_line(&mut line).unwrap() > 0);
        if let Some(name) = line.strip_prefix("id: ") {
            last = name.trim().to_owned();
        }
        if let Some(data) = line.strip_prefix("data: ") {
            let data: serde_json::Value = serde_json::from_str(data).unwrap();
            assert_eq!(data["operation_id"], id.as_str());
            is_done = data["state"] == "done";
        }
    }
    let next = world.done(&server, BACKUPS, &json!({}));
    // Of one operation, from its last state to its end.
    let path = format!(
        "/v1/operations/{}/events",
        next["operation_id"].as_str().unwrap()
    );
    let heard = server
        .ask("GET", &path, Some(&world.token), &json!(null))
        .body;
    assert!(heard.contains("\"state\":\"done\""), "{heard}");
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Last-Event-ID", last.as_str()),
    ];
    let mut reader = open(server.address, "GET", "/v1/events", &headers, "");
    loop {
        let mut line = String::new();
        assert!(reader.stream.read_line(&mut line).unwrap() > 0);
        if let Some(data) = line.strip_prefix("data: ") {
            let data: serde_json::Value = serde_json::from_str(data).unwrap();
            assert_eq!(
                data["operation_id"], next["operation_id"],
                "not what was heard before"
            );
            break;
        }
    }
}
