//! The API as it is described, by a program that tries what the description allows and what it does not.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::python::environment;
use crate::server::World;

const FUZZER: &str = "schemathesis==4.32.5";

/// What must hold of each answer. Events do not end, so they are left out.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,negative_data_rejection";

#[test]
fn what_is_described_is_answered_as_described_whatever_is_sent() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let python = environment(target, "schemathesis-venv", &[FUZZER]);
    let world = World::new();
    let server = world.serve();
    world.done(
        &server,
        "/v1/collections/world/backups",
        &json!({ "label": "monday" }),
    );
    let fuzzed = Command::new(python.with_file_name("schemathesis"))
        .args(["run", &format!("{}/v1/openapi.json", server.url())])
        .args(["-H", &format!("Authorization: Bearer {}", world.token)])
        .args(["--phases", "coverage", "--max-examples", "1", "--seed", "1"])
        .args([
            "--exclude-path-regex",
            "events$",
            "--checks",
            CHECKS,
            "--no-color",
        ])
        .current_dir(world.mendb.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&fuzzed.stdout);
    assert!(fuzzed.status.success(), "{told}");
    // It is there, and has lost nothing that was not asked for.
    assert_eq!(world.get(&server, "/v1/whoami").status, 200);
}
