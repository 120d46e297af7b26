//! Several repositories of one collection: each holds a chain of its own, and none is made silently.

use crate::mendb::Mendb;

fn world() -> Mendb {
    let mendb = Mendb::new();
    mendb.ok("table create t --column id:int64 --column v:utf8 --key id");
    put(&mendb, "1,a");
    mendb.ok("collection create c --table t");
    mendb
}

fn put(mendb: &Mendb, row: &str) {
    let line = "table import t - --format csv --quiet";
    let ran = mendb.run_with(line, &format!("id,v\n{row}\n"));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

/// The repositories of the collection, by the end of their addresses.
fn repository(mendb: &Mendb, end: &str) -> serde_json::Value {
    let shown = mendb.json("collection show c");
    let repositories = shown["repositories"].as_array().unwrap().clone();
    let is_it = |repository: &serde_json::Value| {
        let url = repository["url"].as_str();
        url.is_some_and(|url| url.ends_with(end))
    };
    let found = repositories.iter().find(|repository| is_it(repository));
    found
        .unwrap_or_else(|| panic!("{end}: {repositories:?}"))
        .clone()
}

#[test]
fn a_full_backup_elsewhere_leaves_the_chain_here_as_it_is() {
    let mendb = world();
    mendb.ok("backup c --repository one");
    mendb.ok("repository init --repository two");
    mendb.ok("backup c --repository two");
    for (row, to) in [
        ("2,b", "one"),
        ("3,c", "two"),
        ("4,d", "one"),
        ("5,e", "two"),
    ] {
        put(&mendb, row);
        mendb.ok(&format!("backup c --incremental --repository {to}"));
    }
    for (from, rows) in [("one", 4), ("two", 5)] {
        mendb.ok("table drop t");
        mendb.ok(&format!("restore c --repository {from}"));
        let exported = mendb.ok("table export t");
        assert_eq!(exported.lines().count(), rows + 1, "{from}: {exported}");
        mendb.ok(&format!("verify c --live --repository {from}"));
    }
}

#[test]
fn a_collection_shows_what_each_repository_holds_back_and_lets_go_of_one() {
    let mendb = world();
    mendb.ok("backup c --repository one");
    mendb.ok("repository init --repository two");
    mendb.ok("backup c --repository two");
    put(&mendb, "2,b");
    put(&mendb, "3,c");
    mendb.ok("backup c --incremental --repository two");
    put(&mendb, "4,d");
    assert_eq!(repository(&mendb, "/one")["held"]["changes"], 3);
    assert_eq!(repository(&mendb, "/two")["held"]["changes"], 1);
    let shown = mendb.ok("collection show c");
    assert!(shown.contains("changes kept"), "{shown}");
    let id = repository(&mendb, "/one")["repository_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let said = mendb.fails(1, "collection forget-repository c elsewhere");
    assert!(said.contains("collection show c"), "{said}");
    let forgotten = mendb.json(&format!("collection forget-repository c {id}"));
    assert_eq!(forgotten["held"]["changes"], 3);
    assert_eq!(
        mendb.json("collection show c")["repositories"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let said = mendb.fails(1, "backup c --incremental --repository one");
    assert!(said.contains("change stream has ended"), "{said}");
    assert!(said.contains("hint: take a full backup"), "{said}");
    mendb.ok("backup c --incremental --repository two");
    mendb.ok("backup c --repository one");
    put(&mendb, "5,e");
    mendb.ok("backup c --incremental --repository one");
}

#[test]
fn a_repository_is_made_aloud_and_never_where_another_was_used() {
    let mendb = world();
    let said = mendb.fails(1, "backup c --incremental --repository one");
    assert!(said.contains("is no repository"), "{said}");
    assert!(
        !mendb.path().join("one").exists(),
        "a refused increment makes none"
    );
    let ran = mendb.run("backup c --label x/y --repository one");
    assert_ne!(ran.code, 0);
    assert!(
        !mendb.path().join("one").exists(),
        "a refused backup makes none"
    );
    let ran = mendb.run("backup c --repository one");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("made a new repository at file://"),
        "{}",
        ran.stderr
    );
    let ran = mendb.run("backup c --repository one");
    assert!(!ran.stderr.contains("made a new"), "{}", ran.stderr);
    // As below a mount point that is not mounted.
    std::fs::rename(mendb.path().join("one"), mendb.path().join("elsewhere")).unwrap();
    for line in [
        "backup c --repository one",
        "backup c --incremental --repository one",
    ] {
        let said = mendb.fails(1, line);
        assert!(said.contains("is no repository"), "{line}: {said}");
        assert!(!mendb.path().join("one").exists());
    }
    let said = mendb.fails(1, "backup c --repository one");
    assert!(
        said.contains("/one (") && said.contains("--new-repository"),
        "{said}"
    );
    std::fs::rename(mendb.path().join("elsewhere"), mendb.path().join("one")).unwrap();
    mendb.ok("backup c --incremental --repository one");
    mendb.ok("backup c --repository two --new-repository");
    let made = mendb.json("repository init --repository three");
    assert_eq!(made["made"], true);
    let again = mendb.json("repository init --repository three");
    assert_eq!(
        (&again["made"], &again["repository_id"]),
        (&false.into(), &made["repository_id"])
    );
    mendb.ok("backup c --repository three");
    // Forgotten, they are not known any more.
    for url in ["/one", "/two", "/three"] {
        let id = repository(&mendb, url)["repository_id"]
            .as_str()
            .unwrap()
            .to_owned();
        mendb.ok(&format!("collection forget-repository c {id}"));
    }
    mendb.ok("backup c --repository four");
}

#[test]
fn a_repository_that_lost_its_name_gets_no_other_silently() {
    let mendb = world();
    mendb.ok("backup c --repository one");
    std::fs::remove_file(mendb.path().join("one/mendb.json")).unwrap();
    for line in [
        "backup c --repository one",
        "restore c --in-place --repository one",
    ] {
        let said = mendb.fails(1, line);
        assert!(said.contains("mendb.json"), "{line}: {said}");
        assert!(!mendb.path().join("one/mendb.json").exists());
    }
    mendb.ok("repository init --repository one");
    mendb.ok("restore c --in-place --repository one");
}

#[test]
fn a_chain_that_was_left_alone_is_let_go_when_it_keeps_too_much() {
    let mendb = world().with("MENDB_ROWSTORE_CHANGE_LOG_BYTES", "2MiB");
    mendb.ok("backup c --repository one");
    mendb.ok("repository init --repository two");
    mendb.ok("backup c --repository two");
    let rows = |from: u32| -> String {
        let row = |id| format!("{id},{}\n", "x".repeat(1000));
        (from..from + 1500).map(row).collect()
    };
    for from in [0, 10_000, 20_000] {
        let ran = mendb.run_with(
            "table import t - --format csv --quiet",
            &format!("id,v\n{}", rows(from)),
        );
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        mendb.ok("backup c --incremental --repository two");
    }
    assert_eq!(repository(&mendb, "/one")["held"]["bytes"], 0);
    assert!(
        repository(&mendb, "/one")["held"]["outgrew_bytes"]
            .as_u64()
            .unwrap()
            > 2 << 20
    );
    let said = mendb.fails(1, "backup c --incremental --repository one");
    assert!(said.contains("rowstore.change_log_bytes"), "{said}");
    mendb.ok("backup c --repository one");
    put(&mendb, "2,b");
    for repository in ["one", "two"] {
        mendb.ok(&format!("backup c --incremental --repository {repository}"));
        mendb.ok(&format!("verify c --live --repository {repository}"));
    }
}

#[test]
fn a_repository_is_tidied_up_beside_its_backups() {
    let mendb = world();
    mendb.ok("backup c");
    let tidied = mendb.json("repository tidy");
    let expected = serde_json::json!({
        "dry_run": false, "objects": 0, "bytes": 0, "waiting_objects": 0,
    });
    assert_eq!(tidied, expected);
    assert!(mendb.ok("repository tidy").starts_with("removed 0 objects"));
    mendb.ok("verify c --live");
    let nowhere = mendb.json("repository tidy --repository nowhere");
    assert_eq!(nowhere, expected);
    assert!(!mendb.path().join("nowhere").exists());
}
