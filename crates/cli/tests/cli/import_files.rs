//! The files that `mendb table import` reads: written by others, in ways of their own.

use std::fs;
use std::io::Write;
use std::process::Command;

use crate::mendb::Mendb;

#[test]
fn a_byte_order_mark_is_no_part_of_a_header() {
    let mendb = Mendb::new();
    mendb.ok("table create t --column id:Int64 --column name:Utf8 --key id");
    mendb.write("excel.csv", "\u{feff}\"id\",\"name\"\r\n\"1\",\"a\"\r\n");
    mendb.ok("table import t excel.csv");
    mendb.ok("table import u excel.csv --create --key id");
    mendb.write("mark.jsonl", "\u{feff}{\"id\":1,\"name\":\"a\"}\n");
    mendb.ok("table import v mark.jsonl --create --key id");
    for table in ["t", "u", "v"] {
        assert_eq!(mendb.ok(&format!("table export {table}")), "id,name\n1,a\n");
    }
}

#[test]
fn lines_may_end_with_cr() {
    let mendb = Mendb::new();
    mendb.write("mac.csv", "id,name\r1,a\r2,\"b\rc\"\r");
    let said = mendb.ok("table import t mac.csv --create --key id");
    assert!(said.contains("\nlines end with CR\n"), "{said}");
    assert_eq!(mendb.ok("table export t"), "id,name\n1,a\n2,\"b\rc\"\n");
    mendb.write("one.csv", "id\r1\r2\r");
    mendb.ok("table import u one.csv --create --key id");
    assert_eq!(mendb.ok("table export u"), "id\n1\n2\n");
}

#[test]
fn what_stands_between_fields_is_guessed_and_said() {
    let mendb = Mendb::new();
    for (name, text, said) in [
        (
            "semicolon",
            "id;price\n1;3,5\n",
            "\nfields are separated by `;`\n",
        ),
        (
            "tab",
            "id\tprice\n1\t3,5\n",
            "\nfields are separated by tabs\n",
        ),
        (
            "pipe",
            "id|price\n1|3,5\n",
            "\nfields are separated by `|`\n",
        ),
    ] {
        mendb.write("t.csv", text);
        let report = mendb.ok(&format!(
            "table import {name} t.csv --create --key id --decimal-comma"
        ));
        assert!(report.contains(said), "{report}");
        assert_eq!(
            mendb.ok(&format!("table export {name}")),
            "id,price\n1,3.5\n"
        );
    }
    mendb.write("t.csv", "id^price\n1^3\n");
    let report = mendb.json("table import other t.csv --create --key id --delimiter ^");
    assert_eq!(report["dialect"]["delimiter"], "^");
    mendb.write("t.csv", "id;price\n1;3.5\n");
    let stderr = mendb.fails(1, "table import semicolon t.csv --decimal-comma");
    assert!(
        stderr.contains("Double") || stderr.contains("is not a value of type"),
        "{stderr}"
    );
    assert_eq!(
        mendb.fails(2, "table import semicolon t.jsonl --delimiter ;"),
        "error: --delimiter is for CSV\n"
    );
}

#[test]
fn a_header_may_be_what_people_call_things() {
    let mendb = Mendb::new();
    mendb.write("t.csv", "id , Price (USD),a/b,\"x,y\"\n1,2.5,c,d\n");
    let stderr = mendb.fails(1, "table import t t.csv --create --key id");
    assert!(
        stderr.starts_with("error: \"x,y\" cannot name a column"),
        "{stderr}"
    );
    assert!(stderr.contains("--rename-column OLD=NEW"), "{stderr}");
    mendb.ok("table import t t.csv --create --key id --rename-column x,y=z --rename-column a/b=ab");
    assert_eq!(
        mendb.ok("table export t"),
        "id,Price (USD),ab,z\n1,2.5,c,d\n"
    );
    mendb.ok("table export t -o out.csv");
    mendb.ok("table import again out.csv --create");
    assert_eq!(mendb.ok("table export again"), mendb.read("out.csv"));
    mendb.ok("table import few t.csv --create --key id --columns id,a/b");
    assert_eq!(mendb.ok("table export few"), "id,a/b\n1,c\n");
    let stderr = mendb.fails(1, "table import few t.csv --skip-columns nope");
    assert!(
        stderr.starts_with("error: t.csv: the file has no column \"nope\"\n"),
        "{stderr}"
    );
    mendb.write("index.csv", ",v\n0,a\n");
    mendb.ok("table import pandas index.csv --create --key column1");
    assert_eq!(mendb.ok("table export pandas"), "column1,v\n0,a\n");
}

#[test]
fn other_encodings_are_read_when_asked_for() {
    let mendb = Mendb::new();
    fs::write(mendb.path().join("w.csv"), b"id,name\n1,Z\xfcrich \x80\n").unwrap();
    let stderr = mendb.fails(1, "table import t w.csv --create --key id");
    assert!(
        stderr.starts_with("error: w.csv line 2: field 2 is not UTF-8\n"),
        "{stderr}"
    );
    assert!(stderr.contains("--encoding windows-1252"), "{stderr}");
    mendb.ok("table import t w.csv --create --key id --encoding windows-1252");
    let wide: Vec<u8> = "\u{feff}id,name\n1,Zürich €\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    fs::write(mendb.path().join("wide.csv"), wide).unwrap();
    mendb.ok("table import u wide.csv --create --key id");
    for table in ["t", "u"] {
        assert_eq!(
            mendb.ok(&format!("table export {table}")),
            "id,name\n1,Zürich €\n"
        );
    }
}

#[test]
fn objects_may_stand_in_an_array_or_over_several_lines() {
    let mendb = Mendb::new();
    let pretty =
        "[\n  {\n    \"id\": 1,\n    \"doc\": {\n      \"a\": [1]\n    }\n  },\n  {\"id\": 2}\n]\n";
    mendb.write("t.json", pretty);
    mendb.ok("table import t t.json --create --key id");
    assert_eq!(
        mendb.ok("table export t --format jsonl"),
        "{\"id\":1,\"doc\":{       \"a\": [1]     }}\n{\"id\":2,\"doc\":null}\n"
    );
    mendb.write("t.json", &pretty.replace("\"id\": 2", "\"id\": two"));
    let stderr = mendb.fails(1, "table import u t.json --create --key id");
    assert!(
        stderr.starts_with("error: t.json line 8: not a JSON object: no value at column 10\n"),
        "{stderr}"
    );
}

#[cfg(unix)]
#[test]
fn what_can_be_read_only_once_is_read_whole() {
    let mendb = Mendb::new();
    mendb.write(
        "rows.jsonl",
        "{\"id\":1,\"v\":\"a\"}\n{\"id\":2,\"v\":\"b\"}\n",
    );
    mendb.write("rows.csv", "id,v\n1,a\n2,b\n");
    let fifo = mendb.path().join("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let through = |file: &str, line: &str| {
        let rows = fs::read(mendb.path().join(file)).unwrap();
        let child = mendb.command(line).spawn().unwrap();
        // Opens when the program has opened it for reading.
        let mut end = fs::OpenOptions::new().write(true).open(&fifo).unwrap();
        end.write_all(&rows).unwrap();
        drop(end);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    through(
        "rows.jsonl",
        "table import a fifo --format jsonl --create --key id",
    );
    through(
        "rows.csv",
        "table import b fifo --format csv --create --key id --shards 2",
    );
    mendb.ok("table create c --column id:Int64 --column v:Utf8 --key id");
    through("rows.csv", "table import c fifo --format csv");
    mendb.ok("table export c -o rows.parquet");
    through(
        "rows.parquet",
        "table import d fifo --format parquet --create",
    );
    let ran = mendb.run_with(
        "table import e /dev/stdin --format csv --create --key id",
        "id,v\n1,a\n2,b\n",
    );
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for table in ["a", "b", "c", "d", "e"] {
        assert_eq!(
            mendb.ok(&format!("table export {table}")),
            "id,v\n1,a\n2,b\n",
            "{table}"
        );
    }
    let child = mendb
        .command("table export a --format csv -o fifo")
        .spawn()
        .unwrap();
    assert_eq!(fs::read_to_string(&fifo).unwrap(), "id,v\n1,a\n2,b\n");
    assert!(child.wait_with_output().unwrap().status.success());
    assert!(!fifo.metadata().unwrap().is_file());
    let stderr = mendb.fails(1, "table import a . --format csv");
    assert!(stderr.starts_with("error: cannot read .\n"), "{stderr}");
}

#[test]
fn a_name_that_no_object_of_a_file_has_is_said() {
    let mendb = Mendb::new();
    mendb.ok("table create t --column id:Int64 --column name:Utf8 --key id");
    // The names stand in different objects, the last of them in none of the first thousands.
    let mut rows: String = (0..5000).map(|id| format!("{{\"id\":{id}}}\n")).collect();
    rows.push_str("{\"id\":5000,\"Name\":\"x\",\"more\":1}\n");
    mendb.write("t.jsonl", &rows);
    for (flags, name, known) in [
        ("--rename-column NAME=name", "NAME", "id, Name, more"),
        (
            "--rename-column Name=name --columns id,nome",
            "nome",
            "id, name, more",
        ),
        ("--skip-columns mroe", "mroe", "id, Name, more"),
    ] {
        let told = format!("the file has no column {name:?}\nhint: its columns are {known}");
        assert_eq!(
            mendb.fails(1, &format!("table import t t.jsonl {flags}")),
            format!("error: t.jsonl: {told}\n")
        );
        assert_eq!(
            mendb.ok("table export t"),
            "id,name\n",
            "nothing was written"
        );
        let line = format!("table import t - --format jsonl {flags} --mode upsert");
        let ran = mendb.run_with(&line, &rows);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        let is_said = ran.stderr.contains(&told) || ran.stderr.contains("has no column \"Name\"");
        assert!(is_said, "{}", ran.stderr);
        mendb.ok("table drop t");
        mendb.ok("table create t --column id:Int64 --column name:Utf8 --key id");
    }
    mendb.ok("table import t t.jsonl --rename-column Name=name --skip-columns more");
    assert_eq!(mendb.ok("table export t").lines().last(), Some("5000,x"));
    // A file of nothing lacks nothing.
    mendb.write("empty.jsonl", "");
    mendb.ok("table import t empty.jsonl --rename-column Name=name");
}
