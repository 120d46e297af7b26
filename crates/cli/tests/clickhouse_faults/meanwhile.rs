//! What servers and others do between the steps of a mend, of its cancel and of its undo, is told apart from
//! what the mend may take away.

use serde_json::Value;

use crate::crash::few;
use crate::points::{MOST_POINTS, points};
use crate::servers::{Flavor, ServerOptions};
use crate::world::{Mended, World};

const MEND: [&str; 3] = ["restore", "m", "--in-place"];

fn world_with(flavor: Flavor, options: ServerOptions) -> World {
    let world = World::with(flavor, options);
    world.server.create_database("m");
    world
}

fn world(flavor: Flavor) -> World {
    let options = ServerOptions {
        part_log: true,
        ..ServerOptions::default()
    };
    world_with(flavor, options)
}

/// Sums that merges of such a table leave alone.
fn sums(world: &World, table: &str) -> String {
    let sql = format!("SELECT k, sum(v) FROM m.{table} GROUP BY k ORDER BY k");
    world.server.query(&sql)
}

fn create(world: &World, table: &str, engine: &str) {
    world.server.query(&format!(
        "CREATE TABLE m.{table} (k UInt64, v UInt64) ENGINE = {engine} ORDER BY k \
         SETTINGS index_granularity = 8192"
    ));
}

fn insert(world: &World, table: &str, from: u64) {
    world.server.query(&format!(
        "INSERT INTO m.{table} SELECT number + {from}, 1 FROM system.numbers LIMIT 10"
    ));
}

/// Merges of all tables run, and run now.
fn merge(world: &World, tables: &[&str]) {
    world.start_merges();
    for table in tables {
        let _ = world
            .server
            .try_query(&format!("OPTIMIZE TABLE m.{table} FINAL"));
    }
}

/// Cancels, or does what is advised where that is too late, or where what was just brought was merged before it
/// was remembered.
fn taken_back(world: &World, id: &str, point: u64) {
    let output = world.run(&["operation", "cancel", id]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code() {
        Some(0) => {}
        Some(3) => {
            assert!(
                said.contains("cannot be told apart"),
                "stopped at {point}: {said}"
            );
            world.ok(&["undo", id, "--on-concurrent-insert", "remove"]);
        }
        _ => {
            assert!(said.contains("let it finish"), "stopped at {point}: {said}");
            world.ok(&["operation", "watch", id]);
            world.ok(&["undo", id]);
        }
    }
}

/// Lets a mend end, and does what is advised where what was just brought was merged before it was remembered.
fn ended(world: &World, id: &str, point: u64) {
    let output = world.run(&["operation", "watch", id]);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains("came after the mend was planned"),
            "stopped at {point}: {said}"
        );
        world.ok(&["operation", "resume", id]);
    }
}

/// Stops a mend at a persisted step. Returns its id, or `None` if it was done before that step.
fn stopped_at(world: &World, arguments: &[&str], point: u64) -> Option<String> {
    let mut command = world.command(arguments);
    command.env("MENDB_CRASH_AT", point.to_string());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() || output.status.code().is_none(),
        "{said}"
    );
    (!output.status.success()).then(|| open_mend(world).unwrap_or_default())
}

fn open_mend(world: &World) -> Option<String> {
    let is_open = |operation: &&Value| {
        let state = operation["state"].as_str().unwrap();
        !["done", "cancelled"].contains(&state)
    };
    let operations = world.operations();
    let open = operations.iter().find(is_open)?;
    Some(open["operation_id"].as_str().unwrap().to_owned())
}

on_each_server!(
    a_cancel_brings_back_what_was_although_the_server_has_merged,
    a_mend_ends_although_the_server_merges_what_it_brought,
    a_resume_after_late_inserts_plans_again_and_ends,
    a_resume_removes_only_what_was_told,
    late_inserts_stay_where_that_is_asked_for_and_the_mend_ends,
    an_undo_refuses_to_remove_what_was_inserted_since,
    what_was_inserted_since_with_the_content_of_a_part_is_no_part_of_the_backup,
    an_undo_removes_what_the_mend_created_and_keeps_what_came_into_it,
    equal_numbers_of_another_load_prove_nothing,
);

fn a_cancel_brings_back_what_was_although_the_server_has_merged(flavor: Flavor) {
    let world = world(flavor);
    create(&world, "a", "MergeTree");
    create(&world, "b", "SummingMergeTree");
    for from in [0, 100, 200] {
        insert(&world, "a", from);
        insert(&world, "b", from);
    }
    world.backup(&["m"]);
    world.mutate("ALTER TABLE m.a DELETE WHERE k < 105");
    insert(&world, "a", 900);
    insert(&world, "b", 0);
    let was = || (sums(&world, "a"), sums(&world, "b"));
    let before = was();
    for point in points(few(flavor)) {
        let Some(id) = stopped_at(&world, &MEND, point) else {
            assert!(point > 20, "it was stopped {point} times only");
            return;
        };
        merge(&world, &["a", "b"]);
        if !id.is_empty() {
            taken_back(&world, &id, point);
        } else if was() != before {
            // It was over, and could not say so.
            let operations = world.operations();
            let mut mends = operations
                .iter()
                .filter(|operation| operation["kind"] == "mend");
            let last = mends.next_back().unwrap();
            world.ok(&["undo", last["operation_id"].as_str().unwrap()]);
        }
        assert_eq!(was(), before, "stopped at {point}");
    }
    panic!("a mend has more than {MOST_POINTS} persisted steps");
}

fn a_mend_ends_although_the_server_merges_what_it_brought(flavor: Flavor) {
    let world = world(flavor);
    let tables = ["s", "t"];
    create(&world, "s", "SummingMergeTree");
    create(&world, "t", "ReplacingMergeTree");
    for table in tables {
        insert(&world, table, 0);
        insert(&world, table, 5);
    }
    world.backup(&["m"]);
    let backed_up = (
        sums(&world, "s"),
        world.server.query("SELECT * FROM m.t FINAL ORDER BY k"),
    );
    for point in points(few(flavor)) {
        for table in tables {
            world.server.query(&format!("TRUNCATE TABLE m.{table}"));
            insert(&world, table, 700);
        }
        let stopped = stopped_at(&world, &MEND, point);
        merge(&world, &tables);
        if stopped.is_some() {
            match open_mend(&world) {
                Some(id) => ended(&world, &id, point),
                None => drop(world.ok(&MEND)),
            }
        }
        let now = (
            sums(&world, "s"),
            world.server.query("SELECT * FROM m.t FINAL ORDER BY k"),
        );
        assert_eq!(now, backed_up, "stopped at {point}");
        if stopped.is_none() {
            world.backup(&["m"]);
            return;
        }
    }
    panic!("a mend has more than {MOST_POINTS} persisted steps");
}

/// A table with a part of the backup missing, and rows that came while its mend was stopped.
fn late(world: &World, policy: &str) -> (String, String) {
    create(world, "a", "MergeTree");
    insert(world, "a", 0);
    insert(world, "a", 100);
    world.backup(&["m"]);
    let backed_up = sums(world, "a");
    world.mutate("ALTER TABLE m.a DELETE WHERE k >= 100");
    let arguments = [&MEND[..], &["--on-concurrent-insert", policy]].concat();
    // The table was planned and staged, and is not changed.
    let point = points(2).find(|point| {
        let Some(id) = stopped_at(world, &arguments, *point) else {
            panic!("it was done before it had staged");
        };
        let is_staged = world.operations().iter().any(|operation| {
            operation["operation_id"] == id.as_str()
                && operation["step"].as_str().unwrap().contains("commit")
        });
        if !is_staged && !id.is_empty() {
            world.ok(&["operation", "cancel", &id]);
        }
        is_staged
    });
    assert!(point.is_some());
    insert(world, "a", 500);
    (open_mend(world).unwrap(), backed_up)
}

fn a_resume_after_late_inserts_plans_again_and_ends(flavor: Flavor) {
    let world = world(flavor);
    let (id, backed_up) = late(&world, "fail");
    let said = world.fails(1, &["operation", "watch", &id]);
    assert!(said.contains("came after the mend was planned"), "{said}");
    assert!(
        said.contains(&format!("mendb operation resume {id}")),
        "{said}"
    );
    assert_eq!(
        world.server.query("SELECT count() FROM m.a WHERE k >= 500"),
        "10\n"
    );
    world.ok(&["operation", "resume", &id]);
    assert_eq!(sums(&world, "a"), backed_up);
}

fn a_resume_removes_only_what_was_told(flavor: Flavor) {
    let world = world(flavor);
    let (id, backed_up) = late(&world, "fail");
    world.fails(1, &["operation", "watch", &id]);
    insert(&world, "a", 700);
    let said = world.fails(1, &["operation", "resume", &id]);
    assert!(said.contains("came after the mend was planned"), "{said}");
    let came = "SELECT count() FROM m.a WHERE k >= 500";
    assert_eq!(world.server.query(came), "20\n", "nothing untold goes");
    world.ok(&["operation", "resume", &id]);
    assert_eq!(sums(&world, "a"), backed_up);
}

fn late_inserts_stay_where_that_is_asked_for_and_the_mend_ends(flavor: Flavor) {
    let world = world(flavor);
    let (id, backed_up) = late(&world, "fail");
    world.fails(1, &["operation", "watch", &id]);
    world.ok(&["operation", "resume", &id, "--on-concurrent-insert", "keep"]);
    assert_eq!(
        world.server.query("SELECT count() FROM m.a WHERE k >= 500"),
        "10\n"
    );
    world.server.query("ALTER TABLE m.a DELETE WHERE k >= 500");
    world.mutations_end();
    assert_eq!(sums(&world, "a"), backed_up);
}

fn an_undo_refuses_to_remove_what_was_inserted_since(flavor: Flavor) {
    // What went is off the disk soon: over its gap the server does not merge.
    let options = ServerOptions {
        part_log: true,
        old_parts_lifetime_s: Some(1),
        ..ServerOptions::default()
    };
    let world = world_with(flavor, options);
    create(&world, "a", "MergeTree");
    insert(&world, "a", 0);
    world.backup(&["m"]);
    insert(&world, "a", 100);
    let before = sums(&world, "a");
    let id = world.mend(&["m"]).operation_id;
    insert(&world, "a", 500);
    let told = world.fails(1, &["undo", &id]);
    assert!(told.contains("rows came into table m.a"), "{told}");
    assert_eq!(
        world.server.query("SELECT count() FROM m.a WHERE k >= 500"),
        "10\n"
    );
    world.ok(&["undo", &id, "--on-concurrent-insert", "keep"]);
    assert_eq!(
        world.server.query("SELECT count() FROM m.a WHERE k >= 500"),
        "10\n"
    );
    assert_eq!(
        world.server.query("SELECT count() FROM m.a WHERE k < 500"),
        "20\n"
    );

    // And what was merged with the rest goes only where that is asked for.
    world.mutate("ALTER TABLE m.a DELETE WHERE k >= 500");
    let id = world.mend(&["m"]).operation_id;
    insert(&world, "a", 500);
    world.settle();
    merge(&world, &["a"]);
    world.fails(1, &["undo", &id]);
    world.fails(1, &["undo", &id, "--on-concurrent-insert", "keep"]);
    world.ok(&["undo", &id, "--on-concurrent-insert", "remove"]);
    assert_eq!(sums(&world, "a"), before);
}

fn what_was_inserted_since_with_the_content_of_a_part_is_no_part_of_the_backup(flavor: Flavor) {
    let world = world(flavor);
    create(&world, "a", "MergeTree");
    insert(&world, "a", 0);
    world.backup(&["m"]);
    insert(&world, "a", 100);
    let id = world.mend(&["m"]).operation_id;
    insert(&world, "a", 0);
    let told = world.fails(1, &["undo", &id]);
    assert!(told.contains("rows came into table m.a"), "{told}");
    world.ok(&["undo", &id, "--on-concurrent-insert", "keep"]);
    assert_eq!(world.server.query("SELECT count() FROM m.a"), "30\n");
}

fn an_undo_removes_what_the_mend_created_and_keeps_what_came_into_it(flavor: Flavor) {
    let world = world(flavor);
    for table in ["gone", "other", "aside"] {
        create(&world, table, "MergeTree");
        insert(&world, table, 0);
    }
    world.backup(&["m"]);
    for table in ["gone", "other", "aside"] {
        let sync = if world.is_current() { " SYNC" } else { "" };
        world.server.query(&format!("DROP TABLE m.{table}{sync}"));
    }
    world.server.query(
        "CREATE TABLE m.aside (k UInt64, v UInt64, w UInt64) ENGINE = MergeTree ORDER BY (k, v)",
    );
    world.server.query("INSERT INTO m.aside VALUES (1, 2, 3)");
    let mended: Mended = world.json(&[&MEND[..], &["--schema", "--data"]].concat());
    assert_eq!(sums(&world, "aside").lines().count(), 10);
    insert(&world, "other", 500);
    world.ok(&[
        "undo",
        &mended.operation_id,
        "--on-concurrent-insert",
        "keep",
    ]);
    let tables = world.server.query("SHOW TABLES FROM m");
    assert_eq!(tables, "aside\nother\n");
    assert_eq!(world.server.query("SELECT * FROM m.aside"), "1\t2\t3\n");
    assert_eq!(
        world.server.query("SELECT min(k), count() FROM m.other"),
        "500\t10\n"
    );
}

/// Without a log of parts, numbers are given again once a table was loaded anew.
fn equal_numbers_of_another_load_prove_nothing(flavor: Flavor) {
    let options = ServerOptions {
        old_parts_lifetime_s: Some(1),
        ..ServerOptions::default()
    };
    let world = world_with(flavor, options);
    world.server.query(
        "CREATE TABLE m.a (k UInt64, v UInt64) ENGINE = MergeTree PARTITION BY k >= 100 ORDER BY k \
         SETTINGS index_granularity = 8192",
    );
    for from in [0, 100, 200] {
        insert(&world, "a", from);
    }
    world.backup(&["m"]);
    let backed_up = sums(&world, "a");
    world.server.query("ALTER TABLE m.a DROP PARTITION ID '1'");
    world.settle();
    let sync = if world.is_current() { " SYNC" } else { "" };
    world.server.query(&format!("DETACH TABLE m.a{sync}"));
    world.server.query("ATTACH TABLE m.a");
    insert(&world, "a", 666);
    insert(&world, "a", 777);
    merge(&world, &["a"]);
    let verified = world.run(&["verify", "m", "--live"]);
    assert_eq!(
        verified.status.code(),
        Some(3),
        "other rows are called equal"
    );
    world.ok(&MEND);
    assert_eq!(sums(&world, "a"), backed_up);
    world.ok(&["verify", "m", "--live"]);
}

/// Updates that a server keeps beside the parts go into them before a mend keeps what was.
#[test]
fn updates_beside_the_parts_are_mended_taken_back_and_undone() {
    let world = world(Flavor::Current);
    world.server.query(
        "CREATE TABLE m.a (k UInt64, v UInt64) ENGINE = MergeTree ORDER BY k \
         SETTINGS enable_block_number_column = 1, enable_block_offset_column = 1",
    );
    insert(&world, "a", 0);
    insert(&world, "a", 100);
    world.backup(&["m"]);
    let backed_up = sums(&world, "a");
    let update = || {
        world.server.query(
            "UPDATE m.a SET v = 5 WHERE k % 10 = 3 \
             SETTINGS enable_lightweight_update = 1, allow_experimental_lightweight_update = 1",
        );
        sums(&world, "a")
    };
    let updated = update();
    let mended: Mended = world.json(&MEND);
    assert_eq!(sums(&world, "a"), backed_up);
    world.ok(&["undo", &mended.operation_id]);
    assert_eq!(sums(&world, "a"), updated);
    world.ok(&MEND);

    let updated = update();
    for point in points(11) {
        let Some(id) = stopped_at(&world, &MEND, point) else {
            return assert_eq!(sums(&world, "a"), backed_up);
        };
        if id.is_empty() {
            continue;
        }
        taken_back(&world, &id, point);
        assert_eq!(sums(&world, "a"), updated, "stopped at {point}");
    }
    panic!("a mend has more than {MOST_POINTS} persisted steps");
}
