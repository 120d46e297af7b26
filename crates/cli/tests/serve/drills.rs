//! Restore drills: what they prove is told wherever backups are, and nothing else of them stays.

use serde_json::{Value, json};

use crate::server::World;

#[test]
fn a_drill_leaves_its_proof_wherever_backups_are_listed() {
    let world = World::new();
    world.mendb.ok("backup world --label a --quiet");
    let never = world.mendb.json("list world");
    assert_eq!(never[0]["last_proven_restorable_at"], Value::Null);
    let said = world.mendb.ok("drill world");
    assert!(
        said.contains("of world is restorable: 10 % of 1 table"),
        "{said}"
    );
    world.mendb.ok("backup world --label b --quiet");
    let listed = world.mendb.json("list world");
    assert!(listed[0]["proven_restorable_at"].is_string(), "{listed:#}");
    assert_eq!(listed[1]["proven_restorable_at"], Value::Null);
    assert_eq!(
        listed[1]["last_proven_restorable_at"],
        listed[0]["proven_restorable_at"]
    );
    assert!(
        world
            .mendb
            .ok("show a")
            .contains("proven      restorable at")
    );
    assert_eq!(world.mendb.json("table list").as_array().unwrap().len(), 1);
    // Of the collection, too.
    let proven = &listed[0]["proven_restorable_at"];
    let collections = world.mendb.json("collection list");
    assert_eq!(&collections[0]["last_proven_restorable_at"], proven);
    let shown = world.mendb.ok("collection show world");
    let line = format!("proven     restorable at {}\n", proven.as_str().unwrap());
    assert!(shown.contains(&line), "{shown}");

    let server = world.serve();
    let body = json!({ "sample": "all" });
    let done = world.done(&server, "/v1/collections/world/drills", &body);
    assert_eq!(done["kind"], "drill");
    let backups = world.get(&server, "/v1/backups").json();
    assert!(
        backups[1]["proven_restorable_at"].is_string(),
        "{backups:#}"
    );
    let collection = world.get(&server, "/v1/collections/world").json();
    assert_eq!(
        collection["last_proven_restorable_at"],
        backups[1]["proven_restorable_at"]
    );
    let tables = world.get(&server, "/v1/tables").json();
    assert_eq!(tables.as_array().unwrap().len(), 1, "{tables:#}");
    let metrics = world.get(&server, "/metrics").body;
    let metric = "mendb_last_proven_restorable_timestamp_seconds{collection=\"world\"} ";
    assert!(metrics.contains(metric), "{metrics}");
    let wrong = world.post(
        &server,
        "/v1/collections/world/drills",
        &json!({ "sample": "0%" }),
    );
    assert_eq!(wrong.status, 400, "{wrong:?}");
}

#[test]
fn a_drill_of_a_damaged_backup_fails_and_is_rolled_back() {
    let world = World::new();
    world.mendb.ok("backup world --label a --quiet");
    let id = world.mendb.json("list world")[0]["backup_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let data = world
        .mendb
        .path()
        .join("mendb-data/repository/collections/world")
        .join(id);
    let mut segments = std::fs::read_dir(data.join("cities")).unwrap();
    let segment = segments.next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let ran = world.mendb.run("drill world --sample all");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stderr.contains("nothing of the drill is left"),
        "{ran:?}"
    );
    let operations = world.mendb.json("operation list --kind drill");
    assert_eq!(operations[0]["state"], "cancelled", "{operations:#}");
    let listed = world.mendb.json("list world");
    assert_eq!(listed[0]["last_proven_restorable_at"], Value::Null);
    assert_eq!(world.mendb.json("table list").as_array().unwrap().len(), 1);
}
