//! What differs between two moments of a shop, as it is printed for people and for scripts.

use serde_json::{Value, json};

use crate::program::Place;

/// A shop with a full backup `monday`, an increment `tuesday`, and something done since.
fn shop() -> Place {
    let place = Place::new();
    place.fill_shop();
    place.ok(&["backup", "shop", "--label", "monday"]);
    place.import(
        "orders",
        "upsert",
        "{\"id\":5,\"price\":99}\n{\"id\":130,\"customer\":\"c\\\"01\\\"\",\"price\":3}\n",
    );
    place.import("orders", "erase", "{\"id\":7}\n");
    place.ok(&["backup", "shop", "--incremental", "--label", "tuesday"]);
    place.import("orders", "upsert", "{\"id\":5,\"note\":\"late\"}\n");
    place.import("customers", "erase", "{\"name\":\"c03\"}\n");
    place
}

/// What a command prints that finds a difference.
fn differs(place: &Place, arguments: &[&str]) -> (String, String) {
    let output = place.run(arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{arguments:?}\n{stderr}");
    (String::from_utf8(output.stdout).unwrap(), stderr)
}

fn ids(place: &Place) -> [String; 2] {
    let backups = place.json(&["list"]);
    [0, 1].map(|at: usize| backups[at]["backup_id"].as_str().unwrap().to_owned())
}

#[test]
fn people_read_counts_and_rows_with_what_was_before_and_after() {
    let place = shop();
    let [monday, tuesday] = ids(&place);
    let (text, _) = differs(&place, &["diff", "monday", "tuesday"]);
    assert_eq!(
        text,
        format!(
            "\
{monday} -> {tuesday}
table      rows before  after  added  changed  removed  result
orders             120    120      1        1        1  different
customers           20     20      0        0        0  equal
"
        )
    );
    let (text, _) = differs(&place, &["diff", "monday", "tuesday", "--rows"]);
    let rows: Vec<&str> = text.lines().take(4).collect();
    assert_eq!(
        rows,
        [
            "~ orders id=5: price 15 -> 99",
            "- orders id=7: customer null, price 21, note \"first\"",
            "+ orders id=130: customer \"c\\\"01\\\"\", price 3, note null",
            "",
        ]
    );
    // Of a collection the newest backup, and now without a second.
    let (text, _) = differs(&place, &["diff", "shop", "--rows"]);
    let rows: Vec<&str> = text.lines().take(2).collect();
    assert_eq!(
        rows,
        [
            "~ orders id=5: note \"first\" -> \"late\"",
            "- customers name=\"c03\": balance 30",
        ]
    );
    assert!(text.contains(&format!("{tuesday} -> live\n")), "{text}");
}

#[test]
fn scripts_read_an_object_a_row_and_the_counts_as_json() {
    let place = shop();
    let (lines, counts) = differs(
        &place,
        &[
            "diff",
            &ids(&place)[0],
            "live",
            "--rows",
            "--output",
            "json",
        ],
    );
    let rows: Vec<Value> = (lines.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        rows,
        [
            json!({"table": "orders", "key": {"id": 5}, "change": "changed",
                "before": {"customer": "c05", "price": 15, "note": "first"},
                "after": {"customer": "c05", "price": 99, "note": "late"}}),
            json!({"table": "orders", "key": {"id": 7}, "change": "removed",
                "before": {"customer": null, "price": 21, "note": "first"}, "after": null}),
            json!({"table": "orders", "key": {"id": 130}, "change": "added",
                "before": null, "after": {"customer": "c\"01\"", "price": 3, "note": null}}),
            json!({"table": "customers", "key": {"name": "c03"}, "change": "removed",
                "before": {"balance": 30}, "after": null}),
        ]
    );
    assert!(
        counts.contains("orders") && counts.contains("different"),
        "{counts}"
    );
    let (report, _) = differs(&place, &["diff", "monday", "--output", "json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["after"], Value::Null);
    let orders = &report["tables"][0];
    assert_eq!(
        orders["rows"],
        json!({"added": 1, "changed": 1, "removed": 1})
    );
    assert_eq!(orders["road"]["by"], "changes");
}

#[test]
fn few_rows_can_be_asked_for_and_some_tables() {
    let place = shop();
    let arguments = ["diff", "monday", "--rows", "--limit", "2"];
    let (text, more) = differs(&place, &arguments);
    assert_eq!(text.lines().position(str::is_empty), Some(2), "{text}");
    assert!(more.contains("2 rows more differ than --limit"), "{more}");
    let (text, _) = differs(&place, &["diff", "monday", "--tables", "cust*"]);
    assert!(
        !text.contains("orders") && text.contains("customers"),
        "{text}"
    );
    let refusal = place.fails(2, &["diff", "monday", "--limit", "2"]);
    assert!(refusal.contains("--rows"), "{refusal}");
}

#[test]
fn equal_states_end_with_zero_and_tables_and_schemas_are_named() {
    let place = shop();
    place.ok(&["diff", "tuesday", "tuesday"]);
    place.ok(&["diff", "monday", "shop", "--tables", "customers", "--rows"]);
    let text = place.ok(&["diff", "tuesday", "shop/tuesday"]);
    assert!(
        text.contains("equal") && !text.contains("different"),
        "{text}"
    );

    place.ok(&["table", "drop", "customers"]);
    place.ok(&["table", "drop", "orders"]);
    let anew = place.write("anew.jsonl", "{\"number\":1}\n");
    let create = ["--create", "--key", "number"];
    place.ok(&[&["table", "import", "orders", &anew][..], &create].concat());
    let (text, _) = differs(&place, &["diff", "tuesday"]);
    assert!(text.contains("only in the first"), "{text}");
    assert!(text.contains("another schema"), "{text}");
    assert!(
        text.contains("orders: the key is (number), it was (id)\n"),
        "{text}"
    );
    assert!(text.contains("orders: index by_price is gone\n"), "{text}");
}

#[test]
fn another_chain_is_compared_by_digests_and_says_so() {
    let place = shop();
    place.ok(&["backup", "shop", "--label", "wednesday"]);
    let (text, why) = differs(&place, &["diff", "monday", "wednesday", "--rows"]);
    assert!(text.starts_with("~ orders id=5: price 15 -> 99, note \"first\" -> \"late\"\n"));
    assert!(why.contains("backups of different chains"), "{why}");
    place.ok(&["diff", "wednesday"]);
}

#[test]
fn what_cannot_be_compared_is_said_with_what_to_do() {
    let place = shop();
    let refusal = place.fails(1, &["diff", "sunday"]);
    assert!(
        refusal.contains("no backup sunday") && refusal.contains("mendb list"),
        "{refusal}"
    );
    let refusal = place.fails(1, &["diff", "monday", "sunday"]);
    assert!(refusal.contains("no backup sunday"), "{refusal}");
    let refusal = place.fails(1, &["diff", "monday", "--tables", "flights"]);
    assert!(
        refusal.contains("nothing fits --tables flights") && refusal.contains("mendb show"),
        "{refusal}"
    );
    let server = [
        "diff",
        "monday",
        "--target",
        "clickhouse://user@localhost:8123/",
    ];
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_mendb"))
        .args(server)
        .current_dir(place.path("."))
        .output()
        .unwrap();
    let refusal = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{refusal}");
    assert!(refusal.contains("--in-place --dry-run"), "{refusal}");
}
