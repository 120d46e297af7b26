//! A mend that is given up takes away what it has created: tables, views and dictionaries.

use std::ops::ControlFlow;

use crate::points::{MOST_POINTS, points};
use crate::servers::Flavor;
use crate::world::World;

on_each_server!(
    a_cancel_takes_away_all_that_the_mend_has_created_wherever_it_stopped,
    a_cancel_leaves_what_rows_came_into
);

/// What a backup has of the database `gone`, which is lost then.
fn lost(flavor: Flavor) -> World {
    let world = World::new(flavor);
    let query = |sql: &str| world.server.query(sql);
    world.server.create_database("d");
    world.server.create_database("gone");
    query("CREATE TABLE d.stays (a UInt64) ENGINE = MergeTree ORDER BY a");
    query("INSERT INTO d.stays SELECT number FROM numbers(10)");
    query("CREATE TABLE gone.t (a UInt64) ENGINE = MergeTree ORDER BY a");
    query("CREATE TABLE gone.sums (s UInt64) ENGINE = MergeTree ORDER BY s");
    query("CREATE MATERIALIZED VIEW gone.into TO gone.sums AS SELECT sum(a) AS s FROM gone.t");
    query(
        "CREATE MATERIALIZED VIEW gone.own ENGINE = MergeTree ORDER BY a AS SELECT a FROM gone.t",
    );
    query("CREATE VIEW gone.v AS SELECT a FROM gone.t");
    query("CREATE TABLE gone.m (a UInt64) ENGINE = Memory");
    query("CREATE VIEW d.v AS SELECT a FROM gone.t");
    if world.is_current() {
        query(
            "CREATE DICTIONARY gone.dic (a UInt64) PRIMARY KEY a SOURCE(CLICKHOUSE(DB 'gone' TABLE 't')) \
             LIFETIME(0) LAYOUT(FLAT())",
        );
    }
    query("INSERT INTO gone.t SELECT number FROM numbers(10)");
    world.backup(&["c", "--tables", "d.*,gone.*"]);
    query("DROP DATABASE gone");
    query("DROP TABLE d.v");
    world
}

fn tables(world: &World) -> String {
    world.server.query(
        "SELECT database, name FROM system.tables WHERE database IN ('d', 'gone') ORDER BY database, name",
    )
}

fn unfinished(world: &World) -> Option<String> {
    let operations = world.operations();
    let open = operations
        .iter()
        .find(|operation| !["done", "cancelled"].contains(&operation["state"].as_str().unwrap()));
    open.map(|operation| operation["operation_id"].as_str().unwrap().to_owned())
}

/// Begins mends that stop at one point after the other, until one ends. Each that stopped is handed over.
fn stop_at_points(
    world: &World,
    arguments: &[&str],
    few: usize,
    mut stopped: impl FnMut(u64, String) -> ControlFlow<()>,
) {
    let arguments = [&["restore", "c", "--in-place"], arguments].concat();
    for point in points(few) {
        let mut mend = world.command(&arguments);
        let output = mend.env("MENDB_CRASH_AT", point.to_string()).output();
        if output.unwrap().status.success() {
            return;
        }
        if let Some(id) = unfinished(world)
            && stopped(point, id).is_break()
        {
            return;
        }
    }
    panic!("a mend has more than {MOST_POINTS} persisted steps");
}

fn a_cancel_takes_away_all_that_the_mend_has_created_wherever_it_stopped(flavor: Flavor) {
    let world = lost(flavor);
    let before = tables(&world);
    let (mut cancelled, mut told) = (0, 0);
    stop_at_points(&world, &[], 11, |point, id| {
        let output = world.run(&["operation", "cancel", &id]);
        let said = String::from_utf8(output.stderr).unwrap();
        if !output.status.success() {
            assert!(
                said.contains("let it finish") || said.contains("is done"),
                "{point}: {said}"
            );
            world.ok(&["operation", "watch", &id]);
            return ControlFlow::Break(());
        }
        assert_eq!(tables(&world), before, "stopped at step {point}");
        let databases = "SELECT count() FROM system.databases WHERE name = 'gone'";
        let is_there = world.server.query(databases) == "1\n";
        assert_eq!(
            said.contains("had created, stays"),
            is_there,
            "{point}: {said}"
        );
        world.server.query("DROP DATABASE IF EXISTS gone");
        cancelled += 1;
        told += u32::from(is_there);
        ControlFlow::Continue(())
    });
    assert!(cancelled > 4 && told > 2, "{cancelled} {told}");
}

fn a_cancel_leaves_what_rows_came_into(flavor: Flavor) {
    let world = lost(flavor);
    let before = tables(&world);
    let mut found = false;
    stop_at_points(&world, &["--schema"], 2, |point, id| {
        found = tables(&world).contains("own");
        if !found {
            world.ok(&["operation", "cancel", &id]);
            assert_eq!(tables(&world), before, "stopped at step {point}");
            return ControlFlow::Continue(());
        }
        world
            .server
            .query("INSERT INTO gone.own SELECT number FROM numbers(5)");
        let output = world.run(&["operation", "cancel", &id]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("5 rows came into it"), "{said}");
        let kept = world.server.query("SELECT count() FROM gone.own");
        assert_eq!(kept, "5\n");
        let left = tables(&world);
        assert!(!left.contains("dic") && !left.contains("into"), "{left}");
        ControlFlow::Break(())
    });
    assert!(found);
}
