//! Parts, partitions and tables are removed.

use std::fs;

use mendb_engines::{PartStore, Remedy};
use mendb_model::part::TableName;

use crate::bench::{Bench, FLAVORS, hashes};
use crate::servers::{Flavor, ServerOptions};

/// Servers refuse to drop more than this unless told to, usually 50 GB.
fn careful() -> ServerOptions {
    ServerOptions {
        more_config: "<max_table_size_to_drop>100</max_table_size_to_drop>\
                      <max_partition_size_to_drop>100</max_partition_size_to_drop>"
            .to_owned(),
        ..ServerOptions::default()
    }
}

#[test]
fn single_parts_are_removed_and_their_disk_space_with_them() {
    let bench = Bench::with(Flavor::Current, careful());
    bench.create("MergeTree");
    for rows in 1..=4 {
        bench.insert(1, "x", rows);
    }
    let names: Vec<String> = bench.live("1").into_iter().map(|part| part.name).collect();
    let gone = [names[1].clone(), names[2].clone()];
    let paths = gone.clone().map(|name| bench.path_of(&name));
    bench.engine.drop_parts(&bench.table, &gone).unwrap();
    assert_eq!(bench.rows(), 1 + 4);
    assert!(paths.iter().all(|path| !path.exists()));

    let error = bench
        .engine
        .drop_parts(&bench.table, &[names[0].clone(), gone[0].clone()])
        .unwrap_err();
    // It may have been merged meanwhile: a look tells.
    assert_eq!(error.remedy, Remedy::Replan);
    assert!(error.to_string().contains(&gone[0]), "{error}");
    assert_eq!(bench.rows(), 4);
}

#[test]
fn a_server_that_cannot_drop_parts_is_not_asked() {
    let bench = Bench::new(Flavor::V18);
    bench.create("MergeTree");
    bench.insert(1, "x", 1);
    let error = bench
        .engine
        .drop_parts(&bench.table, &["1_1_1_0".to_owned()])
        .unwrap_err();
    assert_eq!(error.remedy, Remedy::Request);
    bench.engine.drop_parts(&bench.table, &[]).unwrap();
    assert_eq!(bench.rows(), 1);
}

#[test]
fn no_limit_of_the_server_stops_a_mend() {
    for flavor in FLAVORS {
        let bench = Bench::with(flavor, careful());
        bench.create("MergeTree");
        bench.insert(1, "a", 1000);
        bench.insert(1, "b", 1000);
        let table = bench.table.sql();
        let refused = bench
            .server
            .try_query(&format!("ALTER TABLE {table} DROP PARTITION ID '1'"));
        assert!(refused.unwrap_err().contains("Code: 359"));
        let saved = bench.save("1");
        bench.exchange("1", &bench.origins(&saved[..1])).unwrap();
        assert_eq!(bench.hashes("1"), hashes(&saved[..1]));
        assert_eq!(bench.leftovers(), [""; 0]);
        bench.exchange("1", &[]).unwrap();
        assert_eq!(bench.rows(), 0);
        bench.insert(1, "a", 1000);
        bench.engine.drop_table(&bench.table).unwrap();
        assert!(bench.engine.table(&bench.table).unwrap().is_none());
        let flag = bench.server.data_path().join("flags/force_drop_table");
        assert!(!flag.exists(), "the next drop is asked about again");
    }
}

#[test]
fn tables_views_and_dictionaries_are_removed_or_not_there() {
    for flavor in FLAVORS {
        let bench = Bench::new(flavor);
        bench.create("MergeTree");
        bench.server.query("CREATE VIEW d.v AS SELECT k FROM d.t");
        bench.server.query(
            "CREATE MATERIALIZED VIEW d.m ENGINE = MergeTree ORDER BY k AS SELECT k FROM d.t",
        );
        if flavor == Flavor::Current {
            bench.server.query(
                "CREATE DICTIONARY d.c (k UInt64, v String) PRIMARY KEY k \
                 SOURCE(CLICKHOUSE(TABLE 't' DB 'd')) LAYOUT(FLAT()) LIFETIME(0)",
            );
        }
        for table in ["v", "m", "c", "t", "t", "never"] {
            bench
                .engine
                .drop_table(&TableName::new("d", table))
                .unwrap();
        }
        bench
            .engine
            .drop_table(&TableName::new("never", "t"))
            .unwrap();
        assert_eq!(
            bench
                .server
                .query("SELECT name FROM system.tables WHERE database = 'd'"),
            ""
        );
    }
}

#[test]
fn damage_is_found_by_the_check_of_the_server() {
    let bench = Bench::new(Flavor::Current);
    bench.create("MergeTree");
    bench.insert(1, "a", 100);
    bench.insert(1, "b", 100);
    assert_eq!(bench.engine.check_table(&bench.table).unwrap(), []);
    let name = &bench.live("1")[1].name;
    let data = bench.path_of(name).join("data.bin");
    let mut bytes = fs::read(&data).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&data, bytes).unwrap();
    let refused = bench.engine.check_table(&bench.table).unwrap();
    let names: Vec<&String> = refused.iter().map(|part| &part.name).collect();
    assert_eq!(names, [name]);

    let bench = Bench::new(Flavor::V18);
    bench.create("MergeTree");
    let error = bench.engine.check_table(&bench.table).unwrap_err();
    assert_eq!(error.remedy, Remedy::Request);
}

#[test]
fn mutations_end_where_the_server_can_end_them() {
    for flavor in FLAVORS {
        let bench = Bench::new(flavor);
        bench.create("MergeTree");
        bench.insert(1, "a", 3);
        let table = bench.table.sql();
        let wait = match flavor {
            Flavor::Current => " SETTINGS mutations_sync = 0",
            Flavor::V18 => "",
        };
        bench
            .server
            .query(&format!("ALTER TABLE {table} UPDATE v = 'b' WHERE 1{wait}"));
        let pending = || bench.engine.inventory(&bench.table).unwrap().mutations;
        let ids: Vec<String> = pending()
            .into_iter()
            .map(|mutation| mutation.mutation_id)
            .collect();
        assert_eq!(ids.len(), 1);
        let ended = bench.engine.kill_mutations(&bench.table, &ids);
        match flavor {
            Flavor::Current => {
                ended.unwrap();
                assert_eq!(pending(), []);
                bench.engine.kill_mutations(&bench.table, &ids).unwrap();
            }
            Flavor::V18 => {
                let error = ended.unwrap_err();
                assert_eq!(error.remedy, Remedy::Request);
                assert!(error.to_string().contains(&ids[0]), "{error}");
                bench.server.query(&format!("SYSTEM START MERGES {table}"));
                while !pending().is_empty() {}
                bench.engine.kill_mutations(&bench.table, &ids).unwrap();
            }
        }
    }
}
