//! Who only looks, beside a process that has the target open and writes to it.

use std::process::Child;

use mendb_rowstore::Snapshot;
use serde_json::Value;

use crate::program::Place;
use crate::takeover::{abandoned_restore, end, lost_shop, signal, spawn, stopped};

/// So many that an import takes its time.
const ROWS: u64 = 100_000;
const MOST_IMPORTS: u32 = 50;

/// A shop with a backup `monday`, and changes since.
fn shop() -> Place {
    let place = Place::new();
    place.fill_shop();
    place.ok(&["backup", "shop", "--label", "monday"]);
    place.edit_shop(1);
    place
}

/// An import that is stopped when it has the store open, and nothing of it is there yet; and what was there before.
fn stopped_import(place: &Place) -> (Child, Looks) {
    let lines: String = (0..ROWS)
        .map(|n| format!("{{\"name\":\"n{n}\",\"balance\":1}}\n"))
        .collect();
    let file = place.write("many.jsonl", &lines);
    let rows = place.path("target/rows");
    let version = || Snapshot::open(&rows).unwrap().unwrap().version();
    for _ in 0..MOST_IMPORTS {
        let before = version();
        let looks = looks(place);
        let mut import = spawn(place, &["table", "import", "customers", &file]);
        while !has_open(&import, "target/rows/lock") {
            assert!(import.try_wait().unwrap().is_none(), "it was not seen");
            std::thread::yield_now();
        }
        signal(&import, "-STOP");
        if version() == before {
            return (import, looks);
        }
        go_on(import);
    }
    panic!("each of {MOST_IMPORTS} imports was over before it was stopped");
}

/// What the list of tables and a comparison with the backup say.
type Looks = (Value, Value);

fn looks(place: &Place) -> Looks {
    let tables = place.json(&["table", "list"]);
    (tables, json(place, &[3], &["diff", "monday"]))
}

/// Whether a process has a file open whose path ends so.
fn has_open(process: &Child, end: &str) -> bool {
    let open = std::fs::read_dir(format!("/proc/{}/fd", process.id()));
    let mut files = open.into_iter().flatten().flatten();
    files.any(|file| std::fs::read_link(file.path()).is_ok_and(|path| path.ends_with(end)))
}

fn go_on(mut stopped: Child) {
    signal(&stopped, "-CONT");
    assert!(end(&mut stopped).success());
}

/// What a command prints as JSON that ends with one of these codes.
fn json(place: &Place, codes: &[i32], arguments: &[&str]) -> Value {
    let output = place.run(&[arguments, &["--output", "json"]].concat());
    let code = output.status.code().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(codes.contains(&code), "mendb {arguments:?}: {code}\n{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// How many rows of a table differ.
fn of_table<'a>(diff: &'a Value, table: &str) -> &'a Value {
    let tables = diff["tables"].as_array().unwrap();
    let found = tables.iter().find(|found| found["table"] == table);
    &found.unwrap()["rows"]
}

#[test]
fn what_differs_is_told_beside_an_import() {
    let place = shop();
    let (import, before) = stopped_import(&place);

    assert_eq!(looks(&place), before);
    place.ok(&["verify", "shop"]);
    let proof = json(&place, &[3], &["verify", "shop", "--live"]);
    assert_eq!(proof["live"][0]["equal"], false, "{proof}");
    let collection = place.json(&["collection", "show", "shop"]);
    let held = &collection["repositories"][0]["held"];
    assert!(held["changes"].as_u64().unwrap() > 0, "{held}");
    let operations = place.json(&["operation", "list"]);
    assert_eq!(operations.as_array().unwrap().len(), 1);
    let backup = operations[0]["operation_id"].as_str().unwrap();
    assert_eq!(place.json(&["operation", "show", backup])["state"], "done");

    go_on(import);
    let diff = json(&place, &[3], &["diff", "monday"]);
    assert_eq!(of_table(&diff, "customers")["added"].as_u64(), Some(ROWS));
}

#[test]
fn what_differs_is_told_beside_a_mend_as_it_was_before_or_is_after() {
    let place = shop();
    let before = json(&place, &[3], &["diff", "monday"]);
    let damaged = || {
        place.edit_shop(1);
    };
    let (mend, id) = stopped(
        &place,
        &["restore", "shop", "--in-place", "--to", "monday"],
        damaged,
    );

    let shown = place.json(&["operation", "show", &id]);
    assert_eq!(shown["operation_id"], id);
    let operations = place.json(&["operation", "list"]);
    let of_mend = operations.as_array().unwrap().iter();
    let of_mend: Vec<_> = of_mend.filter(|o| o["operation_id"] == id).collect();
    assert_eq!(of_mend.len(), 1, "{operations}");
    assert_ne!(of_mend[0]["state"], "orphaned", "{operations}");
    let diff = json(&place, &[0, 3], &["diff", "monday"]);
    for table in ["orders", "customers"] {
        let counts = |diff: &Value| {
            let rows = of_table(diff, table);
            ["added", "changed", "removed"].map(|kind| rows[kind].as_u64().unwrap())
        };
        let now = counts(&diff);
        assert!(now == counts(&before) || now == [0; 3], "{diff}");
    }
    place.ok(&["verify", "shop"]);
    json(&place, &[0, 3], &["verify", "monday", "--live"]);
    place.json(&["collection", "show", "shop"]);

    go_on(mend);
    json(&place, &[0], &["diff", "monday"]);
    json(&place, &[0], &["verify", "monday", "--live"]);
}

#[test]
fn a_table_that_is_being_restored_is_not_called_different() {
    let (place, before) = lost_shop();
    let restore = abandoned_restore(&place);
    for comparing in [&["diff", "shop"][..], &["verify", "shop", "--live"]] {
        let said = place.fails(1, comparing);
        assert!(said.contains("is being restored"), "{said}");
        assert!(said.contains("mendb operation list"), "{said}");
    }
    place.ok(&["operation", "watch", restore.as_str()]);
    place.ok(&["verify", "shop", "--live"]);
    assert_eq!(place.shop(), before);
}
