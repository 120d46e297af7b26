//! What a user names and what there is not: said, and an error unless that was allowed.

use serde_json::Value;

use crate::servers::Flavor;
use crate::world::World;

on_each_server!(
    each_pattern_of_tables_that_fits_nothing_is_an_error_unless_it_may,
    a_partition_that_is_gone_is_named_by_the_value_that_the_backup_kept,
    an_undo_brings_back_a_partition_that_was_named_by_its_value,
    what_is_left_out_of_a_restore_stays_as_it_is,
);

fn world(flavor: Flavor) -> World {
    let world = World::new(flavor);
    world.server.create_database("d");
    world.server.query(
        "CREATE TABLE d.t (a UInt64, s String) ENGINE = MergeTree PARTITION BY s ORDER BY a",
    );
    insert(&world, "x", 5);
    insert(&world, "y,z", 5);
    world
}

fn insert(world: &World, value: &str, rows: u32) {
    world.server.query(&format!(
        "INSERT INTO d.t SELECT number, '{value}' FROM system.numbers LIMIT {rows}"
    ));
}

fn rows(world: &World, value: &str) -> String {
    let count = format!("SELECT count() FROM d.t WHERE s = '{value}'");
    world.server.query(&count).trim().to_owned()
}

fn each_pattern_of_tables_that_fits_nothing_is_an_error_unless_it_may(flavor: Flavor) {
    let world = world(flavor);
    let said = world.fails(1, &["backup", "d", "--tables", "d.t,d.typo"]);
    assert!(said.contains("nothing fits --tables d.typo\n"), "{said}");
    let excluding = [
        "backup",
        "d",
        "--exclude-tables",
        "d.typo",
        "--exclude-engines",
        "Kafka",
    ];
    let said = world.fails(1, &excluding);
    assert!(
        said.contains("nothing fits --exclude-tables d.typo, --exclude-engines Kafka\n"),
        "{said}"
    );
    let said = world.fails(1, &["backup", "d", "--partitions", "'x',nosuch"]);
    assert!(
        said.contains("nothing fits --partitions nosuch\n"),
        "{said}"
    );
    assert!(world.operations().is_empty(), "nothing was begun");
    let allowed = [
        "backup",
        "d",
        "--tables",
        "d.t,d.typo",
        "--if-exists",
        "--label",
        "one",
    ];
    let told: Value = world.json(&allowed);
    assert_eq!(told["unmatched"][0]["pattern"], "d.typo", "{told}");
    // What was said then may have gone since: it is told, and no error.
    let told: Value = world.json(&["backup", "d"]);
    assert_eq!(told["unmatched"][0]["pattern"], "d.typo", "{told}");

    let restore = ["restore", "one", "--in-place", "--tables"];
    let said = world.fails(1, &[&restore[..], &["d.t,d.typo"]].concat());
    assert!(said.contains("nothing fits --tables d.typo\n"), "{said}");
    let said = world.fails(
        1,
        &["restore", "one", "--in-place", "--partitions", "nosuch"],
    );
    assert!(
        said.contains("nothing fits --partitions nosuch\n"),
        "{said}"
    );
    let some: Value = world.json(&[&restore[..], &["d.t,d.typo", "--if-exists"]].concat());
    assert_eq!(some["unmatched"][0]["pattern"], "d.typo", "{some}");
    assert_eq!(some["state"], "done");
    let none: Value = world.json(&[&restore[..], &["d.typo", "--if-exists"]].concat());
    assert_eq!(none["unmatched"][0]["selector"], "tables", "{none}");
    let none = [
        "restore",
        "one",
        "--in-place",
        "--partitions",
        "nosuch",
        "--if-exists",
    ];
    let none: Value = world.json(&none);
    assert_eq!(none["unmatched"][0]["pattern"], "nosuch", "{none}");
}

fn a_partition_that_is_gone_is_named_by_the_value_that_the_backup_kept(flavor: Flavor) {
    let world = world(flavor);
    world.backup(&["d", "--label", "one"]);
    for (value, pattern) in [("x", "x"), ("y,z", "'y,z'")] {
        world
            .server
            .query(&format!("ALTER TABLE d.t DROP PARTITION '{value}'"));
        assert_eq!(rows(&world, value), "0");
        let mended = world.mend(&["one", "--partitions", pattern]);
        assert_eq!(mended.done.fetched.rows, 5, "{pattern}");
        assert_eq!(rows(&world, value), "5");
    }
    // One that was taken over from an earlier backup is known as well.
    world.backup(&["d", "--label", "two"]);
    world.server.query("ALTER TABLE d.t DROP PARTITION 'x'");
    let mended = world.mend(&["two", "--partitions", "x"]);
    assert_eq!(mended.done.fetched.rows, 5);
}

fn an_undo_brings_back_a_partition_that_was_named_by_its_value(flavor: Flavor) {
    let world = world(flavor);
    world.backup(&["d"]);
    insert(&world, "new", 7);
    let mended = world.mend(&["d", "--partitions", "new"]);
    assert_eq!(
        (mended.done.removed.rows, rows(&world, "new").as_str()),
        (7, "0")
    );
    world.ok(&["undo", &mended.operation_id]);
    assert_eq!(rows(&world, "new"), "7");
}

fn what_is_left_out_of_a_restore_stays_as_it_is(flavor: Flavor) {
    let world = world(flavor);
    let create = "(a UInt64) ENGINE = MergeTree ORDER BY a";
    world
        .server
        .query(&format!("CREATE TABLE d.source {create}"));
    world.server.query(
        "CREATE MATERIALIZED VIEW d.view ENGINE = SummingMergeTree ORDER BY a AS SELECT a FROM d.source",
    );
    world.server.query("INSERT INTO d.source VALUES (1), (2)");
    world.backup(&["d"]);
    insert(&world, "x", 1);
    world.server.query("INSERT INTO d.source VALUES (3)");
    let tables = |arguments: &[&str]| -> Vec<String> {
        let preview = world.preview(&[&["d"], arguments].concat());
        let names = preview.tables.iter().map(|plan| plan.target.to_string());
        names.collect()
    };
    assert_eq!(tables(&[]).len(), 3);
    assert_eq!(tables(&["--exclude-tables", "d.t"]).len(), 2);
    // The table of a view goes with its view.
    let with_view = tables(&["--tables", "d.view"]);
    assert_eq!(with_view, ["d..inner.view"]);
    let without = ["--exclude-engines", "MaterializedView,SummingMergeTree"];
    assert_eq!(tables(&without).len(), 2);
    let mended = world.mend(&["d", "--exclude-tables", "d.view,d.source"]);
    assert_eq!(mended.done.removed.rows, 1);
    assert_eq!(world.server.query("SELECT count() FROM d.source"), "3\n");
}
