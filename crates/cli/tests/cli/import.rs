//! `mendb table import` and `create`.

use serde_json::json;

use crate::mendb::Mendb;

const FLIGHTS: &str = "\
carrier,flight,day,delay,tail,note
AA,1,2013-01-01,1.5,N1,
AA,2,2013-01-02,,N2,\"\"
UA,007,2013-01-01,-3,,\"a, \"\"b\"\"\"
";

fn types(mendb: &Mendb, table: &str) -> Vec<String> {
    let described = mendb.json(&format!("table describe {table}"));
    let columns = described["schema"]["columns"].as_array().unwrap();
    let shown = columns.iter().map(|column| {
        let [name, column_type] = ["name", "type"].map(|key| column[key].as_str().unwrap());
        format!("{name} {column_type}")
    });
    shown.collect()
}

#[test]
fn a_table_is_made_from_a_csv_file() {
    let mendb = Mendb::new();
    mendb.write("flights.csv", FLIGHTS);
    let imported = mendb.json(
        "table import flights flights.csv --create --key carrier,flight --index by_day=day+delay",
    );
    assert_eq!(imported["rows"], 3);
    assert_eq!(imported["created"], true);
    assert_eq!(
        types(&mendb, "flights"),
        [
            "carrier Utf8",
            "flight Utf8",
            "day Date",
            "delay Double",
            "tail Utf8",
            "note Utf8"
        ]
    );
    assert_eq!(mendb.ok("table export flights"), FLIGHTS);
    assert_eq!(
        mendb.ok("table export flights --index by_day"),
        "day,carrier,flight,delay\n2013-01-01,AA,1,1.5\n2013-01-01,UA,007,-3\n2013-01-02,AA,2,\n"
    );
}

#[test]
fn types_are_those_that_every_row_fits() {
    let mendb = Mendb::new();
    mendb.write(
        "a.csv",
        "k,int,mixed,flag,at,fine,code,none\n\
         1,1,1,true,2013-01-01 05:00:00,2013-01-01T05:00:00.5Z,007,\n\
         2,-2,2.5,false,2013-01-01T05:00:00Z,2013-01-01T05:00:00Z,8,\n",
    );
    mendb.ok("table import a a.csv --create --key k");
    assert_eq!(
        types(&mendb, "a"),
        [
            "k Int64",
            "int Int64",
            "mixed Double",
            "flag Bool",
            "at Datetime",
            "fine Timestamp",
            "code Utf8",
            "none Utf8"
        ]
    );
    mendb.write(
        "b.jsonl",
        "{\"k\":1,\"doc\":{\"x\":[1, 2]}}\n{\"k\":2,\"doc\":null,\"more\":\"2013-01-01\"}\n",
    );
    mendb.ok("table import b b.jsonl --create --key k");
    assert_eq!(types(&mendb, "b"), ["k Int64", "doc Json", "more Date"]);
    assert_eq!(
        mendb.ok("table export b --format jsonl"),
        "{\"k\":1,\"doc\":{\"x\":[1, 2]},\"more\":null}\n\
         {\"k\":2,\"doc\":null,\"more\":\"2013-01-01\"}\n"
    );
}

#[test]
fn the_modes_differ_in_what_they_do_to_absent_columns() {
    let mendb = Mendb::new();
    mendb.ok("table create t --column k:Int64 --column a:Int64 --column b:Utf8 --key k");
    let import = |mode: &str, lines: &str| {
        let ran = mendb.run_with(
            &format!("table import t - --format jsonl --mode {mode}"),
            lines,
        );
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        mendb.ok("table export t")
    };
    assert_eq!(
        import(
            "upsert",
            "{\"k\":1,\"a\":5,\"b\":\"x\"}\n{\"k\":2,\"a\":6,\"b\":\"y\"}\n"
        ),
        "k,a,b\n1,5,x\n2,6,y\n"
    );
    assert_eq!(
        import("upsert", "{\"k\":1,\"a\":7}\n{\"k\":2,\"b\":null}\n"),
        "k,a,b\n1,7,x\n2,6,\n"
    );
    assert_eq!(
        import("replace", "{\"k\":1,\"b\":\"z\"}\n"),
        "k,a,b\n1,,z\n2,6,\n"
    );
    assert_eq!(
        import("erase", "{\"k\":2,\"other\":true}\n"),
        "k,a,b\n1,,z\n"
    );
}

#[test]
fn an_import_without_keys_is_refused() {
    let mendb = Mendb::new();
    mendb.write("t.csv", "k,a\n1,2\n");
    assert_eq!(
        mendb.fails(2, "table import t t.csv --create"),
        "error: a new table needs a key: --key A,B\nhint: its columns are k, a\n"
    );
    assert!(
        mendb
            .fails(2, "table import t t.csv --key k")
            .contains("hint: add --create")
    );
    mendb.ok("table create t --column k:Int64 --column a:Int64 --key k");
    mendb.write("a.csv", "a\n2\n");
    assert!(
        mendb
            .fails(1, "table import t a.csv")
            .starts_with("error: a.csv line 2: table t: key column k"),
    );
}

#[test]
fn an_import_that_fails_leaves_no_new_table() {
    let mendb = Mendb::new();
    mendb.write(
        "s.yml",
        "columns: [{name: k, type: Int64}, {name: day, type: Date}]\nkey: [k]\nindexes: [{name: by_day, columns: [day], unique: true}]\n",
    );
    let long = format!("k,day\n\"{}\",2013-01-01\n", "1".repeat(40));
    for (file, flags) in [
        ("k,day\n1\n", "--key k"),
        ("k,day\n1,\n2\n", "--key k"),
        ("k,dya\n1,\n", "--schema s.yml"),
        ("k,day\n1,2013-01-01\n2,tomorrow\n", "--schema s.yml"),
        ("k,day\n1,2013-01-01\n2,2013-01-01\n", "--schema s.yml"),
        ("k,day\n1,2013-01-01\n,\n", "--schema s.yml --split-at x"),
        (
            "k,day\n1,2013-01-01\n2,tomorrow\n",
            "--schema s.yml --shards 2",
        ),
        (long.as_str(), "--schema s.yml --output json"),
    ] {
        mendb.write("t.csv", file);
        let ran = mendb.run(&format!("table import t t.csv --create {flags}"));
        assert_ne!(ran.code, 0, "{file}");
        assert_eq!(mendb.json("table list"), serde_json::json!([]), "{file}");
    }
    assert_eq!(
        mendb
            .run("table import t t.csv --create --schema s.yml")
            .stderr
            .lines()
            .last(),
        Some("hint: table t was not created; correct it and import again")
    );
    mendb.write("t.csv", "k,day\n1,2013-01-01\n");
    mendb.ok("table import t t.csv --create --schema s.yml");
}

#[test]
fn a_schema_beside_that_does_not_fit_is_named() {
    let mendb = Mendb::new();
    mendb.write("t.csv", "k,a\n1,x\n");
    mendb.ok("table import t t.csv --create --key k");
    mendb.ok("table export t -o t.csv");
    mendb.write("t.csv", "k,b\n1,x\n");
    let stderr = mendb.fails(1, "table import u t.csv --create");
    assert!(
        stderr.starts_with("error: t.csv: the table has no column \"b\"\n  caused by: the schema came from t.csv.schema.json\n"),
        "{stderr}"
    );
    assert_eq!(mendb.json("table list").as_array().unwrap().len(), 1);
}

#[test]
fn keys_that_come_again_are_counted() {
    let mendb = Mendb::new();
    mendb.write("t.csv", "k,a\n1,x\n2,y\n1,z\n1,z\n");
    let imported = mendb.json("table import t t.csv --create --key k");
    assert_eq!(imported["rows"], 4);
    assert_eq!(imported["rows_added"], 2);
    assert_eq!(imported["rows_repeated"], 2);
    mendb.write("more.csv", "k,a\n2,y\n3,x\n");
    let said = mendb.ok("table import t more.csv");
    assert!(
        said.starts_with("imported 2 rows into t, 1 of them new, in "),
        "{said}"
    );
    let said = mendb.ok("table import t t.csv --mode erase");
    assert!(
        said.starts_with("erased the keys of 4 rows from t, 2 of them were there, in "),
        "{said}"
    );
    mendb.ok("table drop t");
    let said = mendb.ok("table import t t.csv --create --key k");
    assert!(
        said.starts_with("imported 4 rows into t, of which 2 had the key of an earlier one, in "),
        "{said}"
    );
}

#[test]
fn a_bad_value_is_named_and_nothing_is_written() {
    let mendb = Mendb::new();
    mendb.ok("table create t --column k:Int64 --column day:Date --key k");
    mendb.write(
        "t.csv",
        "k,day\r\n1,2013-01-01\r\n2,\r\n3,tomorrow\r\n4,2013-01-04\r\n",
    );
    assert_eq!(
        mendb.fails(1, "table import t t.csv"),
        "error: t.csv line 4, column day: \"tomorrow\" is not a value of type Date\n\
         hint: nothing was written; correct it and import again\n"
    );
    assert_eq!(mendb.ok("table export t"), "k,day\n");
    mendb.write("t.csv", "k,day,hour\n1,,5\n");
    assert_eq!(
        mendb.fails(1, "table import t t.csv"),
        "error: t.csv: the table has no column \"hour\"\nhint: its columns are k, day; \
         --columns and --skip-columns say which to read, --rename-column what they are called\n"
    );
    mendb.write("t.csv", "k,day\n1\n");
    assert!(
        mendb
            .fails(1, "table import t t.csv")
            .starts_with("error: t.csv line 2: 1 field, the header has 2\n")
    );
}

#[test]
fn a_row_that_the_table_refuses_is_named_by_its_line() {
    let mendb = Mendb::new();
    mendb.ok(
        "table create t --column k:Int64 --column mail:Utf8 --column a:Int64:not_null --key k --unique-index by_mail=mail",
    );
    mendb.write("t.csv", "k,mail,a\n1,x,1\n2,y,2\n3,x,3\n4,z,4\n");
    let stderr = mendb.fails(1, "table import t t.csv");
    assert!(
        stderr.starts_with(
            "error: t.csv line 4: unique index by_mail of table t already has a row for x\n"
        ),
        "{stderr}"
    );
    assert!(stderr.contains("hint: nothing was written; "), "{stderr}");
    assert_eq!(mendb.ok("table export t"), "k,mail,a\n");
    mendb.write("t.csv", "k,mail,a\n5,v,5\n6,w,\n");
    let stderr = mendb.fails(1, "table import t t.csv");
    assert!(
        stderr.starts_with("error: t.csv line 3: table t: column a is NOT NULL"),
        "{stderr}"
    );
    assert_eq!(mendb.ok("table export t"), "k,mail,a\n");
}

#[test]
fn unique_values_are_exchanged_however_far_apart_the_rows_are() {
    let mendb = Mendb::new();
    let lines = |rows: &mut dyn Iterator<Item = (usize, usize)>| -> String {
        rows.map(|(id, u)| format!("{{\"id\":{id},\"u\":{u}}}\n"))
            .collect()
    };
    const ROWS: usize = 9000;
    let ids = || 0..ROWS;
    mendb.write("a.jsonl", &lines(&mut ids().map(|id| (id, id))));
    mendb.write(
        "turned.jsonl",
        &lines(&mut ids().map(|id| (id, ROWS - 1 - id))),
    );
    mendb.write("shifted.jsonl", &lines(&mut ids().map(|id| (id, id + 1))));
    mendb.ok("table import t a.jsonl --create --key id --unique-index by_u=u");
    for file in ["turned.jsonl", "shifted.jsonl", "a.jsonl"] {
        mendb.ok(&format!("table import t {file}"));
        assert_eq!(mendb.ok("table export t --format jsonl"), mendb.read(file));
    }
    // Rows that came for one key stay in their order, though the first of them has to wait.
    mendb.write(
        "often.jsonl",
        "{\"id\":0,\"u\":1}\n{\"id\":0,\"u\":-1}\n{\"id\":1,\"u\":0}\n",
    );
    mendb.ok("table import t often.jsonl");
    let rows = mendb.ok("table export t --format jsonl");
    assert!(rows.starts_with("{\"id\":0,\"u\":-1}\n{\"id\":1,\"u\":0}\n"));
}

#[test]
fn the_row_at_fault_is_named_whatever_stands_beside_it() {
    let mendb = Mendb::new();
    mendb.ok("table create t --column id:Int64 --column u:Int64 --column n:Int64:not_null --key id --unique-index by_u=u");
    mendb.write(
        "t.jsonl",
        "{\"id\":1,\"u\":1,\"n\":1}\n{\"id\":2,\"u\":2,\"n\":1}\n{\"id\":7,\"u\":7,\"n\":1}\n",
    );
    mendb.ok("table import t t.jsonl");
    // An exchange, and a row without n.
    mendb.write(
        "rows.jsonl",
        "{\"id\":1,\"u\":2}\n{\"id\":2,\"u\":1}\n{\"id\":9,\"u\":9}\n",
    );
    let stderr = mendb.fails(1, "table import t rows.jsonl");
    assert!(
        stderr.starts_with("error: rows.jsonl line 3: table t: column n is NOT NULL"),
        "{stderr}"
    );
    assert!(stderr.contains("nothing was written;"), "{stderr}");
    // An exchange, and a row that wants what a row holds that is not in the file.
    mendb.write(
        "rows.jsonl",
        "{\"id\":1,\"u\":1}\n{\"id\":3,\"u\":7,\"n\":3}\n{\"id\":2,\"u\":2}\n",
    );
    let stderr = mendb.fails(1, "table import t rows.jsonl");
    assert!(
        stderr.starts_with(
            "error: rows.jsonl line 2: unique index by_u of table t already has a row for 7\n"
        ),
        "{stderr}"
    );
}

#[test]
fn a_schema_file_says_what_the_file_cannot() {
    let mendb = Mendb::new();
    mendb.write(
        "schema.yml",
        "columns:\n- {name: id, type: Uint32, not_null: true}\n- {name: price, type: \"Decimal(15,2)\"}\nkey: [id]\nindexes:\n- {name: by_price, columns: [price]}\n",
    );
    mendb.write("t.csv", "id,price\n1,12.5\n");
    mendb.ok("table import t t.csv --create --schema schema.yml");
    assert_eq!(types(&mendb, "t"), ["id Uint32", "price Decimal(15,2)"]);
    assert_eq!(mendb.ok("table export t"), "id,price\n1,12.50\n");
    mendb.write("schema.yml", "columns: []\nkeys: [id]\n");
    let stderr = mendb.fails(1, "table create u --schema schema.yml");
    assert!(
        stderr.starts_with("error: the schema schema.yml cannot be read\n"),
        "{stderr}"
    );
}

#[test]
fn the_null_marker_can_be_chosen() {
    let mendb = Mendb::new();
    mendb.write("t.csv", "k,a,b\n1,NA,NA\n2,5,\"NA\"\n3,6,\n");
    mendb.ok("table import t t.csv --create --key k --null NA");
    assert_eq!(types(&mendb, "t"), ["k Int64", "a Int64", "b Utf8"]);
    assert_eq!(
        mendb.ok("table export t --format jsonl"),
        "{\"k\":1,\"a\":null,\"b\":null}\n{\"k\":2,\"a\":5,\"b\":\"NA\"}\n{\"k\":3,\"a\":6,\"b\":\"\"}\n"
    );
    let exported = mendb.ok("table export t --null NA");
    assert_eq!(exported, "k,a,b\n1,NA,NA\n2,5,\"NA\"\n3,6,\"\"\n");
}

#[test]
fn stdin_is_enough_to_make_a_table() {
    let mendb = Mendb::new();
    let ran = mendb.run_with(
        "table import t - --format csv --create --key k --shards 2 --output json",
        "k\n4\n3\n2\n1\n",
    );
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["rows"], json!(4));
    assert_eq!(mendb.ok("table export t"), "k\n1\n2\n3\n4\n");
}

#[test]
fn creating_a_table_that_is_there_is_refused() {
    let mendb = Mendb::new();
    mendb.write("t.csv", "k\n1\n");
    mendb.ok("table import t t.csv --create --key k");
    assert_eq!(
        mendb.fails(1, "table import t t.csv --create --key k"),
        "error: table t already exists\nhint: without --create the rows go into the table that is there\n"
    );
    mendb.ok("table drop t");
    assert_eq!(
        mendb.fails(1, "table import t t.csv"),
        "error: table t does not exist\nhint: --create --key A,B makes the table from the file\n"
    );
}
