//! Live tables are mended through the program: real data, every persisted step, kills.

use std::cell::Cell;

use serde_json::{Value, json};

use crate::crash::at_every_point;
use crate::flights::{self, KEY, Row, flights, lines, only};
use crate::program::Place;

/// The shop with a full backup, an increment and damage since; mended to `full`, it is `good`.
fn damaged_shop() -> (Place, [String; 3], [String; 3]) {
    let place = Place::new();
    place.fill_shop();
    place.ok(&["backup", "shop", "--label", "full"]);
    let good = place.shop();
    place.edit_shop(1);
    place.ok(&["backup", "shop", "--incremental", "--label", "increment"]);
    place.edit_shop(2);
    let damaged = place.shop();
    (place, good, damaged)
}

const MEND: [&str; 5] = ["restore", "shop", "--in-place", "--to", "full"];

/// The mends of a place, oldest first.
fn mends(place: &Place) -> Vec<Value> {
    let operations = place.json(&["operation", "list"]);
    let operations = operations.as_array().unwrap().iter();
    let mends = operations.filter(|operation| operation["kind"] == "mend");
    mends.cloned().collect()
}

/// The chain goes on: it takes another increment and restores to its points.
fn chain_goes_on(place: &Place, good: &[String; 3]) {
    place.edit_shop(3);
    place.ok(&["backup", "shop", "--incremental"]);
    place.ok(&["verify", "shop", "--live"]);
    let now = place.shop();
    place.drop_shop();
    place.ok(&["restore", "shop"]);
    assert_eq!(place.shop(), now);
    place.drop_shop();
    place.ok(&["restore", "shop", "--to", "full"]);
    assert_eq!(&place.shop(), good);
}

#[test]
fn what_chooses_rows_of_postgresql_is_refused_by_name() {
    let (place, _, damaged) = damaged_shop();
    for option in [
        ["--where", "true"],
        ["--keep-newer-than", "2026-01-01T00:00:00Z"],
    ] {
        let refused = place.fails(1, &[&MEND[..], &option].concat());
        assert!(
            refused.contains(option[0]) && refused.contains("are for PostgreSQL"),
            "{refused}"
        );
    }
    assert_eq!(place.shop(), damaged);
    assert_eq!(place.unfinished(), [""; 0]);
}

#[test]
fn a_mend_stopped_at_any_step_is_finished_by_the_next_process() {
    let (place, good, damaged) = damaged_shop();
    let refused = Cell::new(0);
    let points = at_every_point(&place, &MEND, |place, point| {
        let now = place.shop();
        assert!(
            now == good || now == damaged,
            "a mixture, stopped at step {point}"
        );
        if point.is_multiple_of(10)
            && let [operation] = place.unfinished().as_slice()
        {
            refused.set(refused.get() + u32::from(is_told_of(&place.copy(), operation)));
        }
        match place.unfinished().as_slice() {
            [] if mends(place).is_empty() => {
                place.ok(&MEND);
            }
            [] => {}
            [operation] => {
                place.ok(&["operation", "watch", operation]);
            }
            more => panic!("one operation at most: {more:?}"),
        }
        assert_eq!(place.shop(), good, "stopped at step {point}");
        for digest in place
            .json(&["table", "digest", "orders"])
            .as_array()
            .unwrap()
        {
            assert_eq!(digest["equal"], true, "stopped at step {point}: {digest}");
        }
        if point.is_multiple_of(8) {
            chain_goes_on(place, &good);
        }
    });
    assert!(points > 30, "only {points} persisted steps");
    assert!(refused.get() > 0);
}

/// Whether a writer is refused, who then learns of the operation and how far it is.
fn is_told_of(place: &Place, operation: &str) -> bool {
    let row = place.write("row.jsonl", "{\"id\":1,\"note\":\"late\"}\n");
    let output = place.run(&["table", "import", "orders", &row, "--format", "jsonl"]);
    let said = String::from_utf8(output.stderr).unwrap();
    let refused = !output.status.success();
    assert!(
        !refused || said.contains(&format!("operation {operation} is at ")),
        "{said}"
    );
    refused
}

#[test]
fn a_mend_that_stops_anywhere_is_cancelled_without_a_trace() {
    let (place, good, damaged) = damaged_shop();
    let backups = place.json(&["list", "shop"]).as_array().unwrap().len();
    at_every_point(&place, &MEND, |place, point| {
        let Some(operation) = place.unfinished().pop() else {
            return;
        };
        let cancelled = place.run(&["operation", "cancel", &operation]);
        if !cancelled.status.success() {
            // Too late: readers may have seen it.
            place.ok(&["operation", "watch", &operation]);
            assert_eq!(place.shop(), good, "stopped at step {point}");
            return;
        }
        assert_eq!(place.shop(), damaged, "stopped at step {point}");
        let left = place.json(&["list", "shop"]).as_array().unwrap().len();
        assert_eq!(left, backups, "stopped at step {point}");
        place.import(
            "orders",
            "upsert",
            "{\"id\":1,\"note\":\"writers go on\"}\n",
        );
        place.ok(&["backup", "shop", "--incremental"]);
        place.ok(&["verify", "shop", "--live"]);
    });
}

#[test]
fn a_mend_whose_repository_is_gone_is_abandoned_and_writers_are_let_in() {
    let (place, good, damaged) = damaged_shop();
    at_every_point(&place, &MEND, |place, point| {
        let Some(operation) = place.unfinished().pop() else {
            return;
        };
        if point % 3 != 0 {
            return;
        }
        let repository = place.path("repository");
        std::fs::rename(&repository, place.path("gone")).unwrap();
        let before = place.shop();
        place.ok(&["operation", "abandon", &operation]);
        let now = place.shop();
        assert!(now == good || now == damaged, "stopped at step {point}");
        assert!(before == damaged || now == good, "stopped at step {point}");
        assert!(place.unfinished().is_empty());
        place.import(
            "orders",
            "upsert",
            "{\"id\":1,\"note\":\"writers go on\"}\n",
        );
        for digest in place
            .json(&["table", "digest", "orders"])
            .as_array()
            .unwrap()
        {
            assert_eq!(digest["equal"], true, "stopped at step {point}: {digest}");
        }
        // A new repository takes a new chain.
        let refused = place.fails(1, &["backup", "shop"]);
        assert!(refused.contains("is no repository"), "{refused}");
        place.ok(&["backup", "shop", "--new-repository"]);
        place.ok(&["verify", "shop", "--live"]);
    });
}

#[test]
fn a_plan_is_saved_carried_out_and_refused_where_the_table_has_drifted() {
    let (place, good, damaged) = damaged_shop();
    let plan = place.path("plan.json");
    let plan = plan.to_str().unwrap();
    let preview = place.json(&[&MEND[..], &["--dry-run", "--plan", plan]].concat());
    assert_eq!(place.shop(), damaged);
    place.import("orders", "upsert", "{\"id\":77,\"note\":\"somebody\"}\n");
    let refused = place.run(&["restore", "--plan", plan]);
    assert_eq!(refused.status.code(), Some(3));
    let said = String::from_utf8(refused.stdout).unwrap();
    assert!(said.contains("orders: 77\n"), "{said}");
    assert!(mends(&place).is_empty());

    place.import("orders", "erase", "{\"id\":77}\n");
    let of_77 = damaged[0].lines().find(|line| line.contains("\"id\":77,"));
    place.import("orders", "upsert", &format!("{}\n", of_77.unwrap()));
    assert_eq!(place.shop(), damaged);
    let report = place.json(&["restore", "--plan", plan]);
    assert_eq!(place.shop(), good);
    for number in ["upserted", "erased"] {
        assert_eq!(report["planned"][number], preview["total"][number]);
        assert_eq!(report["total"][number], preview["total"][number]);
    }
    let changed = std::fs::read_to_string(plan)
        .unwrap()
        .replacen("full", "fall", 1);
    std::fs::write(plan, changed).unwrap();
    let said = place.fails(1, &["restore", "--plan", plan]);
    assert!(said.contains("changed since it was made"), "{said}");
}

#[test]
fn a_range_of_keys_is_mended_alone() {
    let (place, good, damaged) = damaged_shop();
    let range = ["--range", "orders:30..60"];
    let report = place.json(&[&MEND[..], &range].concat());
    assert_eq!(report["tables"].as_array().unwrap().len(), 1);
    let now = place.shop();
    let ids = |rows: &str, inside: bool| {
        let rows = rows
            .lines()
            .map(|line| serde_json::from_str::<Row>(line).unwrap());
        let id = |row: &Row| (30..60).contains(&row["id"].as_i64().unwrap());
        rows.filter(|row| id(row) == inside).collect::<Vec<_>>()
    };
    assert_eq!(ids(&now[0], true), ids(&good[0], true));
    assert_eq!(ids(&now[0], false), ids(&damaged[0], false));
    assert_eq!(now[2], damaged[2]);
    for (range, said) in [
        ("orders", "is not TABLE:FROM..TO"),
        ("orders:30", "a range is FROM..TO"),
        ("orders:60..30", "FROM comes first"),
        ("orders:x..", "is not a value of type Int64"),
    ] {
        let refused = place.fails(2, &[&MEND[..], &["--range", range]].concat());
        assert!(refused.contains(said), "{refused}");
    }
}

#[test]
fn writers_wait_for_a_paused_mend_and_are_told_its_name() {
    let (place, good, damaged) = damaged_shop();
    // Stopped in the middle: its process is gone, the tables are still its own.
    let stopped = place
        .command(&MEND)
        .env("MENDB_CRASH_AT", "12")
        .output()
        .unwrap();
    assert_eq!(stopped.status.code(), None);
    let operation = place.unfinished().remove(0);
    let file = place.write("late.jsonl", "{\"id\":1,\"note\":\"late\"}\n");
    let arguments = ["table", "import", "orders", &file, "--mode", "upsert"];
    let said = place.fails(1, &arguments);
    assert!(said.contains(&operation), "{said}");
    assert_eq!(place.shop(), damaged);
    place.ok(&["operation", "watch", &operation]);
    assert_eq!(place.shop(), good);
    place.ok(&arguments);
}

#[test]
fn the_flights_of_new_york_are_mended_to_each_backup_and_back() {
    let data = flights::data();
    let place = Place::new();
    let file = data.join("flights.csv");
    let create = ["--create", "--null", "NA", "--shards", "4"];
    let key = [
        "--key",
        "year,month,day,carrier,flight,origin,sched_dep_time",
    ];
    let index = ["--index", "by_carrier=carrier,month+dep_delay"];
    let import = ["table", "import", "flights", file.to_str().unwrap()];
    place.ok(&[&import[..], &create, &key, &index].concat());
    place.ok(&["collection", "create", "nyc", "--table", "flights"]);
    let all = flights(&place);
    let export = || {
        let table = ["table", "export", "flights", "--format", "csv"];
        let index = [&table[..], &["--index", "by_carrier"]].concat();
        (place.ok(&table), place.ok(&index))
    };
    let mend = |to: &str| place.json(&["restore", "nyc", "--in-place", "--to", to]);
    let mut states = Vec::new();
    let backup = |states: &mut Vec<_>, more: &[&str]| {
        let label = format!("b{}", states.len());
        place.ok(&[&["backup", "nyc", "--label", &label][..], more].concat());
        states.push(export());
    };
    backup(&mut states, &[]);

    // A bad update over one carrier, between two backups.
    let of_carrier = all.iter().filter(|row| row["carrier"] == "HA");
    let bad = of_carrier.map(|row| {
        let mut row = only(row, &[&KEY[..], &["dep_delay"]].concat());
        row["dep_delay"] = json!(-99);
        row
    });
    place.import("flights", "upsert", &lines(bad));
    backup(&mut states, &["--incremental"]);

    // After the last backup: a month of one carrier is erased, and a day imported again wrongly.
    let erased = all
        .iter()
        .filter(|row| row["month"] == 2 && row["carrier"] == "F9");
    place.import(
        "flights",
        "erase",
        &lines(erased.map(|row| only(row, &KEY))),
    );
    let day = |row: &&Row| row["month"] == 2 && row["day"] == 3;
    let wrong = all.iter().filter(day).map(|row| {
        let mut row = row.clone();
        row["distance"] = json!(1);
        row["tailnum"] = Value::Null;
        row
    });
    place.import("flights", "replace", &lines(wrong));
    let damaged = export();

    let mut last = Value::Null;
    for at in [1, 0] {
        let report = mend(&format!("b{at}"));
        assert!(export() == states[at], "mended to b{at}");
        assert!(report["total"]["upserted"].as_u64().unwrap() > 0);
        let again = mend(&format!("b{at}"));
        assert_eq!(
            (&again["total"]["upserted"], &again["total"]["erased"]),
            (&json!(0), &json!(0))
        );
        if at == 1 {
            // All that was damaged since is in one of the four shards.
            let ranges = report["ranges"].as_array().unwrap();
            let untouched = ranges.iter().filter(|range| range["rows"]["read"] == 0);
            assert_eq!((ranges.len(), untouched.count()), (4, 3), "{ranges:#?}");
            let id = report["operation_id"].as_str().unwrap();
            place.ok(&["undo", id]);
            assert!(export() == damaged, "undone");
        }
        last = report;
    }
    assert_eq!(last["state"], "done");

    // The chain takes another increment and restores to every point, old and new.
    place.import(
        "flights",
        "upsert",
        &lines(all.iter().skip(7).step_by(5000).cloned()),
    );
    backup(&mut states, &["--incremental"]);
    for (at, state) in states.iter().enumerate() {
        place.ok(&["table", "drop", "flights"]);
        place.ok(&["restore", "nyc", "--to", &format!("b{at}")]);
        assert!(export() == *state, "restored to b{at}");
    }
}
