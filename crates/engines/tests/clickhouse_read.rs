//! What the ClickHouse engine tells of a server, and what it freezes, on servers of both ages.
#![expect(
    clippy::unwrap_used,
    reason = "a failed test is how these helpers report"
)]

mod servers;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mendb_engines::clickhouse::{ClickHouse, ClickHouseOptions};
use mendb_engines::{Engine, EngineError, FreezeTable, FrozenTable, LockKind, PartStore, Remedy};
use mendb_model::part::{FileChecksum, Hash128, Inventory, TableName};
use servers::{Flavor, Server, ServerOptions};
use tempfile::TempDir;

const FLAVORS: [Flavor; 2] = [Flavor::Current, Flavor::V18];

/// A server with a database `d`, and an engine beside it.
struct World {
    server: Server,
    state: TempDir,
    engine: ClickHouse,
}

impl World {
    fn new(flavor: Flavor) -> Self {
        Self::with(flavor, ServerOptions::default())
    }

    fn with(flavor: Flavor, options: ServerOptions) -> Self {
        let server = Server::start(flavor, options);
        server.create_database("d");
        let state = tempfile::tempdir().unwrap();
        let engine = ClickHouse::open(options_of(&server, state.path())).unwrap();
        Self {
            server,
            state,
            engine,
        }
    }

    /// A table that every insert adds a part to.
    fn create(&self, table: &str, columns: &str, rest: &str) -> TableName {
        let name = TableName::new("d", table);
        let sql = name.sql();
        self.server
            .query(&format!("CREATE TABLE {sql} {columns} {rest}"));
        name
    }

    /// As another process of mendb, after the server or mendb died.
    fn reopen(&mut self) {
        self.engine = ClickHouse::open(options_of(&self.server, self.state.path())).unwrap();
    }

    fn names_and_hashes(&self, name: &TableName) -> BTreeMap<String, Hash128> {
        by_name(&self.engine.inventory(name).unwrap())
    }
}

fn options_of(server: &Server, state: &Path) -> ClickHouseOptions {
    ClickHouseOptions {
        url: server.url(),
        user: "default".to_owned(),
        password: String::new(),
        data_path: None,
        state_directory: state.to_owned(),
    }
}

fn by_name(inventory: &Inventory) -> BTreeMap<String, Hash128> {
    let parts = inventory.parts.iter();
    parts.map(|part| (part.name.clone(), part.hash)).collect()
}

fn whole(name: &TableName) -> FreezeTable {
    FreezeTable {
        name: name.clone(),
        partitions: None,
    }
}

/// Reads every frozen part and compares it with what the freeze said was live.
fn check_frozen(engine: &ClickHouse, frozen: &FrozenTable) {
    let current = by_name(&frozen.current_parts);
    for part in &frozen.parts {
        let content = engine
            .read_part(&part.directory, &part.name, &part.disk)
            .unwrap();
        assert_eq!(Some(&content.part.hash), current.get(&part.name));
        assert!(!content.files.is_empty());
    }
}

fn refused<T>(result: Result<T, EngineError>) -> EngineError {
    match result {
        Ok(_) => panic!("it is not refused"),
        Err(error) => error,
    }
}

/// Statements that make parts of every kind that a server of the flavor knows, in `d`.
fn parts_of_every_kind(flavor: Flavor) -> Vec<&'static str> {
    let mut statements = vec![
        "CREATE TABLE d.months (k UInt32, at Date, s String, n Nullable(Float64)) ENGINE = MergeTree \
         PARTITION BY toYYYYMM(at) ORDER BY k",
        "INSERT INTO d.months SELECT number, toDate('2024-01-01') + number % 70, toString(number), NULL \
         FROM system.numbers LIMIT 500",
        "CREATE TABLE d.whole (k UInt32, v UInt64) ENGINE = ReplacingMergeTree ORDER BY k",
        "INSERT INTO d.whole SELECT number, number FROM system.numbers LIMIT 100",
        "INSERT INTO d.whole SELECT number, number + 1 FROM system.numbers LIMIT 100",
        "OPTIMIZE TABLE d.whole FINAL",
        "CREATE TABLE d.tuples (k Int32, s String) ENGINE = MergeTree PARTITION BY (k, s) ORDER BY k",
        "INSERT INTO d.tuples VALUES (-1, 'it''s'), (2, 'b,c')",
    ];
    if flavor == Flavor::Current {
        statements.extend([
            "CREATE TABLE d.wide (k UInt32, s String, a Array(UInt32), t Tuple(x UInt8, y Nullable(String)), \
             INDEX i s TYPE bloom_filter, PROJECTION p (SELECT s, sum(k) GROUP BY s)) ENGINE = MergeTree \
             ORDER BY k SETTINGS min_bytes_for_wide_part = 0, min_rows_for_wide_part = 0",
            "INSERT INTO d.wide SELECT number, toString(number % 10), [number], (1, NULL) FROM numbers(1000)",
            "ALTER TABLE d.wide UPDATE s = 'changed' WHERE k < 10 SETTINGS mutations_sync = 1",
            "CREATE TABLE d.deleted (k UInt32) ENGINE = MergeTree ORDER BY k",
            "INSERT INTO d.deleted SELECT number FROM numbers(1000)",
            "DELETE FROM d.deleted WHERE k = 20",
            "CREATE TABLE d.packed (k UInt32, s String, PROJECTION p (SELECT s, count() GROUP BY s)) \
             ENGINE = MergeTree ORDER BY k SETTINGS min_bytes_for_full_part_storage = 1000000000",
            "INSERT INTO d.packed SELECT number, toString(number % 10) FROM numbers(1000)",
        ]);
    }
    statements
}

#[test]
fn the_inventory_is_what_the_server_says_and_what_the_files_say() {
    for flavor in FLAVORS {
        let world = World::new(flavor);
        for statement in parts_of_every_kind(flavor) {
            world.server.query(statement);
        }
        let catalogue = world.engine.catalogue("d.*").unwrap();
        let expected = if flavor == Flavor::Current { 6 } else { 3 };
        assert_eq!(catalogue.tables.len(), expected);
        let all: Vec<FreezeTable> = catalogue
            .tables
            .iter()
            .map(|table| whole(&table.name))
            .collect();
        for frozen in world.engine.freeze("b-1", &all).unwrap() {
            check_frozen(&world.engine, &frozen);
            assert_eq!(
                by_name(&frozen.current_parts),
                world.names_and_hashes(&frozen.name)
            );
        }
        for table in &catalogue.tables {
            let inventory = world.engine.inventory(&table.name).unwrap();
            let rows = world.server.query(&format!(
                "SELECT name, path, rows, partition_id FROM system.parts \
                 WHERE active AND database = 'd' AND table = '{}'",
                table.name.table
            ));
            assert_eq!(inventory.parts.len(), rows.lines().count());
            assert!(!inventory.parts.is_empty() && inventory.mutations.is_empty());
            for row in rows.lines() {
                let fields: Vec<&str> = row.split('\t').collect();
                let [name, path, rows, partition_id] = fields[..] else {
                    panic!("{row}");
                };
                let told = inventory
                    .parts
                    .iter()
                    .find(|part| part.name == name)
                    .unwrap();
                assert_eq!(told.rows.to_string(), rows);
                assert_eq!(told.partition_id, partition_id);
                let read = world
                    .engine
                    .read_part(Path::new(path), name, "default")
                    .unwrap();
                assert_eq!((read.part.hash, read.part.rows), (told.hash, told.rows));
                if flavor == Flavor::Current {
                    let hash = world.server.query(&format!(
                        "SELECT hash_of_all_files FROM system.parts WHERE path = '{path}'"
                    ));
                    assert_eq!(told.hash.to_string(), hash.trim());
                }
            }
        }
    }
}

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
        assert!(world.engine.is_frozen("backup-1-a"));
        assert!(!world.engine.is_frozen("backup-1-b"));
        let parts = world.engine.frozen("backup-1-a", &name).unwrap();
        assert_eq!(parts, frozen[0].parts);
        check_frozen(&world.engine, &frozen[0]);
        let locks = world.engine.locks();
        assert!(locks.iter().any(|lock| lock.table == "d.t"
            && lock.operation == "backup-1-a"
            && lock.kind == LockKind::Backup));

        let shadow = world.server.data_path().join("shadow/mendb_backup_1_a");
        assert!(shadow.exists());
        for _ in 0..2 {
            world.engine.thaw("backup-1-a").unwrap();
            assert!(!shadow.exists());
            assert!(!world.engine.is_frozen("backup-1-a"));
            assert!(world.engine.locks().is_empty());
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
        assert!(!world.engine.is_frozen("b-1"));
        world.server.query("INSERT INTO d.t VALUES (2)");
        let frozen = world.engine.freeze("b-1", &[whole(&name)]).unwrap();
        assert_eq!(frozen[0].parts.len(), 2);
        let missing = whole(&TableName::new("d", "missing"));
        let error = refused(world.engine.freeze("b-1", &[whole(&name), missing]));
        assert_eq!(error.remedy, Remedy::Request);
        assert!(error.to_string().contains("d.missing"), "{error}");
        assert!(!shadow.exists());
        assert!(!world.engine.is_frozen("b-1"));
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
        assert!(!world.engine.is_frozen("b-1"));
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
        let ids = world
            .engine
            .partition_ids(&name, "202401, 20240[3-9]")
            .unwrap();
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
            world.server.query(
                &format!(
                    "CREATE TABLE {sql} (`odd ` column` UInt32) ENGINE = MergeTree ORDER BY tuple()"
                )
                .replace("odd ` column", "odd \\` column"),
            );
            world.server.query(&format!("INSERT INTO {sql} VALUES (1)"));
        }
        let catalogue = world.engine.catalogue("*").unwrap();
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
fn a_table_on_a_disk_of_object_storage_is_refused_by_name_and_can_be_left_out() {
    let options = ServerOptions {
        objects: true,
        ..ServerOptions::default()
    };
    let world = World::with(Flavor::Current, options);
    let rest = "ENGINE = MergeTree ORDER BY k SETTINGS storage_policy = 'objects'";
    world.create("far", "(k UInt32)", rest);
    world.create("near", "(k UInt32)", "ENGINE = MergeTree ORDER BY k");
    let error = refused(world.engine.catalogue("d.*"));
    assert_eq!(error.remedy, Remedy::Request);
    let message = error.to_string();
    assert!(
        message.contains("d.far") && message.contains("disk objects"),
        "{message}"
    );
    assert_eq!(world.engine.catalogue("d.near").unwrap().tables.len(), 1);
    let disks = world.engine.disks().unwrap();
    assert!(disks.iter().all(|disk| disk.name != "objects"));
}

/// Statements in an order that nothing but dependencies can put right.
fn dependent_tables(flavor: Flavor) -> Vec<&'static str> {
    let mut statements = vec![
        "CREATE TABLE d.z_source (k UInt32, at Date, twice UInt64 MATERIALIZED k * 2, thrice UInt64 ALIAS k * 3) \
         ENGINE = MergeTree PARTITION BY toYYYYMM(at) ORDER BY (k, at)",
        "CREATE TABLE d.y_target (k UInt32, n UInt64) ENGINE = SummingMergeTree ORDER BY k",
        "CREATE MATERIALIZED VIEW d.a_into TO d.y_target AS SELECT k, count() AS n FROM d.z_source GROUP BY k",
        "CREATE MATERIALIZED VIEW d.a_own ENGINE = SummingMergeTree ORDER BY k AS \
         SELECT k, count() AS n FROM d.z_source GROUP BY k",
        "CREATE VIEW d.`c view` AS SELECT * FROM d.z_source",
        "CREATE VIEW d.b_view AS SELECT k FROM d.`c view` WHERE k IN (SELECT k FROM d.y_target)",
        "CREATE TABLE d.a_merge (k UInt32) ENGINE = Merge(d, '_(source|target)$')",
        "CREATE TABLE d.a_buffer AS d.z_source ENGINE = Buffer(d, z_source, 1, 9, 9, 9, 9, 9, 9)",
    ];
    if flavor == Flavor::Current {
        statements.extend([
            "CREATE DICTIONARY d.x_dictionary (k UInt32, n UInt64) PRIMARY KEY k \
             SOURCE(CLICKHOUSE(TABLE 'y_target' DB 'd')) LAYOUT(FLAT()) LIFETIME(0)",
            "CREATE TABLE d.a_looks_up (k UInt64, n UInt64 DEFAULT dictGet('d.x_dictionary', 'n', k)) \
             ENGINE = MergeTree ORDER BY k TTL toDate('2034-01-01') + k",
        ]);
    }
    statements
}

#[test]
fn the_catalogue_can_be_created_in_its_order_on_an_empty_server() {
    for flavor in FLAVORS {
        let world = World::new(flavor);
        for statement in dependent_tables(flavor) {
            world.server.query(statement);
        }
        let catalogue = world.engine.catalogue("*").unwrap();
        let of_d = catalogue
            .tables
            .iter()
            .filter(|table| table.name.database == "d");
        let of_d: Vec<&str> = of_d.map(|table| table.name.table.as_str()).collect();
        assert_eq!(of_d.len(), dependent_tables(flavor).len() + 1, "{of_d:?}");

        let empty = Server::start(flavor, ServerOptions::default());
        let database = catalogue
            .databases
            .iter()
            .find(|database| database.name == "d");
        empty.query(&database.unwrap().create_query);
        for table in catalogue
            .tables
            .iter()
            .filter(|table| table.name.database == "d")
        {
            // It comes with its view.
            if table.name.table == ".inner.a_own" {
                continue;
            }
            empty.query(&table.create_query);
        }
        let tables = "SELECT name, engine FROM system.tables WHERE database = 'd' \
                      AND name NOT LIKE '.inner%' ORDER BY name";
        assert_eq!(empty.query(tables), world.server.query(tables));
    }
}

#[test]
fn a_definition_tells_keys_and_stored_columns() {
    for flavor in FLAVORS {
        let world = World::new(flavor);
        for statement in dependent_tables(flavor) {
            world.server.query(statement);
        }
        let table = |name: &str| {
            let name = TableName::new("d", name);
            world.engine.table(&name).unwrap()
        };
        let source = table("z_source").unwrap();
        assert_eq!(source.engine, "MergeTree");
        assert_eq!(source.partition_key, "toYYYYMM(at)");
        assert_eq!(source.sorting_key, "k, at");
        let columns: Vec<&str> = source
            .columns
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(columns, ["k", "at", "twice"]);
        assert!(!source.has_ttl);
        assert_eq!(table("y_target").unwrap().partition_key, "");
        assert_eq!(
            table("a_looks_up").is_some_and(|table| table.has_ttl),
            flavor == Flavor::Current
        );
        assert!(table("missing").is_none());
        let catalogue = world.engine.catalogue("d.z_*").unwrap();
        assert_eq!(catalogue.tables, [source]);
    }
}

#[test]
fn the_table_of_a_materialized_view_is_found_again_after_the_view_was_created_anew() {
    for flavor in FLAVORS {
        let world = World::new(flavor);
        world.create("source", "(k UInt32)", "ENGINE = MergeTree ORDER BY k");
        let view = "CREATE MATERIALIZED VIEW d.view ENGINE = MergeTree ORDER BY k AS SELECT k FROM d.source";
        let inner = TableName::new("d", ".inner.view");
        for _ in 0..2 {
            world.server.query(view);
            world.server.query("INSERT INTO d.source VALUES (1)");
            let catalogue = world.engine.catalogue("d.view").unwrap();
            let names: Vec<&str> = catalogue
                .tables
                .iter()
                .map(|table| table.name.table.as_str())
                .collect();
            assert_eq!(names, ["view", ".inner.view"]);
            assert_eq!(world.engine.inventory(&inner).unwrap().parts.len(), 1);
            assert_eq!(
                world.engine.table(&inner).unwrap().as_ref(),
                catalogue.tables.last()
            );
            let frozen = world.engine.freeze("b-1", &[whole(&inner)]).unwrap();
            assert_eq!(world.engine.frozen("b-1", &inner).unwrap(), frozen[0].parts);
            check_frozen(&world.engine, &frozen[0]);
            world.server.query("DROP TABLE d.view");
        }
        assert!(world.engine.table(&inner).unwrap().is_none());
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

#[test]
fn a_table_that_was_dropped_and_created_is_another_incarnation() {
    for flavor in FLAVORS {
        let mut world = World::new(flavor);
        let mut seen = HashSet::new();
        for _ in 0..3 {
            let name = world.create("t", "(k UInt32)", "ENGINE = MergeTree ORDER BY k");
            world.server.query("INSERT INTO d.t VALUES (1)");
            let first = world.engine.inventory(&name).unwrap();
            world.server.query("RENAME TABLE d.t TO d.u");
            world.server.restart();
            world.reopen();
            let second = world.engine.inventory(&TableName::new("d", "u")).unwrap();
            assert_eq!(first.incarnation, second.incarnation);
            assert_eq!(first.parts, second.parts);
            assert!(seen.insert(first.incarnation));
            world.server.query("DROP TABLE d.u");
        }
    }
}

#[test]
fn a_database_of_the_old_layout_is_read_on_a_current_server() {
    let world = World::new(Flavor::Current);
    // A setting of the request: the statement takes none but those of the database.
    let url = format!(
        "{}?allow_deprecated_database_ordinary=1",
        world.server.url()
    );
    let request = reqwest::blocking::Client::new().post(url);
    let created = request
        .body("CREATE DATABASE `old one` ENGINE = Ordinary")
        .send()
        .unwrap();
    assert!(created.status().is_success());
    let name = TableName::new("old one", "t.1");
    let sql = name.sql();
    world.server.query(&format!(
        "CREATE TABLE {sql} (k UInt32) ENGINE = MergeTree ORDER BY k"
    ));
    world.server.query(&format!("INSERT INTO {sql} VALUES (1)"));
    let first = world.engine.inventory(&name).unwrap();
    assert_eq!(
        world.engine.inventory(&name).unwrap().incarnation,
        first.incarnation
    );
    let frozen = world.engine.freeze("b-1", &[whole(&name)]).unwrap();
    assert_eq!(frozen[0].parts.len(), 1);
    check_frozen(&world.engine, &frozen[0]);
    let catalogue = world.engine.catalogue("old one.*").unwrap();
    assert_eq!(catalogue.databases[0].engine, "Ordinary");
}

#[test]
fn parts_whose_names_tell_no_partition_are_refused_by_name() {
    let world = World::new(Flavor::V18);
    let name = world.create(
        "old",
        "(at Date, k UInt32)",
        "ENGINE = MergeTree(at, k, 8192)",
    );
    world
        .server
        .query("INSERT INTO d.old VALUES ('2024-01-01', 1)");
    let error = refused(world.engine.inventory(&name));
    assert_eq!(error.remedy, Remedy::Request);
    let message = error.to_string();
    assert!(
        message.contains("d.old") && message.contains("20240101_20240101_1_1_0"),
        "{message}"
    );
}

#[test]
fn partitions_are_named_by_id_or_value() {
    for flavor in FLAVORS {
        let world = World::new(flavor);
        for statement in parts_of_every_kind(flavor) {
            world.server.query(statement);
        }
        let ids = |table: &str, patterns: &str| {
            let name = TableName::new("d", table);
            world.engine.partition_ids(&name, patterns).unwrap()
        };
        assert_eq!(ids("months", "202401,202403"), ["202401", "202403"]);
        assert_eq!(ids("months", "2024*").len(), 3);
        assert_eq!(ids("whole", "all"), ["all"]);
        assert_eq!(ids("tuples", "(2,'b,c')").len(), 1);
        assert_eq!(ids("tuples", "(-1,'it\\'s'), (2,*)").len(), 2);
        assert!(ids("tuples", "(3,'x')").is_empty());
    }
}

#[test]
fn the_part_log_tells_of_merges_and_of_nothing_where_there_is_none() {
    for flavor in FLAVORS {
        let options = ServerOptions {
            part_log: true,
            ..ServerOptions::default()
        };
        let world = World::with(flavor, options);
        let name = world.create("t", "(k UInt32, v UInt32)", "ENGINE = MergeTree ORDER BY k");
        world.server.query("INSERT INTO d.t VALUES (1, 1)");
        world.server.query("INSERT INTO d.t VALUES (2, 1)");
        let since = world.engine.server().unwrap().now_ms;
        world.server.query("OPTIMIZE TABLE d.t FINAL");
        let log = world.engine.merge_log(&name, since).unwrap();
        let merge = log.iter().find(|merge| merge.is_merge).unwrap();
        assert_eq!(merge.part, "all_1_2_1");
        assert_eq!(merge.merged_from, ["all_1_1_0", "all_2_2_0"]);
        assert!(merge.at_ms >= since);
        let later = merge.at_ms + 60_000;
        assert!(world.engine.merge_log(&name, later).unwrap().is_empty());

        let silent = World::new(flavor);
        let name = silent.create("t", "(k UInt32)", "ENGINE = MergeTree ORDER BY k");
        assert!(silent.engine.merge_log(&name, 0).unwrap().is_empty());
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

#[test]
fn data_that_this_process_sees_elsewhere_is_read_there() {
    for flavor in FLAVORS {
        let world = World::new(flavor);
        let name = world.create("t", "(k UInt32)", "ENGINE = MergeTree ORDER BY k");
        world.server.query("INSERT INTO d.t VALUES (1)");
        let mount = tempfile::tempdir().unwrap();
        let seen = mount.path().join("data");
        let mut options = options_of(&world.server, world.state.path());
        options.data_path = Some(seen.clone());
        let engine = ClickHouse::open(options).unwrap();
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
        let mut options = options_of(&server, state.path());
        options.user = "reader".to_owned();
        options.password = "wrong".to_owned();
        let error = refused(ClickHouse::open(options.clone()));
        assert_eq!(error.remedy, Remedy::Request);
        let message = error.to_string();
        assert!(
            message.contains("\"reader\"") && message.contains("password"),
            "{message}"
        );
        options.password = "secret".to_owned();
        let engine = ClickHouse::open(options.clone()).unwrap();
        let info = engine.server().unwrap();
        assert_eq!(info.drops_parts, flavor == Flavor::Current);
        assert!(engine.server().unwrap().run.is_same(&info.run));
        server.kill();
        for error in [refused(engine.server()), refused(ClickHouse::open(options))] {
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
