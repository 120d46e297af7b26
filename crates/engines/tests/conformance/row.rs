//! The embedded row store keeps every promise.

use mendb_engines::Engine;
use mendb_engines::row::RowEngine;
use mendb_model::{Column, ColumnType, IndexSchema, KeyRange, TableSchema, Value, key};
use mendb_rowstore::{Database, Direction, Options, WriteBatch};

use crate::suite::{ALL, Subject};

struct RowStore {
    _directory: tempfile::TempDir,
    database: Database,
    engine: RowEngine,
}

impl RowStore {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = Options {
            durable: false,
            ..Options::default()
        };
        let database = Database::open(directory.path(), options).unwrap();
        let column = |name: &str| Column {
            name: name.into(),
            column_type: ColumnType::Int64,
            not_null: false,
        };
        let index = IndexSchema {
            name: "i".into(),
            columns: vec!["a".into()],
            cover: vec!["b".into()],
            unique: false,
        };
        let schema = TableSchema {
            columns: vec![column("id"), column("a"), column("b")],
            key: vec!["id".into()],
            indexes: vec![index],
        };
        let split = key::encode(&[ColumnType::Int64], [Value::Int(40).as_ref()]);
        database.create_table("t", schema, vec![split]).unwrap();
        let store = Self {
            engine: RowEngine::new(database.clone()),
            _directory: directory,
            database,
        };
        store.edit(0);
        store
    }
}

impl Subject for RowStore {
    fn engine(&self) -> &dyn Engine {
        &self.engine
    }

    fn edit(&self, round: i64) {
        let table = self.database.open_table("t").unwrap();
        let mut batch = WriteBatch::new();
        for id in (round..100).step_by(1 + round as usize * 4) {
            let set = vec![
                (0, Value::Int(id)),
                (1, Value::Int(id % 9)),
                (2, Value::Int(round)),
            ];
            batch.upsert(&table, set).unwrap();
        }
        for id in (round * 5..100).step_by(13).filter(|_| round > 0) {
            batch.erase(&table, vec![Value::Int(id)]).unwrap();
            batch
                .upsert(&table, vec![(0, Value::Int(id + 2)), (2, Value::Null)])
                .unwrap();
        }
        self.database.write(batch).unwrap();
    }

    fn visible_rows(&self, table: &str) -> Option<usize> {
        let snapshot = self.database.snapshot();
        let table = snapshot.open_table(table).ok()?;
        Some(
            snapshot
                .scan(&table, KeyRange::all(), Direction::Ascending)
                .ok()?
                .count(),
        )
    }
}

#[test]
fn the_row_store_keeps_every_promise() {
    for (name, promise) in ALL {
        println!("{name}");
        promise(&RowStore::new());
    }
}
