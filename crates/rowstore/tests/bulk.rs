//! Writing in bulk: the same as writing a batch, however much it is.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use common::*;
use mendb_model::name::TablePath;
use mendb_model::{ColumnType, Value, key};
use mendb_rowstore::{Database, Error, StreamCut};
use proptest::prelude::*;

/// Few ids and fewer codes, so that rows are in each other's way.
fn some_put() -> impl Strategy<Value = Put> {
    let code = proptest::option::of(0..4_u8)
        .prop_map(|code| code.map_or(Value::Null, |code| text(&format!("code {code}"))));
    let carrier = (0..3_u8).prop_map(|carrier| text(&format!("c{carrier}")));
    let id = (0..8_i64).prop_map(int);
    prop_oneof![
        (id.clone(), carrier.clone(), code.clone())
            .prop_map(|(id, carrier, code)| Put::Replace(vec![id, carrier, int(1), code])),
        (id.clone(), code).prop_map(|(id, code)| Put::Upsert(vec![(0, id), (3, code)])),
        (id.clone(), carrier).prop_map(|(id, carrier)| Put::Upsert(vec![(0, id), (1, carrier)])),
        id.prop_map(|id| Put::Erase(vec![id])),
    ]
}

/// Everything in the table and its indexes, and what happened since a version.
fn everything(database: &Database, since: u64) -> BTreeMap<TablePath, [Rows; 2]> {
    let snapshot = database.snapshot().unwrap();
    check(&snapshot, "flights");
    let of_path = |path: TablePath| {
        let changed = changes(&snapshot, &path, since);
        // What happened is the same if it leaves the same.
        let left = changed.into_iter();
        let left = left.filter_map(|(key, change)| Some((key, change.apply(None, &[]).unwrap()?)));
        (path.clone(), [encoded(&snapshot, &path), left.collect()])
    };
    paths(&flights(), "flights")
        .into_iter()
        .map(of_path)
        .collect()
}

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

fn code_key(code: &str) -> Vec<u8> {
    key::encode(&[ColumnType::Utf8], [text(code).as_ref()])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_bulk_write_does_and_refuses_what_a_batch_does(
        batches in proptest::collection::vec(proptest::collection::vec(some_put(), 1..10), 1..8),
        compacted in 0..8_usize,
        with_stream: bool,
    ) {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let databases = [open(dirs[0].path()), open(dirs[1].path())];
        let mut since = 0;
        for database in &databases {
            database.create_table("flights", flights(), vec![id_key(3)]).unwrap();
            let by_code = TablePath::index("flights", "by_code");
            database.split(&by_code, &code_key("code 2")).unwrap();
            let tables = ["flights".to_owned()];
            if with_stream {
                let cut = database.cut("backup", &tables, "s", StreamCut::Attach);
                since = cut.unwrap().version();
                database.unlock("backup").unwrap();
            }
        }
        for (at, puts) in batches.into_iter().enumerate() {
            let written = [0, 1].map(|way| {
                let database = &databases[way];
                let table = database.open_table("flights").unwrap();
                put(database, &table, puts.clone(), way == 1)
            });
            match &written {
                [Ok(_), Ok(_)] => {}
                [Err(Error::Unique { key: one, .. }), Err(Error::Unique { key: other, .. })] => {
                    prop_assert_eq!(one, other);
                }
                other => prop_assert!(false, "{other:?}"),
            }
            if at == compacted {
                databases[1].compact(&TablePath::table("flights")).unwrap();
            }
            let [one, other] = [0, 1].map(|way| everything(&databases[way], since));
            if with_stream {
                prop_assert_eq!(one, other);
            } else {
                for (path, [rows, _]) in one {
                    prop_assert_eq!(&rows, &other[&path][0]);
                }
            }
        }
    }
}

/// Rows of about 100 bytes, in no order, with an index each way.
fn many(rows: i64, round: i64) -> Vec<Put> {
    let id = |at: i64| (at * 48_271) % 2_147_483_647;
    let row = |at: i64| {
        let carrier = format!("carrier {} {}", at % 97, "x".repeat(60));
        let code = text(&format!("code {} {round}", id(at)));
        Put::Replace(vec![int(id(at)), text(&carrier), int(round), code])
    };
    (1..=rows).map(row).collect()
}

#[test]
fn many_rows_are_written_to_new_and_to_full_tables_and_logged() {
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    let splits = vec![id_key(200_000_000), id_key(400_000_000)];
    database.create_table("flights", flights(), splits).unwrap();
    let write = |puts: Vec<Put>| {
        let table = database.open_table("flights").unwrap();
        put(&database, &table, puts, true).unwrap()
    };
    write(many(12_000, 0));
    let since = database.version();
    let new = everything(&database, since);
    for shard in database
        .snapshot()
        .unwrap()
        .shards(&TablePath::table("flights"))
        .unwrap()
    {
        assert!(shard.digest.rows > 500, "{shard:?}");
    }
    assert_eq!(
        new[&TablePath::index("flights", "by_code")][0].len(),
        12_000
    );
    let tables = ["flights".to_owned()];
    let cut = database
        .cut("backup", &tables, "s", StreamCut::Attach)
        .unwrap();
    database.unlock("backup").unwrap();
    let mut puts = many(14_000, 1);
    puts.extend((1..2_000).map(|at| Put::Erase(vec![int((at * 48_271) % 2_147_483_647)])));
    write(puts);
    let snapshot = database.snapshot().unwrap();
    for path in paths(&flights(), "flights") {
        let changed = changes(&snapshot, &path, cut.version());
        let reached = applied(encoded(&cut, &path), &changed, &types(&flights(), &path));
        assert!(reached == encoded(&snapshot, &path), "changes of {path}");
        assert_eq!(reached.len(), 12_001);
    }
    let after = everything(&database, since);
    drop((cut, snapshot, database));
    let database = open(dir.path());
    for path in paths(&flights(), "flights") {
        database.compact(&path).unwrap();
    }
    assert!(everything(&database, since) == after);
}

#[test]
fn a_bulk_write_that_is_refused_tells_which_change_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    let mut schema = flights();
    schema.columns[1].not_null = true;
    database.create_table("flights", schema, vec![]).unwrap();
    let table = database.open_table("flights").unwrap();
    let mut bulk = database.bulk(&table);
    bulk.replace(&flight(1, "LH", 1)).unwrap();
    bulk.upsert(&[(0, int(2)), (1, text("BA"))]).unwrap();
    bulk.upsert(&[(0, int(3)), (2, int(1))]).unwrap();
    let refused = bulk.commit(&mut |_| ()).unwrap_err();
    assert!(
        matches!(refused.error, Error::NotNull { .. }),
        "{refused:?}"
    );
    assert_eq!(refused.change, Some(2));
    assert_eq!(
        database
            .snapshot()
            .unwrap()
            .describe("flights")
            .unwrap()
            .rows
            .digest()
            .rows,
        0
    );
}

#[test]
fn a_bulk_write_that_is_refused_gives_its_space_back() {
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    database
        .create_table("flights", flights(), vec![id_key(1_000_000_000)])
        .unwrap();
    let bytes = || -> u64 {
        let files = std::fs::read_dir(dir.path().join("shards")).unwrap();
        files
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum()
    };
    let write = |puts: Vec<Put>| {
        let table = database.open_table("flights").unwrap();
        put(&database, &table, puts, true)
    };
    let refused = |round| {
        let mut puts = many(12_000, round);
        puts.push(Put::Replace(vec![int(1), text("LH"), int(1), text("code")]));
        puts.push(Put::Replace(vec![int(2), text("LH"), int(1), text("code")]));
        let refused = write(puts).unwrap_err();
        assert!(matches!(refused, Error::Unique { .. }), "{refused:?}");
    };
    refused(0);
    assert_eq!(bytes(), 0);
    write(many(12_000, 0)).unwrap();
    let written = bytes();
    assert!(written > 1 << 20);
    refused(1);
    assert_eq!(bytes(), written);
    check(&database.snapshot().unwrap(), "flights");
}
