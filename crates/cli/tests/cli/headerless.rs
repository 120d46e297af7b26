//! CSV without a header: `mendb table import --no-header` and `table export --no-header`.

use serde_json::json;

use crate::mendb::Mendb;

/// With a table `t` of a key and two more columns.
fn with_table() -> Mendb {
    let mendb = Mendb::new();
    mendb.ok("table create t --column k:Int64 --column day:Date --column note:Utf8 --key k");
    mendb
}

#[test]
fn the_first_line_is_a_row_and_its_fields_are_the_columns_of_the_table() {
    let mendb = with_table();
    mendb.write("t.csv", "1,2013-01-01,a\n2,,\"b, c\"\n");
    let said = mendb.ok("table import t t.csv --no-header");
    assert!(said.starts_with("imported 2 rows into t in "), "{said}");
    assert!(said.contains("\nits fields are k, day, note\n"), "{said}");
    assert_eq!(
        mendb.ok("table export t"),
        "k,day,note\n1,2013-01-01,a\n2,,\"b, c\"\n"
    );
    let report = mendb.json("table import t t.csv --no-header");
    assert_eq!(report["fields"], json!(["k", "day", "note"]));
    let report = mendb.json("table import u t.csv --create --key k --no-header --fields k,d,n");
    assert_eq!(report["fields"], json!(["k", "d", "n"]));
    mendb.write("t.csv", "k,day,note\n3,,\n");
    let report = mendb.json("table import t t.csv");
    assert_eq!(report["fields"], json!(null));
}

#[test]
fn fields_may_be_named_and_chosen() {
    let mendb = with_table();
    mendb.write("t.csv", "a,1,ignored\nb,2,ignored\n");
    mendb.ok("table import t t.csv --no-header --fields note,k,other --skip-columns other");
    assert_eq!(mendb.ok("table export t"), "k,day,note\n1,,a\n2,,b\n");
    mendb.write("keys.csv", "2\n");
    mendb.ok("table import t keys.csv --no-header --fields k --mode erase");
    assert_eq!(mendb.ok("table export t"), "k,day,note\n1,,a\n");
    mendb.write("t.csv", "3,2013-01-03,c\n");
    mendb.ok("table import t t.csv --no-header --columns k,note");
    assert_eq!(mendb.ok("table export t"), "k,day,note\n1,,a\n3,,c\n");
}

#[test]
fn a_table_may_be_learned_from_it() {
    let mendb = Mendb::new();
    mendb.write("t.csv", "7,x,2013-01-01\n8,y,\n9,z,\n");
    for flags in ["", "--shards 2"] {
        let report = mendb.json(&format!(
            "table import t t.csv --create --key column1 --no-header {flags}"
        ));
        assert_eq!(report["rows"], 3);
        assert_eq!(report["columns"][2]["type"], "Date");
        assert_eq!(
            mendb.ok("table export t"),
            "column1,column2,column3\n7,x,2013-01-01\n8,y,\n9,z,\n"
        );
        mendb.ok("table drop t");
    }
    // The names are those of the file also where the table has fewer, or calls them otherwise.
    mendb.ok(
        "table import t t.csv --create --key id --no-header --skip-columns column2 --rename-column column1=id",
    );
    assert_eq!(
        mendb.ok("table export t"),
        "id,column3\n7,2013-01-01\n8,\n9,\n"
    );
    let ran = mendb.run_with(
        "table import u - --format csv --create --key k --no-header --fields k,v",
        "1,a\n",
    );
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(mendb.ok("table export u"), "k,v\n1,a\n");
    mendb.write("empty.csv", "");
    assert_eq!(
        mendb.fails(
            1,
            "table import e empty.csv --create --key column1 --no-header"
        ),
        "error: empty.csv line 1: there is no line to count fields in\n"
    );
    assert_eq!(
        mendb.json("table import u empty.csv --no-header")["rows"],
        0
    );
}

#[test]
fn a_line_of_another_number_of_fields_is_told_by_what_counts_them() {
    let mendb = with_table();
    mendb.write("t.csv", "1,2013-01-01\n");
    assert_eq!(
        mendb.fails(1, "table import t t.csv --no-header"),
        "error: t.csv line 1: 2 fields, the table has 3 columns\n\
         hint: --fields A,B,… says which columns the fields are; nothing was written\n"
    );
    let said = mendb.fails(1, "table import t t.csv --no-header --fields k");
    assert!(
        said.starts_with("error: t.csv line 1: 2 fields, --fields names 1\n"),
        "{said}"
    );
    mendb.write("t.csv", "1,2013-01-01\n2\n");
    let said = mendb.fails(1, "table import u t.csv --create --key column1 --no-header");
    assert!(
        said.starts_with("error: t.csv line 2: 1 field, the first line has 2\n"),
        "{said}"
    );
    let said = mendb.fails(1, "table import t t.csv --no-header --fields k,nope");
    assert!(
        said.starts_with("error: t.csv: the table has no column \"nope\"\n"),
        "{said}"
    );
}

#[test]
fn the_rows_tell_what_stands_between_fields() {
    let mendb = Mendb::new();
    mendb.write("t.csv", "1;a, b, c\n2;d\n");
    let said = mendb.ok("table import t t.csv --create --key column1 --no-header");
    assert!(
        said.contains("\nfields are separated by `;`\nits fields are column1, column2\n"),
        "{said}"
    );
    assert_eq!(
        mendb.ok("table export t"),
        "column1,column2\n1,\"a, b, c\"\n2,d\n"
    );
    mendb.write("t.csv", "3;1,5\n4;2,5\n");
    mendb.ok("table create money --column k:Int64 --column v:Double --key k");
    mendb.ok("table import money t.csv --no-header --decimal-comma");
    assert_eq!(mendb.ok("table export money"), "k,v\n3,1.5\n4,2.5\n");
}

#[test]
fn what_is_exported_without_a_header_is_imported_as_it_was() {
    let mendb = with_table();
    mendb.write("rows.csv", "1,2013-01-01,a;b\n2,,c;d\n");
    mendb.ok("table import t rows.csv --no-header");
    assert_eq!(
        mendb.ok("table export t --no-header"),
        mendb.read("rows.csv")
    );
    mendb.ok("table export t --no-header -o out.csv");
    assert_eq!(mendb.read("out.csv"), mendb.read("rows.csv"));
    // The schema beside it says that there is none.
    for (table, flags) in [("a", ""), ("b", "--no-header")] {
        mendb.ok(&format!("table import {table} out.csv --create {flags}"));
        assert_eq!(
            mendb.ok(&format!("table export {table}")),
            mendb.ok("table export t")
        );
    }
    mendb.ok("table export t -o out.csv");
    mendb.ok("table import c out.csv --create");
    assert_eq!(mendb.ok("table export c"), mendb.ok("table export t"));
}

#[test]
fn flags_that_contradict_each_other_are_refused() {
    let mendb = with_table();
    mendb.write("t.csv", "1,2013-01-01,a\n");
    for (line, why) in [
        ("import t t.csv --fields k,day,note", "--no-header"),
        (
            "import t t.csv --no-header --fields k,day,note --rename-column a=b",
            "--rename-column",
        ),
        (
            "import t t.csv --no-header --fields k,k,note",
            "--fields names \"k\" twice",
        ),
        (
            "import t t.csv --no-header --fields k,,note",
            "--fields has no name for field 2",
        ),
        (
            "import t t.csv --no-header --format jsonl",
            "--no-header is for CSV",
        ),
        (
            "export t --no-header --format jsonl",
            "--no-header is for CSV",
        ),
        (
            "export t --no-header -o t.parquet",
            "--no-header is for CSV",
        ),
    ] {
        let said = mendb.fails(2, &format!("table {line}"));
        assert!(said.contains(why), "{said}");
    }
}
