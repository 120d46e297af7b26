//! Exit codes, errors, settings.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use mendb_rowstore::{Database, Options};

use crate::mendb::Mendb;

#[test]
fn a_wrong_command_line_is_misuse() {
    let mendb = Mendb::new();
    for line in [
        "",
        "nope",
        "table",
        "table list --nope",
        "table import t a.txt",
    ] {
        mendb.fails(2, line);
    }
    let stderr = mendb.fails(2, "table import t a.txt");
    assert_eq!(
        stderr,
        "error: the format of a.txt is not known from its name\n\
         hint: say --format csv, jsonl or parquet\n"
    );
}

#[test]
fn help_and_version_go_to_stdout() {
    let mendb = Mendb::new();
    assert!(mendb.ok("--help").contains("Usage: mendb"));
    assert!(mendb.ok("--version").starts_with("mendb 0."));
    for command in [
        "create", "import", "export", "list", "describe", "split", "digest", "drop",
    ] {
        assert!(mendb.ok("table --help").contains(command), "{command}");
    }
}

#[test]
fn errors_are_lines_for_people_and_an_object_for_programs() {
    let mendb = Mendb::new();
    assert_eq!(
        mendb.fails(1, "table describe flights"),
        "error: table flights does not exist\nhint: mendb table list shows the tables there are\n"
    );
    let error: serde_json::Value =
        serde_json::from_str(&mendb.fails(1, "table describe flights --output json")).unwrap();
    assert_eq!(error["error"]["kind"], "fix_input");
    assert_eq!(error["error"]["message"], "table flights does not exist");
    let error: serde_json::Value =
        serde_json::from_str(&mendb.fails(2, "table nope --output json")).unwrap();
    assert_eq!(error["error"]["kind"], "fix_command");
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let mendb = Mendb::new().with("MENDB_REPOSITORY", "file:///from-environment");
    mendb.write(
        "mendb.yml",
        "target: mendb:///from-file\nrepository: file:///from-file\nrowstore:\n  cache_bytes: 1MiB\n",
    );
    let settings = mendb.json("config show --target mendb:///from-flag");
    let find = |key: &str| {
        let all = settings.as_array().unwrap();
        let found = all.iter().find(|entry| entry["key"] == key).unwrap();
        [
            found["value"].as_str().unwrap(),
            found["from"].as_str().unwrap(),
        ]
    };
    assert_eq!(find("target"), ["mendb:///from-flag", "flag --target"]);
    assert_eq!(
        find("repository"),
        ["file:///from-environment", "environment MENDB_REPOSITORY"]
    );
    assert_eq!(find("rowstore.cache_bytes"), ["1MiB", "file mendb.yml"]);
    assert_eq!(find("general.max_in_flight")[1], "default");
}

#[test]
fn the_default_settings_are_a_settings_file() {
    let mendb = Mendb::new();
    mendb.write("mendb.yml", &mendb.ok("config default"));
    let settings = mendb.json("config show");
    for entry in settings.as_array().unwrap() {
        assert_eq!(entry["from"], "file mendb.yml", "{entry}");
    }
}

#[test]
fn an_unknown_setting_is_named() {
    let mendb = Mendb::new();
    mendb.write("other.yml", "rowstore: {splitbytes: 5}\n");
    let stderr = mendb.fails(2, "--config other.yml table list");
    assert!(
        stderr.starts_with(
            "error: in other.yml\n  caused by: unknown setting \"rowstore.splitbytes\"\nhint: the settings are target, "
        ),
        "{stderr}"
    );
}

#[test]
fn a_target_of_an_unknown_scheme_is_refused() {
    let mendb = Mendb::new();
    let stderr = mendb.fails(2, "table list --target mysql://host/db");
    assert!(stderr.starts_with("error: the target \"mysql://host/db\" has the unknown scheme"));
}

#[test]
fn a_target_that_another_process_has_open_says_so() {
    let mendb = Mendb::new();
    mendb.ok("table create t --column a:Int64 --key a");
    let rows = mendb.path().join("mendb-data/target/rows");
    let other = Database::open(&rows, Options::default()).unwrap();
    let refused = mendb.run("table split t --at 1 --quiet");
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("is open in another process"),
        "{}",
        refused.stderr
    );
    assert!(
        refused
            .stderr
            .contains("hint: another mendb works on this target")
    );
    // Who only reads does so beside it.
    for reading in ["list", "describe t", "digest t", "export t"] {
        mendb.ok(&format!("table {reading}"));
    }
    mendb.ok("verify t");
    drop(other);
    mendb.ok("table split t --at 1");
}

#[test]
fn a_reader_that_goes_away_is_not_an_error() {
    let mendb = Mendb::new();
    mendb.ok("table create t --column a:Int64 --key a");
    let rows: String = (0..50_000).map(|a| format!("{a}\n")).collect();
    mendb.write("t.csv", &format!("a\n{rows}"));
    mendb.ok("table import t t.csv");
    let mut child = mendb
        .command("table export t")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), &b""[..])
    );
    assert_eq!(line, "a\n");
}

#[test]
fn quiet_leaves_only_data() {
    let mendb = Mendb::new();
    let ran = mendb.run("--quiet table create t --column a:Int64 --key a");
    assert_eq!(
        (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
        (0, "", "")
    );
    assert!(mendb.ok("--quiet table list").starts_with("table"));
}
