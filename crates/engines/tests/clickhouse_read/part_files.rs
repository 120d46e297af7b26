//! Files of parts: read where they are, and found again wherever they still are.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use mendb_engines::{PartStore, Remedy};
use mendb_model::part::{FileChecksum, Hash128, TableName};

use crate::servers::Flavor;
use crate::world::{FLAVORS, World, parts_of_every_kind, refused};

#[test]
fn a_part_is_read_with_every_file_and_its_checksum() {
    let world = World::new(Flavor::Current);
    for statement in parts_of_every_kind(Flavor::Current) {
        world.server.query(statement);
    }
    let read = |table: &str| {
        let path = world.server.query(&format!(
            "SELECT path FROM system.parts WHERE active AND database = 'd' AND table = '{table}'"
        ));
        let path = PathBuf::from(path.trim());
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let content = world.engine.read_part(&path, &name, "default").unwrap();
        for file in &content.files {
            assert_eq!(
                fs::metadata(path.join(&file.name)).unwrap().len(),
                file.bytes
            );
        }
        content.files
    };
    let wide = read("wide");
    let of = |name: &str| wide.iter().find(|file| file.name == name).unwrap();
    assert!(of("s.bin").checksum.is_some());
    assert!(of("p.proj/s.bin").checksum.is_some());
    assert!(of("checksums.txt").checksum.is_none());
    assert!(of("columns.txt").checksum.is_none());
    assert!(wide.is_sorted_by(|a, b| a.name < b.name));
    let packed: Vec<String> = read("packed").into_iter().map(|file| file.name).collect();
    assert_eq!(packed, ["data.packed", "p.proj/data.packed"]);
}

#[test]
fn a_part_that_is_damaged_or_not_whole_is_named() {
    for flavor in FLAVORS {
        let world = World::new(flavor);
        let name = world.create("t", "(k UInt32)", "ENGINE = MergeTree ORDER BY k");
        world.server.query("INSERT INTO d.t VALUES (1), (2)");
        let part = &world.engine.inventory(&name).unwrap().parts[0];
        let path = world
            .server
            .query("SELECT path FROM system.parts WHERE active AND database = 'd' AND table = 't'");
        let copy = tempfile::tempdir().unwrap();
        let damage = |change: &dyn Fn(&Path)| {
            let directory = copy.path().join(&part.name);
            fs::create_dir_all(&directory).unwrap();
            for file in fs::read_dir(path.trim()).unwrap() {
                let file = file.unwrap();
                let bytes = fs::read(file.path()).unwrap();
                fs::write(directory.join(file.file_name()), bytes).unwrap();
            }
            let read = || {
                world
                    .engine
                    .read_part(&directory, &part.name, "default")
                    .map(drop)
            };
            read().unwrap();
            change(&directory);
            let error = refused(read());
            fs::remove_dir_all(&directory).unwrap();
            assert_eq!(error.remedy, Remedy::Repair);
            error.to_string()
        };
        let gone = damage(&|part| fs::remove_file(part.join("checksums.txt")).unwrap());
        assert!(gone.contains("checksums.txt"), "{gone}");
        let flipped = damage(&|part| {
            let mut bytes = fs::read(part.join("checksums.txt")).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(part.join("checksums.txt"), bytes).unwrap();
        });
        assert!(flipped.contains("checksums.txt"), "{flipped}");
        let cut = damage(&|part| fs::write(part.join("count.txt"), "").unwrap());
        assert!(cut.contains("count.txt"), "{cut}");
    }
}

#[test]
fn files_are_found_wherever_the_server_still_has_them() {
    for flavor in FLAVORS {
        let world = World::new(flavor);
        let rest = "ENGINE = MergeTree PARTITION BY p ORDER BY k";
        let name = world.create("t", "(p UInt8, k UInt32)", rest);
        let other = world.create("other", "(p UInt8, k UInt32)", rest);
        let mut wanted = HashSet::new();
        let mut files_of = |table: &TableName, sql: &str| {
            world.server.query(&format!("INSERT INTO {table} {sql}"));
            let part = world.engine.inventory(table).unwrap().parts.pop().unwrap();
            let path = world.server.query(&format!(
                "SELECT path FROM system.parts WHERE active AND database = 'd' \
                 AND table = '{}' AND name = '{}'",
                table.table, part.name
            ));
            let content = world
                .engine
                .read_part(Path::new(path.trim()), &part.name, "default");
            let files = content.unwrap().files.into_iter();
            // What differs between these parts.
            let data = files.filter(|file| file.name == "data.bin" || file.name == "k.bin");
            let data: Vec<FileChecksum> = data
                .map(|file| FileChecksum {
                    bytes: file.bytes,
                    hash: file.checksum.unwrap(),
                })
                .collect();
            wanted.extend(data.iter().copied());
            data[0]
        };
        let live = files_of(&name, "VALUES (1, 1), (1, 2)");
        let detached = files_of(&name, "VALUES (2, 3)");
        let frozen = files_of(&name, "VALUES (3, 5), (3, 6), (3, 7)");
        let elsewhere = files_of(&other, "VALUES (4, 8), (4, 80), (4, 800), (4, 8000)");
        world
            .server
            .query("ALTER TABLE d.t FREEZE PARTITION 3 WITH NAME 'kept'");
        world.server.query("ALTER TABLE d.t DETACH PARTITION 2");
        world.server.query("ALTER TABLE d.t DROP PARTITION 3");
        for entry in fs::read_dir(table_directory(&world, &name)).unwrap() {
            let path = entry.unwrap().path();
            // The server keeps what was dropped for some minutes.
            if path
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("3_")
            {
                fs::remove_dir_all(path).unwrap();
            }
        }
        let nowhere = FileChecksum {
            bytes: 7,
            hash: Hash128([7; 16]),
        };
        wanted.insert(nowhere);
        let found = world.engine.find_files(&name, &wanted).unwrap();
        assert_eq!(found.len(), 4, "{found:?}");
        let in_table = table_directory(&world, &name);
        assert!(found[&live].starts_with(&in_table));
        assert!(found[&detached].starts_with(in_table.join("detached")));
        assert!(found[&frozen].starts_with(world.server.data_path().join("shadow/kept")));
        assert!(found[&elsewhere].starts_with(table_directory(&world, &other)));
        for (identity, path) in &found {
            assert_eq!(fs::metadata(path).unwrap().len(), identity.bytes);
        }
        let missing = TableName::new("d", "to be created");
        assert_eq!(world.engine.find_files(&missing, &wanted).unwrap().len(), 4);
    }
}

fn table_directory(world: &World, name: &TableName) -> PathBuf {
    let path = match world.server.flavor() {
        Flavor::Current => "data_paths[1]",
        Flavor::V18 => "data_path",
    };
    let path = world.server.query(&format!(
        "SELECT {path} FROM system.tables WHERE database = 'd' AND name = '{}'",
        name.table
    ));
    PathBuf::from(path.trim())
}
