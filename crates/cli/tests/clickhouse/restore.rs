//! Backups become tables elsewhere, in part and under other names; they are shown, proved and deleted.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::servers::{Flavor, ServerOptions};
use crate::world::{Mended, NO_MERGES, World, files_below};

on_each_server!(
    tables_come_to_an_empty_server_and_under_other_names,
    partitions_are_backed_up_and_brought_back_alone,
    damage_of_the_repository_is_found_before_anything_is_changed,
    parts_are_shown_as_the_server_knows_them,
    deleting_a_backup_frees_what_no_other_needs,
);

/// Files of backups that are deleted stay for a day.
const LONG_AGO: Duration = Duration::from_secs(48 * 3600);

fn world(flavor: Flavor) -> World {
    // What is not live any more goes soon, or every file would be found there.
    let options = ServerOptions {
        old_parts_lifetime_s: Some(1),
        ..ServerOptions::default()
    };
    let world = World::with(flavor, options);
    world.server.create_database("d");
    for table in ["t", "u"] {
        world.server.query(&format!(
            "CREATE TABLE d.{table} (month UInt32, k UInt32, digest UInt64) ENGINE = MergeTree \
             PARTITION BY month ORDER BY k SETTINGS {NO_MERGES}"
        ));
        for month in [202401, 202402, 202403] {
            insert(&world, table, month, 0);
        }
    }
    world
}

fn insert(world: &World, table: &str, month: u32, from: u32) {
    world.server.query(&format!(
        "INSERT INTO d.{table} SELECT {month}, {from} + number, cityHash64('{table}', {month}, {from}, number) \
         FROM system.numbers LIMIT 50000"
    ));
}

fn tables_come_to_an_empty_server_and_under_other_names(flavor: Flavor) {
    let world = world(flavor);
    let before = world.contents("d");
    let backup = world.backup(&["d", "--label", "nightly"]);

    let other = world.beside(ServerOptions::default());
    let restored: Mended = other.json(&["restore", "nightly"]);
    assert_eq!(restored.done.fetched.parts, 6);
    assert_eq!(restored.done.kept.parts, 0);
    assert_eq!(other.contents("d"), before);
    other.is_mended("d", &["d", "--to", &backup.backup_id]);
    let said = other.fails(1, &["restore", "nightly"]);
    assert!(
        said.contains("already exists") && said.contains("--in-place"),
        "{said}"
    );

    let mapping = ["restore", "nightly", "--database-mapping", "d=e"];
    let restored: Mended = other.json(&mapping);
    assert_eq!(
        restored.done.download_bytes,
        restored.done.fetched.bytes - restored.done.linked_bytes
    );
    assert!(
        restored.done.linked_bytes > 0,
        "the server has them in another table"
    );
    assert_eq!(other.contents("e"), before);

    let rename = [
        "restore",
        "nightly",
        "--tables",
        "d.t",
        "--rename",
        "d.t=d.t_then",
    ];
    let _: Mended = other.json(&rename);
    assert_eq!(other.contents("d")["t_then"], before["t"]);
    let said = other.fails(
        1,
        &[
            "restore",
            "--in-place",
            "d",
            "--to",
            &backup.backup_id,
            "--rename",
            "d.none=d.x",
        ],
    );
    assert!(said.contains("d.none"), "{said}");
    let said = other.fails(1, &["restore", "nightly", "--tables", "x.*"]);
    assert!(said.contains("x.*"), "{said}");
}

fn partitions_are_backed_up_and_brought_back_alone(flavor: Flavor) {
    let world = world(flavor);
    let before = world.contents("d");
    world.backup(&["d", "--label", "all"]);
    let some = world.backup(&[
        "some",
        "--tables",
        "d.*",
        "--partitions",
        "202401,202402",
        "--label",
        "some",
    ]);
    assert_eq!(some.totals.parts, 4);

    insert(&world, "t", 202401, 90_000);
    insert(&world, "t", 202403, 90_000);
    world.server.query("ALTER TABLE d.u DROP PARTITION 202402");
    world.server.query("ALTER TABLE d.u DROP PARTITION 202403");
    let mended = world.mend(&["all", "--partitions", "202402", "--tables", "d.u"]);
    assert_eq!(
        (mended.done.fetched.parts, mended.done.removed.parts),
        (1, 0)
    );
    assert_eq!(partitions(&world, "u"), ["202401", "202402"]);

    // What the backup was not told to hold, a mend leaves as it is.
    let mended = world.mend(&["some"]);
    assert_eq!(
        (mended.done.fetched.parts, mended.done.removed.parts),
        (0, 1)
    );
    assert_eq!(partitions(&world, "u"), ["202401", "202402"]);
    assert_eq!(world.parts("d", "t").len(), 4);
    assert_ne!(world.contents("d"), before);

    world.mend(&["all"]);
    assert_eq!(world.contents("d"), before);

    let other = world.beside(ServerOptions::default());
    let restored: Mended = other.json(&["restore", "all", "--partitions", "202403"]);
    assert_eq!(restored.done.fetched.parts, 2);
    assert_eq!(partitions(&other, "t"), ["202403"]);
}

fn partitions(world: &World, table: &str) -> Vec<String> {
    let parts = world.parts("d", table).into_iter();
    let ids: BTreeSet<String> = parts.map(|part| part.partition_id).collect();
    ids.into_iter().collect()
}

fn damage_of_the_repository_is_found_before_anything_is_changed(flavor: Flavor) {
    let world = world(flavor);
    world.backup(&["d", "--label", "nightly"]);
    world.ok(&["verify", "nightly"]);
    let object = largest(&world.in_repository("files"));
    let name = object.file_name().unwrap().to_str().unwrap();
    let whole = fs::read(&object).unwrap();
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&object, &bytes).unwrap();
    let (proof, _): (Value, _) = world.fails_with(3, &["verify", "d"]);
    let damage = proof["backups"][0]["damage"][0].as_str().unwrap();
    assert!(damage.contains(name), "{damage}");

    // Its bytes are seen when they come: until then nothing has been changed.
    for table in ["t", "u"] {
        world.server.query(&format!("TRUNCATE TABLE d.{table}"));
        insert(&world, table, 202405, 0);
    }
    world.settle();
    let damaged = (world.contents("d"), world.part_names("d"));
    let said = world.fails(1, &["restore", "--in-place", "--no-undo", "nightly"]);
    assert!(said.contains(name), "{said}");
    assert_eq!((world.contents("d"), world.part_names("d")), damaged);

    // Put right, the same operation goes on.
    fs::write(&object, &whole).unwrap();
    let operation = world.operations().pop().unwrap();
    assert_eq!(operation["state"], "failed");
    world.ok(&[
        "operation",
        "resume",
        operation["operation_id"].as_str().unwrap(),
    ]);
    world.is_mended("d", &["nightly"]);

    // An object that is gone is missed before anything is begun.
    fs::remove_file(&object).unwrap();
    world.server.query("TRUNCATE TABLE d.t");
    world.server.query("TRUNCATE TABLE d.u");
    let said = world.fails(1, &["restore", "--in-place", "--dry-run", "nightly"]);
    assert!(said.contains(name), "{said}");
}

fn largest(directory: &Path) -> PathBuf {
    let files = files_below(directory).into_iter();
    files
        .max_by_key(|file| file.metadata().unwrap().len())
        .unwrap()
}

fn parts_are_shown_as_the_server_knows_them(flavor: Flavor) {
    let world = world(flavor);
    world.backup(&["d", "--label", "nightly"]);
    let shown: Value = world.json(&["show", "nightly", "--parts"]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut parts: Vec<_> = shown["parts"].as_array().unwrap().iter().collect();
    parts.sort_by_key(|part| (text(&part["table"]), text(&part["part"])));
    let lines: Vec<String> = parts
        .iter()
        .map(|part| {
            let [table, name, partition] =
                ["table", "part", "partition_id"].map(|key| text(&part[key]));
            format!("{table}\t{name}\t{partition}\t{}", part["rows"])
        })
        .collect();
    let live = world.server.query(
        "SELECT concat(database, '.', table), name, partition_id, rows FROM system.parts \
         WHERE active AND database = 'd' ORDER BY table, name",
    );
    assert_eq!(lines, live.lines().collect::<Vec<_>>());
    if flavor == Flavor::Current {
        let hashes = world.server.query(
            "SELECT hash_of_all_files FROM system.parts WHERE active AND database = 'd' ORDER BY table, name",
        );
        let shown: Vec<String> = parts.iter().map(|part| text(&part["hash"])).collect();
        assert_eq!(shown, hashes.lines().collect::<Vec<_>>());
    }
    assert_eq!(shown["totals"]["parts"], 6);
    assert_eq!(shown["totals"]["rows"], 300_000);
    let told = world.ok(&["show", "nightly", "--parts"]);
    assert!(told.contains(&world.parts("d", "t")[0].name), "{told}");
    let listed: Value = world.json(&["list"]);
    assert_eq!(listed[0]["label"], "nightly");
    assert_eq!(listed[0]["rows"], 300_000);
}

fn deleting_a_backup_frees_what_no_other_needs(flavor: Flavor) {
    let world = world(flavor);
    world.backup(&["d", "--label", "first"]);
    let of_first = objects(&world);
    world.server.query("ALTER TABLE d.t DROP PARTITION 202401");
    insert(&world, "t", 202404, 0);
    world.backup(&["d", "--label", "second"]);
    let before = world.contents("d");
    let of_both = objects(&world);
    assert!(of_both.len() > of_first.len());
    for object in &of_both {
        let file = File::options().write(true).open(object).unwrap();
        file.set_modified(long_ago()).unwrap();
    }
    let pruned: Value = world.json(&["prune", "d", "--keep-last", "1"]);
    let fates = ["first", "second"].map(|label| {
        let mut backups = pruned["backups"].as_array().unwrap().iter();
        backups.find(|backup| backup["label"] == label).unwrap()["fate"].clone()
    });
    assert_eq!(fates, ["removed", "stays"]);
    assert_eq!(objects(&world), of_both, "others may be about to need them");
    let planned: Value = world.json(&["repository", "tidy", "--dry-run"]);
    assert!(planned["waiting_objects"].as_u64() > Some(0), "{planned}");
    assert_eq!(planned["objects"], 0);
    tidy_a_day_later(&world);
    let left = objects(&world);
    assert!(
        left.len() < of_both.len(),
        "the partition that was dropped is not needed any more"
    );
    assert!(left.is_subset(&of_both));
    assert!(
        of_both
            .difference(&of_first)
            .all(|object| left.contains(object))
    );
    world.ok(&["verify", "second"]);

    for table in ["t", "u"] {
        world.server.query(&format!("TRUNCATE TABLE d.{table}"));
    }
    world.mend(&["second", "--no-undo"]);
    assert_eq!(world.contents("d"), before);
    world.ok(&["delete", "second"]);
    tidy_a_day_later(&world);
    assert_eq!(objects(&world), BTreeSet::new());
}

/// Removes what no backup needs, as on the day after that was noted.
fn tidy_a_day_later(world: &World) {
    for note in files_below(&world.in_repository("garbage")) {
        let file = File::options().write(true).open(note).unwrap();
        file.set_modified(long_ago()).unwrap();
    }
    let tidied: Value = world.json(&["repository", "tidy"]);
    assert!(tidied["objects"].as_u64() > Some(0), "{tidied}");
    assert_eq!(tidied["waiting_objects"], 0);
}

fn objects(world: &World) -> BTreeSet<PathBuf> {
    files_below(&world.in_repository("files"))
        .into_iter()
        .collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "files are old by the clock of the file system"
)]
fn long_ago() -> SystemTime {
    SystemTime::now() - LONG_AGO
}
