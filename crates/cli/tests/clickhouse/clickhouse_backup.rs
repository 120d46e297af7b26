//! Backups as clickhouse-backup lays them out, written of a server as it is.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::world::{LivePart, World};

/// How a backup is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// As `create` leaves it: parts are directories.
    Local,
    /// As `upload` leaves it: an archive for each part.
    Tar,
}

/// Where backups are and how mendb is told.
pub fn from(root: &Path) -> String {
    format!("clickhouse-backup+file://{}", root.display())
}

/// Writes the backup `nightly` of all tables of a database. `more` is added to what is told of it.
pub fn back_up(world: &World, database: &str, root: &Path, layout: Layout, more: &Value) {
    let with_uuids = if world.is_current() {
        "toString(uuid) AS uuid"
    } else {
        "'' AS uuid"
    };
    let settings = if world.is_current() {
        "SETTINGS show_table_uuid_in_table_create_query_if_not_nil = 1"
    } else {
        ""
    };
    let tables = world.server.query(&format!(
        "SELECT name, {with_uuids}, create_table_query AS query FROM system.tables \
         WHERE database = '{database}' {settings} FORMAT JSON"
    ));
    let tables: Value = serde_json::from_str(&tables).unwrap();
    let engine = world.server.query(&format!(
        "SELECT engine FROM system.databases WHERE name = '{database}'"
    ));
    let mut titles = Vec::new();
    for table in tables["data"].as_array().unwrap() {
        write_table(world, database, table, root, layout);
        titles.push(json!({ "database": database, "table": table["name"] }));
    }
    let mut of_backup = json!({
        "backup_name": "nightly",
        "disks": { "default": world.server.data_path() },
        "version": "2.6.42",
        "creation_date": "2026-08-19T08:00:00Z",
        "tags": "regular",
        "clickhouse_version": "v1",
        "data_size": 1,
        "metadata_size": 1,
        "databases": [{
            "name": database,
            "engine": engine.trim_end(),
            "query": format!("CREATE DATABASE {database} ENGINE = {}", engine.trim_end()),
        }],
        "tables": titles,
        "functions": [],
        "data_format": if layout == Layout::Tar { "tar" } else { "" },
    });
    for (key, value) in more.as_object().unwrap() {
        of_backup[key] = value.clone();
    }
    std::fs::write(root.join("nightly/metadata.json"), of_backup.to_string()).unwrap();
}

fn write_table(world: &World, database: &str, table: &Value, root: &Path, layout: Layout) {
    let name = table["name"].as_str().unwrap();
    let parts = world.parts(database, name);
    let shadow = root.join(format!("nightly/shadow/{database}/{}", encode(name)));
    let documents = root.join(format!("nightly/metadata/{database}"));
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
        "table": name,
        "database": database,
        "uuid": table["uuid"],
        "parts": { "default": parts.iter().map(|part| json!({"name": part.name})).collect::<Vec<_>>() },
        "query": table["query"],
        "size": { "default": 1 },
        "total_bytes": 1,
        "metadata_only": false,
    });
    let document = documents.join(format!("{}.json", encode(name)));
    std::fs::write(document, of_table.to_string()).unwrap();
}

/// Makes a backup that was written look as one of an `Ordinary` database, where tables have no UUIDs and
/// that of a view is named by it.
pub fn as_of_ordinary(root: &Path, database: &str, view: &str, uuid: &str) {
    let (by_uuid, by_name) = (format!(".inner_id.{uuid}"), format!(".inner.{view}"));
    let documents = root.join(format!("nightly/metadata/{database}"));
    let shadow = root.join(format!("nightly/shadow/{database}"));
    let renamed = |directory: &Path, extension: &str| {
        let file = |name: &str| directory.join(encode(name) + extension);
        std::fs::rename(file(&by_uuid), file(&by_name)).unwrap();
    };
    renamed(&documents, ".json");
    renamed(&shadow, "");
    let files = std::fs::read_dir(&documents).unwrap();
    let files = files.map(|file| file.unwrap().path());
    for file in files.chain([root.join("nightly/metadata.json")]) {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut document: Value = serde_json::from_str(
            &text
                .replace(&by_uuid, &by_name)
                .replace("Atomic", "Ordinary"),
        )
        .unwrap();
        document.as_object_mut().unwrap().remove("uuid");
        std::fs::write(&file, document.to_string()).unwrap();
    }
}

/// A name as paths have it.
fn encode(name: &str) -> String {
    let bytes = name.bytes().map(|byte| match byte {
        b'_' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    bytes.collect()
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
