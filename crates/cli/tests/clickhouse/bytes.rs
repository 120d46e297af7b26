//! Bytes that rot: in live parts, which a look at metadata takes for whole, and in what is kept to undo by.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::points::{MOST_POINTS, points};
use crate::servers::{Flavor, ServerOptions};
use crate::world::{LivePart, Mended, NO_MERGES, World, files_below};

on_each_server!(
    a_live_part_with_damaged_bytes_is_found_and_comes_anew_file_by_file,
    a_damaged_list_of_files_is_damage_too,
    a_damaged_merge_of_parts_of_the_backup_is_replaced_by_them,
    a_mend_of_damage_that_stops_anywhere_is_completed,
    an_undo_brings_no_damaged_bytes_back_and_names_them,
    what_is_brought_shares_no_file_that_the_server_rewrites,
    files_are_looked_for_once_for_a_table_and_a_mend,
);

/// Mends the table of these tests and proves what stays.
const MEND: [&str; 2] = ["rot", "--check-kept"];

/// A table of two partitions with two parts each, wide ones, and its backup.
fn backed_up(flavor: Flavor) -> World {
    let options = ServerOptions {
        part_log: true,
        ..ServerOptions::default()
    };
    let world = World::with(flavor, options);
    let server = &world.server;
    server.create_database("rot");
    let wide = if world.is_current() {
        ", min_bytes_for_wide_part = 0, min_rows_for_wide_part = 0"
    } else {
        ""
    };
    server.query(&format!(
        "CREATE TABLE rot.t (month UInt32, k UInt32, digest UInt64) ENGINE = MergeTree PARTITION BY month \
         ORDER BY k SETTINGS {NO_MERGES}{wide}"
    ));
    for (month, from) in [(202401, 0), (202401, 20_000), (202402, 0), (202402, 20_000)] {
        insert(&world, month, from);
    }
    world.backup(&["rot"]);
    world
}

fn insert(world: &World, month: u32, from: u32) {
    world.server.query(&format!(
        "INSERT INTO rot.t SELECT {month}, {from} + number, cityHash64({month}, {from}, number) \
         FROM system.numbers LIMIT 20000"
    ));
}

fn live(world: &World) -> Vec<LivePart> {
    world.parts("rot", "t")
}

/// Turns over a bit in the middle of a file: its size stays.
fn rot(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

fn contents(world: &World) -> String {
    world.contents("rot").remove("t").unwrap()
}

/// What `verify --live` says of the table, which must end with this exit code.
fn verified(world: &World, code: i32, arguments: &[&str]) -> Value {
    let arguments = [&["verify", "rot", "--live", "--output", "json"], arguments].concat();
    let output = world.run(&arguments);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{said}");
    let proof: Value = serde_json::from_slice(&output.stdout).unwrap();
    proof["live_parts"][0].clone()
}

/// Names of the damaged files that the last mend has replaced.
fn replaced_files(mended: &Value) -> Vec<&str> {
    let damaged = mended["mended"][0]["damaged"].as_array().unwrap().iter();
    let files = damaged.flat_map(|part| part["files"].as_array().unwrap());
    files.map(|file| file.as_str().unwrap()).collect()
}

fn a_live_part_with_damaged_bytes_is_found_and_comes_anew_file_by_file(flavor: Flavor) {
    let world = backed_up(flavor);
    let before = contents(&world);
    let part = &live(&world)[1];
    rot(&part.directory.join("digest.bin"));
    assert_eq!(
        verified(&world, 0, &[])["equal"],
        true,
        "metadata tells nothing"
    );
    let found = verified(&world, 3, &["--bytes"]);
    assert_eq!(
        (&found["equal"], &found["damaged"]),
        (&false.into(), &1.into())
    );
    let note = found["note"].as_str().unwrap();
    assert!(
        note.contains(&part.name) && note.contains("digest.bin"),
        "{note}"
    );

    // All but the damaged file is linked, and what no checksum covers comes with it.
    let size = fs::metadata(part.directory.join("digest.bin"))
        .unwrap()
        .len();
    let mended = world.mend(&MEND);
    assert_eq!((mended.done.kept.parts, mended.done.fetched.parts), (3, 1));
    let downloaded = mended.done.download_bytes;
    assert!(
        downloaded >= size && downloaded < size + 4096,
        "{downloaded} of {size}"
    );
    assert!(mended.done.linked_bytes > 0);
    assert_eq!(contents(&world), before);
    assert_eq!(verified(&world, 0, &["--bytes"])["damaged"], 0);
    world.is_mended("rot", &MEND);

    // Also where it has to go before the other can come.
    rot(&live(&world)[3].directory.join("k.bin"));
    world.ok(&[
        "restore",
        "rot",
        "--in-place",
        "--check-kept",
        "--restore-order",
        "remove_first",
    ]);
    assert_eq!(contents(&world), before);
    world.is_mended("rot", &MEND);
}

fn a_damaged_list_of_files_is_damage_too(flavor: Flavor) {
    let world = backed_up(flavor);
    let before = contents(&world);
    rot(&live(&world)[1].directory.join("checksums.txt"));
    assert_eq!(verified(&world, 3, &["--bytes"])["equal"], false);
    let mended = world.mend(&MEND);
    assert_eq!((mended.done.kept.parts, mended.done.fetched.parts), (3, 1));
    assert_eq!(contents(&world), before);
    world.is_mended("rot", &MEND);
}

fn a_damaged_merge_of_parts_of_the_backup_is_replaced_by_them(flavor: Flavor) {
    let world = backed_up(flavor);
    let before = contents(&world);
    // Those that stay tell that numbers were given once.
    world.wait_until_parts_are_old();
    world.mend(&MEND);
    world
        .server
        .query("OPTIMIZE TABLE rot.t PARTITION 202401 FINAL");
    let parts = live(&world);
    assert_eq!(parts.len(), 3);
    let mended = world.mend(&MEND);
    assert_eq!(mended.done.kept.parts, 3, "a merge of whole bytes stays");
    rot(&parts[0].directory.join("k.bin"));
    let mended = world.mend(&MEND);
    assert_eq!((mended.done.kept.parts, mended.done.fetched.parts), (2, 2));
    assert_eq!(contents(&world), before);
    world.is_mended("rot", &MEND);
}

fn a_mend_of_damage_that_stops_anywhere_is_completed(flavor: Flavor) {
    let world = backed_up(flavor);
    let before = contents(&world);
    // The check of the server comes last, and what it finds is mended then.
    let (check, few) = match flavor {
        Flavor::Current => ("--check-table", 11),
        Flavor::V18 => ("--check-kept", 5),
    };
    let arguments = ["restore", "rot", "--in-place", check];
    for point in points(few) {
        rot(&live(&world)[0].directory.join("digest.bin"));
        let mut command = world.command(&arguments);
        let output = command
            .env("MENDB_CRASH_AT", point.to_string())
            .output()
            .unwrap();
        let is_whole = output.status.success();
        if !is_whole {
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), None, "stopped at {point}: {said}");
            let operations = world.operations();
            let open = operations
                .iter()
                .find(|operation| operation["kind"] == "mend" && operation["state"] != "done");
            match open {
                Some(open) => {
                    world.ok(&["operation", "watch", open["operation_id"].as_str().unwrap()]);
                }
                None => {
                    world.ok(&arguments);
                }
            }
        }
        assert_eq!(contents(&world), before, "stopped at {point}");
        assert_eq!(
            verified(&world, 0, &["--bytes"])["equal"],
            true,
            "stopped at {point}"
        );
        if is_whole {
            assert!(point > 10, "it was stopped {point} times only");
            return;
        }
    }
    panic!("a mend has more than {MOST_POINTS} persisted steps");
}

#[test]
fn what_the_check_of_the_server_finds_is_mended_in_the_same_operation() {
    let world = backed_up(Flavor::Current);
    let before = contents(&world);
    rot(&live(&world)[2].directory.join("k.bin"));
    let mended: Value = world.json(&["restore", "rot", "--in-place", "--check-table"]);
    assert_eq!(mended["state"], "done");
    assert_eq!(replaced_files(&mended), ["k.bin"]);
    assert_eq!(contents(&world), before);
    world.is_mended("rot", &MEND);
    let told = world.ok(&[
        "operation",
        "show",
        mended["operation_id"].as_str().unwrap(),
    ]);
    assert!(
        told.contains("was damaged") && told.contains("k.bin"),
        "{told}"
    );
}

fn an_undo_brings_no_damaged_bytes_back_and_names_them(flavor: Flavor) {
    let world = backed_up(flavor);
    let whole = contents(&world);
    insert(&world, 202403, 0);
    let mended: Mended = world.json(&["restore", "rot", "--in-place", "--keep-undo"]);
    assert_eq!(mended.done.removed.parts, 1);
    // What was removed is only in the freeze any more.
    let frozen: Vec<PathBuf> = files_below(&world.server.data_path().join("shadow"))
        .into_iter()
        .filter(|file| file.ends_with("digest.bin"))
        .filter(|file| {
            file.components()
                .any(|part| part.as_os_str().to_string_lossy().starts_with("202403_"))
        })
        .collect();
    let [file] = &frozen[..] else {
        panic!("{frozen:?}");
    };
    rot(file);
    let said = world.fails(1, &["undo", &mended.operation_id]);
    assert!(
        said.contains("digest.bin") && said.contains("202403_"),
        "{said}"
    );
    assert_eq!(contents(&world), whole, "nothing was brought back");
    let undo = world.operations();
    let undo = undo
        .iter()
        .find(|operation| operation["state"] == "failed")
        .unwrap();
    // What it advises works.
    assert!(said.contains("cancel"), "{said}");
    world.ok(&[
        "operation",
        "cancel",
        undo["operation_id"].as_str().unwrap(),
    ]);
    world.ok(&["restore", "rot", "--in-place"]);
    assert_eq!(contents(&world), whole);
}

fn what_is_brought_shares_no_file_that_the_server_rewrites(flavor: Flavor) {
    let world = backed_up(flavor);
    let whole = contents(&world);
    let lost = live(&world).remove(0);
    world.drop_part("rot", "t", &lost);
    let without = contents(&world);
    let frozen = |world: &World| -> HashSet<u64> {
        let files = files_below(&world.server.data_path().join("shadow")).into_iter();
        files
            .map(|file| fs::metadata(file).unwrap().ino())
            .collect()
    };
    // By a mend, which links from what the server still has, and by its undo, which links a freeze.
    world.server.query("ALTER TABLE rot.t FREEZE");
    let mended: Mended = world.json(&["restore", "rot", "--in-place", "--keep-undo"]);
    assert_eq!(contents(&world), whole);
    world
        .server
        .query("ALTER TABLE rot.t DROP PARTITION 202402");
    world.ok(&["undo", &mended.operation_id]);
    assert_eq!(contents(&world), without);
    let shared = frozen(&world);
    let brought = live(&world)
        .into_iter()
        .filter(|part| part.partition_id == "202402");
    let (mut data, mut texts) = (0, 0);
    for file in brought.flat_map(|part| files_below(&part.directory)) {
        let is_shared = shared.contains(&fs::metadata(&file).unwrap().ino());
        if file.extension().is_some_and(|extension| extension == "txt") {
            assert!(!is_shared, "{} is shared", file.display());
            texts += 1;
        } else {
            assert!(is_shared, "{} is not shared", file.display());
            data += 1;
        }
    }
    assert!(data > 0 && texts > 0, "{data} {texts}");
}

fn files_are_looked_for_once_for_a_table_and_a_mend(flavor: Flavor) {
    let world = World::new(flavor);
    world.server.create_database("rot");
    world.server.query(&format!(
        "CREATE TABLE rot.t (k UInt32, digest UInt64) ENGINE = MergeTree ORDER BY k SETTINGS {NO_MERGES}"
    ));
    // More parts than are brought at once.
    for number in 0..70 {
        world.server.query(&format!(
            "INSERT INTO rot.t SELECT number, cityHash64({number}, number) FROM system.numbers LIMIT 10"
        ));
    }
    world.backup(&["rot"]);
    let whole = contents(&world);
    world.server.query("DROP TABLE rot.t");
    let mut command = world.command(&["restore", "rot", "--in-place"]);
    command.env("MENDB_LOG", "mendb_engines=debug");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("looked for files").count(), 1, "{said}");
    assert_eq!(contents(&world), whole);
}
