//! Files as pyarrow, pandas, polars and DuckDB write them, in each of their codecs and dialects, import to the
//! same table.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::mendb::Mendb;

#[path = "../../../engines/tests/servers/python.rs"]
mod python;

const WRITERS: [&str; 5] = [
    "numpy==2.4.6",
    "pyarrow==26.0.1",
    "pandas==3.1.1",
    "polars==2.1.0",
    "duckdb==2.0.1",
];

const SCHEMA: &str = "
columns:
  - {name: id, type: Int64}
  - {name: name, type: Utf8}
  - {name: price, type: Double}
  - {name: ok, type: Bool}
  - {name: day, type: Date}
  - {name: at, type: Timestamp}
  - {name: big, type: Uint64}
  - {name: money, type: \"Decimal(10,2)\"}
key: [id]
";

const ROWS: &str = "\
id,name,price,ok,day,at,big,money
1,plain,1.5,true,2020-02-29,2020-02-29T23:59:59.999999Z,18446744073709551615,12.34
2,\"a, \"\"b\"\"
c; d\",-0.25,false,1970-01-01,1999-12-31T01:02:03Z,0,-0.01
3,Ünïcode ✓,1e300,,2038-01-20,2038-01-20T00:00:00Z,9007199254740993,99999999.99
4,,,,,,,
";

#[test]
fn what_others_write_is_one_table_in_every_codec_and_dialect() {
    let mendb = Mendb::new();
    mendb.write("schema.yml", SCHEMA);
    let files = mendb.path().join("files");
    fs::create_dir(&files).unwrap();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    python::run(
        Command::new(python::environment(target, "writers-venv", &WRITERS))
            .arg("-c")
            .arg(include_str!("foreign_files.py"))
            .arg(&files),
    );
    let mut names: Vec<String> = fs::read_dir(&files)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() > 50, "{names:?}");
    for (at, name) in names.iter().enumerate() {
        mendb.ok(&format!(
            "table import t{at} files/{name} --create --schema schema.yml"
        ));
        assert_eq!(mendb.ok(&format!("table export t{at}")), ROWS, "{name}");
    }
}
