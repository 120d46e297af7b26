//! Tables that are no MergeTree: the Log family, Join and Set are backed up and mended with their rows, and of
//! others it is said that only their definition is kept.

use serde_json::Value;

use crate::points::points;
use crate::servers::{Flavor, ServerOptions};
use crate::world::{Mended, World};

on_each_server!(
    tables_of_files_come_back_with_their_rows,
    a_table_of_files_is_mended_at_once_and_its_mend_is_undone,
    what_came_into_a_table_of_files_after_planning_stays,
    what_is_only_defined_is_said,
);

const TABLES: [&str; 5] = ["l", "t", "s", "j", "e"];

/// A table of each kind, with rows that came in two inserts.
fn world(flavor: Flavor) -> World {
    let world = World::new(flavor);
    let server = &world.server;
    server.create_database("logs");
    for (name, engine) in [
        ("l", "Log"),
        ("t", "TinyLog"),
        ("s", "StripeLog"),
        ("j", "Join(ANY, LEFT, k)"),
        ("e", "Set"),
    ] {
        let columns = if name == "e" {
            "k UInt64"
        } else {
            "k UInt64, `a.b` Array(String)"
        };
        server.query(&format!(
            "CREATE TABLE logs.{name} ({columns}) ENGINE = {engine}"
        ));
        insert(&world, name, 0);
        insert(&world, name, 1000);
    }
    world.backup(&["logs", "--label", "one"]);
    world
}

fn insert(world: &World, table: &str, from: u64) {
    let value = if table == "e" {
        ""
    } else {
        ", [toString(number)]"
    };
    world.server.query(&format!(
        "INSERT INTO logs.{table} SELECT number + {from}{value} FROM system.numbers LIMIT 1000"
    ));
}

/// Sums of the rows of each table. A set is asked what it has.
fn contents(world: &World) -> Vec<String> {
    let sum = |table: &str| {
        match table {
        "e" => "SELECT count(), sum(number) FROM (SELECT number FROM system.numbers LIMIT 10000) WHERE number IN logs.e"
            .to_owned(),
        _ => format!("SELECT count(), sum(cityHash64(k, `a.b`)) FROM logs.{table}"),
    }
    };
    TABLES
        .iter()
        .map(|table| world.server.query(&sum(table)))
        .collect()
}

fn tables_of_files_come_back_with_their_rows(flavor: Flavor) {
    let world = world(flavor);
    let whole = contents(&world);
    let shown: Value = world.json(&["show", "one"]);
    for table in shown["data"].as_array().unwrap() {
        assert!(table["bytes"].as_u64().unwrap() > 0, "{table}");
        assert_eq!(table["only_definition"], false);
    }
    world.ok(&["verify", "logs"]);
    for table in TABLES {
        world.server.query(&format!("DROP TABLE logs.{table}"));
    }
    let restored: Mended = world.json(&["restore", "logs"]);
    assert_eq!(restored.done.fetched.parts, 5);
    assert_eq!(contents(&world), whole);

    // They go on as any table does, also over a restart of another server.
    let other = world.beside(ServerOptions::default());
    other.ok(&["restore", "logs"]);
    assert_eq!(contents(&other), whole);
    insert(&other, "l", 5000);
    let count = other.server.query("SELECT count() FROM logs.l");
    assert_eq!(count, "3000\n");
    world.is_mended("logs", &["logs"]);
}

fn a_table_of_files_is_mended_at_once_and_its_mend_is_undone(flavor: Flavor) {
    let world = world(flavor);
    let whole = contents(&world);
    let unchanged = world.mend(&["logs"]);
    assert_eq!(
        (unchanged.done.kept.parts, unchanged.done.fetched.parts),
        (5, 0)
    );
    for table in TABLES {
        insert(&world, table, 7000);
    }
    world.server.query("TRUNCATE TABLE logs.t");
    let changed = contents(&world);
    let output = world.run(&["verify", "logs", "--live"]);
    assert_eq!(output.status.code(), Some(3));

    let mended: Mended = world.json(&["restore", "logs", "--in-place", "--keep-undo"]);
    assert_eq!(
        (mended.done.fetched.parts, mended.done.removed.parts),
        (5, 4)
    );
    assert_eq!(contents(&world), whole);
    world.ok(&["verify", "logs", "--live"]);
    // What was kept to undo by does not change with the table.
    for table in TABLES {
        insert(&world, table, 3000);
    }
    let came = contents(&world);
    let said = world.fails(1, &["undo", &mended.operation_id]);
    assert!(said.contains("into table logs."), "{said}");
    assert_eq!(contents(&world), came);
    let remove = ["--on-concurrent-insert", "remove"];
    world.ok(&[&["undo", &mended.operation_id][..], &remove].concat());
    assert_eq!(contents(&world), changed);
    let left = world
        .server
        .query("SELECT name FROM system.tables WHERE database = 'logs' ORDER BY name");
    assert_eq!(left, "e\nj\nl\ns\nt\n");
}

fn what_came_into_a_table_of_files_after_planning_stays(flavor: Flavor) {
    let world = world(flavor);
    let whole = contents(&world);
    let (mut refused, mut gone_on) = (0, 0);
    for point in points(5) {
        insert(&world, "l", 7000);
        let mut command = world.command(&["restore", "logs", "--in-place", "--tables", "logs.l"]);
        let output = command
            .env("MENDB_CRASH_AT", point.to_string())
            .output()
            .unwrap();
        if output.status.success() {
            break;
        }
        let is_open = |operation: &&Value| {
            let is_over = ["done", "cancelled"].contains(&operation["state"].as_str().unwrap());
            operation["kind"] == "mend" && !is_over
        };
        let operations = world.operations();
        if let Some(open) = operations.iter().find(is_open) {
            insert(&world, "l", 50_000);
            let id = open["operation_id"].as_str().unwrap();
            let went_on = world.run(&["operation", "watch", id]);
            let late = world
                .server
                .query("SELECT count() FROM logs.l WHERE k >= 50000");
            if went_on.status.success() {
                gone_on += 1;
            } else {
                refused += 1;
                let said = String::from_utf8_lossy(&went_on.stderr);
                // It came before the commit, or after it and before the proof.
                let expected = [
                    "came after the mend was planned",
                    "after they were committed",
                ];
                assert!(expected.iter().any(|text| said.contains(text)), "{said}");
                // A table of files is one thing: what came cannot be told apart in it, and it is left.
                let code = world.run(&["operation", "cancel", id]).status.code();
                assert!(matches!(code, Some(0 | 3)), "{code:?}");
            }
            // Where it was not planned yet, it is as any other row that the backup does not have.
            let is_planned = refused > 0;
            assert!(
                late == "1000\n" || !is_planned && late == "0\n",
                "stopped at {point}: {late}"
            );
        }
        world.ok(&["restore", "logs", "--in-place"]);
        assert_eq!(contents(&world), whole, "stopped at {point}");
    }
    assert!(refused > 0 && gone_on > 0, "{refused} {gone_on}");
}

fn what_is_only_defined_is_said(flavor: Flavor) {
    let world = World::new(flavor);
    world.server.create_database("d");
    world
        .server
        .query("CREATE TABLE d.m (k UInt64) ENGINE = Memory");
    world.server.query("CREATE VIEW d.v AS SELECT k FROM d.m");
    let mut only_defined = vec!["d.m"];
    if world.is_current() {
        world
            .server
            .query("CREATE TABLE d.j (k UInt64) ENGINE = Set SETTINGS persistent = 0");
        world.server.query("INSERT INTO d.j VALUES (1)");
        only_defined.push("d.j");
    }
    world.backup(&["d", "--label", "one"]);
    let told = world.ok(&["show", "one"]);
    let line = |name: &str| {
        told.lines()
            .find(|line| line.contains(name))
            .unwrap()
            .to_owned()
    };
    for name in only_defined {
        let line = line(name);
        assert!(line.ends_with("only the definition is kept"), "{told}");
    }
    if world.is_current() {
        world.ok(&["restore", "d", "--in-place"]);
    }
    assert!(!line("d.v").contains("definition"), "{told}");
}

#[test]
fn inserts_that_go_on_are_in_a_backup_to_some_row() {
    let world = World::new(Flavor::Current);
    world.server.create_database("logs");
    world
        .server
        .query("CREATE TABLE logs.l (k UInt64, v String) ENGINE = Log");
    insert_numbers(&world, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..200 {
                insert_numbers(&world, number);
            }
        });
        for number in 0..5 {
            world.backup(&["logs", "--label", &format!("b{number}")]);
        }
    });
    for number in 0..5 {
        let other = world.beside(ServerOptions::default());
        other.ok(&["restore", &format!("b{number}")]);
        // Whole inserts, and all columns alike.
        let wrong = other
            .server
            .query("SELECT countIf(toString(k) != v), count() % 100 FROM logs.l");
        assert_eq!(wrong, "0\t0\n");
    }
}

fn insert_numbers(world: &World, number: u32) {
    world.server.query(&format!(
        "INSERT INTO logs.l SELECT number + {number} AS n, toString(n) FROM system.numbers LIMIT 100"
    ));
}
