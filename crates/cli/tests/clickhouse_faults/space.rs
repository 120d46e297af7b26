//! Servers whose disk is nearly full: a small file system in a mount namespace of its own.

use std::path::Path;
use std::process::Command;

use crate::damaged::contents;
use crate::servers::{Flavor, ServerOptions};
use crate::world::World;

/// Set for the process that runs inside the namespace.
const INSIDE: &str = "MENDB_TEST_SMALL_DISK";

/// Runs one test of this binary again as root of a user namespace, where it may mount.
fn inside_namespace(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare of util-linux, which makes the small disk");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    false
}

fn mount(path: &Path, options: &str) {
    let status = Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "tmpfs"])
        .arg(path)
        .status();
    assert!(status.unwrap().success(), "mount of a small disk");
}

/// A table of about 24 MB that does not compress, on a disk of this size.
fn world(flavor: Flavor, disk: &Path, mebibytes: u32) -> World {
    std::fs::create_dir_all(disk).unwrap();
    mount(disk, &format!("size={mebibytes}m,mode=0777"));
    let options = ServerOptions {
        data: Some(disk.to_owned()),
        old_parts_lifetime_s: Some(1),
        ..ServerOptions::default()
    };
    let world = World::with(flavor, options);
    let server = &world.server;
    server.create_database("shop");
    server.query(
        "CREATE TABLE shop.noise (day Date, a UInt64, b UInt64) ENGINE = MergeTree \
         PARTITION BY toYYYYMM(day) ORDER BY day SETTINGS index_granularity = 8192",
    );
    fill(&world, "2024-01-01", 0);
    fill(&world, "2024-02-01", 1);
    world.backup(&["shop", "--tables", "shop.*"]);
    world
}

/// A partition of 12 MB.
fn fill(world: &World, day: &str, seed: u64) {
    world.server.query(&format!(
        "INSERT INTO shop.noise SELECT toDate('{day}'), cityHash64(number, {seed}), cityHash64({seed}, number, 1) \
         FROM system.numbers LIMIT 750000"
    ));
}

/// Both partitions hold other rows now.
fn replace_all(world: &World) {
    world
        .server
        .query("ALTER TABLE shop.noise DROP PARTITION ID '202401'");
    world
        .server
        .query("ALTER TABLE shop.noise DROP PARTITION ID '202402'");
    world.settle();
    fill(world, "2024-01-01", 2);
    fill(world, "2024-02-01", 3);
}

#[test]
fn a_disk_without_room_for_both_has_the_wrong_parts_removed_first() {
    const TEST: &str = "space::a_disk_without_room_for_both_has_the_wrong_parts_removed_first";
    if !inside_namespace(TEST) {
        return;
    }
    for flavor in [Flavor::Current, Flavor::V18] {
        let place = tempfile::tempdir().unwrap();
        // 24 MB live, 12 MB more would fit beside 64 MB of reserve only on a larger disk.
        let world = world(flavor, &place.path().join("disk"), 100);
        let whole = contents(&world);
        replace_all(&world);
        let preview = world.preview(&["shop"]);
        let actions: Vec<_> = preview.tables[0]
            .partitions
            .iter()
            .map(|p| p.action)
            .collect();
        let removes_first = actions.contains(&mendb_model::part::Action::RemoveFirst);
        assert!(removes_first, "{flavor:?}: {actions:?}");
        assert!(!preview.keep_undo, "what is kept would fill the disk");
        // What could be linked from parts that go first is gone then: more is downloaded than was planned.
        world.ok(&["restore", "shop", "--in-place"]);
        assert_eq!(contents(&world), whole);
    }
}

#[test]
fn a_disk_that_is_too_small_in_any_order_is_refused_before_the_first_change() {
    const TEST: &str =
        "space::a_disk_that_is_too_small_in_any_order_is_refused_before_the_first_change";
    if !inside_namespace(TEST) {
        return;
    }
    for flavor in [Flavor::Current, Flavor::V18] {
        let place = tempfile::tempdir().unwrap();
        let disk = place.path().join("disk");
        let world = world(flavor, &disk, 100);
        world
            .server
            .query("ALTER TABLE shop.noise DROP PARTITION ID '202401'");
        world.settle();
        let before = world.part_names("shop");
        let free = Command::new("fallocate")
            .args(["-l", "82M"])
            .arg(disk.join("other"))
            .status();
        assert!(free.unwrap().success());
        let said = world.fails(1, &["restore", "shop", "--in-place"]);
        assert!(said.contains("bytes free"), "{said}");
        assert_eq!(world.part_names("shop"), before, "nothing was changed");
    }
}
