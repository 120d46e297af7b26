//! A ClickHouse server that a server of mendb has open.

use crate::servers::Flavor;
use crate::serving::Serving;
use crate::world::World;

on_each_server!(a_server_backs_up_mends_and_takes_back);

fn a_server_backs_up_mends_and_takes_back(flavor: Flavor) {
    let world = World::new(flavor);
    world.server.query("CREATE DATABASE a");
    world.server.query(
        "CREATE TABLE a.t (id UInt64, name String, day Date) ENGINE = MergeTree PARTITION BY toYYYYMM(day) ORDER BY id",
    );
    let insert = |from: u64, day: &str| {
        world.server.query(&format!(
            "INSERT INTO a.t SELECT number + {from}, toString(number), toDate('{day}') FROM numbers(1000)"
        ));
    };
    insert(0, "2026-01-05");
    insert(5000, "2026-02-05");
    let token = world.ok(&["token", "create", "ann", "--role", "admin"]);
    let serving = Serving::start(world.command(&["serve", "--listen", "127.0.0.1:0"]), &token);
    let ok = |words: &[&str]| serving.ok(&world.command(words));
    let whole = world.contents("a");
    ok(&["backup", "nightly", "--tables", "a.*", "--label", "one"]);
    world.server.query("ALTER TABLE a.t DROP PARTITION 202601");
    insert(9000, "2026-02-06");
    let damaged = world.contents("a");
    assert!(damaged != whole);
    let drilled = serving.json(world.command(&["drill", "one", "--sample", "all"]));
    assert_eq!(
        (&drilled["kind"], &drilled["state"]),
        (&"drill".into(), &"done".into())
    );
    assert_eq!(world.contents("a"), damaged, "nothing of the drill is left");
    assert!(ok(&["show", "one"]).contains("proven      restorable at"));
    let preview = ok(&["restore", "one", "--in-place", "--dry-run"]);
    assert!(preview.contains("202601"), "{preview}");
    let mended = serving.json(world.command(&["restore", "one", "--in-place"]));
    assert_eq!(mended["state"], "done");
    assert_eq!(world.contents("a"), whole);
    let id = mended["operation_id"].as_str().unwrap();
    ok(&["undo", id, "--dry-run"]);
    ok(&["undo", id]);
    assert_eq!(world.contents("a"), damaged);
    let listed = ok(&["operation", "list"]);
    assert!(listed.contains(id), "{listed}");
    let said = world.fails(1, &["backup", "nightly", "--tables", "a.*"]);
    assert!(said.contains("another mendb"), "{said}");
}
