//! Parts and statements of real servers, in backups as clickhouse-backup lays them out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mendb_model::part::{Hash128, TableDefinition, TableName};
use mendb_repo::RepositoryOptions;
use mendb_repo::clickhouse_backup::{ImportedBackup, ImportedBackups, path_name::encode};
use serde_json::{Value, json};

use crate::clickhouse_backup_fixture::{
    DATABASE, Files, Held, Layout, Made, MadePart, Packing, TABLE, read, write,
};
use crate::servers::{Flavor, Server, ServerOptions};

const FLAVORS: [Flavor; 2] = [Flavor::Current, Flavor::V18];

/// Tables of a server, by what is said of them behind the name.
fn tables(flavor: Flavor) -> Vec<(&'static str, &'static str)> {
    let mut tables = vec![
        (
            "plain",
            "(a UInt64, b String) ENGINE = MergeTree ORDER BY a",
        ),
        (
            "odd name",
            "(`a b` UInt64 DEFAULT 1 + 2, s String MATERIALIZED 'x, (', al UInt8 ALIAS 1, d Date) \
             ENGINE = MergeTree PARTITION BY (toYYYYMM(d), `a b` % 3) ORDER BY (`a b`, -toInt64(d))",
        ),
        (
            "no_key",
            "(a UInt64, d Date) ENGINE = MergeTree PARTITION BY d ORDER BY tuple()",
        ),
        (
            "replacing",
            "(a UInt64, v UInt64, d Date) ENGINE = ReplacingMergeTree(v) PARTITION BY tuple() \
             PRIMARY KEY a ORDER BY (a, d)",
        ),
        (
            "nested",
            "(a UInt64, n Nested(x UInt8, y String), e Enum8('a,(' = 1, 'b' = 2), v UInt8) \
             ENGINE = SummingMergeTree((v)) ORDER BY (a) SETTINGS index_granularity = 1024",
        ),
    ];
    if flavor == Flavor::V18 {
        let old = "(d Date, k UInt32, v UInt8) ENGINE = ReplacingMergeTree(d, (k, d), 8192, v)";
        tables.push(("old", old));
    } else {
        tables.push((
            "new",
            "(a UInt64, d DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)), e UInt8 EPHEMERAL, \
             INDEX i a TYPE minmax GRANULARITY 1, PROJECTION p (SELECT a ORDER BY d), \
             CONSTRAINT c CHECK a < 1000) ENGINE = MergeTree ORDER BY a \
             TTL toDateTime(d) + INTERVAL 1 MONTH COMMENT 'it''s'",
        ));
    }
    tables
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_tell_what_the_server_itself_tells_of_its_tables() {
    for flavor in FLAVORS {
        let server = Server::start(flavor, ServerOptions::default());
        server.create_database("d");
        let root = tempfile::tempdir().unwrap();
        let mut titles = Vec::new();
        for (name, rest) in tables(flavor) {
            server.query(&format!("CREATE TABLE d.`{name}` {rest}"));
            titles.push(json!({"database": "d", "table": name}));
            let with_uuid = match flavor {
                Flavor::Current => " SETTINGS show_table_uuid_in_table_create_query_if_not_nil = 1",
                Flavor::V18 => "",
            };
            let query = one(&server, "create_table_query", name, with_uuid);
            let document = json!({"database": "d", "table": name, "query": query});
            let path = format!("b/metadata/d/{}.json", encode(name));
            write(
                root.path(),
                &[(path, document.to_string().into_bytes())].into(),
            );
        }
        let metadata = json!({"tables": titles}).to_string().into_bytes();
        write(
            root.path(),
            &[("b/metadata.json".to_owned(), metadata)].into(),
        );

        let contents = open(root.path()).await.contents().await.unwrap();
        assert_eq!(contents.tables.len(), tables(flavor).len());
        for table in &contents.tables {
            let read = &table.definition;
            let name = &read.name.table;
            assert_eq!(*read, told(&server, read), "{flavor:?} {name}");
            assert_eq!(read.has_ttl, name == "new", "{flavor:?} {name}");
        }
    }
}

/// The same definition with everything replaced that the server tells in columns of its own.
fn told(server: &Server, read: &TableDefinition) -> TableDefinition {
    let name = &read.name.table;
    let tell = |column| one(server, column, name, "");
    let columns = server.query(&format!(
        "SELECT name, type FROM system.columns WHERE database = 'd' AND table = '{name}' \
         AND default_kind NOT IN ('ALIAS', 'EPHEMERAL') FORMAT JSONCompact"
    ));
    let columns: Value = serde_json::from_str(&columns).unwrap();
    TableDefinition {
        engine: tell("engine"),
        create_query: tell("create_table_query"),
        whole_query: None,
        partition_key: tell("partition_key"),
        sorting_key: tell("sorting_key"),
        primary_key: tell("primary_key"),
        columns: serde_json::from_value(columns["data"].clone()).unwrap(),
        ..read.clone()
    }
}

fn one(server: &Server, column: &str, table: &str, settings: &str) -> String {
    server
        .query(&format!(
            "SELECT {column} FROM system.tables WHERE database = 'd' AND name = '{table}'{settings} \
             FORMAT TSVRaw"
        ))
        .trim_end_matches('\n')
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_servers_of_any_age_are_proved_and_come_back() {
    for flavor in FLAVORS {
        let server = Server::start(flavor, ServerOptions::default());
        let parts = frozen_parts(&server);
        assert!(parts.len() >= 3, "{flavor:?} {}", parts.len());
        let packed = |packing| [Layout::ByPart(packing), Layout::BySize(packing, 20_000)];
        let layouts = Packing::ALL.map(packed);
        let layouts = [Layout::Local, Layout::Directory]
            .into_iter()
            .chain(layouts.concat());
        for layout in layouts {
            let root = tempfile::tempdir().unwrap();
            let held = parts.iter().map(|part| match flavor {
                Flavor::Current => Held::new(part),
                Flavor::V18 => Held::new(part).unhashed(),
            });
            Made::new("b", layout, held.collect()).write(root.path());
            let backup = open(root.path()).await;
            let table = TableName::new(DATABASE, TABLE);
            let imported = backup.parts(&table).await.unwrap();
            assert_eq!(imported.len(), parts.len());
            for part in &imported {
                let made = parts
                    .iter()
                    .find(|made| made.name == part.part.name)
                    .unwrap();
                let into = tempfile::tempdir().unwrap();
                let fetched = backup.fetch_part(&table, part, into.path()).await;
                let fetched =
                    fetched.unwrap_or_else(|error| panic!("{flavor:?} {layout:?}: {error}"));
                assert_eq!(read(into.path()), made.files, "{flavor:?} {layout:?}");
                let rows = str::from_utf8(&made.files["count.txt"]).unwrap().trim();
                assert_eq!(fetched.rows, Some(rows.parse().unwrap()));
            }
        }
    }
}

/// Parts of all kinds that a server makes, as a freeze has them.
fn frozen_parts(server: &Server) -> Vec<MadePart> {
    server.create_database("d");
    let is_current = server.flavor() == Flavor::Current;
    let rest = if is_current {
        ", INDEX i b TYPE bloom_filter GRANULARITY 1, PROJECTION p (SELECT b, count() GROUP BY b)) \
         ENGINE = MergeTree PARTITION BY a % 3 ORDER BY a SETTINGS min_bytes_for_wide_part = 20000"
    } else {
        ") ENGINE = MergeTree PARTITION BY a % 3 ORDER BY a"
    };
    server.query(&format!(
        "CREATE TABLE d.t (a UInt64, b String, c Array(Nullable(UInt8)){rest}"
    ));
    for rows in [10, 30_000] {
        server.query(&format!(
            "INSERT INTO d.t SELECT number, toString(number), [1, NULL, number % 256] FROM numbers({rows})"
        ));
    }
    server.query("OPTIMIZE TABLE d.t PARTITION 0 FINAL");
    if is_current {
        server.query("ALTER TABLE d.t UPDATE b = 'x' WHERE a = 4 SETTINGS mutations_sync = 2");
        let keeping = "lightweight_mutation_projection_mode = 'rebuild'";
        server.query(&format!("ALTER TABLE d.t MODIFY SETTING {keeping}"));
        server.query("DELETE FROM d.t WHERE a = 5");
    }
    server.query("ALTER TABLE d.t FREEZE WITH NAME 'f'");
    let mut hashes = BTreeMap::new();
    if is_current {
        let listed = server.query(
            "SELECT name, hash_of_all_files FROM system.parts WHERE database = 'd' AND active FORMAT TSV",
        );
        let pairs = listed.lines().filter_map(|line| line.split_once('\t'));
        hashes
            .extend(pairs.map(|(name, hash)| (name.to_owned(), hash.parse::<Hash128>().unwrap())));
    }
    let mut parts = Vec::new();
    collect(&server.data_path().join("shadow/f"), &mut |name, files| {
        let hash = hashes.get(&name).copied().unwrap_or(Hash128([0; 16]));
        parts.push(MadePart { name, files, hash });
    });
    parts
}

fn collect(directory: &Path, part: &mut impl FnMut(String, Files)) {
    if directory.join("checksums.txt").exists() {
        let name = directory.file_name().unwrap().to_str().unwrap();
        return part(name.to_owned(), read(directory));
    }
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, part);
        }
    }
}

async fn open(root: &Path) -> ImportedBackup {
    let url = format!("file://{}", root.display());
    let place = ImportedBackups::open(&url, RepositoryOptions::default()).unwrap();
    place.backup("b").await.unwrap()
}
