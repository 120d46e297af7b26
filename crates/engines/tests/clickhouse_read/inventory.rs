//! What the engine says about the parts of a table.

use std::collections::HashSet;
use std::path::Path;

use mendb_engines::{FreezeTable, PartStore};
use mendb_model::part::{PartEvent, PartEventKind, PartLog, TableName};

use crate::servers::{Flavor, ServerOptions};
use crate::world::{
    FLAVORS, World, by_name, check_frozen, partition_ids, parts_of_every_kind, selection, whole,
};

#[test]
fn the_inventory_is_what_the_server_says_and_what_the_files_say() {
    for flavor in FLAVORS {
        let world = World::new(flavor);
        for statement in parts_of_every_kind(flavor) {
            world.server.query(statement);
        }
        let catalogue = world.engine.catalogue(&selection("d.*")).unwrap();
        let expected = if flavor == Flavor::Current { 6 } else { 3 };
        assert_eq!(catalogue.tables.len(), expected);
        let all: Vec<FreezeTable> = catalogue
            .tables
            .iter()
            .map(|table| whole(&table.name))
            .collect();
        for frozen in world.engine.freeze("b-1", &all).unwrap() {
            check_frozen(&world.engine, &frozen);
            assert_eq!(
                by_name(&frozen.current_parts),
                world.names_and_hashes(&frozen.name)
            );
        }
        for table in &catalogue.tables {
            let inventory = world.engine.inventory(&table.name).unwrap();
            let rows = world.server.query(&format!(
                "SELECT name, path, rows, partition_id FROM system.parts \
                 WHERE active AND database = 'd' AND table = '{}'",
                table.name.table
            ));
            assert_eq!(inventory.parts.len(), rows.lines().count());
            assert!(!inventory.parts.is_empty() && inventory.mutations.is_empty());
            for row in rows.lines() {
                let fields: Vec<&str> = row.split('\t').collect();
                let [name, path, rows, partition_id] = fields[..] else {
                    panic!("{row}");
                };
                let told = inventory
                    .parts
                    .iter()
                    .find(|part| part.name == name)
                    .unwrap();
                assert_eq!(told.rows.to_string(), rows);
                assert_eq!(told.partition_id, partition_id);
                let read = world
                    .engine
                    .read_part(Path::new(path), name, "default")
                    .unwrap();
                assert_eq!((read.part.hash, read.part.rows), (told.hash, told.rows));
                if flavor == Flavor::Current {
                    let hash = world.server.query(&format!(
                        "SELECT hash_of_all_files FROM system.parts WHERE path = '{path}'"
                    ));
                    assert_eq!(told.hash.to_string(), hash.trim());
                }
            }
        }
    }
}

#[test]
fn a_table_that_was_dropped_and_created_is_another_incarnation() {
    for flavor in FLAVORS {
        let mut world = World::new(flavor);
        let mut seen = HashSet::new();
        for _ in 0..3 {
            let name = world.create("t", "(k UInt32)", "ENGINE = MergeTree ORDER BY k");
            world.server.query("INSERT INTO d.t VALUES (1)");
            let first = world.engine.inventory(&name).unwrap();
            world.server.query("RENAME TABLE d.t TO d.u");
            world.server.restart();
            world.reopen();
            let second = world.engine.inventory(&TableName::new("d", "u")).unwrap();
            assert_eq!(first.incarnation, second.incarnation);
            assert_eq!(first.parts, second.parts);
            assert!(seen.insert(first.incarnation));
            world.server.query("DROP TABLE d.u");
        }
    }
}

#[test]
fn a_database_of_the_old_layout_is_read_on_a_current_server() {
    let world = World::new(Flavor::Current);
    // A setting of the request: the statement takes none but those of the database.
    let url = format!(
        "{}?allow_deprecated_database_ordinary=1",
        world.server.url()
    );
    let request = reqwest::blocking::Client::new().post(url);
    let created = request
        .body("CREATE DATABASE `old one` ENGINE = Ordinary")
        .send()
        .unwrap();
    assert!(created.status().is_success());
    let name = TableName::new("old one", "t.1");
    let sql = name.sql();
    world.server.query(&format!(
        "CREATE TABLE {sql} (k UInt32) ENGINE = MergeTree ORDER BY k"
    ));
    world.server.query(&format!("INSERT INTO {sql} VALUES (1)"));
    let first = world.engine.inventory(&name).unwrap();
    assert_eq!(
        world.engine.inventory(&name).unwrap().incarnation,
        first.incarnation
    );
    let frozen = world.engine.freeze("b-1", &[whole(&name)]).unwrap();
    assert_eq!(frozen[0].parts.len(), 1);
    check_frozen(&world.engine, &frozen[0]);
    let catalogue = world.engine.catalogue(&selection("old one.*")).unwrap();
    assert_eq!(catalogue.databases[0].engine, "Ordinary");
}

#[test]
fn parts_whose_names_tell_no_partition_are_refused_by_name() {
    let world = World::new(Flavor::V18);
    let name = world.create(
        "old",
        "(at Date, k UInt32)",
        "ENGINE = MergeTree(at, k, 8192)",
    );
    world
        .server
        .query("INSERT INTO d.old VALUES ('2024-01-01', 1)");
    let inventory = world.engine.inventory(&name).unwrap();
    let [part] = inventory.parts.as_slice() else {
        panic!("{inventory:?}");
    };
    assert_eq!(part.name, "20240101_20240101_1_1_0");
    assert_eq!(part.partition_id, "202401");
    assert_eq!(inventory.partitions["202401"], "202401");
}

#[test]
fn partitions_are_named_by_id_or_value() {
    for flavor in FLAVORS {
        let world = World::new(flavor);
        for statement in parts_of_every_kind(flavor) {
            world.server.query(statement);
        }
        let ids = |table: &str, patterns: &str| {
            let name = TableName::new("d", table);
            partition_ids(&world.engine, &name, patterns)
        };
        assert_eq!(ids("months", "202401,202403"), ["202401", "202403"]);
        assert_eq!(ids("months", "2024*").len(), 3);
        assert_eq!(ids("whole", "all"), ["all"]);
        assert_eq!(ids("tuples", "(2,'b,c')").len(), 1);
        assert_eq!(ids("tuples", "(-1,'it\\'s'), (2,*)").len(), 2);
        assert!(ids("tuples", "(3,'x')").is_empty());
    }
}

#[test]
fn the_part_log_tells_of_merges_and_of_nothing_where_there_is_none() {
    for flavor in FLAVORS {
        let options = ServerOptions {
            part_log: true,
            ..ServerOptions::default()
        };
        let world = World::with(flavor, options);
        let name = world.create("t", "(k UInt32, v UInt32)", "ENGINE = MergeTree ORDER BY k");
        world.server.query("INSERT INTO d.t VALUES (1, 1)");
        // The server may merge the two before it is told to, and logs that when others see the merged part.
        let since = world.engine.server().unwrap().now_ms;
        world.server.query("INSERT INTO d.t VALUES (2, 1)");
        world.server.query("OPTIMIZE TABLE d.t FINAL");
        let is_merge = |event: &PartEvent| event.part == "all_1_2_1";
        let log = loop {
            let log = world.engine.part_log(&name, since).unwrap();
            if log.events.iter().any(is_merge) {
                break log;
            }
        };
        assert!(log.begins_at_ms.unwrap() <= since + 1000);
        let merge = log.events.iter().find(|event| is_merge(event)).unwrap();
        let sources = ["all_1_1_0", "all_2_2_0"].map(str::to_owned).to_vec();
        assert_eq!(merge.kind, PartEventKind::Merged(sources));
        assert!(merge.at_ms >= since);
        let later = merge.at_ms + 60_000;
        assert_eq!(world.engine.part_log(&name, later).unwrap().events, []);

        let silent = World::new(flavor);
        let name = silent.create("t", "(k UInt32)", "ENGINE = MergeTree ORDER BY k");
        assert_eq!(
            silent.engine.part_log(&name, 0).unwrap(),
            PartLog::default()
        );
    }
}
