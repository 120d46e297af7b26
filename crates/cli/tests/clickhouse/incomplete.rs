//! One table is one table: what cannot be backed up keeps nothing else from it.

use serde::Deserialize;
use serde_json::Value;

use crate::servers::{Flavor, ServerOptions};
use crate::world::World;

on_each_server!(
    tables_of_the_deprecated_syntax_are_backed_up_mended_and_undone,
    a_table_of_the_deprecated_syntax_comes_back_when_it_is_absent,
    names_that_are_printed_alike_are_told_apart,
    tables_that_are_dropped_while_a_backup_begins_are_not_in_it_and_nothing_is_lacking,
    a_table_with_an_unreadable_part_is_lacked_and_the_others_are_backed_up,
);

#[derive(Debug, Deserialize)]
struct Lacking {
    complete: bool,
    missing: Vec<Missing>,
    totals: Value,
}

#[derive(Debug, Deserialize)]
struct Missing {
    name: Value,
    reason: String,
}

fn world(flavor: Flavor) -> World {
    let world = World::new(flavor);
    world.server.create_database("d");
    world
}

fn create_deprecated(world: &World) {
    let create = "CREATE TABLE d.old (d Date, a UInt64) ENGINE = MergeTree(d, (a), 8192)";
    if world.is_current() {
        let create = format!("{create} SETTINGS allow_deprecated_syntax_for_merge_tree = 1");
        world.server.query(&create);
    } else {
        world.server.query(create);
    }
}

/// Sixty days from the first of January on.
fn fill_deprecated(world: &World) {
    world.server.query(
        "INSERT INTO d.old SELECT toDate('2024-01-01') + number, number FROM system.numbers LIMIT 60",
    );
    world
        .server
        .query("INSERT INTO d.old SELECT toDate('2024-01-05'), number FROM system.numbers LIMIT 9");
}

fn tables_of_the_deprecated_syntax_are_backed_up_mended_and_undone(flavor: Flavor) {
    let world = world(flavor);
    create_deprecated(&world);
    fill_deprecated(&world);
    world
        .server
        .query("CREATE TABLE d.new (a UInt64) ENGINE = MergeTree ORDER BY a");
    let before = world.contents("d");
    let taken = world.backup(&["d"]);
    assert_eq!(taken.totals.rows, 69);
    world
        .server
        .query("ALTER TABLE d.old DROP PARTITION 202401");
    world
        .server
        .query("INSERT INTO d.old SELECT toDate('2024-02-01'), number FROM system.numbers LIMIT 5");
    let damaged = world.contents("d");
    let mended = world.mend(&["d"]);
    assert_eq!(
        (mended.done.fetched.rows, mended.done.removed.rows),
        (40, 5)
    );
    assert_eq!(world.contents("d"), before);
    world.is_mended("d", &["d"]);
    world.ok(&["undo", &mended.operation_id]);
    assert_eq!(world.contents("d"), damaged);
    // One month alone, by its id.
    let mended = world.mend(&["d", "--partitions", "202402"]);
    assert_eq!(mended.done.fetched.parts, 0);
    assert_ne!(world.contents("d"), before);
    world.mend(&["d"]);
    assert_eq!(world.contents("d"), before);
    let again = world.backup(&["d"]);
    assert_eq!(again.totals.rows, 69);
}

fn a_table_of_the_deprecated_syntax_comes_back_when_it_is_absent(flavor: Flavor) {
    let world = world(flavor);
    create_deprecated(&world);
    fill_deprecated(&world);
    let before = world.contents("d");
    world.backup(&["d", "--partitions", "202401,202402"]);
    let sync = if world.is_current() { "SYNC" } else { "" };
    world.server.query(&format!("DROP TABLE d.old {sync}"));
    world.ok(&["restore", "d"]);
    assert_eq!(world.contents("d"), before);
    world.is_mended("d", &["d"]);
}

fn names_that_are_printed_alike_are_told_apart(flavor: Flavor) {
    let world = World::new(flavor);
    for (database, table, rows) in [("a.b", "c", 3), ("a", "b.c", 5)] {
        world.server.create_database(database);
        let name = format!("`{database}`.`{table}`");
        world.server.query(&format!(
            "CREATE TABLE {name} (k UInt32) ENGINE = MergeTree ORDER BY k"
        ));
        world.server.query(&format!(
            "INSERT INTO {name} SELECT toUInt32(number) FROM system.numbers LIMIT {rows}"
        ));
    }
    let count = |name: &str| world.server.query(&format!("SELECT count() FROM {name}"));
    let taken = world.backup(&["all", "--tables", "a.b.c"]);
    assert_eq!((taken.totals.tables, taken.totals.rows), (2, 8));
    world.server.query("INSERT INTO `a.b`.c VALUES (77)");
    world.server.query("INSERT INTO a.`b.c` VALUES (77), (78)");
    let mended = world.mend(&["all", "--tables", "`a.b`.c"]);
    assert_eq!(mended.done.removed.rows, 1);
    assert_eq!(
        (count("`a.b`.c"), count("a.`b.c`")),
        ("3\n".to_owned(), "7\n".to_owned())
    );
    world.ok(&["undo", &mended.operation_id]);
    let mended = world.mend(&["all"]);
    assert_eq!(mended.done.removed.rows, 3);
    assert_eq!(
        (count("`a.b`.c"), count("a.`b.c`")),
        ("3\n".to_owned(), "5\n".to_owned())
    );
    let one = world.backup(&["one", "--tables", "a.b.c", "--exclude-tables", "a.`b.c`"]);
    assert_eq!((one.totals.tables, one.totals.rows), (1, 3));
}

fn tables_that_are_dropped_while_a_backup_begins_are_not_in_it_and_nothing_is_lacking(
    flavor: Flavor,
) {
    let world = world(flavor);
    world
        .server
        .query("CREATE TABLE d.stays (k UInt32) ENGINE = MergeTree ORDER BY k");
    world.server.query("INSERT INTO d.stays VALUES (1), (2)");
    let sync = if world.is_current() { "SYNC" } else { "" };
    for round in 0..6 {
        for at in 0..12 {
            world.server.query(&format!(
                "CREATE TABLE d.goes_{at} (k UInt32) ENGINE = MergeTree ORDER BY k"
            ));
            world
                .server
                .query(&format!("INSERT INTO d.goes_{at} VALUES ({round})"));
        }
        let label = format!("round-{round}");
        let (told, _) = std::thread::scope(|scope| {
            let backup = scope.spawn(|| world.json::<Value>(&["backup", "d", "--label", &label]));
            let drops = scope.spawn(|| {
                for at in 0..12 {
                    world
                        .server
                        .query(&format!("DROP TABLE d.goes_{at} {sync}"));
                }
            });
            (backup.join().unwrap(), drops.join().unwrap())
        });
        assert_eq!(told["complete"], true, "{told}");
        let shown: Value = world.json(&["show", &label]);
        let tables = shown["data"].as_array().unwrap();
        assert!(
            tables.iter().any(|table| table["table"] == "d.stays"),
            "{shown}"
        );
        world.ok(&["verify", &label]);
    }
}

fn a_table_with_an_unreadable_part_is_lacked_and_the_others_are_backed_up(flavor: Flavor) {
    let world = world(flavor);
    for table in ["bad", "good"] {
        world.server.query(&format!(
            "CREATE TABLE d.{table} (k UInt32) ENGINE = MergeTree ORDER BY k"
        ));
        world.server.query(&format!(
            "INSERT INTO d.{table} SELECT toUInt32(number) FROM system.numbers LIMIT 100"
        ));
    }
    let whole = world.backup(&["d", "--label", "whole"]);
    world.server.query("INSERT INTO d.bad VALUES (7)");
    let part = world.parts("d", "bad").pop().unwrap();
    let checksums = part.directory.join("checksums.txt");
    let good = std::fs::read(&checksums).unwrap();
    std::fs::write(&checksums, "no checksums").unwrap();
    let (lacking, _): (Lacking, _) = world.fails_with(3, &["backup", "d", "--label", "half"]);
    assert!(!lacking.complete);
    assert_eq!(lacking.totals["tables"], 1);
    let [missing] = lacking.missing.as_slice() else {
        panic!("{lacking:?}");
    };
    assert_eq!(missing.name["table"], "bad");
    assert!(missing.reason.contains(&part.name), "{missing:?}");
    world.ok(&["backup", "d", "--label", "again", "--allow-incomplete"]);
    // The advice: leave it out. The next backup leaves out what this did.
    let told: Value = world.json(&[
        "backup",
        "rest",
        "--tables",
        "d.*",
        "--exclude-tables",
        "d.bad",
    ]);
    assert_eq!(
        (&told["complete"], &told["totals"]["tables"]),
        (&true.into(), &1.into())
    );
    let next: Value = world.json(&["backup", "rest"]);
    assert_eq!(
        (&next["complete"], &next["totals"]["tables"]),
        (&true.into(), &1.into())
    );

    // Everything says it.
    let listed: Vec<Value> = world.json(&["list", "d"]);
    let complete: Vec<&Value> = listed.iter().map(|backup| &backup["complete"]).collect();
    assert_eq!(complete, [true, false, false]);
    assert!(world.ok(&["list", "d"]).contains("incomplete: lacks d.bad"));
    assert!(
        world
            .ok(&["show", "half"])
            .contains("incomplete: it lacks\n  d.bad: ")
    );
    world.ok(&["verify", "half"]);

    // Nothing takes it that was not told to.
    std::fs::write(&checksums, good).unwrap();
    let preview = world.preview(&["d"]);
    assert_eq!(preview.tables.len(), 2, "the backup before it is taken");
    let mended: Value = world.json(&["restore", "--in-place", "half"]);
    assert_eq!(mended["mended"].as_array().unwrap().len(), 1);
    world.ok(&["delete", &format!("d/{}", whole.backup_id)]);
    let said = world.fails(1, &["restore", "--in-place", "d"]);
    assert!(
        said.contains("is incomplete") && said.contains("lacks d.bad"),
        "{said}"
    );
    let taken: Value = world.json(&["backup", "d"]);
    assert_eq!(
        (&taken["complete"], &taken["totals"]["tables"]),
        (&true.into(), &2.into())
    );
}

#[test]
fn a_table_on_object_storage_is_lacked_with_the_reason_until_it_is_left_out() {
    let options = ServerOptions {
        objects: true,
        ..ServerOptions::default()
    };
    let world = World::with(Flavor::Current, options);
    world.server.create_database("d");
    let create = "ENGINE = MergeTree ORDER BY k SETTINGS storage_policy =";
    world
        .server
        .query(&format!("CREATE TABLE d.far (k UInt32) {create} 'objects'"));
    world.server.query(&format!(
        "CREATE TABLE d.near (k UInt32) {create} 'default'"
    ));
    world.server.query("INSERT INTO d.near VALUES (1)");
    let (lacking, _): (Lacking, _) = world.fails_with(3, &["backup", "d"]);
    let reason = &lacking.missing[0].reason;
    assert!(reason.contains("--exclude-disks objects"), "{reason}");
    let taken = world.backup(&["d", "--exclude-disks", "objects"]);
    assert_eq!(taken.totals.tables, 1);
    // Where nothing can be had, nothing is called a backup.
    let said = world.fails(1, &["backup", "far", "--tables", "d.far"]);
    assert!(
        said.contains("no table with data could be backed up"),
        "{said}"
    );
    // In the settings it is left out for good, and need not be there.
    let settings = ["MENDB_CLICKHOUSE_EXCLUDE_TABLES", "d.far,d.nosuch"];
    let output = world
        .command(&["backup", "all", "--tables", "d.*", "--output", "json"])
        .env(settings[0], settings[1])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}
