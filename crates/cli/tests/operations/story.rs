//! The program as an operator uses it.

use crate::program::Place;

#[test]
fn back_up_lose_restore_prove() {
    let place = Place::new();
    place.fill_shop();
    place.ok(&["backup", "shop", "--label", "monday"]);
    let monday = place.shop();
    place.edit_shop(1);
    place.ok(&["backup", "shop", "--incremental", "--label", "tuesday"]);
    let tuesday = place.shop();
    let backups = place.json(&["list"]);
    assert_eq!(backups[1]["parent"], backups[0]["backup_id"]);
    place.drop_shop();
    place.ok(&["restore", "shop", "--to", "monday"]);
    assert_eq!(place.shop(), monday);
    place.drop_shop();
    place.ok(&["restore", "shop"]);
    assert_eq!(place.shop(), tuesday);
    place.ok(&["verify", "shop", "--live"]);
    place.ok(&["verify", "monday"]);
    place.ok(&["verify", "orders"]);
}

#[test]
fn scripts_find_every_field_they_rely_on() {
    let place = Place::new();
    place.fill_shop();
    place.ok(&["backup", "shop"]);
    let operations = place.json(&["operation", "list"]);
    let operation = &operations[0];
    for field in [
        "operation_id",
        "kind",
        "collection",
        "state",
        "current_step",
        "percent",
        "rows_done",
        "bytes_done",
        "shards_done",
        "shards_total",
        "error",
    ] {
        assert!(operation.get(field).is_some(), "{field} in {operation}");
    }
    assert_eq!(operation["state"], "done");
    assert_eq!(operation["percent"], 100.0);
    assert_eq!(operation["kind"], "full_backup");
    let id = operation["operation_id"].as_str().unwrap();
    let details = place.json(&["operation", "show", id]);
    assert_eq!(details["steps"][0]["step"], "cut");
    assert!(details["events"].as_array().unwrap().len() > 5);
    place.ok(&["operation", "forget", id]);
    assert_eq!(
        place.json(&["operation", "list"]).as_array().unwrap().len(),
        0
    );
}

#[test]
fn a_refused_restore_says_what_would_do_it_and_leaves_no_table() {
    let place = Place::new();
    place.fill_shop();
    place.ok(&["backup", "shop"]);
    let refusal = place.fails(1, &["restore", "shop"]);
    assert!(
        refusal.contains("already exists") && refusal.contains("--rename"),
        "{refusal}"
    );
    let refusal = place.fails(1, &["restore", "shop", "--rename", "orders=copy"]);
    assert!(
        refusal.contains("table customers already exists"),
        "{refusal}"
    );
    let refusal = place.fails(1, &["restore", "shop", "--to", "nothing"]);
    assert!(refusal.contains("\"nothing\""), "{refusal}");
    let refusal = place.fails(1, &["restore", "shops"]);
    assert!(refusal.contains("shops"), "{refusal}");
    let tables = place.json(&["table", "list"]);
    assert_eq!(tables.as_array().unwrap().len(), 2);
}

#[test]
fn a_chain_is_deleted_from_its_end_or_as_a_whole() {
    let place = Place::new();
    place.fill_shop();
    place.ok(&["backup", "shop", "--label", "full"]);
    place.edit_shop(1);
    place.ok(&["backup", "shop", "--incremental", "--label", "increment"]);
    let refusal = place.fails(1, &["delete", "full"]);
    assert!(
        refusal.contains("_incremental stands on it") && refusal.contains("--cascade"),
        "{refusal}"
    );
    place.ok(&["delete", "increment"]);
    place.ok(&["verify", "shop"]);
    place.ok(&["delete", "shop/full", "--cascade"]);
    assert_eq!(place.json(&["list"]).as_array().unwrap().len(), 0);
    assert!(
        place
            .fails(1, &["backup", "shop", "--incremental"])
            .contains("no backup to stand on")
    );
}

#[test]
fn damage_in_the_repository_is_found_by_name() {
    let place = Place::new();
    place.fill_shop();
    place.ok(&["backup", "shop"]);
    let shown = place.json(&[
        "show",
        place.json(&["list"])[0]["backup_id"].as_str().unwrap(),
    ]);
    let id = shown["backup_id"].as_str().unwrap();
    let object = shown["tables"][0]["rows"]["shards"][1]["segments"][0]["object"]
        .as_str()
        .unwrap();
    let path = place
        .path("repository/collections/shop")
        .join(id)
        .join(object);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&path, &bytes).unwrap();
    let verified = place.run(&["verify", "shop", "--output", "json"]);
    assert_eq!(verified.status.code(), Some(3));
    let proof: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap();
    let damage = proof["backups"][0]["damage"][0].as_str().unwrap();
    assert!(
        damage.contains(object) && damage.contains("damaged"),
        "{damage}"
    );
    let refused = |problem: &str| {
        let refusal = place.fails(1, &["backup", "shop", "--incremental"]);
        assert!(
            refusal.contains("cannot take an incremental backup")
                && refusal.contains(&format!("{object} {problem}"))
                && refusal.contains("take a full backup"),
            "{refusal}"
        );
    };
    bytes.pop();
    std::fs::write(&path, &bytes).unwrap();
    refused(&format!(
        "has {} bytes instead of {}",
        bytes.len(),
        bytes.len() + 1
    ));
    std::fs::remove_file(&path).unwrap();
    refused("does not exist");
    place.drop_shop();
    let missing = place.fails(1, &["restore", "shop"]);
    assert!(missing.contains(object), "{missing}");
    assert_eq!(
        place.json(&["table", "list"]).as_array().unwrap().len(),
        0,
        "failed before its first change"
    );
}

#[test]
fn pause_and_resume_reach_an_operation_that_nobody_drives() {
    let place = Place::new();
    place.fill_shop();
    place.ok(&["backup", "shop"]);
    let before = place.shop();
    place.drop_shop();
    let stopped = place
        .command(&["restore", "shop"])
        .env("MENDB_CRASH_AT", "14")
        .output()
        .unwrap();
    assert_eq!(stopped.status.code(), None);
    let operation = place.unfinished().remove(0);
    place.ok(&["operation", "pause", &operation]);
    let paused = place.json(&["operation", "list"]);
    assert_eq!(paused[1]["paused"], true, "{paused}");
    assert!(
        place
            .fails(1, &["operation", "watch", &operation])
            .contains("is paused")
    );
    assert!(
        place
            .fails(1, &["operation", "forget", &operation])
            .contains("is not over")
    );
    assert!(
        place
            .fails(1, &["table", "drop", "orders"])
            .contains(&operation)
    );
    place.ok(&["operation", "resume", &operation]);
    assert_eq!(place.shop(), before);
}
