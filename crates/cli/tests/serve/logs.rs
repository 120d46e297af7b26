//! What goes to stderr, for those who collect it.

use serde_json::{Value, json};

use crate::mendb::Ran;
use crate::server::{Server, World};

#[test]
fn with_json_each_line_is_an_object_and_those_of_an_operation_have_its_id() {
    let world = World::new();
    let line = "serve --listen 127.0.0.1:0 --log-format json -v";
    let server = Server::start(&world.mendb, line, &[]);
    let operation = world.done(&server, "/v1/collections/world/backups", &json!({}));
    let (code, said, _) = server.end();
    assert_eq!(code, Some(0), "{said}");
    let lines = said.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        for field in ["time", "level", "target", "message"] {
            assert!(line[field].is_string(), "{line}");
        }
        line
    });
    let of_operation = lines.filter(|line| line["operation_id"] == operation["operation_id"]);
    let states: Vec<_> = of_operation.map(|line| line["state"].clone()).collect();
    assert_eq!(states.last(), Some(&json!("done")), "{said}");
}

#[test]
fn failures_and_notes_are_lines_too() {
    let world = World::new();
    let ran: Ran = world
        .mendb
        .command("show nothing --log-format json")
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.code, 1, "{ran:?}");
    let line: Value = serde_json::from_str(ran.stderr.trim()).unwrap();
    assert_eq!(line["level"], "ERROR", "{line}");
    assert!(
        line["message"].as_str().unwrap().contains("nothing"),
        "{line}"
    );
    assert!(line["error"]["kind"].is_string(), "{line}");
    let ran: Ran = world
        .mendb
        .command("backup world --log-format json")
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.code, 0, "{ran:?}");
    for line in ran.stderr.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert_eq!(line["level"], "INFO", "{line}");
    }
}
