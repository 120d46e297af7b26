//! Parts of every kind go through an exchange and stay what they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mendb_engines::{Engine, Origin, PartStore};
use mendb_model::part::TableName;

use crate::bench::{Bench, OPERATION, files, hashes};
use crate::servers::{Flavor, ServerOptions};

/// Parts are exchanged with themselves in the other order, one of them staged; what was linked changes in
/// no byte.
fn exchange_reversed(bench: &Bench, partition: &str) {
    let mut saved = bench.save(partition);
    assert!(saved.len() > 1);
    saved.reverse();
    let mut parts = bench.origins(&saved);
    let staged = bench.stage(&saved[0], 0);
    let linked = files(&staged.directory);
    parts[0] = Origin::Staged(staged.clone());
    bench.exchange(partition, &parts).unwrap();
    assert_eq!(files(&staged.directory), linked);
    assert_eq!(bench.hashes(partition), hashes(&saved));
    for (part, saved) in bench.live(partition).iter().zip(&saved) {
        let (now, before) = (data(&bench.path_of(&part.name)), data(&saved.directory));
        for (name, content) in &before {
            assert!(now.get(name) == Some(content), "{}", name.display());
        }
        assert_eq!(now.len(), before.len());
    }
    bench.engine.make_live(OPERATION).unwrap();
}

/// Files of a part with their content, without those that servers write anew: small texts, and the one
/// file that all others of a small part may be packed in.
fn data(part: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for (path, content) in files(part) {
        if path.extension().is_none_or(|e| e != "txt" && e != "packed") {
            found.insert(path.strip_prefix(part).unwrap().to_owned(), content);
        }
    }
    found
}

#[test]
fn all_that_a_table_can_be_declared_with_is_kept() {
    let mut bench = Bench::new(Flavor::Current);
    for (number, kind) in [
        "min_bytes_for_wide_part = 0",
        "min_bytes_for_wide_part = 1000000000",
        "min_bytes_for_full_part_storage = 1000000000",
        "enable_block_number_column = 1, enable_block_offset_column = 1",
    ]
    .into_iter()
    .enumerate()
    {
        bench.table = TableName::new("d", format!("t{number}"));
        let table = bench.table.sql();
        bench.server.query(&format!(
            "CREATE TABLE {table} (p UInt8, k UInt32 CODEC(Delta, ZSTD), v String CODEC(ZSTD(3)) COMMENT 'o''dd', \
             w String ALIAS concat(v, 'a'), z UInt32 MATERIALIZED k + 1, e String EPHEMERAL, d Date DEFAULT '2026-01-01', \
             n Nested(a UInt8, b String), INDEX i v TYPE bloom_filter GRANULARITY 2, \
             PROJECTION q (SELECT k, count() GROUP BY k), CONSTRAINT c CHECK k < 1000) \
             ENGINE = ReplacingMergeTree PARTITION BY p PRIMARY KEY k ORDER BY (k, v) SAMPLE BY k \
             TTL d + INTERVAL 50 YEAR SETTINGS deduplicate_merge_projection_mode = 'rebuild', {kind} COMMENT 'x'"
        ));
        bench.server.query(&format!("SYSTEM STOP MERGES {table}"));
        for value in ["a", "b", "c"] {
            bench.insert(1, value, 100);
        }
        exchange_reversed(&bench, "1");
        assert_eq!(bench.engine.check_table(&bench.table).unwrap(), []);
        let counted =
            format!("SELECT sum(c) FROM (SELECT k, count() AS c FROM {table} GROUP BY k)");
        assert_eq!(bench.server.query(&counted), "300\n", "{kind}");
    }
}

#[test]
fn what_was_deleted_lightly_stays_deleted() {
    let bench = Bench::new(Flavor::Current);
    bench.create("MergeTree");
    bench
        .server
        .query(&format!("SYSTEM START MERGES {}", bench.table.sql()));
    bench.insert(1, "a", 10);
    bench.insert(1, "b", 20);
    bench
        .server
        .query(&format!("DELETE FROM {} WHERE k < 5", bench.table.sql()));
    bench.engine.stop_merges(OPERATION, &bench.table).unwrap();
    assert_eq!(bench.rows(), 20);
    exchange_reversed(&bench, "1");
    assert_eq!(bench.rows(), 20);
}

#[test]
fn updates_that_are_kept_beside_a_part_go_with_the_exchange() {
    let bench = Bench::new(Flavor::Current);
    let table = bench.table.sql();
    let settings = "SETTINGS enable_block_number_column = 1, enable_block_offset_column = 1";
    bench.create_with("MergeTree", settings);
    bench.insert(1, "a", 10);
    bench.insert(1, "b", 10);
    let saved = bench.save("1");
    let before = bench.content("ORDER BY k, v");
    let patch = format!("UPDATE {table} SET v = 'patched' WHERE k = 1");
    bench
        .server
        .query(&format!("{patch} SETTINGS enable_lightweight_update = 1"));
    assert_ne!(bench.content("ORDER BY k, v"), before);
    // By their hashes the parts are what is wanted, by what queries answer they are not.
    bench.exchange("1", &bench.origins(&saved)).unwrap();
    assert_eq!(bench.content("ORDER BY k, v"), before);
    assert_eq!(bench.hashes("1"), hashes(&saved));
}

#[test]
fn parts_stay_on_their_disks() {
    let options = ServerOptions {
        jbod: true,
        ..ServerOptions::default()
    };
    let bench = Bench::with(Flavor::Current, options);
    bench.create_with("MergeTree", "SETTINGS storage_policy = 'jbod'");
    for rows in 1..=6 {
        bench.insert(1, "x", rows);
    }
    let mut saved = bench.save("1");
    saved.rotate_left(1);
    let disks: Vec<&str> = saved.iter().map(|saved| saved.part.disk.as_str()).collect();
    assert!(disks.contains(&"d1") && disks.contains(&"d2"));
    let gone: Vec<String> = bench.live("1")[..3]
        .iter()
        .map(|part| part.name.clone())
        .collect();
    bench.engine.drop_parts(&bench.table, &gone).unwrap();
    bench.exchange("1", &bench.origins(&saved)).unwrap();
    assert_eq!(bench.hashes("1"), hashes(&saved));
    let now: Vec<String> = bench.live("1").into_iter().map(|part| part.disk).collect();
    assert_eq!(now, disks);

    bench.exchange("1", &[]).unwrap();
    let parts: Vec<_> = saved
        .iter()
        .zip(10..)
        .map(|(saved, n)| bench.stage(saved, n))
        .collect();
    bench.engine.attach(&bench.table, &parts).unwrap();
    let now: Vec<String> = bench.live("1").into_iter().map(|part| part.disk).collect();
    assert_eq!(now, disks);
    bench.engine.make_live(OPERATION).unwrap();
    for disk in ["d1", "d2"] {
        assert!(!bench.server.disk_path(disk).join("mendb").exists());
    }
}

#[test]
fn a_part_of_one_merge_after_another_is_exchanged_on_18_16() {
    let bench = Bench::new(Flavor::V18);
    bench.create("MergeTree");
    let table = bench.table.sql();
    for value in ["a", "b", "c"] {
        bench.server.query(&format!("SYSTEM START MERGES {table}"));
        bench.insert(1, value, 1000);
        bench
            .server
            .query(&format!("OPTIMIZE TABLE {table} PARTITION 1 FINAL"));
        bench.server.query(&format!("SYSTEM STOP MERGES {table}"));
    }
    bench.insert(1, "d", 10);
    exchange_reversed(&bench, "1");
    assert_eq!(bench.rows(), 3010);
}
