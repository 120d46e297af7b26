//! The embedded row store keeps every promise.

use mendb_engines::row::{RowEngine, RowLook};
use mendb_engines::{
    Engine, FreezeRequest, HiddenTable, LiveRows, Remedy, Result, RowSource, RowStore,
};
use std::ops::ControlFlow;

use mendb_model::name::TablePath;
use mendb_model::{
    Column, ColumnType, Digest, IndexSchema, KeyRange, RowBlock, TableSchema, Value, key,
};
use mendb_rowstore::{Database, Direction, Options, Snapshot, WriteBatch};

use crate::row_suite::{self, RowSubject};
use crate::suite::{self, Subject};

struct Rows {
    directory: tempfile::TempDir,
    database: Database,
    engine: RowEngine,
}

impl Rows {
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
            directory,
            database,
        };
        store.edit(0);
        store
    }
}

impl RowSubject for Rows {}

impl Rows {
    /// Calls `each` with every block that the operation froze of `t` and of its index.
    fn read(
        &self,
        operation: &str,
        path: &TablePath,
        each: &mut dyn FnMut(&RowBlock<&[u8]>),
    ) -> Result<()> {
        let mut sink = |block: &RowBlock<&[u8]>| {
            each(block);
            ControlFlow::Continue(())
        };
        self.engine
            .read_rows(operation, path, &KeyRange::all(), None, &mut sink)
    }
}

impl Subject for Rows {
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

    fn contents(&self, table: &str) -> Option<String> {
        let snapshot = self.database.snapshot().unwrap();
        let open = snapshot.open_table(table).ok()?;
        // Readers are refused a table that is being restored.
        let scan = snapshot.scan(&open, KeyRange::all(), Direction::Ascending);
        drop(scan.ok()?);
        let digest = self
            .engine
            .digest(&TablePath::table(table), &KeyRange::all());
        Some(digest.unwrap().to_string())
    }

    fn freeze(&self, operation: &str) {
        let tables = ["t".to_owned()];
        let request = FreezeRequest {
            operation,
            tables: &tables,
            stream: "c/1",
            keeps_changes: false,
            since_version: None,
        };
        self.engine.freeze(&request).unwrap();
    }

    fn frozen_contents(&self, operation: &str) -> Result<String> {
        let mut digest = Digest::default();
        self.read(operation, &TablePath::table("t"), &mut |block| {
            for (key, row) in block.iter() {
                digest.add(key, row);
            }
        })?;
        Ok(digest.to_string())
    }

    fn stage(&self, frozen_by: &str, operation: &str) {
        let tables = ["t".to_owned()];
        let request = FreezeRequest {
            operation: frozen_by,
            tables: &tables,
            stream: "c/1",
            keeps_changes: false,
            since_version: None,
        };
        let frozen = self.engine.freeze(&request).unwrap();
        let staged = HiddenTable {
            name: "r".into(),
            backup: frozen.tables[0].clone(),
        };
        self.engine.create_hidden(operation, vec![staged]).unwrap();
        let paths = [TablePath::table("t"), TablePath::index("t", "i")];
        for (index, path) in (0..).zip(paths) {
            let source = RowSource { step: 1, index };
            let target = TablePath {
                table: "r".into(),
                index: path.index.clone(),
            };
            self.read(frozen_by, &path, &mut |block| {
                self.engine.load(operation, &target, source, block).unwrap();
            })
            .unwrap();
        }
    }

    fn apply(&self, _operation: &str) {}
}

#[test]
fn the_row_store_keeps_every_promise() {
    for (name, promise) in suite::ALL {
        println!("{name}");
        promise(&Rows::new());
    }
    for (name, promise) in row_suite::ALL {
        println!("{name}");
        promise(&Rows::new());
    }
}

/// An engine that looks at the last commit of a store, as another process would.
fn look(store: &Rows) -> RowLook {
    RowLook::new(Snapshot::open(store.directory.path()).unwrap().unwrap())
}

#[test]
fn who_looks_at_a_store_reads_what_its_engine_does_and_changes_nothing() {
    let store = Rows::new();
    let nameless = look(&store);
    assert_eq!(nameless.identify("guest").unwrap(), "guest");
    assert_eq!(store.engine.identify("home").unwrap(), "home");
    let request = FreezeRequest {
        operation: "b1",
        tables: &["t".to_owned()],
        stream: "c/1",
        keeps_changes: false,
        since_version: None,
    };
    store.engine.freeze(&request).unwrap();
    store.edit(1);

    let look = look(&store);
    let engine: &dyn Engine = &look;
    assert_eq!(engine.identify("guest").unwrap(), "home");
    assert_eq!(engine.locks().unwrap(), store.engine.locks().unwrap());
    assert_eq!(engine.holds().unwrap(), store.engine.holds().unwrap());
    let (seen, rows) = (
        engine.live_rows().unwrap(),
        store.engine.snapshot().unwrap(),
    );
    assert_eq!(seen.version().unwrap(), rows.version().unwrap());
    assert_eq!(seen.inspect("t").unwrap(), rows.inspect("t").unwrap());
    assert_eq!(seen.held_back("t").unwrap(), rows.held_back("t").unwrap());
    let path = TablePath::index("t", "i");
    let digest = rows.digest(&path, &KeyRange::all()).unwrap();
    store.edit(2);
    assert_eq!(seen.digest(&path, &KeyRange::all()).unwrap(), digest);
    let again = seen.snapshot().unwrap();
    let shards = rows.shards(&path, &KeyRange::all()).unwrap();
    assert_eq!(again.shards(&path, &KeyRange::all()).unwrap(), shards);
    for shard in shards {
        assert_eq!(again.shards(&path, &shard.range).unwrap(), [shard]);
    }

    let locks = store.engine.locks().unwrap();
    let refused = [
        engine.rows().err().unwrap(),
        engine.thaw("b1").unwrap_err(),
        engine.drop_staged("b1").unwrap_err(),
        engine.make_live("b1").unwrap_err(),
        engine.drop_kept("b1").unwrap_err(),
    ];
    assert!(refused.iter().all(|error| error.remedy == Remedy::Request));
    assert!(!engine.is_frozen("b1").unwrap());
    assert_eq!(store.engine.locks().unwrap(), locks);
}
