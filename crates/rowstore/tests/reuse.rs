//! Tables that are dropped and made again, over and over, with the store closed in between.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use mendb_model::name::TablePath;
use mendb_model::{
    Column, ColumnType, Digest, KeyRange, RowBlockBuilder, TableSchema, Value, key, row,
};
use mendb_rowstore::{Applied, Database, NewTable, Options, RowSource, Versions};

const SHARDS: i64 = 4;
const ROWS: i64 = 80;

fn schema() -> TableSchema {
    let column = |name: &str| Column {
        name: name.into(),
        column_type: ColumnType::Int64,
        not_null: false,
    };
    TableSchema {
        columns: vec![column("id"), column("value")],
        key: vec!["id".into()],
        indexes: Vec::new(),
    }
}

fn id(id: i64) -> Vec<u8> {
    key::encode(&[ColumnType::Int64], [Value::Int(id).as_ref()])
}

/// Creates the table as a restore does, each shard loaded from a source of its own.
fn load(database: &Database, value: i64) {
    let splits = (1..SHARDS).map(|shard| id(shard * ROWS / SHARDS)).collect();
    let table = NewTable {
        name: "t".into(),
        schema: schema(),
        versions: Versions {
            table: 1,
            indexes: BTreeMap::new(),
        },
        splits: BTreeMap::from([(None, splits)]),
    };
    database.create_restoring("restore", vec![table]).unwrap();
    for (index, shard) in (0u32..).zip(database.shards(&TablePath::table("t")).unwrap()) {
        let mut rows = RowBlockBuilder::new();
        for key in (0..ROWS).map(id).filter(|key| shard.range.contains(key)) {
            rows.push(
                &key,
                &row::encode(&[ColumnType::Int64], &[Value::Int(value)]),
            );
        }
        let applied = database.load(
            shard.id,
            "restore",
            RowSource { step: 1, index },
            &rows.finish(),
        );
        assert!(matches!(applied.unwrap(), Applied::Done { .. }));
    }
    database.finish_restore("restore").unwrap();
}

fn digest(database: &Database) -> Digest {
    let mut digest = Digest::default();
    for block in database
        .snapshot()
        .unwrap()
        .blocks(&TablePath::table("t"), &KeyRange::all(), None)
        .unwrap()
    {
        for (key, row) in block.unwrap().iter() {
            digest.add(key, row);
        }
    }
    digest
}

/// The storage engine numbers keyspaces anew after a restart. Before there was a fence, a shard made
/// under the number of a dropped one could be gone at the next open.
#[test]
fn shards_made_after_others_were_dropped_are_still_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Database::open(directory.path(), Options::default()).unwrap();
    for round in 0..12 {
        load(&open(), round);
        let reopened = open();
        assert_eq!(digest(&reopened).rows, ROWS as u64, "round {round}");
        reopened.drop_table("t").unwrap();
    }
}
