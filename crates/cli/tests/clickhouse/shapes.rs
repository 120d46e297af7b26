//! Tables and parts of every shape are lost and come back.

use std::collections::BTreeMap;

use crate::servers::{Flavor, ServerOptions};
use crate::world::{World, files_below};

on_each_server!(
    parts_of_every_kind_come_back_as_they_were,
    names_may_have_any_characters,
    what_a_crashed_backup_left_frozen_goes_with_the_next,
    a_server_that_is_not_there_or_refuses_the_user_is_told_with_what_to_do,
);

/// An identifier in a statement.
fn quote(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// Statements that make parts of every kind that a server knows, in `d`.
fn parts_of_every_kind(flavor: Flavor) -> Vec<&'static str> {
    let mut statements = vec![
        "CREATE TABLE d.by_month (k UInt32, at Date, s String, n Nullable(Float64)) ENGINE = MergeTree \
         PARTITION BY toYYYYMM(at) ORDER BY k",
        "INSERT INTO d.by_month SELECT number, toDate('2024-01-01') + number % 70, toString(number), NULL \
         FROM system.numbers LIMIT 500",
        "CREATE TABLE d.whole (k UInt32, v Array(UInt64)) ENGINE = MergeTree ORDER BY tuple()",
        "INSERT INTO d.whole SELECT number, [number, number + 1] FROM system.numbers LIMIT 100",
        "CREATE TABLE d.by_tuple (k Int32, s String) ENGINE = MergeTree PARTITION BY (k, s) ORDER BY k",
        "INSERT INTO d.by_tuple VALUES (-1, 'it''s'), (2, 'b,c'), (-1, 'it''s')",
        "CREATE TABLE d.empty (k UInt32) ENGINE = MergeTree ORDER BY k",
    ];
    match flavor {
        Flavor::Current => statements.extend([
            "CREATE TABLE d.wide (k UInt32, s String, t Tuple(x UInt8, y Nullable(String)), low LowCardinality(String), \
             INDEX i s TYPE bloom_filter, PROJECTION p (SELECT s, sum(k) GROUP BY s)) ENGINE = MergeTree \
             ORDER BY k SETTINGS min_bytes_for_wide_part = 0, min_rows_for_wide_part = 0",
            "INSERT INTO d.wide SELECT number, toString(number % 10), (1, NULL), 'low' FROM numbers(1000)",
            "ALTER TABLE d.wide UPDATE s = 'changed' WHERE k < 10 SETTINGS mutations_sync = 1",
            "CREATE TABLE d.compact (k UInt32, s String, INDEX i s TYPE set(10), PROJECTION p (SELECT k ORDER BY s)) \
             ENGINE = MergeTree ORDER BY k",
            "INSERT INTO d.compact SELECT number, toString(number % 10) FROM numbers(1000)",
            "CREATE TABLE d.deleted (k UInt32) ENGINE = MergeTree ORDER BY k",
            "INSERT INTO d.deleted SELECT number FROM numbers(1000)",
            "DELETE FROM d.deleted WHERE k % 3 = 0",
            "CREATE TABLE d.packed (k UInt32, s String, PROJECTION p (SELECT s, count() GROUP BY s)) \
             ENGINE = MergeTree ORDER BY k SETTINGS min_bytes_for_full_part_storage = 1000000000",
            "INSERT INTO d.packed SELECT number, toString(number % 10) FROM numbers(1000)",
            "CREATE TABLE d.patched (k UInt32, s String) ENGINE = MergeTree ORDER BY k \
             SETTINGS enable_block_number_column = 1, enable_block_offset_column = 1",
            "INSERT INTO d.patched SELECT number, 'old' FROM numbers(100)",
            "UPDATE d.patched SET s = 'new' WHERE k = 7 \
             SETTINGS enable_lightweight_update = 1, allow_experimental_lightweight_update = 1",
        ]),
        Flavor::V18 => {}
    }
    statements
}

fn parts_of_every_kind_come_back_as_they_were(flavor: Flavor) {
    let world = World::new(flavor);
    let server = &world.server;
    server.create_database("d");
    for statement in parts_of_every_kind(flavor) {
        server.query(statement);
    }
    let before = world.contents("d");
    world.backup(&["d"]);
    let kinds = kinds_of_parts(&world);
    if flavor == Flavor::Current {
        let all = kinds
            .values()
            .flatten()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" ");
        for kind in ["Wide", "Compact", "Packed"] {
            assert!(all.contains(kind), "{kind} in {all}");
        }
    }
    world.is_mended("d", &["d"]);
    for table in before.keys() {
        server.query(&format!("TRUNCATE TABLE d.{table}"));
    }
    world.mend(&["d", "--no-undo"]);
    assert_eq!(world.contents("d"), before);
    assert_eq!(kinds_of_parts(&world), kinds);
    world.is_mended("d", &["d"]);
    for table in before.keys() {
        server.query(&format!("DROP TABLE d.{table}"));
    }
    world.mend(&["d"]);
    assert_eq!(world.contents("d"), before);
    assert_eq!(kinds_of_parts(&world), kinds);
    if flavor == Flavor::Current {
        world.mend(&["d", "--check-table"]);
        let by_projection = "SELECT sum(k) FROM d.wide GROUP BY s ORDER BY s LIMIT 1 \
                             SETTINGS force_optimize_projection = 1";
        assert!(!server.query(by_projection).is_empty());
    }
}

/// Where a server reports them: the kinds of the parts of each table, with their projections and masks.
fn kinds_of_parts(world: &World) -> BTreeMap<String, Vec<String>> {
    let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
    if world.is_current() {
        let rows = world.server.query(
            "SELECT table, part_type, part_storage_type, projections, has_lightweight_delete, rows, \
             secondary_indices_compressed_bytes FROM system.parts WHERE active AND database = 'd' \
             AND name NOT LIKE 'patch-%' ORDER BY table, partition_id, min_block_number",
        );
        for (table, kind) in rows.lines().filter_map(|row| row.split_once('\t')) {
            kinds
                .entry(table.to_owned())
                .or_default()
                .push(kind.to_owned());
        }
    }
    kinds
}

fn names_may_have_any_characters(flavor: Flavor) {
    let world = World::new(flavor);
    let database = "odd db. ü";
    world.server.create_database(database);
    world.server.create_database("plain");
    let names = [
        (database, "日本 %20"),
        ("plain", "with space.and dot"),
        ("plain", "tick ` and 'quote' and \\ slash/"),
        ("plain", "com,ma*"),
    ];
    let column = quote("odd ` column, ü");
    let sql = |(database, table): (&str, &str)| format!("{}.{}", quote(database), quote(table));
    for name in names {
        let table = sql(name);
        world.server.query(&format!(
            "CREATE TABLE {table} ({column} UInt32) ENGINE = MergeTree PARTITION BY {column} % 2 ORDER BY {column}"
        ));
        world
            .server
            .query(&format!("INSERT INTO {table} VALUES (1), (2), (3)"));
    }
    let contents = || {
        names.map(|name| {
            world.server.query(&format!(
                "SELECT {column} FROM {} ORDER BY {column}",
                sql(name)
            ))
        })
    };
    let before = contents();
    let backup = world.backup(&["odd", "--tables", "*"]);
    assert_eq!(backup.totals.parts, 8);
    let mend = ["odd", "--tables", "*"];
    world.is_mended("plain", &mend);
    for name in names {
        let table = sql(name);
        world
            .server
            .query(&format!("INSERT INTO {table} VALUES (5)"));
        world
            .server
            .query(&format!("ALTER TABLE {table} DROP PARTITION 0"));
    }
    let mended = world.mend(&mend);
    assert_eq!(
        (mended.done.fetched.parts, mended.done.removed.parts),
        (4, 4)
    );
    assert_eq!(contents(), before);
    for name in names {
        world.server.query(&format!("DROP TABLE {}", sql(name)));
    }
    world.mend(&mend);
    assert_eq!(contents(), before);
    world.is_mended("plain", &mend);

    let other = world.beside(ServerOptions::default());
    other.ok(&["restore", "odd"]);
    // What another server's backup brings is mended only where that is named.
    let named = [&mend[..], &["--to", &backup.backup_id]].concat();
    other.is_mended(database, &named);
}

#[test]
fn parts_go_back_to_the_disks_they_were_on() {
    let options = ServerOptions {
        jbod: true,
        tiered: true,
        ..ServerOptions::default()
    };
    let world = World::with(Flavor::Current, options.clone());
    world.server.create_database("d");
    for policy in ["jbod", "tiered"] {
        world.server.query(&format!(
            "CREATE TABLE d.{policy} (k UInt32) ENGINE = MergeTree PARTITION BY k % 2 ORDER BY k \
             SETTINGS storage_policy = '{policy}'"
        ));
        for k in 0..4 {
            world
                .server
                .query(&format!("INSERT INTO d.{policy} VALUES ({k})"));
        }
    }
    world
        .server
        .query("ALTER TABLE d.tiered MOVE PARTITION 1 TO DISK 'cold'");
    let places = |world: &World| {
        world.server.query(
            "SELECT table, hash_of_all_files, disk_name FROM system.parts WHERE active AND database = 'd' \
             ORDER BY table, hash_of_all_files",
        )
    };
    let before = (world.contents("d"), places(&world));
    for disk in ["d1", "d2", "hot", "cold"] {
        assert!(before.1.contains(disk), "{}", before.1);
    }
    world.backup(&["d"]);
    world.server.query("ALTER TABLE d.jbod DROP PARTITION 0");
    world.server.query("ALTER TABLE d.tiered DROP PARTITION 1");
    world.server.query("INSERT INTO d.tiered VALUES (10), (11)");
    world.mend(&["d"]);
    assert_eq!((world.contents("d"), places(&world)), before);
    world.is_mended("d", &["d"]);

    let other = world.beside(options);
    other.ok(&["restore", "d"]);
    assert_eq!((other.contents("d"), places(&other)), before);
}

fn what_a_crashed_backup_left_frozen_goes_with_the_next(flavor: Flavor) {
    let world = World::new(flavor);
    world.server.create_database("d");
    world
        .server
        .query("CREATE TABLE d.t (k UInt32) ENGINE = MergeTree ORDER BY k");
    let shadow = world.server.data_path().join("shadow");
    let frozen = || {
        let files = files_below(&shadow);
        files.iter().any(|file| file.ends_with("checksums.txt"))
    };
    // It dies at each point, from the first on, until it has left something twice.
    let mut left_frozen = 0;
    for point in 1.. {
        if left_frozen == 2 {
            break;
        }
        // A table that has not changed since the last backup is not frozen.
        world
            .server
            .query(&format!("INSERT INTO d.t VALUES ({point})"));
        let mut backup = world.command(&["backup", "d"]);
        let ended = backup
            .env("MENDB_CRASH_AT", point.to_string())
            .output()
            .unwrap();
        if ended.status.success() {
            break;
        }
        assert_eq!(ended.status.code(), None, "{ended:?}");
        left_frozen += u32::from(frozen());
        let backup = world.backup(&["d"]);
        assert_eq!(backup.totals.rows, point);
        assert!(!frozen(), "died at {point}: {:?}", files_below(&shadow));
    }
    assert_eq!(left_frozen, 2, "some of them have left something");
    for operation in world.operations() {
        assert_eq!(operation["state"], "done", "{operation}");
    }
    world.ok(&["verify", "d"]);
}

fn a_server_that_is_not_there_or_refuses_the_user_is_told_with_what_to_do(flavor: Flavor) {
    let options = ServerOptions {
        user: Some(("keeper".to_owned(), "open sesame".to_owned())),
        ..ServerOptions::default()
    };
    let mut world = World::with(flavor, options);
    world.server.create_database("d");
    world
        .server
        .query("CREATE TABLE d.t (k UInt32) ENGINE = MergeTree ORDER BY k");
    let target = |user: &str| {
        let url = world.server.url();
        format!("clickhouse://{user}@{}", url.trim_start_matches("http://"))
    };
    let said = |target: &str, password: Option<&str>| {
        let mut backup = world.command_as(target, &["backup", "d"]);
        if let Some(password) = password {
            backup.env("MENDB_CLICKHOUSE_PASSWORD", password);
        }
        let output = backup.output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, text) = said(&target("keeper:closed%20sesame"), None);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("\"keeper\"") && text.contains("password"),
        "{text}"
    );
    assert!(!text.contains("closed"), "{text}");
    assert_eq!(said(&target("keeper:open%20sesame"), None).0, Some(0));
    assert_eq!(said(&target("keeper"), Some("open sesame")).0, Some(0));

    let gone = target("keeper:open%20sesame");
    let address = world.server.url();
    world.server.kill();
    let mut backup = world.command_as(&gone, &["backup", "d"]);
    let output = backup.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(address.trim_end_matches('/')), "{text}");
    assert!(
        text.contains("hint:") || text.contains("start it"),
        "{text}"
    );
    assert!(!text.contains("sesame"), "{text}");
}
