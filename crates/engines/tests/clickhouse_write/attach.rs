//! Staged parts become live.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use mendb_engines::{PartStore, Remedy};
use mendb_model::part::Hash128;

use crate::bench::{Bench, FLAVORS, Saved, hashes};

/// Parts of one to five rows, saved and gone.
fn emptied(bench: &Bench) -> Vec<Saved> {
    bench.create("MergeTree");
    bench.insert(2, "other", 7);
    for rows in 1..=5 {
        bench.insert(1, &format!("part {rows}"), rows);
    }
    let saved = bench.save("1");
    let table = bench.table.sql();
    bench
        .server
        .query(&format!("ALTER TABLE {table} DROP PARTITION ID '1'"));
    saved
}

#[test]
fn parts_become_live_in_the_given_order() {
    for flavor in FLAVORS {
        let bench = Bench::new(flavor);
        let mut saved = emptied(&bench);
        saved.swap(0, 3);
        let parts: Vec<_> = saved
            .iter()
            .enumerate()
            .map(|(n, saved)| bench.stage(saved, n))
            .collect();
        bench.engine.attach(&bench.table, &parts[..2]).unwrap();
        // Again with all of them, as after a crash in the middle.
        bench.engine.attach(&bench.table, &parts).unwrap();
        bench.engine.attach(&bench.table, &parts).unwrap();
        assert_eq!(bench.hashes("1"), hashes(&saved));
        assert_eq!(bench.rows(), 22);
        assert!(parts.iter().all(|part| !part.directory.exists()));
        assert_eq!(bench.leftovers(), [""; 0]);
    }
}

#[test]
fn equal_parts_are_as_many_as_were_staged() {
    for flavor in FLAVORS {
        let bench = Bench::new(flavor);
        let saved = emptied(&bench);
        let parts = [bench.stage(&saved[0], 1), bench.stage(&saved[0], 2)];
        bench.engine.attach(&bench.table, &parts).unwrap();
        assert_eq!(bench.hashes("1"), [saved[0].part.hash; 2]);
    }
}

#[test]
fn a_part_whose_attaching_a_crash_cut_short_is_attached() {
    for flavor in FLAVORS {
        let bench = Bench::new(flavor);
        let saved = emptied(&bench);
        let detached = bench.table_directory().join("detached");
        for (number, prefix) in ["", "attaching_"].into_iter().enumerate() {
            let part = bench.stage(&saved[number], number);
            // A part that the server refuses is back where it was; so one learns where it goes.
            let sizes = part.directory.join("k.bin");
            let sizes = if sizes.exists() {
                sizes
            } else {
                part.directory.join("data.bin")
            };
            let content = fs::read(&sizes).unwrap();
            fs::write(&sizes, &content[1..]).unwrap();
            let error = bench
                .engine
                .attach(&bench.table, std::slice::from_ref(&part))
                .unwrap_err();
            let said = error.to_string();
            assert!(part.directory.exists(), "{said}");
            let name = said
                .split("attach part ")
                .nth(1)
                .unwrap()
                .split(' ')
                .next()
                .unwrap();
            fs::write(&sizes, content).unwrap();
            fs::rename(&part.directory, detached.join(format!("{prefix}{name}"))).unwrap();
            bench.engine.attach(&bench.table, &[part]).unwrap();
        }
        assert_eq!(bench.hashes("1"), hashes(&saved[..2]));
        assert_eq!(bench.leftovers(), [""; 0]);
    }
}

#[test]
fn another_part_than_was_asked_for_is_not_attached() {
    for flavor in FLAVORS {
        let bench = Bench::new(flavor);
        let saved = emptied(&bench);
        let mut part = bench.stage(&saved[0], 0);
        part.hash = Hash128([7; 16]);
        let error = bench
            .engine
            .attach(&bench.table, std::slice::from_ref(&part))
            .unwrap_err();
        assert_eq!(error.remedy, Remedy::Repair);
        assert!(
            error
                .to_string()
                .contains(&*part.directory.to_string_lossy()),
            "{error}"
        );

        fs::remove_dir_all(&part.directory).unwrap();
        let error = bench.engine.attach(&bench.table, &[part]).unwrap_err();
        assert_eq!(error.remedy, Remedy::Retry);
        assert_eq!(bench.rows(), 7);
    }
}

#[test]
fn what_mutations_come_later_change_attached_parts_too() {
    for flavor in FLAVORS {
        let bench = Bench::new(flavor);
        let table = bench.table.sql();
        let mut saved = emptied(&bench);
        // As if it had been through a mutation of another table, with a number that is far off here.
        saved[0].part.name = "1_1_1_0_1000000".to_owned();
        let part = bench.stage(&saved[0], 0);
        bench.engine.attach(&bench.table, &[part]).unwrap();
        bench.server.query(&format!("SYSTEM START MERGES {table}"));
        bench.server.query(&format!(
            "ALTER TABLE {table} UPDATE v = 'changed' WHERE p = 1"
        ));
        let done = "SELECT min(is_done) FROM system.mutations WHERE database = 'd'";
        while bench.server.query(done) != "1\n" {}
        let changed = format!("SELECT DISTINCT v FROM {table} WHERE p = 1");
        assert_eq!(bench.server.query(&changed), "changed\n");
    }
}

#[test]
fn a_sealed_part_has_modes_as_the_server_makes_them() {
    for flavor in FLAVORS {
        let bench = Bench::new(flavor);
        let saved = emptied(&bench);
        let table = bench.table_directory();
        fs::set_permissions(&table, Permissions::from_mode(0o750)).unwrap();
        let part = bench.stage(&saved[0], 0);
        bench.engine.attach(&bench.table, &[part]).unwrap();
        let live = bench.path_of(&bench.live("1")[0].name);
        assert_eq!(fs::metadata(&live).unwrap().mode() & 0o777, 0o750);
        let owner = fs::metadata(&table).unwrap();
        for entry in fs::read_dir(&live).unwrap() {
            let entry = entry.unwrap();
            // Written by the server itself when it attached the part.
            let by_server = ["metadata_version.txt", "invalidated_system_columns.txt"];
            if by_server.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            let metadata = entry.metadata().unwrap();
            assert_eq!(metadata.mode() & 0o777, 0o640, "{:?}", entry.path());
            assert_eq!((metadata.uid(), metadata.gid()), (owner.uid(), owner.gid()));
        }
    }
}
