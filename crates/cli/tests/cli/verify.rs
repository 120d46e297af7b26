//! What `mendb verify` finds, and how it says so.

use std::fs;
use std::path::PathBuf;

use crate::mendb::Mendb;

/// The first segment of the oldest backup.
fn first_segment(mendb: &Mendb) -> PathBuf {
    let backup = mendb.json("list")[0]["backup_id"].clone();
    let shown = mendb.json(&format!("show {}", backup.as_str().unwrap()));
    let object = &shown["tables"][0]["rows"]["shards"][0]["segments"][0]["object"];
    mendb
        .path()
        .join("mendb-data/repository/collections/c")
        .join(backup.as_str().unwrap())
        .join(object.as_str().unwrap())
}

#[test]
fn damage_is_told_of_each_backup_that_cannot_be_restored_any_more() {
    let mendb = Mendb::new();
    mendb.write("t.csv", "k,v\n1,a\n2,b\n");
    mendb.ok("table import t t.csv --create --key k");
    mendb.ok("collection create c --table t");
    mendb.ok("backup c");
    mendb.ok("table import t t.csv --mode erase");
    mendb.ok("backup c --incremental");
    mendb.ok("backup c --label fresh");
    mendb.ok("verify c");

    let segment = first_segment(&mendb);
    let mut bytes = fs::read(&segment).unwrap();
    bytes[10] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let ran = mendb.run("verify c --live --output json");
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    let proof: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let damage = |at: usize| proof["backups"][at]["damage"][0].as_str();
    let name = segment.file_name().unwrap().to_str().unwrap();
    assert!(damage(0).unwrap().contains(name), "{proof}");
    assert!(damage(0).unwrap().contains("is damaged"), "{proof}");
    assert!(damage(1).unwrap().contains("it stands on"), "{proof}");
    assert_eq!(damage(2), None, "a new chain stands on nothing");
    assert_eq!(proof["live"][0]["equal"], true);
}

#[test]
fn a_name_of_nothing_is_said_to_be_that() {
    let mendb = Mendb::new();
    let error = mendb.fails(1, "verify nothing");
    assert!(
        error.contains("nothing is no collection or backup"),
        "{error}"
    );
    let ran = mendb.run("list nothing");
    assert_eq!(ran.code, 0);
    assert!(ran.stderr.contains("no backup of collection nothing"));
}

#[test]
fn a_repository_that_has_lost_its_header_is_not_whole() {
    let mendb = Mendb::new();
    mendb.write("t.csv", "k,v\n1,a\n");
    mendb.ok("table import t t.csv --create --key k");
    mendb.ok("collection create c --table t");
    mendb.ok("backup c");
    mendb.ok("verify c");
    fs::remove_file(mendb.path().join("mendb-data/repository/mendb.json")).unwrap();
    for what in ["c", "c --live"] {
        let ran = mendb.run(&format!("verify {what} --output json"));
        assert_eq!(ran.code, 3, "{}", ran.stderr);
        let proof: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let damage = proof["damage"][0].as_str().unwrap();
        assert!(damage.contains("mendb.json is missing"), "{proof}");
        assert_eq!(proof["backups"][0]["damage"], serde_json::json!([]));
    }
    let ran = mendb.run("verify c");
    assert!(
        ran.stdout.contains("mendb.json is missing"),
        "{}",
        ran.stdout
    );
}

#[test]
fn a_collection_that_was_never_backed_up_is_said_to_have_no_backup() {
    let mendb = Mendb::new();
    mendb.write("t.csv", "k,v\n1,a\n");
    mendb.ok("table import t t.csv --create --key k");
    mendb.ok("collection create c --table t");
    for line in ["verify c", "verify c --live"] {
        let said = mendb.fails(1, line);
        assert!(
            said.contains("collection c has no backup in file://"),
            "{said}"
        );
        assert!(said.contains("hint: mendb backup c takes one"), "{said}");
    }
    let said = mendb.fails(1, "verify nothing");
    assert!(
        said.contains("nothing is no collection or backup"),
        "{said}"
    );
}
