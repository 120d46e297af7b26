//! Full disks, made with small file systems in a mount namespace of their own.

use std::path::Path;
use std::process::Command;

use crate::program::Place;

/// Set for the process that runs inside the namespace.
const INSIDE: &str = "MENDB_TEST_SMALL_DISK";

/// Runs one test of this binary again as root of a user namespace, where it may mount.
pub fn inside_namespace(test: &str) -> bool {
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
    println!("{said}");
    false
}

/// Mounts a disk in memory, of the size that its options tell.
pub fn mount(path: &Path, options: &str) {
    std::fs::create_dir_all(path).unwrap();
    let mount = ["-t", "tmpfs", "-o", options, "tmpfs"];
    let status = Command::new("mount").args(mount).arg(path).status();
    assert!(status.unwrap().success(), "mount of a small disk");
}

/// Gives a disk other options.
pub fn remount(path: &Path, options: &str) {
    let options = format!("remount,{options}");
    let remount = Command::new("mount")
        .args(["-o", &options])
        .arg(path)
        .status();
    assert!(remount.unwrap().success(), "resize of the small disk");
}

/// Takes a disk away with what is on it.
pub fn unmount(path: &Path) {
    let status = Command::new("umount").arg(path).status();
    assert!(status.unwrap().success(), "unmount of the small disk");
}

/// Rows that compress badly.
fn import_noise(place: &Place, rows: u64) {
    let mut state = 1u64;
    let mut noise = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        format!("{:016x}", state ^ (state >> 29))
    };
    let lines: String = (0..rows)
        .map(|id| {
            let text: String = (0..12).map(|_| noise()).collect();
            format!("{{\"id\":{id},\"text\":\"{text}\"}}\n")
        })
        .collect();
    let file = place.write("noise.jsonl", &lines);
    place.ok(&[
        "table", "import", "noise", &file, "--create", "--key", "id", "--shards", "3",
    ]);
    place.ok(&["collection", "create", "noises", "--table", "noise"]);
}

#[test]
fn a_full_repository_fails_clearly_and_the_backup_is_resumed_when_there_is_space() {
    if !inside_namespace(
        "disk_full::a_full_repository_fails_clearly_and_the_backup_is_resumed_when_there_is_space",
    ) {
        return;
    }
    let place = Place::new();
    let disk = place.path("repository");
    mount(&disk, "size=1m");
    import_noise(&place, 20_000);
    let said = place.fails(1, &["backup", "noises"]);
    assert!(
        said.contains("no space left") && said.contains("operation resume"),
        "{said}"
    );
    assert_eq!(
        place.json(&["list"]).as_array().unwrap().len(),
        0,
        "no half backup is listed"
    );
    remount(&disk, "size=64m");
    let operation = place.unfinished().remove(0);
    place.ok(&["operation", "resume", &operation]);
    place.ok(&["verify", "noises", "--live"]);
}

#[test]
fn a_full_target_fails_clearly_and_the_restore_is_resumed_when_there_is_space() {
    if !inside_namespace(
        "disk_full::a_full_target_fails_clearly_and_the_restore_is_resumed_when_there_is_space",
    ) {
        return;
    }
    let place = Place::new();
    let small = Place::new();
    import_noise(&place, 60_000);
    place.ok(&["backup", "noises"]);
    // The same repository, from a target on a disk that cannot hold the table.
    std::fs::rename(place.path("repository"), small.path("repository")).unwrap();
    let disk = small.path("target");
    mount(&disk, "size=5m");
    let said = small.fails(1, &["restore", "noises"]);
    // Whichever needs the space first says so: the rows, or the journal beside them.
    assert!(
        said.contains("space") || said.contains("disk is full"),
        "{said}"
    );
    assert!(
        said.contains("mendb operation"),
        "it says how to go on: {said}"
    );
    remount(&disk, "size=256m");
    let operations = small.json(&["operation", "list"]);
    let id = operations[0]["operation_id"].as_str().unwrap();
    let go_on = if operations[0]["state"] == "failed" {
        "resume"
    } else {
        "watch"
    };
    small.ok(&["operation", go_on, id]);
    small.ok(&["verify", "noises", "--live"]);
}

#[test]
fn a_plan_that_finds_no_room_leaves_no_half_file_in_the_way_of_the_next_attempt() {
    if !inside_namespace(
        "disk_full::a_plan_that_finds_no_room_leaves_no_half_file_in_the_way_of_the_next_attempt",
    ) {
        return;
    }
    let place = Place::new();
    import_noise(&place, 100);
    place.ok(&["backup", "noises"]);
    let disk = place.path("plans");
    mount(&disk, "size=1m");
    let filler = disk.join("filler");
    // So much that not a whole page is left.
    std::fs::write(&filler, vec![0; 1 << 20]).unwrap();
    let plan = disk.join("plan.json");
    let plan = plan.to_str().unwrap();
    let order = ["restore", "noises", "--in-place", "--plan", plan];
    let said = place.fails(1, &order);
    assert!(said.contains("cannot write the plan"), "{said}");
    let left = std::fs::read_dir(&disk).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["filler"]);
    std::fs::remove_file(&filler).unwrap();
    place.ok(&order);
    place.ok(&["restore", "--plan", plan]);
    let said = place.fails(1, &order);
    assert!(
        said.contains("cannot write the plan"),
        "a plan is never replaced: {said}"
    );
}
