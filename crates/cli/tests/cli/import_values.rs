//! What becomes of values: `mendb table import` keeps them or refuses them.

use crate::mendb::Mendb;

const COLUMNS: &str = "--column id:Int64 --column d:Date --column s:Datetime --column u:Timestamp --column b:Double --column f:Float --column j:Json";

fn with_table() -> Mendb {
    let mendb = Mendb::new();
    mendb.ok(&format!("table create t {COLUMNS} --key id"));
    mendb
}

#[test]
fn what_a_type_does_not_hold_is_refused_with_its_line_in_every_format() {
    let mendb = with_table();
    for (column, value, why) in [
        (
            "d",
            "2020-01-01 23:30:00",
            "it has a time of day or an offset",
        ),
        (
            "d",
            "2020-01-01T00:00:00-05:00",
            "it has a time of day or an offset",
        ),
        (
            "s",
            "2020-01-01T00:00:00.999999Z",
            "it has more digits than the type holds",
        ),
        (
            "u",
            "2020-01-01T00:00:00.123456789Z",
            "it has more digits than the type holds",
        ),
        ("b", "-1e400", "it is out of range"),
        ("f", "1e39", "it is out of range"),
        ("f", "1e-50", "it is too close to zero"),
        ("id", "1.5", "it has more digits than the type holds"),
    ] {
        let other = if column == "id" { "d" } else { "id" };
        mendb.write("t.csv", &format!("{column},{other}\n\n\"{value}\",\n"));
        mendb.write(
            "t.jsonl",
            &format!("\n\n{{\"{column}\":\"{value}\",\"{other}\":null}}\n"),
        );
        for file in ["t.csv", "t.jsonl"] {
            let stderr = mendb.fails(1, &format!("table import t {file}"));
            let type_of = |column| match column {
                "d" => "Date",
                "s" => "Datetime",
                "u" => "Timestamp",
                "b" => "Double",
                "f" => "Float",
                _ => "Int64",
            };
            let expected = format!(
                "error: {file} line 3, column {column}: {value:?} is not a value of type {}: {why}\n",
                type_of(column)
            );
            assert!(stderr.starts_with(&expected), "{stderr}");
            assert!(
                stderr.contains("--round") != why.contains("range"),
                "{stderr}"
            );
        }
    }
    mendb.write("erase.csv", "id,d\n1.5,\n");
    let stderr = mendb.fails(1, "table import t erase.csv --mode erase");
    assert!(
        stderr.starts_with("error: erase.csv line 2, column id: \"1.5\""),
        "{stderr}"
    );
    assert_eq!(mendb.ok("table export t"), "id,d,s,u,b,f,j\n");
}

#[test]
fn rounding_and_zones_are_taken_when_asked_for() {
    let mendb = with_table();
    mendb.write(
        "t.csv",
        "id,d,s,u,f\n1,2020-01-01 23:30:00,2020-01-01T00:00:00.999999Z,2019-12-31T23:59:59.9999999Z,1e-50\n",
    );
    mendb.ok("table import t t.csv --round");
    mendb.write(
        "z.csv",
        "id,s,u\n2,2020-07-01 12:00:00,2020-07-01T12:00:00Z\n",
    );
    mendb.ok("table import t z.csv --timezone +02:00");
    assert_eq!(
        mendb.ok("table export t"),
        "id,d,s,u,b,f,j\n1,2020-01-01,2020-01-01T00:00:01Z,2020-01-01T00:00:00Z,,0,\n\
         2,,2020-07-01T10:00:00Z,2020-07-01T12:00:00Z,,,\n"
    );
    let stderr = mendb.fails(2, "table import t z.csv --timezone Mars/Olympus");
    assert!(
        stderr.contains("write an offset such as +02:00"),
        "{stderr}"
    );
}

#[test]
fn inference_keeps_every_value_and_says_why() {
    let mendb = Mendb::new();
    mendb.write(
        "a.csv",
        "id,rate,amount,code,never,zip,serial\n\
         1,0.1234567890123456789,999999999999999999.99,1E5,9999-12-31T23:59:59+02:00,007,18446744073709551615\n\
         2,3.14159265358979323846,0.10,12E3,2020-01-01T00:00:00Z,12,1\n",
    );
    let said = mendb.ok("table import t a.csv --create --key id");
    let learned = said.split_once("\n\n").unwrap().1;
    assert_eq!(
        learned,
        "column  type            because\n\
         id      Int64           whole numbers\n\
         rate    Decimal(38,20)  \"0.1234567890123456789\" (line 2) has more digits than a Double keeps\n\
         amount  Decimal(38,2)   \"999999999999999999.99\" (line 2) has more digits than a Double keeps\n\
         code    Utf8            \"1E5\" (line 2) may be a code: no value has a fraction\n\
         never   Utf8            \"9999-12-31T23:59:59+02:00\" (line 2) has an offset, which a time would lose\n\
         zip     Utf8            \"007\" (line 2) has a leading zero\n\
         serial  Uint64          \"18446744073709551615\" (line 2) is beyond an Int64\n"
    );
    assert_eq!(
        mendb
            .ok("table export t")
            .replace("0.12345678901234567890", "0.1234567890123456789"),
        mendb.read("a.csv")
    );
    mendb.ok("table drop t");
    let imported = mendb.json("table import t a.csv --create --key id");
    assert_eq!(imported["columns"][3]["name"], "code");
    assert_eq!(imported["columns"][3]["type"], "Utf8");
    assert!(
        imported["columns"][3]["because"]
            .as_str()
            .unwrap()
            .contains("code")
    );
}

#[test]
fn json_keeps_what_stands_in_the_file() {
    let mendb = Mendb::new();
    let rows = "{\"id\":1,\"a\":{\"x\":1},\"b\":1}\n\
                {\"id\":2,\"a\":\"5\",\"b\":\"1\"}\n\
                {\"id\":3,\"a\":\"true\",\"b\":true}\n\
                {\"id\":4,\"a\":\"{\\\"k\\\":1}\",\"b\":null}\n\
                {\"id\":5,\"a\":\"plain\",\"b\":1.50}\n\
                {\"id\":6,\"a\":\"null\",\"b\":\"null\"}\n";
    mendb.write("in.jsonl", rows);
    mendb.ok("table import t in.jsonl --create --key id");
    assert_eq!(mendb.ok("table export t --format jsonl"), rows);
    for format in ["csv", "jsonl", "parquet"] {
        mendb.ok(&format!("table export t -o out.{format}"));
        mendb.ok(&format!("table import {format} out.{format} --create"));
        assert_eq!(
            mendb.ok(&format!("table export {format} --format jsonl")),
            rows,
            "{format}"
        );
    }
    mendb.write("bad.csv", "id,a\n7,plain\n");
    let stderr = mendb.fails(1, "table import t bad.csv");
    assert!(
        stderr.starts_with(
            "error: bad.csv line 2, column a: \"plain\" is not a value of type Json: it is no JSON\n"
        ),
        "{stderr}"
    );
}
