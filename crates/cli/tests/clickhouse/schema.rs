//! Tables whose schema is not that of the backup, and what is only schema.

use crate::servers::{Flavor, ServerOptions};
use crate::world::{Mended, World};

on_each_server!(
    a_table_whose_schema_differs_stops_with_the_difference_and_others_go_on,
    views_and_what_they_stand_on_come_to_an_empty_server_in_their_order,
);

fn a_table_whose_schema_differs_stops_with_the_difference_and_others_go_on(flavor: Flavor) {
    let world = World::new(flavor);
    world.server.create_database("d");
    for table in ["altered", "damaged", "other_key"] {
        world.server.query(&format!(
            "CREATE TABLE d.{table} (k UInt32, s String) ENGINE = MergeTree ORDER BY k"
        ));
        world
            .server
            .query(&format!("INSERT INTO d.{table} VALUES (1, 'a'), (2, 'b')"));
    }
    let before = world.contents("d");
    world.backup(&["d"]);
    world
        .server
        .query("ALTER TABLE d.altered ADD COLUMN since Date");
    world
        .server
        .query("INSERT INTO d.altered (k, s) VALUES (3, 'c')");
    world.server.query("INSERT INTO d.damaged VALUES (3, 'c')");
    let sync = if world.is_current() { "SYNC" } else { "" };
    world
        .server
        .query(&format!("DROP TABLE d.other_key {sync}"));
    world
        .server
        .query("CREATE TABLE d.other_key (k UInt32, s String) ENGINE = MergeTree ORDER BY s");
    let altered = world.contents("d").remove("altered");

    let (mended, said): (Mended, _) = world.fails_with(1, &["restore", "--in-place", "d"]);
    assert_eq!(mended.state, "done");
    assert_eq!(mended.done.removed.parts, 1);
    let reason = |table: &str| {
        let mut stopped = mended.stopped.iter();
        let found = stopped.find(|stopped| stopped.target.table == table);
        &found.unwrap().reason
    };
    assert!(reason("altered").contains("column since"), "{mended:?}");
    assert!(reason("altered").contains("Date"), "{mended:?}");
    assert!(reason("other_key").contains("sorting key"), "{mended:?}");
    assert_eq!(mended.stopped.len(), 2);
    assert!(
        said.contains("2 of 3 tables were not mended") && said.contains("--schema"),
        "{said}"
    );
    let now = world.contents("d");
    assert_eq!(now["damaged"], before["damaged"], "the others are mended");
    assert_eq!(
        now.get("altered"),
        altered.as_ref(),
        "what was stopped is as it was"
    );

    let mended: Mended = world.json(&["restore", "--in-place", "--schema", "--data", "d"]);
    assert_eq!(mended.state, "done");
    let now = world.contents("d");
    for table in before.keys() {
        assert_eq!(now[table], before[table], "{table}");
    }
    let aside: Vec<&String> = now
        .keys()
        .filter(|table| table.starts_with("altered_"))
        .collect();
    assert_eq!(aside.len(), 1, "{now:?}");
    assert_eq!(
        now.get(aside[0]),
        altered.as_ref(),
        "what was there is kept under another name"
    );
    world.is_mended("d", &["d"]);
}

/// Statements in an order that nothing but dependencies can put right: by name, each needs a later one.
fn dependent_tables(flavor: Flavor) -> Vec<&'static str> {
    let mut statements = vec![
        "CREATE TABLE d.z_source (k UInt32, at Date, twice UInt64 MATERIALIZED k * 2, thrice UInt64 ALIAS k * 3) \
         ENGINE = MergeTree PARTITION BY toYYYYMM(at) ORDER BY (k, at)",
        "CREATE TABLE d.y_target (k UInt32, n UInt64) ENGINE = SummingMergeTree ORDER BY k",
        "CREATE MATERIALIZED VIEW d.a_into TO d.y_target AS SELECT k, count() AS n FROM d.z_source GROUP BY k",
        "CREATE MATERIALIZED VIEW d.a_own ENGINE = SummingMergeTree ORDER BY k AS \
         SELECT k, count() AS n FROM d.z_source GROUP BY k",
        "CREATE VIEW d.`c view` AS SELECT * FROM d.z_source",
        "CREATE VIEW d.b_view AS SELECT k FROM d.`c view` WHERE k IN (SELECT k FROM d.y_target)",
        "CREATE TABLE d.a_merge (k UInt32) ENGINE = Merge(d, '_(source|target)$')",
    ];
    if flavor == Flavor::Current {
        statements.extend([
            "CREATE DICTIONARY d.x_dictionary (k UInt32, n UInt64) PRIMARY KEY k \
             SOURCE(CLICKHOUSE(TABLE 'y_target' DB 'd')) LAYOUT(FLAT()) LIFETIME(0)",
            "CREATE TABLE d.a_looks_up (k UInt64, n UInt64 DEFAULT dictGet('d.x_dictionary', 'n', k)) \
             ENGINE = MergeTree ORDER BY k",
        ]);
    }
    statements
}

fn views_and_what_they_stand_on_come_to_an_empty_server_in_their_order(flavor: Flavor) {
    let world = World::new(flavor);
    world.server.create_database("d");
    for statement in dependent_tables(flavor) {
        world.server.query(statement);
    }
    for day in ["2024-01-05", "2024-02-05"] {
        world.server.query(&format!(
            "INSERT INTO d.z_source SELECT number % 50, toDate('{day}') FROM system.numbers LIMIT 1000"
        ));
    }
    let asked = [
        "SELECT table, name, type FROM system.columns WHERE database = 'd' AND table NOT LIKE '.inner%' \
         ORDER BY table, name",
        "SELECT name, engine FROM system.tables WHERE database = 'd' AND name NOT LIKE '.inner%' ORDER BY name",
        "SELECT k, n FROM d.a_own ORDER BY k, n",
        "SELECT k, n FROM d.y_target ORDER BY k, n",
        "SELECT k FROM d.b_view ORDER BY k",
        "SELECT k, at, twice FROM d.z_source ORDER BY k, at",
        "SELECT k FROM d.a_merge ORDER BY k",
    ];
    let answers = |world: &World| asked.map(|sql| world.server.query(sql));
    let before = answers(&world);
    world.backup(&["d"]);

    let other = world.beside(ServerOptions::default());
    other.ok(&["restore", "d"]);
    assert_eq!(answers(&other), before);
    // What was restored works: rows go through the views.
    other
        .server
        .query("INSERT INTO d.z_source (k, at) VALUES (7000, '2024-01-01')");
    assert_eq!(
        other
            .server
            .query("SELECT sum(n) FROM d.y_target WHERE k = 7000"),
        "1\n"
    );
    assert_eq!(
        other
            .server
            .query("SELECT sum(n) FROM d.a_own WHERE k = 7000"),
        "1\n"
    );
    if flavor == Flavor::Current {
        other
            .server
            .query("INSERT INTO d.a_looks_up (k) VALUES (3)");
        let looked_up = "SELECT dictGet('d.x_dictionary', 'n', toUInt64(3))";
        assert_eq!(
            other.server.query("SELECT n FROM d.a_looks_up"),
            world.server.query(looked_up)
        );
    }
}
