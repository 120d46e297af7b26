//! A user who may not see and do all: what is refused is named, and the advice to grant it works.

use std::path::Path;

use crate::servers::{Flavor, ServerOptions};
use crate::world::World;

/// More than are needed.
const MOST_GRANTS: usize = 20;

/// Gives the user of the tests these rights, or all, from the next start of the server on.
fn allow(users: &Path, grants: &[String]) {
    let queries = grants.iter().map(|grant| format!("<query>{grant}</query>"));
    let grants = match grants {
        [] => String::new(),
        _ => format!("<grants>{}</grants>", queries.collect::<String>()),
    };
    let text = format!(
        "<clickhouse><profiles><default/></profiles><quotas><default/></quotas><users><default>\
         <password></password><networks><ip>::/0</ip></networks><profile>default</profile>\
         <quota>default</quota>{grants}</default></users></clickhouse>"
    );
    std::fs::write(users, text).unwrap();
}

/// The right that a refusal asks for, of the tables of the test on all of them.
fn advised(said: &str) -> String {
    let ours = said
        .rsplit_once("(GRANT ")
        .and_then(|(_, rest)| rest.split_once(')'));
    let of_server = said
        .rsplit_once("necessary to have the grant ")
        .and_then(|(_, rest)| rest.split_once(". ("));
    let (right, _) = ours.or(of_server).unwrap_or_else(|| panic!("{said}"));
    match right.split_once(" ON d.") {
        Some((right, _)) => format!("GRANT {right} ON d.*"),
        None => format!("GRANT {right}"),
    }
}

#[test]
fn each_right_that_is_missing_is_named_and_granting_them_leads_to_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let users = directory.path().join("users.xml");
    allow(&users, &[]);
    let more_config = format!(
        "<user_directories><users_xml><path>{}</path></users_xml></user_directories>",
        users.display()
    );
    let options = ServerOptions {
        more_config,
        ..ServerOptions::default()
    };
    let mut world = World::with(Flavor::Current, options);
    let table = "d.t (a UInt64) ENGINE = MergeTree ORDER BY a PARTITION BY a % 3";
    world.server.create_database("d");
    world.server.query(&format!("CREATE TABLE {table}"));
    world
        .server
        .query("INSERT INTO d.t SELECT number FROM numbers(100)");
    let rows = |world: &World| world.server.query("SELECT count(), sum(a) FROM d.t");
    let before = rows(&world);

    let mut grants = vec!["GRANT SELECT, ALTER DELETE ON d.*".to_owned()];
    // Runs a command again, with each right that it was refused for, until it is done.
    let mut grant_until_done = |world: &mut World, arguments: &[&str]| {
        let mut resumed: Option<String> = None;
        for _ in 0..MOST_GRANTS {
            allow(&users, &grants);
            world.server.restart();
            let output = match &resumed {
                Some(operation) => world.run(&["operation", "resume", operation]),
                None => world.run(arguments),
            };
            if output.status.success() {
                return;
            }
            let said = String::from_utf8(output.stderr).unwrap();
            let failed = world.operations();
            let failed = failed
                .iter()
                .find(|operation| operation["state"] == "failed");
            resumed =
                failed.map(|operation| operation["operation_id"].as_str().unwrap().to_owned());
            let right = advised(&said);
            assert!(!grants.contains(&right), "{right} does not help: {said}");
            grants.push(right);
        }
        panic!("{arguments:?} is refused again and again: {grants:?}");
    };
    grant_until_done(&mut world, &["backup", "c", "--tables", "d.*"]);
    world
        .server
        .query("ALTER TABLE d.t DELETE WHERE a < 10 SETTINGS mutations_sync = 2");
    grant_until_done(&mut world, &["restore", "c", "--in-place"]);
    assert_eq!(rows(&world), before);
}
