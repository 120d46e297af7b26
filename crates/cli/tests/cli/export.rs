//! `mendb table export` and `digest`.

use std::fs;

use crate::mendb::Mendb;

const SCHEMA: &str = "
columns:
- {name: k, type: Utf8}
- {name: flag, type: Bool}
- {name: small, type: Int8}
- {name: big, type: Uint64}
- {name: ratio, type: Double}
- {name: bytes, type: String}
- {name: doc, type: Json}
- {name: day, type: Date}
- {name: at, type: Datetime}
- {name: exact, type: Timestamp}
- {name: money, type: \"Decimal(38,4)\"}
- {name: id, type: Uuid}
key: [k]
indexes:
- {name: by_day, columns: [day, big], cover: [doc]}
";

const ROWS: &str = r#"{"k":"","flag":true,"small":-128,"big":18446744073709551615,"ratio":0.1,"bytes":"\\x00ff","doc":{"b":[1.50, null], "a":1},"day":"2013-01-31","at":"2013-01-31T05:00:00Z","exact":"2013-01-31T05:00:00.000001Z","money":"-1234567890123456789012345678901234.5678","id":"67e55044-10b1-426f-9247-bb680e5fe0c8"}
{"k":"NaN","flag":false,"small":127,"big":0,"ratio":"NaN","bytes":"\\x","doc":[],"day":"0001-01-01","at":"9999-12-31T23:59:59Z","exact":"1969-12-31T23:59:59.999999Z","money":"0.0000","id":"00000000-0000-0000-0000-000000000000"}
{"k":"a,\"b\"\nc","flag":null,"small":null,"big":null,"ratio":-1.5e300,"bytes":null,"doc":"text","day":null,"at":null,"exact":null,"money":null,"id":null}
"#;

fn filled() -> Mendb {
    let mendb = Mendb::new();
    mendb.write("schema.yml", SCHEMA);
    mendb.write("rows.jsonl", ROWS);
    mendb.ok("table import t rows.jsonl --create --schema schema.yml");
    mendb
}

#[test]
fn rows_come_out_in_key_order_and_a_stable_form() {
    let mendb = filled();
    let sorted: String = ROWS.lines().map(|line| format!("{line}\n")).collect();
    assert_eq!(mendb.ok("table export t --format jsonl"), sorted);
    assert_eq!(
        mendb.ok("table export t --index by_day"),
        "day,big,k,doc\n,,\"a,\"\"b\"\"\nc\",\"\"\"text\"\"\"\n0001-01-01,0,NaN,[]\n\
         2013-01-31,18446744073709551615,\"\",\"{\"\"b\"\":[1.50, null], \"\"a\"\":1}\"\n"
    );
}

#[test]
fn what_is_exported_and_imported_has_the_same_digest() {
    let mendb = filled();
    let digest = |table: &str| {
        let checked = mendb.json(&format!("table digest {table}"));
        let all = checked.as_array().unwrap().clone();
        assert_eq!(all.len(), 2, "the table and its index");
        assert!(all.iter().all(|checked| checked["equal"] == true));
        all.iter()
            .map(|checked| checked["digest"].clone())
            .collect::<Vec<_>>()
    };
    let original = digest("t");
    for format in ["csv", "jsonl", "parquet"] {
        let file = format!("t.{format}");
        mendb.ok(&format!("table export t -o {file}"));
        let copy = format!("from_{format}");
        mendb.ok(&format!(
            "table import {copy} {file} --create --schema schema.yml"
        ));
        assert_eq!(digest(&copy), original, "{format}");
        mendb.ok(&format!("table export {copy} -o again.{format}"));
        assert_eq!(
            fs::read(mendb.path().join(&file)).unwrap(),
            fs::read(mendb.path().join(format!("again.{format}"))).unwrap(),
            "{format}"
        );
    }
    mendb.ok("table import learned t.parquet --create --key k --index by_day=day,big+doc");
    assert_eq!(digest("learned"), original);
    // What the table is came with its rows.
    mendb.ok("table export t -o marked.csv --null none");
    for file in ["t.csv", "t.jsonl", "t.parquet", "marked.csv"] {
        let copy = format!("with_{}", file.replace('.', "_"));
        mendb.ok(&format!("table import {copy} {file} --create"));
        assert_eq!(digest(&copy), original, "{file}");
        let described =
            |table: &str| mendb.json(&format!("table describe {table}"))["schema"].clone();
        assert_eq!(described(&copy), described("t"), "{file}");
    }
}

#[test]
fn a_file_appears_when_it_is_complete() {
    let mendb = filled();
    let report = mendb.json("table export t -o t.csv");
    assert_eq!(report["rows"], 3);
    assert_eq!(
        report["bytes"],
        fs::metadata(mendb.path().join("t.csv")).unwrap().len()
    );
    mendb.write("kept.csv", "what was there");
    let stderr = mendb.fails(1, "table export nope -o kept.csv");
    assert!(stderr.contains("table nope does not exist"), "{stderr}");
    assert_eq!(mendb.read("kept.csv"), "what was there");
    assert_eq!(
        mendb
            .fails(1, "table export t -o no/such/t.csv")
            .lines()
            .next(),
        Some("error: cannot write no/such/t.csv")
    );
    let names: Vec<_> = fs::read_dir(mendb.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(names.is_empty(), "left behind: {names:?}");
}

#[test]
fn an_index_that_is_not_there_is_named() {
    let mendb = filled();
    assert_eq!(
        mendb.fails(1, "table export t --index by_night"),
        "error: table t has no index by_night\nhint: its indexes are by_day\n"
    );
}

#[test]
fn an_empty_table_is_a_file_with_no_rows() {
    let mendb = filled();
    mendb.ok("table create empty --schema schema.yml");
    assert_eq!(mendb.ok("table export empty --format jsonl"), "");
    assert_eq!(mendb.ok("table export empty").lines().count(), 1);
    mendb.ok("table export empty -o empty.parquet");
    let imported = mendb.json("table import copy empty.parquet --create --schema schema.yml");
    assert_eq!(imported["rows"], 0);
}
