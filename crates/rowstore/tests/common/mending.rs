//! Staging what tables are to become.

use std::collections::BTreeMap;

use mendb_model::name::TablePath;
use mendb_model::{Change, RowBlock, RowBlockBuilder, TableSchema, Value, row};
use mendb_rowstore::{Database, Source, Staged, StagedRows};

use super::{flights, id_key};

/// Wanted rows by key: encoded values, `None` where there is to be none.
pub type Wanted = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The value of a row given as all its columns.
pub fn value(schema: &TableSchema, columns: &[Value]) -> Vec<u8> {
    row::encode(&schema.value_types(), &columns[1..])
}

/// Flights as they are wanted.
pub fn wanted(rows: impl IntoIterator<Item = Vec<Value>>) -> Wanted {
    let row = |row: Vec<Value>| match row[0] {
        Value::Int(id) => (id_key(id), Some(value(&flights(), &row))),
        ref other => panic!("{other:?}"),
    };
    rows.into_iter().map(row).collect()
}

/// Flights that are to go.
pub fn gone(ids: impl IntoIterator<Item = i64>) -> Wanted {
    ids.into_iter().map(|id| (id_key(id), None)).collect()
}

pub fn changes_of<'a>(
    wanted: impl IntoIterator<Item = (&'a Vec<u8>, &'a Option<Vec<u8>>)>,
) -> RowBlock {
    let mut block = RowBlockBuilder::new();
    for (key, row) in wanted {
        let change = match row {
            Some(row) => Change::reset(row.clone(), 1),
            None => Change::erase(1),
        };
        block.push(key, &change.encode());
    }
    block.finish()
}

/// Stages wanted rows with the shards that own them; what became of them together.
pub fn stage(
    database: &Database,
    operation: &str,
    table: &str,
    source: u32,
    wanted: &Wanted,
) -> StagedRows {
    let source = Source {
        step: 0,
        index: source,
    };
    let mut total = StagedRows::default();
    for shard in database.shards(&TablePath::table(table)).unwrap() {
        let of_shard = wanted.iter().filter(|(key, _)| shard.range.contains(key));
        let changes = changes_of(of_shard);
        match database
            .stage_mend(shard.id, operation, source, &changes)
            .unwrap()
        {
            Staged::Done(staged) => {
                total.upserted += staged.upserted;
                total.erased += staged.erased;
                total.kept += staged.kept;
            }
            Staged::Gone => panic!("shards stay while a table is being mended"),
        }
    }
    total
}

/// Settles a mend to its end; how many rows were moved.
pub fn settle(database: &Database, operation: &str) -> u64 {
    let mut moved = 0;
    let outcome = database.settle_mend(operation, &mut |rows| {
        moved += rows;
        std::ops::ControlFlow::Continue(())
    });
    assert!(outcome.unwrap().is_continue());
    moved
}
