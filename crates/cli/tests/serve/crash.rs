//! A server that dies anywhere loses no operation and does none twice.

use serde_json::json;

use crate::server::World;

#[test]
fn a_backup_that_is_asked_for_again_after_each_crash_is_taken_once() {
    for at in [1, 2, 3, 4, 6, 9, 13, 20] {
        let world = World::new();
        let headers = [("Idempotency-Key", "monday")];
        let path = "/v1/collections/world/backups";
        let server = world.serve_with(&[("MENDB_CRASH_AT", &at.to_string())]);
        let body = json!({ "label": "monday" });
        let first = server.ask_with("POST", path, Some(&world.token), &headers, &body);
        // It dies before it answers, or after.
        assert!([0, 202].contains(&first.status), "{at}: {first:?}");
        assert!(server.died(), "{at}");
        let server = world.serve();
        let again = server.ask_with("POST", path, Some(&world.token), &headers, &body);
        assert_eq!(again.status, 202, "{at}: {again:?}");
        let location = again.header("location").unwrap().to_owned();
        assert_eq!(world.wait(&server, &location)["state"], "done", "{at}");
        if let Some(before) = first.header("location") {
            assert_eq!(before, location, "{at}");
        }
        let operations = world.get(&server, "/v1/operations").json();
        assert_eq!(
            operations.as_array().unwrap().len(),
            1,
            "{at}: {operations:#}"
        );
        let backups = world.get(&server, path).json();
        assert_eq!(backups.as_array().unwrap().len(), 1, "{at}: {backups:#}");
    }
}

#[test]
fn work_on_the_repository_is_gone_on_with() {
    let world = World::new();
    for label in ["a", "b", "c"] {
        world
            .mendb
            .ok(&format!("backup world --label {label} --quiet"));
    }
    let path = "/v1/collections/world/prune";
    for at in [1, 3, 5, 8] {
        let server = world.serve_with(&[("MENDB_CRASH_AT", &at.to_string())]);
        let headers = [("Idempotency-Key", "prune")];
        let first = server.ask_with(
            "POST",
            path,
            Some(&world.token),
            &headers,
            &json!({ "keep_last": 1 }),
        );
        assert!([0, 202].contains(&first.status), "{at}: {first:?}");
        drop(server);
    }
    let server = world.serve();
    let headers = [("Idempotency-Key", "prune")];
    let last = server.ask_with(
        "POST",
        path,
        Some(&world.token),
        &headers,
        &json!({ "keep_last": 1 }),
    );
    assert_eq!(last.status, 202, "{last:?}");
    let location = last.header("location").unwrap().to_owned();
    assert_eq!(world.wait(&server, &location)["state"], "done");
    let left = world.get(&server, "/v1/backups").json();
    assert_eq!(left.as_array().unwrap().len(), 1, "{left:#}");
}
