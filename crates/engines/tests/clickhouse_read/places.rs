//! Names, disks and addresses as servers have them.

use std::collections::HashSet;
use std::os::unix::fs::symlink;

use mendb_engines::{PartStore, Remedy};
use mendb_model::part::TableName;

use crate::servers::{Flavor, Server, ServerOptions};
use crate::world::{FLAVORS, World, check_frozen, open, options_of, refused, selection, whole};

#[test]
fn tables_with_odd_names_are_read_and_frozen() {
    for flavor in FLAVORS {
        let world = World::new(flavor);
        world.server.create_database("odd db. ü");
        let names = [
            TableName::new("d", "with space.and dot"),
            TableName::new("d", "tick ` and 'quote' and \\ slash/"),
            TableName::new("odd db. ü", "日本 %20"),
        ];
        for name in &names {
            let sql = name.sql();
            world.server.query(&format!(
                "CREATE TABLE {sql} (`odd \\` column` UInt32) ENGINE = MergeTree ORDER BY tuple()"
            ));
            world.server.query(&format!("INSERT INTO {sql} VALUES (1)"));
        }
        let catalogue = world.engine.catalogue(&selection("*")).unwrap();
        for name in &names {
            assert!(catalogue.tables.iter().any(|table| table.name == *name));
            let table = world.engine.table(name).unwrap().unwrap();
            assert_eq!(
                table.columns,
                [("odd ` column".to_owned(), "UInt32".to_owned())]
            );
            assert_eq!(world.engine.inventory(name).unwrap().parts.len(), 1);
        }
        let frozen = world
            .engine
            .freeze("b-1", &names.clone().map(|name| whole(&name)))
            .unwrap();
        for table in &frozen {
            assert_eq!(table.parts.len(), 1);
            check_frozen(&world.engine, table);
        }
    }
}

#[test]
fn parts_on_several_disks_are_told_and_frozen_on_each() {
    let options = ServerOptions {
        jbod: true,
        tiered: true,
        ..ServerOptions::default()
    };
    let world = World::with(Flavor::Current, options);
    for policy in ["jbod", "tiered"] {
        let settings =
            format!("ENGINE = MergeTree ORDER BY k SETTINGS storage_policy = '{policy}'");
        let name = world.create(policy, "(k UInt32)", &settings);
        for k in 0..4 {
            world
                .server
                .query(&format!("INSERT INTO d.{policy} VALUES ({k})"));
        }
        if policy == "tiered" {
            world
                .server
                .query("ALTER TABLE d.tiered MOVE PART 'all_2_2_0' TO DISK 'cold'");
        }
        let disks = world.engine.disks_of(&name).unwrap();
        let expected = match policy {
            "jbod" => ["d1", "d2"],
            _ => ["hot", "cold"],
        };
        assert_eq!(disks, expected);
        let frozen = world.engine.freeze("b-1", &[whole(&name)]).unwrap();
        let on: HashSet<&str> = frozen[0]
            .parts
            .iter()
            .map(|part| part.disk.as_str())
            .collect();
        assert_eq!(on, HashSet::from(expected));
        assert_eq!(frozen[0].parts.len(), 4);
        for part in &frozen[0].parts {
            assert!(
                part.directory
                    .starts_with(world.server.disk_path(&part.disk))
            );
        }
        check_frozen(&world.engine, &frozen[0]);
    }
    let disks = world.engine.disks().unwrap();
    let names: Vec<&str> = disks.iter().map(|disk| disk.name.as_str()).collect();
    assert_eq!(names, ["default", "cold", "d1", "d2", "hot"]);
    for disk in &disks {
        assert!(disk.free_bytes > 0 && disk.free_bytes <= disk.total_bytes);
    }
}

#[test]
fn a_table_on_a_disk_of_object_storage_is_told_with_the_reason_and_can_be_left_out() {
    let options = ServerOptions {
        objects: true,
        ..ServerOptions::default()
    };
    let world = World::with(Flavor::Current, options);
    let rest = "ENGINE = MergeTree ORDER BY k SETTINGS storage_policy = 'objects'";
    world.create("far", "(k UInt32)", rest);
    world.create("near", "(k UInt32)", "ENGINE = MergeTree ORDER BY k");
    let catalogue = world.engine.catalogue(&selection("d.*")).unwrap();
    assert_eq!(catalogue.tables.len(), 1);
    let [far] = catalogue.refused.as_slice() else {
        panic!("{:?}", catalogue.refused);
    };
    assert_eq!(far.name, TableName::new("d", "far"));
    assert!(
        far.reason.contains("disk objects") && far.reason.contains("--exclude-disks objects"),
        "{}",
        far.reason
    );
    let mut without = selection("d.*");
    without.exclude.disks = "objects,nosuch".to_owned();
    let catalogue = world.engine.catalogue(&without).unwrap();
    assert_eq!((catalogue.tables.len(), catalogue.refused.len()), (1, 0));
    assert_eq!(catalogue.left_out, [TableName::new("d", "far")]);
    let unmatched: Vec<String> = catalogue
        .unmatched
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(unmatched, ["--exclude-disks nosuch"]);
    let disks = world.engine.disks().unwrap();
    assert!(disks.iter().all(|disk| disk.name != "objects"));
}

#[test]
fn data_that_this_process_sees_elsewhere_is_read_there() {
    for flavor in FLAVORS {
        let world = World::new(flavor);
        let name = world.create("t", "(k UInt32)", "ENGINE = MergeTree ORDER BY k");
        world.server.query("INSERT INTO d.t VALUES (1)");
        let mount = tempfile::tempdir().unwrap();
        let seen = mount.path().join("data");
        let mut options = options_of(&world.server);
        options.data_path = Some(seen.clone());
        let engine = open(&options, world.state.path()).unwrap();
        let error = refused(engine.disks());
        assert_eq!(error.remedy, Remedy::Repair);
        assert!(error.to_string().contains("data_path"), "{error}");
        symlink(world.server.data_path(), &seen).unwrap();
        assert_eq!(engine.disks().unwrap()[0].path, seen);
        let frozen = engine.freeze("b-1", &[whole(&name)]).unwrap();
        assert!(frozen[0].parts[0].directory.starts_with(&seen));
        check_frozen(&engine, &frozen[0]);
    }
}

#[test]
fn a_server_that_cannot_be_reached_or_refuses_the_user_says_what_to_do() {
    for flavor in FLAVORS {
        let options = ServerOptions {
            user: Some(("reader".to_owned(), "secret".to_owned())),
            ..ServerOptions::default()
        };
        let mut server = Server::start(flavor, options);
        let state = tempfile::tempdir().unwrap();
        let mut options = options_of(&server);
        options.user = "reader".to_owned();
        options.password = "wrong".to_owned();
        let error = refused(open(&options, state.path()));
        assert_eq!(error.remedy, Remedy::Request);
        let message = error.to_string();
        assert!(
            message.contains("\"reader\"") && message.contains("password"),
            "{message}"
        );
        options.password = "secret".to_owned();
        let engine = open(&options, state.path()).unwrap();
        let info = engine.server().unwrap();
        assert_eq!(engine.can_drop_parts(), flavor == Flavor::Current);
        assert!(engine.server().unwrap().run.is_same(&info.run));
        server.kill();
        for error in [
            refused(engine.server()),
            refused(open(&options, state.path())),
        ] {
            assert_eq!(error.remedy, Remedy::Retry);
            let message = error.to_string();
            assert!(
                message.contains(server.url().trim_end_matches('/')),
                "{message}"
            );
            assert!(message.contains("start it"), "{message}");
        }
    }
}
