//! Backups that clickhouse-backup made: mended from like from our own.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::servers::Flavor;
use crate::world::{LivePart, Mended, Preview, World};

on_each_server!(
    tables_are_mended_from_a_local_backup,
    tables_are_mended_from_an_uploaded_backup
);

/// How clickhouse-backup lays a backup out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// As `create` leaves it: parts are directories.
    Local,
    /// As `upload` leaves it: an archive for each part.
    Tar,
}

/// Two months in two parts each.
fn world(flavor: Flavor) -> World {
    let world = World::new(flavor);
    let server = &world.server;
    server.create_database("d");
    server.query(
        "CREATE TABLE d.t (day Date, k UInt64, v String) ENGINE = MergeTree \
         PARTITION BY toYYYYMM(day) ORDER BY k SETTINGS index_granularity = 8192",
    );
    world.stop_merges();
    for insert in 0..2 {
        server.query(&format!(
            "INSERT INTO d.t SELECT toDate('2024-01-01') + number % 60, number + {insert}, 'some' \
             FROM system.numbers LIMIT 500"
        ));
    }
    world
}

/// Writes what clickhouse-backup would of the table as it is.
fn back_up(world: &World, root: &Path, layout: Layout) {
    let parts = world.parts("d", "t");
    let query = world.server.query(
        "SELECT create_table_query FROM system.tables WHERE database = 'd' AND name = 't' FORMAT TabSeparatedRaw",
    );
    let shadow = root.join("nightly/shadow/d/t");
    let documents = root.join("nightly/metadata/d");
    for directory in [&shadow, &documents] {
        std::fs::create_dir_all(directory).unwrap();
    }
    for part in &parts {
        write_part(&shadow, part, layout);
    }
    let archive = |part: &LivePart| format!("default_{}.tar", part.name);
    let files: Vec<String> = parts.iter().map(archive).collect();
    let of_table = json!({
        "files": if layout == Layout::Tar { json!({ "default": files }) } else { json!({}) },
        "table": "t",
        "database": "d",
        "parts": { "default": parts.iter().map(|part| json!({"name": part.name})).collect::<Vec<_>>() },
        "query": query.trim_end(),
        "size": { "default": 1 },
        "total_bytes": 1,
        "metadata_only": false,
    });
    let of_backup = json!({
        "backup_name": "nightly",
        "disks": { "default": world.server.data_path() },
        "version": "2.6.42",
        "creation_date": "2026-08-19T08:00:00Z",
        "tags": "regular",
        "clickhouse_version": "v1",
        "data_size": 1,
        "metadata_size": 1,
        "databases": [{ "name": "d", "engine": "Atomic", "query": "CREATE DATABASE d" }],
        "tables": [{ "database": "d", "table": "t" }],
        "functions": [],
        "data_format": if layout == Layout::Tar { "tar" } else { "" },
    });
    std::fs::write(documents.join("t.json"), of_table.to_string()).unwrap();
    std::fs::write(root.join("nightly/metadata.json"), of_backup.to_string()).unwrap();
}

fn write_part(shadow: &Path, part: &LivePart, layout: Layout) {
    let mut command = match layout {
        Layout::Local => {
            let disk = shadow.join("default");
            std::fs::create_dir_all(&disk).unwrap();
            let mut copy = Command::new("cp");
            copy.arg("-r")
                .arg(&part.directory)
                .arg(disk.join(&part.name));
            copy
        }
        Layout::Tar => {
            let mut tar = Command::new("tar");
            tar.arg("-cPf")
                .arg(shadow.join(format!("default_{}.tar", part.name)))
                .arg("--transform=s,^,/,")
                .arg("-C")
                .arg(part.directory.parent().unwrap())
                .arg(&part.name);
            tar
        }
    };
    assert!(command.status().unwrap().success(), "{command:?}");
}

fn mends(flavor: Flavor, layout: Layout) {
    let world = world(flavor);
    let root = tempfile::tempdir().unwrap();
    back_up(&world, root.path(), layout);
    let whole = world.contents("d");
    let from = format!("clickhouse-backup+file://{}", root.path().display());
    let mend = [
        "restore",
        "nightly",
        "--from",
        &from,
        "--in-place",
        "--data",
    ];

    world
        .server
        .query("ALTER TABLE d.t DROP PARTITION ID '202401'");
    world
        .server
        .query("INSERT INTO d.t SELECT toDate('2024-02-02'), 1, 'wrong'");
    let planned: Preview = world.json(&[&mend[..], &["--dry-run"]].concat());
    assert_eq!(
        (
            planned.total.kept.parts,
            planned.total.removed.parts,
            planned.total.fetched.parts
        ),
        (2, 1, 2)
    );
    let mended: Mended = world.json(&mend);
    assert_eq!(mended.state, "done");
    assert_eq!(mended.done.fetched.parts, 2);
    assert_eq!(world.contents("d"), whole);

    let again: Preview = world.json(&[&mend[..], &["--dry-run"]].concat());
    assert_eq!(
        (again.total.removed.parts, again.total.fetched.parts),
        (0, 0)
    );
}

fn tables_are_mended_from_a_local_backup(flavor: Flavor) {
    mends(flavor, Layout::Local);
}

fn tables_are_mended_from_an_uploaded_backup(flavor: Flavor) {
    mends(flavor, Layout::Tar);
}
