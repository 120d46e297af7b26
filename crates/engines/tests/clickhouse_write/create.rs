//! What a backup has and a server lacks is created.

use std::collections::HashMap;

use mendb_engines::{PartStore, Remedy};
use mendb_model::part::{DatabaseBackup, Selection, TableName};

use crate::bench::{Bench, FLAVORS};
use crate::servers::{Flavor, ServerOptions};

fn all_of_d() -> Selection {
    Selection {
        tables: "d.*".to_owned(),
        ..Selection::default()
    }
}

fn renamed() -> HashMap<String, String> {
    HashMap::from([("d".to_owned(), "d 2".to_owned())])
}

/// Creates everything of database `d` in `d 2`.
fn create_again(bench: &Bench) {
    let catalogue = bench.engine.catalogue(&all_of_d()).unwrap();
    for mut database in catalogue.databases {
        database.name = renamed()[&database.name].clone();
        for _ in 0..2 {
            bench.engine.create_database(&database).unwrap();
        }
    }
    for definition in catalogue.tables {
        let name = TableName::new("d 2", &definition.name.table);
        if bench.engine.table(&name).unwrap().is_none() {
            bench
                .engine
                .create_table(&definition, &name, &renamed())
                .unwrap();
        }
    }
}

#[test]
fn a_database_is_created_again_under_another_name() {
    for flavor in FLAVORS {
        let bench = Bench::new(flavor);
        bench.create("MergeTree");
        let mut statements = vec![
            "CREATE TABLE d.sums (k UInt32, n UInt64) ENGINE = SummingMergeTree ORDER BY k",
            "CREATE VIEW d.v AS SELECT x.k AS k FROM d.t AS x ANY INNER JOIN d.sums USING (k)",
            "CREATE MATERIALIZED VIEW d.mv TO d.sums AS SELECT k, count() AS n FROM d.t GROUP BY k",
            "CREATE MATERIALIZED VIEW d.own ENGINE = MergeTree ORDER BY k AS SELECT k FROM d.t WHERE k NOT IN (SELECT toUInt32(7))",
            "CREATE TABLE d.merged AS d.t ENGINE = Merge('d', '^t$')",
            "CREATE TABLE d.buffer AS d.t ENGINE = Buffer('d', 't', 1, 10, 100, 1000, 10000, 100000, 1000000)",
        ];
        if flavor == Flavor::Current {
            statements.extend([
                "CREATE DICTIONARY d.dict (k UInt64, n UInt64 DEFAULT 0) PRIMARY KEY k \
                 SOURCE(CLICKHOUSE(TABLE 'sums' DB 'd')) LAYOUT(FLAT()) LIFETIME(0)",
                "CREATE TABLE d.uses (k UInt64, n UInt64 DEFAULT dictGet('d.dict', 'n', k)) \
                 ENGINE = MergeTree ORDER BY k",
                "CREATE MATERIALIZED VIEW d.often REFRESH EVERY 1 YEAR APPEND TO d.sums \
                 AS SELECT toUInt32(99) AS k, toUInt64(1) AS n",
            ]);
        }
        for statement in statements {
            bench.server.query(statement);
        }
        create_again(&bench);
        // What is inserted into the one reaches nothing of the other.
        bench
            .server
            .query("INSERT INTO `d 2`.t VALUES (1, 7, 'a'), (1, 8, 'b')");
        for (table, rows) in [
            ("t", 2),
            ("sums", 2),
            ("v", 2),
            ("own", 1),
            ("merged", 2),
            ("buffer", 2),
        ] {
            let count = |database: &str| {
                let sql = format!("SELECT count() FROM `{database}`.{table} WHERE k != 99");
                bench.server.query(&sql)
            };
            assert_eq!(count("d 2"), format!("{rows}\n"), "{table}");
            assert_eq!(count("d"), "0\n", "{table}");
        }
        let tables = |database: &str| {
            let sql = format!(
                "SELECT count(), groupUniqArray(engine) FROM (SELECT engine FROM system.tables \
                 WHERE database = '{database}' ORDER BY engine)"
            );
            bench.server.query(&sql)
        };
        assert_eq!(tables("d 2"), tables("d"));
        if flavor == Flavor::Current {
            bench.server.query("INSERT INTO `d 2`.uses (k) VALUES (8)");
            assert_eq!(bench.server.query("SELECT k, n FROM `d 2`.uses"), "8\t1\n");
            // It is as it was told, not filled by creating it.
            assert_eq!(
                bench
                    .server
                    .query("SELECT count() FROM `d 2`.sums WHERE k = 99"),
                "0\n"
            );
        }
    }
}

#[test]
fn a_table_that_is_there_is_not_created() {
    for flavor in FLAVORS {
        let bench = Bench::new(flavor);
        bench.create("MergeTree");
        let definition = bench.engine.table(&bench.table).unwrap().unwrap();
        let error = bench
            .engine
            .create_table(&definition, &bench.table, &HashMap::new())
            .unwrap_err();
        assert_eq!(error.remedy, Remedy::Request);
        assert!(error.to_string().contains("d.t"), "{error}");

        let renamed = TableName::new("d", "other");
        bench.engine.rename_table(&bench.table, &renamed).unwrap();
        assert!(bench.engine.table(&bench.table).unwrap().is_none());
        bench
            .engine
            .create_table(&definition, &bench.table, &HashMap::new())
            .unwrap();
        let again = bench.engine.table(&bench.table).unwrap().unwrap();
        assert_eq!(again, definition);
    }
}

#[test]
fn a_storage_policy_that_the_server_lacks_is_named() {
    let options = ServerOptions {
        jbod: true,
        ..ServerOptions::default()
    };
    let bench = Bench::with(Flavor::Current, options);
    bench.server.query(
        "CREATE TABLE d.t (k UInt32) ENGINE = MergeTree ORDER BY k SETTINGS storage_policy = 'jbod'",
    );
    let definition = bench.engine.table(&bench.table).unwrap().unwrap();
    for flavor in FLAVORS {
        let other = Bench::new(flavor);
        let error = other
            .engine
            .create_table(&definition, &other.table, &HashMap::new())
            .unwrap_err();
        assert_eq!(error.remedy, Remedy::Request);
        assert!(error.to_string().contains("\"jbod\""), "{error}");
    }
}

#[test]
fn a_database_of_an_engine_that_the_server_does_not_make_is_one_of_its_own() {
    for (flavor, engine) in [(Flavor::Current, "Ordinary"), (Flavor::V18, "Atomic")] {
        let bench = Bench::new(flavor);
        let database = DatabaseBackup {
            name: "e".to_owned(),
            engine: engine.to_owned(),
            create_query: format!("CREATE DATABASE e ENGINE = {engine}"),
        };
        bench.engine.create_database(&database).unwrap();
        bench
            .server
            .query("CREATE TABLE e.t (k UInt32) ENGINE = MergeTree ORDER BY k");
        bench.engine.create_database(&database).unwrap();
        assert_eq!(bench.server.query("EXISTS TABLE e.t"), "1\n");
    }
}
