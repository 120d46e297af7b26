//! Damage in the repository: what it stops, and what it does not.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::program::Place;

/// The ids of all backups, oldest first.
fn ids(place: &Place) -> Vec<String> {
    let ids = place.json(&["list"]);
    let ids = ids.as_array().unwrap().iter();
    ids.map(|backup| backup["backup_id"].as_str().unwrap().to_owned())
        .collect()
}

fn directory(place: &Place, id: &str) -> PathBuf {
    place.path("repository/collections/shop").join(id)
}

fn damage_manifest(place: &Place, id: &str) {
    flip(&directory(place, id).join("manifest.json"));
}

fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(file, &bytes).unwrap();
}

/// The objects of a backup below its directory.
fn objects(place: &Place, id: &str) -> Vec<String> {
    let shown = place.json(&["show", id]);
    let shards = shown["tables"][0]["rows"]["shards"]
        .as_array()
        .unwrap()
        .clone();
    let object = |shard: &Value| Some(shard["segments"][0]["object"].as_str()?.to_owned());
    shards.iter().filter_map(object).collect()
}

/// What `verify` finds, which is damage.
fn damage(place: &Place, what: &str) -> Value {
    let verified = place.run(&["verify", what, "--output", "json"]);
    let said = String::from_utf8_lossy(&verified.stderr);
    assert_eq!(verified.status.code(), Some(3), "{said}");
    serde_json::from_slice(&verified.stdout).unwrap()
}

/// A full backup, an increment on it, and another full backup.
fn shop() -> (Place, Vec<String>) {
    let place = Place::new();
    place.fill_shop();
    place.ok(&["backup", "shop", "--label", "first"]);
    place.edit_shop(1);
    place.ok(&["backup", "shop", "--incremental", "--label", "second"]);
    place.ok(&["backup", "shop", "--label", "third"]);
    let ids = ids(&place);
    (place, ids)
}

#[test]
fn every_damaged_object_of_every_backup_is_told() {
    let (place, ids) = shop();
    let of_first = objects(&place, &ids[0]);
    assert!(of_first.len() >= 3);
    flip(&directory(&place, &ids[0]).join(&of_first[0]));
    fs::remove_file(directory(&place, &ids[0]).join(&of_first[2])).unwrap();
    let of_third = objects(&place, &ids[2]);
    flip(&directory(&place, &ids[2]).join(&of_third[1]));

    let proof = damage(&place, "shop");
    let found = |at: usize| proof["backups"][at]["damage"].as_array().unwrap();
    let said = |at: usize, n: usize| found(at)[n].as_str().unwrap();
    assert_eq!([0, 1, 2].map(|at| found(at).len()), [2, 1, 1], "{proof}");
    assert!(said(0, 0).contains(&of_first[0]) && said(0, 0).contains("is damaged"));
    assert!(said(0, 1).contains(&of_first[2]) && said(0, 1).contains("does not exist"));
    assert!(said(1, 0).contains(&ids[0]), "{proof}");
    assert!(said(2, 0).contains(&of_third[1]), "{proof}");
}

#[test]
fn a_damaged_manifest_keeps_nobody_from_the_other_backups() {
    let (place, ids) = shop();
    let third = place.shop();
    damage_manifest(&place, &ids[0]);
    let listed = place.run(&["list", "--output", "json"]);
    assert_eq!(listed.status.code(), Some(3));
    place.ok(&["show", "third"]);
    place.ok(&["verify", "third"]);
    let proof = damage(&place, "second");
    assert_eq!(proof["backups"][0]["backup_id"], ids[0].as_str());
    assert!(
        proof["backups"][0]["damage"][0]
            .as_str()
            .unwrap()
            .contains("manifest.json is damaged")
    );
    place.drop_shop();
    place.ok(&["restore", "third"]);
    assert_eq!(place.shop(), third);
    place.drop_shop();
    place.ok(&["restore", "shop"]);
    assert_eq!(place.shop(), third);
    place.ok(&["backup", "shop", "--label", "fourth"]);
}

#[test]
fn a_backup_with_a_damaged_manifest_is_deleted_by_its_id() {
    let (place, ids) = shop();
    damage_manifest(&place, &ids[0]);
    let refusal = place.fails(1, &["delete", &ids[0]]);
    assert!(
        refusal.contains(&ids[1]) && refusal.contains("--cascade"),
        "{refusal}"
    );
    place.ok(&["delete", &ids[0], "--cascade"]);
    assert!(!directory(&place, &ids[0]).exists());
    assert_eq!(self::ids(&place), [ids[2].as_str()]);
    place.ok(&["verify", "shop"]);
}

#[test]
fn what_was_left_of_an_unfinished_backup_is_told_and_deleted() {
    let (place, ids) = shop();
    let left = "20200101000000Z_full";
    fs::create_dir_all(directory(&place, left).join("orders")).unwrap();
    fs::copy(
        directory(&place, &ids[0]).join(&objects(&place, &ids[0])[0]),
        directory(&place, left).join("orders/0000-3fa9c1-0.0000.parquet"),
    )
    .unwrap();
    let listed = place.run(&["list", "shop"]);
    assert!(listed.status.success());
    let note = String::from_utf8_lossy(&listed.stderr);
    assert!(
        note.contains(&format!("shop/{left} is unfinished")),
        "{note}"
    );
    place.ok(&["delete", &format!("shop/{left}")]);
    // Its mark stays for the time of grace.
    let there = fs::read_dir(directory(&place, left)).unwrap();
    let there: Vec<_> = there.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(there, ["manifest.json"]);
    let refusal = place.fails(1, &["delete", left]);
    assert!(refusal.contains("there is no backup"), "{refusal}");
    assert_eq!(self::ids(&place), ids);
}

#[test]
fn what_an_operation_is_writing_is_not_deleted() {
    let place = Place::new();
    place.fill_shop();
    let stopped = place
        .command(&["backup", "shop"])
        .env("MENDB_CRASH_AT", "14")
        .output()
        .unwrap();
    assert_eq!(stopped.status.code(), None);
    let operation = place.unfinished().remove(0);
    let mut unfinished = fs::read_dir(place.path("repository/collections/shop")).unwrap();
    let id = unfinished.next().unwrap().unwrap().file_name();
    let refusal = place.fails(1, &["delete", id.to_str().unwrap()]);
    assert!(refusal.contains(&operation), "{refusal}");
    place.ok(&["operation", "watch", &operation]);
    place.ok(&["verify", "shop", "--live"]);
}

#[test]
fn a_collection_without_a_backup_is_not_proved() {
    let place = Place::new();
    place.fill_shop();
    place.ok(&["backup", "shop"]);
    let id = ids(&place).remove(0);
    fs::remove_file(directory(&place, &id).join("manifest.json")).unwrap();
    let refusal = place.fails(1, &["verify", "shop", "--live"]);
    assert!(refusal.contains("has no backup in"), "{refusal}");
}

#[test]
fn indexes_are_proved_to_agree_with_their_tables() {
    let place = Place::new();
    place.fill_shop();
    place.edit_shop(1);
    let digests = place.json(&["table", "digest", "orders"]);
    let agrees: Vec<_> = digests
        .as_array()
        .unwrap()
        .iter()
        .map(|checked| checked["index_agrees"].as_bool())
        .collect();
    assert_eq!(agrees, [None, Some(true), Some(true)], "{digests}");
    let said = place.ok(&["verify", "orders"]);
    assert!(said.contains("agrees with its table"), "{said}");
}
