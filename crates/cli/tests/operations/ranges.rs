//! Some keys of a table are mended: how they are named, and who is in the way of what comes back.

use serde_json::{Value, json};

use crate::crash::at_every_point;
use crate::program::Place;

/// Two people whose mail is unique; since the backup `one` the mail of the first went to the second.
fn moved_mail() -> Place {
    let place = Place::new();
    let create = ["table", "create", "t", "--key", "id"];
    let columns = ["--column", "id:Int64", "--column", "mail:Utf8"];
    let index = ["--unique-index", "by_mail=mail"];
    place.ok(&[&create[..], &columns, &index].concat());
    let people =
        "{\"id\":1,\"mail\":\"ann@example.org\"}\n{\"id\":2,\"mail\":\"bob@example.org\"}\n";
    place.import("t", "upsert", people);
    place.ok(&["collection", "create", "c", "--table", "t"]);
    place.ok(&["backup", "c", "--label", "one"]);
    place.import("t", "upsert", "{\"id\":1,\"mail\":\"new@example.org\"}\n");
    place.import("t", "upsert", "{\"id\":2,\"mail\":\"ann@example.org\"}\n");
    place
}

const MEND: [&str; 7] = [
    "restore",
    "c",
    "--in-place",
    "--to",
    "one",
    "--range",
    "t:1..2",
];

fn people(place: &Place) -> Vec<Value> {
    let rows = place.ok(&["table", "export", "t", "--format", "jsonl"]);
    rows.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The mails by their index, which every row is in once.
fn mails(place: &Place) -> Vec<String> {
    let index = ["table", "export", "t", "--index", "by_mail"];
    let rows = place.ok(&[&index[..], &["--format", "jsonl"]].concat());
    let mail = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        row["mail"].as_str().unwrap().to_owned()
    };
    let mails: Vec<String> = rows.lines().map(mail).collect();
    assert!(mails.windows(2).all(|pair| pair[0] != pair[1]), "{mails:?}");
    mails
}

/// Runs a command that must fail with 1; what it printed and said, both as JSON.
fn refused(place: &Place, arguments: &[&str]) -> (Value, Value) {
    let output = place.run(&[arguments, &["--output", "json"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let printed = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    let said = String::from_utf8(output.stderr).unwrap();
    let failure = said.lines().find(|line| line.starts_with('{'));
    let failure = failure.map(|line| serde_json::from_str(line).unwrap());
    (printed, failure.unwrap_or(Value::String(said)))
}

#[test]
fn a_range_whose_unique_value_another_row_took_is_refused_and_both_rows_are_named() {
    let place = moved_mail();
    let before = people(&place);
    let named = "t: 1 comes back with by_mail = ann@example.org, which row 2 holds";
    let said = place.fails(1, &MEND);
    assert!(said.contains(named), "{said}");
    assert!(said.contains("--include-conflicting"), "{said}");

    let dry_run = [&MEND[..], &["--dry-run"]].concat();
    let output = place.run(&dry_run);
    assert_eq!(output.status.code(), Some(1));
    let plan = String::from_utf8(output.stdout).unwrap();
    assert!(plan.contains(named), "{plan}");
    assert!(
        plan.contains("t: only the keys from 1 before 2\n"),
        "{plan}"
    );

    let (plan, _) = refused(&place, &dry_run);
    let conflict = &plan["conflicts"]["rows"][0];
    assert_eq!(plan["conflicts"]["count"], 1);
    for (field, value) in [
        ("table", "t"),
        ("index", "by_mail"),
        ("value", "ann@example.org"),
        ("row", "1"),
        ("holder", "2"),
        ("fate", "stays"),
    ] {
        assert_eq!(conflict[field], value, "{conflict}");
    }
    // A plan that cannot be carried out is not saved.
    let file = place.path("plan.json");
    place.fails(
        1,
        &[&MEND[..], &["--plan", file.to_str().unwrap()]].concat(),
    );
    assert!(!file.exists());

    assert_eq!(people(&place), before);
    assert_eq!(place.json(&["list", "c"]).as_array().unwrap().len(), 1);
    let operations = place.json(&["operation", "list"]);
    assert_eq!(operations.as_array().unwrap().len(), 1, "{operations}");
    // Nothing is locked.
    place.import("t", "upsert", "{\"id\":5,\"mail\":\"eve@example.org\"}\n");
}

#[test]
fn the_row_in_the_way_is_taken_along_and_comes_back_with_an_undo() {
    let place = moved_mail();
    let before = people(&place);
    let include = [&MEND[..], &["--include-conflicting"]].concat();
    let file = place.path("plan.json");
    let plan = place.json(&[&include[..], &["--plan", file.to_str().unwrap()]].concat());
    assert_eq!(plan["conflicts"]["rows"][0]["fate"], "brought_back");
    let report = place.json(&["restore", "--plan", file.to_str().unwrap()]);
    assert_eq!(report["tables"][0]["taken_along"], 1);
    assert_eq!(report["total"]["upserted"], 2);
    let backed_up = [
        json!({"id": 1, "mail": "ann@example.org"}),
        json!({"id": 2, "mail": "bob@example.org"}),
    ];
    assert_eq!(people(&place), backed_up);
    assert_eq!(mails(&place), ["ann@example.org", "bob@example.org"]);

    let id = report["operation_id"].as_str().unwrap();
    let plan = place.json(&["undo", id, "--dry-run"]);
    assert_eq!(plan["total"]["upserted"], 2);
    place.ok(&["undo", id]);
    assert_eq!(people(&place), before);
    assert_eq!(mails(&place), ["ann@example.org", "new@example.org"]);
    for digest in place.json(&["table", "digest", "t"]).as_array().unwrap() {
        assert_eq!(digest["equal"], true, "{digest}");
    }
}

#[test]
fn a_newer_row_is_erased_only_where_that_is_said() {
    let place = moved_mail();
    // The value of 1 goes on to a row that the backup does not have.
    place.import("t", "upsert", "{\"id\":2,\"mail\":\"bob@example.org\"}\n");
    place.import("t", "upsert", "{\"id\":7,\"mail\":\"ann@example.org\"}\n");
    let before = people(&place);
    let include = [&MEND[..], &["--include-conflicting"]].concat();
    let said = place.fails(1, &include);
    assert!(said.contains("which row 7 holds"), "{said}");
    assert!(said.contains("--erase-newer"), "{said}");
    let (plan, _) = refused(&place, &[&include[..], &["--dry-run"]].concat());
    assert_eq!(plan["conflicts"]["rows"][0]["fate"], "erased");
    assert_eq!(people(&place), before);
    let said = place.fails(2, &[&MEND[..], &["--erase-newer"]].concat());
    assert!(said.contains("--include-conflicting"), "{said}");

    let erase = [&include[..], &["--erase-newer"]].concat();
    let id = place.json(&erase)["operation_id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(mails(&place), ["ann@example.org", "bob@example.org"]);
    // Somebody takes the value that the undo would bring back to 1.
    place.import("t", "upsert", "{\"id\":9,\"mail\":\"new@example.org\"}\n");
    let said = place.fails(1, &["undo", &id]);
    assert!(said.contains("which row 9 holds"), "{said}");
    place.fails(1, &["undo", &id, "--include-conflicting"]);
    place.ok(&["undo", &id, "--include-conflicting", "--erase-newer"]);
    assert_eq!(people(&place), before);
}

#[test]
fn a_mend_with_rows_taken_along_that_stops_anywhere_is_finished_or_was_never_begun() {
    let place = moved_mail();
    // 2 is taken along by 1, and 7, which the backup lacks, by 2.
    place.import("t", "upsert", "{\"id\":7,\"mail\":\"bob@example.org\"}\n");
    let before = people(&place);
    let erase = ["--include-conflicting", "--erase-newer"];
    let after = [
        json!({"id": 1, "mail": "ann@example.org"}),
        json!({"id": 2, "mail": "bob@example.org"}),
    ];
    let points = at_every_point(&place, &[&MEND[..], &erase].concat(), |place, point| {
        if point % 3 != 0 {
            return;
        }
        let now = people(place);
        assert!(
            now == before || now == after,
            "stopped at step {point}: {now:?}"
        );
        match place.unfinished().as_slice() {
            [] => return,
            [operation] => place.ok(&["operation", "watch", operation]),
            more => panic!("one operation at most: {more:?}"),
        };
        assert_eq!(people(place), after, "stopped at step {point}");
        assert_eq!(mails(place), ["ann@example.org", "bob@example.org"]);
    });
    assert!(points > 25, "only {points} persisted steps");
}

/// Texts that have a meaning in the notation of keys, with numbers; each key twice in two columns.
const TEXTS: [&str; 8] = ["", "NULL", "a", "a..b", "a,b", "\"q\"", ".", "two words"];

fn texts() -> Place {
    let place = Place::new();
    let create = ["table", "create", "t", "--key", "a,b"];
    let columns = [
        "--column", "a:Utf8", "--column", "b:Utf8", "--column", "n:Int64",
    ];
    place.ok(&[&create[..], &columns].concat());
    let row = |a: &str, b: Option<&str>| format!("{}\n", json!({ "a": a, "b": b, "n": 1 }));
    let mut lines = String::new();
    for a in TEXTS {
        lines += &row(a, None);
        lines.extend(TEXTS.map(|b| row(a, Some(b))));
    }
    place.import("t", "upsert", &lines);
    place.ok(&["collection", "create", "c", "--table", "t"]);
    place.ok(&["backup", "c", "--label", "one"]);
    place.import("t", "upsert", &lines.replace("\"n\":1", "\"n\":2"));
    place
}

#[test]
fn a_range_names_every_key_in_every_column() {
    let place = texts();
    let count = |n: i64| {
        let rows = people(&place);
        rows.into_iter()
            .filter(|row| row["n"] == n)
            .collect::<Vec<_>>()
    };
    for (range, keys, mended) in [
        (
            "\"a..b\"..\"a..b\",\"\"",
            "from \"a..b\" before \"a..b\",\"\"",
            1,
        ),
        (
            "\"a,b\",\"a,b\"..\"a,b\",\"a..b\"",
            "from \"a,b\",\"a,b\" before \"a,b\",\"a..b\"",
            1,
        ),
        ("a,NULL..a,\"\"", "from a,NULL before a,\"\"", 1),
        ("\"\"..\"\"\"q\"\"\"", "from \"\" before \"\"\"q\"\"\"", 9),
    ] {
        let range = format!("t:{range}");
        let mend = [
            "restore",
            "c",
            "--in-place",
            "--to",
            "one",
            "--range",
            &range,
        ];
        let plan = place.json(&[&mend[..], &["--dry-run"]].concat());
        assert_eq!(plan["ranges"]["t"], keys, "{range}");
        assert_eq!(plan["total"]["upserted"], mended, "{range}");
        let output = place.run(&mend);
        assert!(output.status.success(), "{range}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.contains(&format!("of t only the keys {keys}\n")),
            "{said}"
        );
        assert_eq!(count(1).len(), mended, "{range}");
        let id = place.json(&["operation", "list"]);
        let id = id.as_array().unwrap().last().unwrap()["operation_id"].clone();
        place.ok(&["undo", id.as_str().unwrap()]);
        assert_eq!(count(1), [] as [Value; 0], "{range}");
    }
}

#[test]
fn a_range_is_rounded_and_in_a_time_zone_when_asked_for() {
    let place = Place::new();
    let create = ["table", "create", "t", "--key", "at"];
    place.ok(&[&create[..], &["--column", "at:Datetime"]].concat());
    place.import("t", "upsert", "{\"at\":\"2020-07-01T10:00:00Z\"}\n");
    place.ok(&["collection", "create", "c", "--table", "t"]);
    place.ok(&["backup", "c"]);
    let mend = ["restore", "c", "--in-place", "--dry-run"];
    let range = [
        "--range",
        "t:2020-07-01 12:00:00.4..2020-07-01 13:00:00.6",
        "--timezone",
        "+02:00",
    ];
    let said = place.fails(2, &[&mend[..], &range].concat());
    assert!(said.contains("--round takes the nearest value"), "{said}");
    let plan = place.ok(&[&mend[..], &range, &["--round"]].concat());
    let keys = "t: only the keys from 2020-07-01T10:00:00Z before 2020-07-01T11:00:01Z\n";
    assert!(plan.contains(keys), "{plan}");
    let said = place.fails(2, &[&mend[..], &["--round"]].concat());
    assert!(said.contains("--round is for --range"), "{said}");
}

#[test]
fn a_range_that_could_mean_two_things_is_refused() {
    let place = texts();
    for (range, why) in [
        ("t:a..b..c", "two dots end a key"),
        ("t:a...b", "three dots"),
        ("t:a,b,c..", "more values than the key has columns"),
        ("t:a,..", "\"\" is the empty text, NULL is no value"),
        ("t:\"a..", "a quote is not closed"),
        ("t:b..a", "FROM comes first"),
    ] {
        let mend = [
            "restore",
            "c",
            "--in-place",
            "--to",
            "one",
            "--range",
            range,
        ];
        let said = place.fails(2, &mend);
        assert!(said.contains(why), "{range}: {said}");
    }
}

#[test]
fn shards_are_cut_at_every_key_and_named_as_they_are_written() {
    let place = texts();
    let keys = [
        "\"a,b\",NULL",
        "\"a..b\",\"a,b\"",
        "NULL",
        "\"\"\"q\"\"\",.",
    ];
    for (at, key) in keys.iter().enumerate() {
        let report = place.json(&["table", "split", "t", "--at", key]);
        assert_eq!(report["shards"], at + 2, "{key}");
    }
    let described = place.json(&["table", "describe", "t"]);
    let shards = described["shards"].as_array().unwrap();
    for shard in shards {
        if let Some(from) = shard["from"].as_str() {
            // What is printed names the same border.
            place.ok(&["table", "merge", "t", "--at", from]);
        }
    }
    let said = place.fails(2, &["table", "split", "t", "--at", "a,b,c"]);
    assert!(
        said.contains("more values than the key has columns"),
        "{said}"
    );
}

/// A table whose backup `one` knows no unique index, and that was made anew with one.
fn index_of_now(then: &str, now: &str) -> Place {
    let place = Place::new();
    let create = ["table", "create", "t", "--key", "id"];
    let columns = ["--column", "id:Int64", "--column", "mail:Utf8"];
    place.ok(&[&create[..], &columns].concat());
    place.import("t", "upsert", then);
    place.ok(&["collection", "create", "c", "--table", "t"]);
    place.ok(&["backup", "c", "--label", "one"]);
    place.ok(&["table", "drop", "t"]);
    let index = ["--unique-index", "by_mail=mail"];
    place.ok(&[&create[..], &columns, &index].concat());
    place.import("t", "upsert", now);
    place
}

#[test]
fn a_unique_index_of_now_refuses_a_mend_only_where_rows_of_the_backup_break_it() {
    let ann = "{\"id\":1,\"mail\":\"ann@example.org\"}\n";
    let bob = "{\"id\":2,\"mail\":\"bob@example.org\"}\n";
    let second = ann.replace('1', "2");
    let third = ann.replace('1', "3");
    let mend = &MEND[..5];

    let place = index_of_now(&format!("{ann}{bob}"), &second);
    place.ok(mend);
    assert_eq!(mails(&place), ["ann@example.org", "bob@example.org"]);

    // Two rows come back, or one beside one that stays.
    for (now, row, holder) in [(bob, "3", "1"), (ann, "3", "1"), (third.as_str(), "1", "3")] {
        let place = index_of_now(&format!("{ann}{third}"), now);
        let before = people(&place);
        let named = format!(
            "t: {row} comes back with by_mail = ann@example.org, which row {holder} has in the backup too"
        );
        let said = place.fails(1, mend);
        assert!(
            said.contains("the backup has rows that share what unique indexes allow once"),
            "{said}"
        );
        assert!(said.contains(&named), "{said}");
        let output = place.run(&[mend, &["--dry-run"]].concat());
        assert_eq!(output.status.code(), Some(1));
        let plan = String::from_utf8(output.stdout).unwrap();
        assert!(plan.contains(&named), "{plan}");
        let (plan, failure) = refused(&place, &[mend, &["--dry-run"]].concat());
        for found in [&plan, &failure["error"]] {
            assert_eq!(
                found["conflicts"]["rows"][0]["fate"], "in_backup",
                "{found}"
            );
        }
        assert_eq!(people(&place), before);
    }
}
