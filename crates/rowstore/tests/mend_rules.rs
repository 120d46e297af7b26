//! What is refused while a table is mended, and to whom.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::ops::ControlFlow;

use common::mending::*;
use common::*;
use mendb_model::name::TablePath;
use mendb_model::{Change, ColumnType, RowBlockBuilder, Value};
use mendb_rowstore::{Error, MendDescription, PathState, RowSource, Staged, StreamCut, WriteBatch};

#[test]
fn what_would_change_a_table_is_refused_with_the_operation_while_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_tables(dir.path());
    let name = TABLES[0];
    let path = TablePath::table(name);
    let begun_at = database.begin_mend(OPERATION, &names()).unwrap();
    assert_eq!(database.begin_mend(OPERATION, &names()).unwrap(), begun_at);
    let table = database.open_table(name).unwrap();
    let refused = |result: Result<(), Error>| {
        let error = result.unwrap_err();
        assert_eq!(
            error.to_string(),
            "table arrivals is being mended by operation mend-1 and cannot be changed until it is done"
        );
        assert!(error.is_retriable());
    };
    let all_refused = || {
        let mut batch = WriteBatch::new();
        batch.replace(&table, flight(1, "LH", 9)).unwrap();
        refused(database.write(batch).map(drop));
        refused(database.drop_table(name));
        refused(database.add_column(name, column("x", ColumnType::Bool, false)));
        refused(database.split(&path, &id_key(7)));
        refused(database.merge(&path, &id_key(ROWS / 2)));
        refused(database.compact(&path));
        refused(database.begin_mend("mend-2", &names()).map(drop));
        let cut = database.cut("backup-2", &names(), "s", StreamCut::Rotate);
        refused(cut.map(drop));
    };
    all_refused();
    let state = |published_at| PathState::Mending {
        operation: OPERATION.to_owned(),
        begun_at,
        published_at,
    };
    let locks = |published_at| TABLES.map(|name| (name.to_owned(), state(published_at)));
    assert_eq!(database.locks(), locks(None));
    let described = |published_at| MendDescription {
        tables: names(),
        begun_at,
        published_at,
    };
    assert_eq!(database.describe_mend(OPERATION), Some(described(None)));
    assert_eq!(
        rows(&database.snapshot().unwrap(), &table).len() as i64,
        ROWS + 20
    );

    let published_at = database.publish_mend(OPERATION).unwrap();
    assert_eq!(database.publish_mend(OPERATION).unwrap(), published_at);
    all_refused();
    assert_eq!(database.locks(), locks(Some(published_at)));
    let found = database.describe_mend(OPERATION);
    assert_eq!(found, Some(described(Some(published_at))));

    settle(&database, OPERATION);
    settle(&database, OPERATION);
    assert_eq!(database.describe_mend(OPERATION), None);
    replace(&database, &table, vec![flight(1, "LH", 9)]);
    database.split(&path, &id_key(7)).unwrap();
    check(&database.snapshot().unwrap(), name);
}

#[test]
fn a_mend_is_asked_for_in_order_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_tables(dir.path());
    let source = RowSource { step: 0, index: 0 };
    let shard = database.shards(&TablePath::table(TABLES[0])).unwrap()[0].id;
    let changes = changes_of(&wanted([flight(1, "LH", 5)]));
    let stage = |operation: &str| database.stage_mend(shard, operation, source, &changes);
    let says = |error: Error, text: &str| assert_eq!(error.to_string(), text);
    says(
        stage(OPERATION).unwrap_err(),
        "table arrivals is not being mended by operation mend-1",
    );
    says(
        database.publish_mend(OPERATION).unwrap_err(),
        "operation mend-1 is mending no table",
    );
    assert!(matches!(
        database.mend_snapshot(OPERATION),
        Err(Error::NoMend { .. })
    ));
    let missing = database.begin_mend(OPERATION, &["arrivals".to_owned(), "x".to_owned()]);
    assert!(matches!(missing, Err(Error::TableMissing(_))));
    assert!(database.locks().is_empty(), "all tables or none");

    database.begin_mend(OPERATION, &names()).unwrap();
    let others = database.begin_mend(OPERATION, &names()[..1]);
    says(
        others.unwrap_err(),
        "operation mend-1 is mending other tables already: arrivals, departures",
    );
    assert!(matches!(stage("mend-2"), Err(Error::NotMending { .. })));
    let index = TablePath::index(TABLES[0], "by_carrier");
    let index = database.shards(&index).unwrap()[0].id;
    let into_index = database.stage_mend(index, OPERATION, source, &changes);
    assert!(matches!(into_index, Err(Error::IndexShard { .. })));
    let unsettled = database.settle_mend(OPERATION, &mut |_| ControlFlow::Continue(()));
    says(
        unsettled.unwrap_err(),
        "the mend of operation mend-1 is not published yet; publish it first",
    );
    assert!(matches!(stage(OPERATION), Ok(Staged::Done(_))));
    database.publish_mend(OPERATION).unwrap();
    let published = "the mend of operation mend-1 is published, readers see it; undo it instead: \
                     mendb undo mend-1";
    says(stage(OPERATION).unwrap_err(), published);
    says(database.abort_mend(OPERATION).unwrap_err(), published);
    settle(&database, OPERATION);
    database.abort_mend(OPERATION).unwrap();
    database.drop_table(TABLES[0]).unwrap();
    assert_eq!(stage(OPERATION).unwrap(), Staged::Gone);
}

#[test]
fn changes_that_are_not_whole_rows_in_order_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_tables(dir.path());
    database.begin_mend(OPERATION, &names()).unwrap();
    let before = everything(&database.mend_snapshot(OPERATION).unwrap());
    let shard = database.shards(&TablePath::table(TABLES[0])).unwrap()[0].id;
    let stage = |changes: &[(i64, Vec<u8>)]| {
        let mut block = RowBlockBuilder::new();
        for (id, change) in changes {
            block.push(&id_key(*id), change);
        }
        let source = RowSource { step: 0, index: 0 };
        database.stage_mend(shard, OPERATION, source, &block.finish())
    };
    let row = value(&flights(), &flight(1, "LH", 7));
    let reset = Change::reset(row.clone(), 1).encode();
    let partial = Change::upsert(mendb_model::ColumnSet::of([1]), row.clone(), 1).encode();
    let partial = stage(&[(1, reset.clone()), (2, partial)]);
    assert!(matches!(partial, Err(Error::PartialChange { .. })));
    let unordered = stage(&[(2, reset.clone()), (1, reset.clone())]);
    assert!(matches!(unordered, Err(Error::Unordered { .. })));
    let outside = stage(&[(ROWS, reset.clone())]);
    assert!(matches!(outside, Err(Error::WrongShard { .. })));
    let cut_off = Change::reset(row[..row.len() - 1].to_vec(), 1).encode();
    for bad in [cut_off, b"no change".to_vec()] {
        let damaged = stage(&[(1, reset.clone()), (2, bad)]).unwrap_err();
        let text = format!("a change for shard {shard} of arrivals is damaged");
        assert!(damaged.to_string().starts_with(&text), "{damaged}");
    }
    assert!(everything(&database.mend_snapshot(OPERATION).unwrap()) == before);
}

#[test]
fn a_row_whose_index_key_would_be_too_long_is_refused_with_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let database = with_tables(dir.path());
    database.begin_mend(OPERATION, &names()).unwrap();
    let before = database.version();
    let long = vec![int(1), text(&"x".repeat(1 << 20)), int(1), Value::Null];
    let error = database.stage_mend(
        database.shards(&TablePath::table(TABLES[0])).unwrap()[0].id,
        OPERATION,
        RowSource { step: 0, index: 0 },
        &changes_of(&wanted([long])),
    );
    assert!(
        matches!(&error, Err(Error::KeyTooLong { path, .. }) if path == "arrivals/by_carrier"),
        "{error:?}"
    );
    assert_eq!(database.version(), before);
}
