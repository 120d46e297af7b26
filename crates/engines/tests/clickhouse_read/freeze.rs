//! What is frozen, and for how long.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mendb_engines::{Engine, FreezeTable, LockKind, PartStore, Remedy};
use mendb_model::part::{Hash128, TableName};

use crate::servers::Flavor;
use crate::world::{FLAVORS, World, by_name, check_frozen, partition_ids, refused, whole};

#[test]
fn a_freeze_survives_the_death_of_server_and_engine_and_is_dropped_without_a_trace() {
    for flavor in FLAVORS {
        let mut world = World::new(flavor);
        let name = world.create(
            "t",
            "(k UInt32, at Date)",
            "ENGINE = MergeTree PARTITION BY at ORDER BY k",
        );
        let empty = world.create("empty", "(k UInt32)", "ENGINE = MergeTree ORDER BY k");
        world
            .server
            .query("INSERT INTO d.t VALUES (1, '2024-01-01'), (2, '2024-01-02')");
        let before = world.names_and_hashes(&name);
        let frozen = world
            .engine
            .freeze("backup-1-a", &[whole(&name), whole(&empty)])
            .unwrap();
        assert_eq!(by_name(&frozen[0].current_parts), before);
        assert_eq!(frozen[0].parts.len(), 2);
        assert!(frozen[1].parts.is_empty());
        check_frozen(&world.engine, &frozen[0]);

        world
            .server
            .query("ALTER TABLE d.t DROP PARTITION ID '20240101'");
        world.server.query("DROP TABLE d.empty");
        world.server.restart();
        world.reopen();
        assert!(world.engine.is_frozen("backup-1-a").unwrap());
        assert!(!world.engine.is_frozen("backup-1-b").unwrap());
        let parts = world.engine.frozen("backup-1-a", &name).unwrap();
        assert_eq!(parts, frozen[0].parts);
        check_frozen(&world.engine, &frozen[0]);
        let locks = world.engine.locks().unwrap();
        assert!(locks.iter().any(|lock| lock.table == "d.t"
            && lock.operation == "backup-1-a"
            && lock.kind == LockKind::Backup));

        let shadow = world.server.data_path().join("shadow/mendb_backup_1_a");
        assert!(shadow.exists());
        for _ in 0..2 {
            world.engine.thaw("backup-1-a").unwrap();
            assert!(!shadow.exists());
            assert!(!world.engine.is_frozen("backup-1-a").unwrap());
            assert!(world.engine.locks().unwrap().is_empty());
        }
        let error = refused(world.engine.frozen("backup-1-a", &name));
        assert_eq!(error.remedy, Remedy::Refreeze);
        assert_eq!(
            fs::read_dir(world.state.path().join("freezes"))
                .unwrap()
                .count(),
            0
        );
    }
}

#[test]
fn what_an_earlier_attempt_froze_is_dropped_before_and_a_failure_leaves_nothing() {
    for flavor in FLAVORS {
        let world = World::new(flavor);
        let name = world.create("t", "(k UInt32)", "ENGINE = MergeTree ORDER BY k");
        world.server.query("INSERT INTO d.t VALUES (1)");
        let shadow = world.server.data_path().join("shadow/mendb_b_1");
        // As if mendb had died before it wrote its record.
        world
            .server
            .query("ALTER TABLE d.t FREEZE WITH NAME 'mendb_b_1'");
        assert!(!world.engine.is_frozen("b-1").unwrap());
        world.server.query("INSERT INTO d.t VALUES (2)");
        let frozen = world.engine.freeze("b-1", &[whole(&name)]).unwrap();
        assert_eq!(frozen[0].parts.len(), 2);
        let missing = whole(&TableName::new("d", "missing"));
        let error = refused(world.engine.freeze("b-1", &[whole(&name), missing]));
        assert_eq!(error.remedy, Remedy::Request);
        assert!(error.to_string().contains("d.missing"), "{error}");
        assert!(!shadow.exists());
        assert!(!world.engine.is_frozen("b-1").unwrap());
    }
}

#[test]
fn a_freeze_that_lost_files_is_to_be_made_again() {
    for flavor in FLAVORS {
        let world = World::new(flavor);
        let name = world.create("t", "(k UInt32)", "ENGINE = MergeTree ORDER BY k");
        world.server.query("INSERT INTO d.t VALUES (1)");
        let frozen = world.engine.freeze("b-1", &[whole(&name)]).unwrap();
        fs::remove_dir_all(&frozen[0].parts[0].directory).unwrap();
        assert_eq!(
            refused(world.engine.frozen("b-1", &name)).remedy,
            Remedy::Refreeze
        );
        fs::remove_dir_all(world.server.data_path().join("shadow")).unwrap();
        assert!(!world.engine.is_frozen("b-1").unwrap());
    }
}

#[test]
fn freezing_some_partitions_tells_of_all_parts() {
    for flavor in FLAVORS {
        let world = World::new(flavor);
        let name = world.create(
            "t",
            "(k UInt32, at Date)",
            "ENGINE = MergeTree PARTITION BY toYYYYMM(at) ORDER BY k",
        );
        world.server.query(
            "INSERT INTO d.t VALUES (1, '2024-01-01'), (2, '2024-02-02'), (3, '2024-03-03')",
        );
        let ids = partition_ids(&world.engine, &name, "202401, 20240[3-9]");
        assert_eq!(ids, ["202401"]);
        let request = FreezeTable {
            name: name.clone(),
            partitions: Some(ids),
        };
        let frozen = world.engine.freeze("b-1", &[request]).unwrap();
        assert_eq!(frozen[0].current_parts.parts.len(), 3);
        assert_eq!(frozen[0].parts.len(), 1);
        assert_eq!(frozen[0].parts[0].name, "202401_1_1_0");
    }
}

#[test]
fn what_is_frozen_amid_inserts_and_merges_is_what_the_freeze_tells() {
    for flavor in FLAVORS {
        let world = World::new(flavor);
        let name = world.create("t", "(k UInt32)", "ENGINE = MergeTree ORDER BY k");
        let other = world.create("u", "(k UInt32)", "ENGINE = MergeTree ORDER BY k");
        let stop = AtomicBool::new(false);
        let (started, begin) = std::sync::mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut round = 0;
                while !stop.load(Ordering::Relaxed) {
                    world
                        .server
                        .query(&format!("INSERT INTO d.t VALUES ({round})"));
                    world
                        .server
                        .query(&format!("INSERT INTO d.u VALUES ({round})"));
                    if round % 3 == 0 {
                        world.server.query("OPTIMIZE TABLE d.t FINAL");
                    }
                    round += 1;
                    started.send(()).unwrap();
                }
            });
            begin.recv().unwrap();
            for _ in 0..10 {
                let frozen = world
                    .engine
                    .freeze("b-1", &[whole(&name), whole(&other)])
                    .unwrap();
                for table in &frozen {
                    let parts = table.parts.iter().map(|part| &part.name);
                    let current = table.current_parts.parts.iter().map(|part| &part.name);
                    assert!(parts.eq(current));
                    check_frozen(&world.engine, table);
                    // Blocks are whole numbers of inserts without a gap: nothing was seen twice or not.
                    let mut next = None;
                    for part in &table.current_parts.parts {
                        assert_eq!(next.unwrap_or(part.min_block), part.min_block);
                        next = Some(part.max_block + 1);
                    }
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn updates_in_patch_parts_are_applied_before_a_freeze() {
    let world = World::new(Flavor::Current);
    let name = world.create(
        "t",
        "(k UInt32, v String)",
        "ENGINE = MergeTree ORDER BY k SETTINGS enable_block_number_column = 1, enable_block_offset_column = 1",
    );
    world
        .server
        .query("INSERT INTO d.t VALUES (1, 'old'), (2, 'old')");
    let before = world.names_and_hashes(&name);
    world.server.query("UPDATE d.t SET v = 'new' WHERE k = 1 SETTINGS enable_lightweight_update = 1, allow_experimental_lightweight_update = 1");
    let patched = world.engine.inventory(&name).unwrap();
    assert_eq!(by_name(&patched), before);
    assert_eq!(patched.patches.len(), 1);
    let frozen = world.engine.freeze("b-1", &[whole(&name)]).unwrap();
    assert!(frozen[0].current_parts.patches.is_empty());
    let hashes = |parts: &BTreeMap<String, Hash128>| parts.values().copied().collect::<Vec<_>>();
    assert_ne!(hashes(&by_name(&frozen[0].current_parts)), hashes(&before));
    check_frozen(&world.engine, &frozen[0]);
}

#[test]
fn mutations_that_are_not_done_are_told() {
    for flavor in FLAVORS {
        let world = World::new(flavor);
        let name = world.create("t", "(k UInt32, v UInt32)", "ENGINE = MergeTree ORDER BY k");
        world.server.query("INSERT INTO d.t VALUES (1, 1)");
        world.server.query("SYSTEM STOP MERGES");
        let settings = match flavor {
            Flavor::Current => " SETTINGS mutations_sync = 0",
            Flavor::V18 => "",
        };
        world.server.query(&format!(
            "ALTER TABLE d.t UPDATE v = 2 WHERE k = 1{settings}"
        ));
        let frozen = world.engine.freeze("b-1", &[whole(&name)]).unwrap();
        let [mutation] = frozen[0].current_parts.mutations.as_slice() else {
            panic!("{frozen:?}");
        };
        assert!(mutation.command.contains("UPDATE v = 2"), "{mutation:?}");
        assert_eq!(mutation.parts_to_do, 1);
        world.server.query("SYSTEM START MERGES");
    }
}
