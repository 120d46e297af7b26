//! `mendb demo` from start to end, on the least data it can do.

use serde_json::Value;

use crate::mendb::Mendb;

fn items<'v>(report: &'v Value, name: &str) -> &'v Vec<Value> {
    report[name].as_array().unwrap()
}

#[test]
fn the_demo_restores_what_it_lost_and_proves_it() {
    let mendb = Mendb::new();
    let report = mendb.json("demo --scale 0.01 --keep here --quiet");
    assert_eq!(report["equal"], true);

    let tables = items(&report, "tables");
    let names: Vec<&str> = tables
        .iter()
        .map(|proof| proof["table"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "customer",
            "customer/by_nation",
            "lineitem",
            "lineitem/by_part",
            "lineitem/by_ship",
            "orders",
            "orders/by_customer",
            "orders/by_date",
        ]
    );
    for proof in tables {
        assert_eq!(proof["equal"], true, "{proof}");
        assert_eq!(proof["before"], proof["after"], "{proof}");
    }
    assert_eq!(items(&report, "backups").len(), 4);

    // The restore was killed on the way and went on; where that was is up to the machine.
    let percent = report["killed"]["percent"].as_f64().unwrap();
    assert!((30.0..100.0).contains(&percent), "{percent}");
    let steps: Vec<&str> = items(&report, "timings")
        .iter()
        .map(|timing| timing["step"].as_str().unwrap())
        .collect();
    assert_eq!(
        steps,
        [
            "load",
            "full backup monday",
            "changes 1",
            "incremental backup tuesday",
            "changes 2",
            "incremental backup wednesday",
            "changes 3",
            "incremental backup thursday",
            "restore until killed",
            "restore resumed",
            "read all tables",
            "read all backups",
        ]
    );

    // What was kept is a target and a repository like any other.
    let there = "--target mendb:here/target --repository here/repository";
    mendb.ok(&format!("verify shop --live {there}"));
    let restored = &mendb.json(&format!("operation list {there}"))[4];
    assert_eq!(restored["kind"], "restore");
    assert_eq!(restored["state"], "done");
    let id = restored["operation_id"].as_str().unwrap();
    let shown = mendb.json(&format!("operation show {id} {there}"));
    let steps: Vec<_> = items(&shown, "steps")
        .iter()
        .map(|step| {
            (
                step["step"].as_str().unwrap(),
                step["state"].as_str().unwrap(),
            )
        })
        .collect();
    let names = [
        "prepare", "load", "apply 1", "apply 2", "apply 3", "verify", "finish",
    ];
    assert_eq!(steps, names.map(|name| (name, "done")));
    let loads = items(&shown, "shards")
        .iter()
        .filter(|shard| shard["step"] == "load");
    assert_eq!(loads.count(), 29, "every shard of every table and index");
}

#[test]
fn the_demo_leaves_nothing_behind_and_touches_no_target_of_the_user() {
    let temporary = tempfile::tempdir().unwrap();
    // Nor does it ask a server of the user.
    let mendb = Mendb::new()
        .with("TMPDIR", temporary.path().to_str().unwrap())
        .with("MENDB_SERVER", "http://127.0.0.1:1");
    let ran = mendb.run("demo --scale 0.01");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("restore"), "{}", ran.stdout);
    assert!(ran.stderr.contains("Proved"), "{}", ran.stderr);
    for directory in [temporary.path(), mendb.path()] {
        let left = std::fs::read_dir(directory).unwrap().count();
        assert_eq!(left, 0, "in {}", directory.display());
    }
}

#[test]
fn the_demo_does_not_take_a_directory_that_holds_something() {
    let mendb = Mendb::new();
    mendb.write("mine.txt", "dear\n");
    let error = mendb.fails(1, "demo --keep .");
    assert!(error.contains("is not empty"), "{error}");
    assert_eq!(mendb.read("mine.txt"), "dear\n");
    let error = mendb.fails(2, "demo --scale 0");
    assert!(error.contains("a number from 0.01 to 1000"), "{error}");
}
