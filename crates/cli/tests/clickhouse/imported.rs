//! Backups that clickhouse-backup made: mended from like from our own.

use std::path::Path;

use serde_json::{Value, json};

use crate::clickhouse_backup::{Layout, as_of_ordinary, back_up, from};
use crate::servers::Flavor;
use crate::world::{Mended, Preview, World};

on_each_server!(
    tables_are_mended_from_a_local_backup,
    tables_are_mended_from_an_uploaded_backup,
    a_view_that_is_gone_comes_back_with_its_rows,
    a_view_of_an_ordinary_database_comes_back_with_its_rows,
    a_view_alone_is_asked_for_and_its_rows_come_with_it,
    what_a_backup_has_beside_tables_is_said,
    a_database_with_dots_is_named_in_backquotes,
);

/// Two months in two parts each.
fn world(flavor: Flavor) -> World {
    let world = World::new(flavor);
    let server = &world.server;
    server.create_database("d");
    server.query(
        "CREATE TABLE d.t (day Date, k UInt64, v String) ENGINE = MergeTree \
         PARTITION BY toYYYYMM(day) ORDER BY k SETTINGS index_granularity = 8192",
    );
    world.stop_merges();
    for insert in 0..2 {
        server.query(&format!(
            "INSERT INTO d.t SELECT toDate('2024-01-01') + number % 60, number + {insert}, 'some' \
             FROM system.numbers LIMIT 500"
        ));
    }
    world
}

fn mends(flavor: Flavor, layout: Layout) {
    let world = world(flavor);
    let root = tempfile::tempdir().unwrap();
    back_up(&world, "d", root.path(), layout, &json!({}));
    let whole = world.contents("d");
    let from = from(root.path());
    let mend = [
        "restore",
        "nightly",
        "--from",
        &from,
        "--in-place",
        "--data",
    ];

    world
        .server
        .query("ALTER TABLE d.t DROP PARTITION ID '202401'");
    world
        .server
        .query("INSERT INTO d.t SELECT toDate('2024-02-02'), 1, 'wrong'");
    let planned: Preview = world.json(&[&mend[..], &["--dry-run"]].concat());
    assert_eq!(
        (
            planned.total.kept.parts,
            planned.total.removed.parts,
            planned.total.fetched.parts
        ),
        (2, 1, 2)
    );
    let mended: Mended = world.json(&mend);
    assert_eq!(mended.state, "done");
    assert_eq!(mended.done.fetched.parts, 2);
    assert_eq!(world.contents("d"), whole);

    let again: Preview = world.json(&[&mend[..], &["--dry-run"]].concat());
    assert_eq!(
        (again.total.removed.parts, again.total.fetched.parts),
        (0, 0)
    );
}

fn tables_are_mended_from_a_local_backup(flavor: Flavor) {
    mends(flavor, Layout::Local);
}

fn tables_are_mended_from_an_uploaded_backup(flavor: Flavor) {
    mends(flavor, Layout::Tar);
}

/// A table with two views of it: one keeps its rows itself, the other in a table of its own name.
fn world_with_views(flavor: Flavor) -> World {
    let world = World::new(flavor);
    let server = &world.server;
    server.create_database("v");
    for table in [
        "TABLE v.src (k UInt64) ENGINE = MergeTree ORDER BY k",
        "TABLE v.sums (g UInt64, n UInt64) ENGINE = SummingMergeTree ORDER BY g",
        "MATERIALIZED VIEW v.inside ENGINE = SummingMergeTree ORDER BY g AS \
         SELECT toUInt64(k % 7) AS g, count() AS n FROM v.src GROUP BY g",
        "MATERIALIZED VIEW v.outside TO v.sums AS \
         SELECT toUInt64(k % 3) AS g, count() AS n FROM v.src GROUP BY g",
    ] {
        server.query(&format!("CREATE {table}"));
    }
    for from in [0, 100] {
        server.query(&format!(
            "INSERT INTO v.src SELECT {from} + number FROM system.numbers LIMIT 100"
        ));
    }
    world
}

fn rows_of_views(world: &World, database: &str) -> [String; 2] {
    ["inside", "outside"].map(|view| {
        let sql = format!("SELECT g, sum(n) FROM {database}.{view} GROUP BY g ORDER BY g");
        world.server.query(&sql)
    })
}

/// Nothing is left that belongs to no view.
fn has_one_inner_table(world: &World, database: &str) {
    let inner = world.server.query(&format!(
        "SELECT count() FROM system.tables WHERE database = '{database}' AND name LIKE '.inner%'"
    ));
    assert_eq!(inner, "1\n");
}

fn a_view_that_is_gone_comes_back_with_its_rows(flavor: Flavor) {
    for layout in [Layout::Local, Layout::Tar] {
        let world = world_with_views(flavor);
        let root = tempfile::tempdir().unwrap();
        back_up(&world, "v", root.path(), layout, &json!({}));
        comes_back_with_its_rows(&world, root.path());
    }
}

fn a_view_of_an_ordinary_database_comes_back_with_its_rows(flavor: Flavor) {
    let world = world_with_views(flavor);
    let root = tempfile::tempdir().unwrap();
    back_up(&world, "v", root.path(), Layout::Local, &json!({}));
    if world.is_current() {
        let sql = "SELECT uuid FROM system.tables WHERE database = 'v' AND name = 'inside'";
        let uuid = world.server.query(sql);
        as_of_ordinary(root.path(), "v", "inside", uuid.trim_end());
    }
    comes_back_with_its_rows(&world, root.path());
}

fn comes_back_with_its_rows(world: &World, root: &Path) {
    let whole = rows_of_views(world, "v");
    assert_ne!(whole[0], "");
    let restore = ["restore", "nightly", "--from", &from(root)];
    // Beside the tables there are, which go on.
    world.ok(&[&restore[..], &["-m", "v=other"]].concat());
    assert_eq!(rows_of_views(world, "other"), whole);
    has_one_inner_table(world, "other");
    world.server.query("DROP DATABASE other");

    world.server.query("DROP DATABASE v");
    world.ok(&restore);
    assert_eq!(rows_of_views(world, "v"), whole);
    has_one_inner_table(world, "v");
    let planned: Preview = world.json(&[&restore[..], &["--in-place", "--dry-run"]].concat());
    let total = planned.total;
    assert_eq!((total.fetched.parts, total.removed.parts), (0, 0));

    world.server.query("INSERT INTO v.src VALUES (1000)");
    assert_ne!(rows_of_views(world, "v"), whole);
    world.ok(&[&restore[..], &["--in-place"]].concat());
    assert_eq!(rows_of_views(world, "v"), whole);
}

fn a_view_alone_is_asked_for_and_its_rows_come_with_it(flavor: Flavor) {
    let world = world_with_views(flavor);
    let whole = rows_of_views(&world, "v");
    let root = tempfile::tempdir().unwrap();
    back_up(&world, "v", root.path(), Layout::Local, &json!({}));
    world.backup(&["own", "--tables", "v.*"]);
    let imported = ["restore", "nightly", "--from", &from(root.path())];
    for restore in [&imported[..], &["restore", "own"]] {
        world.server.query("DROP TABLE v.inside");
        world.ok(&[restore, &["--tables", "v.inside"]].concat());
        assert_eq!(rows_of_views(&world, "v"), whole, "{restore:?}");
        has_one_inner_table(&world, "v");
        let renamed = ["--tables", "v.inside", "--rename", "v.inside=v.copy"];
        world.ok(&[restore, &renamed].concat());
        let sql = "SELECT g, sum(n) FROM v.copy GROUP BY g ORDER BY g";
        assert_eq!(world.server.query(sql), whole[0], "{restore:?}");
        world.server.query("DROP TABLE v.copy");
        has_one_inner_table(&world, "v");
    }
}

fn what_a_backup_has_beside_tables_is_said(flavor: Flavor) {
    let world = world(flavor);
    let root = tempfile::tempdir().unwrap();
    let more = json!({
        "rbac_size": 10,
        "named_collections_size": 20,
        "functions": [{ "name": "twice", "create_query": "CREATE FUNCTION twice AS x -> 2 * x" }],
    });
    back_up(&world, "d", root.path(), Layout::Local, &more);
    let beside = ["users and rights", "named collections", "functions (twice)"];
    let from = from(root.path());
    for look in [&["list"][..], &["show", "nightly"]] {
        let look = [look, &["--from", &from]].concat();
        let text = world.ok(&look);
        let shown: Value = world.json(&look);
        let shown = shown.get(0).unwrap_or(&shown);
        assert_eq!(shown["not_restored"], json!(beside));
        for what in beside {
            assert!(text.contains(what), "{look:?}: {text}");
        }
    }
    let output = world.run(&["restore", "nightly", "--from", &from, "--in-place"]);
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for what in beside {
        assert!(said.contains(what), "{said}");
    }
}

fn a_database_with_dots_is_named_in_backquotes(flavor: Flavor) {
    let world = world(flavor);
    world.server.create_database("a.b");
    world.server.create_database("a");
    let sums = |table: &str| world.server.query(&format!("SELECT sum(k) FROM {table}"));
    let whole = sums("d.t");
    world.backup(&["own", "--tables", "d.*"]);
    world.ok(&["restore", "own", "--rename", "d.t=`a.b`.t"]);
    assert_eq!(sums("`a.b`.t"), whole);
    world.ok(&["restore", "own", "--rename", "d.t=a.b.t"]);
    assert_eq!(sums("a.`b.t`"), whole);

    world.server.query("DROP DATABASE a");
    world.backup(&["dotted", "--tables", "a.b.*"]);
    for old in ["`a.b`.t", "a.b.t", "`a.b`.`t`"] {
        let pair = format!("{old}=d.u");
        let restore = ["restore", "dotted", "--rename", &pair];
        world.ok(&restore);
        assert_eq!(sums("d.u"), whole, "{old}");
        let said = world.fails(1, &restore);
        let (_, advice) = said.trim_end().rsplit_once("--rename ").unwrap();
        assert_eq!(advice, "d.u=d.u_restored");
        world.server.query("DROP TABLE d.u");
    }
    let said = world.fails(1, &["restore", "dotted"]);
    let (_, advice) = said.trim_end().rsplit_once("--rename ").unwrap();
    assert_eq!(advice, "'`a.b`.t=`a.b`.t_restored'");
    world.ok(&["restore", "dotted", "--rename", advice.trim_matches('\'')]);
    assert_eq!(sums("`a.b`.t_restored"), whole);
    let said = world.fails(1, &["restore", "own", "--rename", "d.t=`a.b"]);
    assert!(said.contains("names no table"), "{said}");
}
