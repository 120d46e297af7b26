//! Who holds what a unique index allows one row only, against a map.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use common::mending::value;
use common::*;
use mendb_model::name::TablePath;
use mendb_model::{ColumnType, RowBlock, RowBlockBuilder, Value};
use mendb_rowstore::WriteBatch;
use proptest::prelude::*;

/// Codes by ids; NULL is nobody's.
type Codes = BTreeMap<i64, Option<u8>>;

fn codes() -> impl Strategy<Value = Codes> {
    proptest::collection::btree_map(0i64..40, proptest::option::weighted(0.8, 0u8..40), 0..30)
}

fn columns(id: i64, code: Option<u8>) -> Vec<Value> {
    let code = code.map_or(Value::Null, |code| text(&format!("code-{code}")));
    vec![int(id), Value::Null, int(1), code]
}

fn block(codes: &Codes) -> RowBlock {
    let mut block = RowBlockBuilder::new();
    for (id, code) in codes {
        block.push(&id_key(*id), &value(&flights(), &columns(*id, *code)));
    }
    block.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn every_wanted_row_meets_who_holds_its_value(
        live in codes(), wanted in codes(), late in codes(), split in 0u8..40, packed: bool, most in 1usize..40,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let database = open(dir.path());
        database.create_table("flights", flights(), vec![]).unwrap();
        let table = database.open_table("flights").unwrap();
        let index = TablePath::index("flights", "by_code");
        let mut held: Codes = Codes::new();
        let mut write = |codes: &Codes| {
            let mut batch = WriteBatch::new();
            for (id, code) in codes {
                held.remove(id);
                let taken = code.is_some() && held.values().any(|other| other == code);
                let code = if taken { None } else { *code };
                held.insert(*id, code);
                batch.replace(&table, columns(*id, code)).unwrap();
                database.write(std::mem::take(&mut batch)).unwrap();
            }
        };
        write(&live);
        if packed {
            database.compact(&index).unwrap();
        }
        let at = mendb_model::key::encode(&[ColumnType::Utf8], [text(&format!("code-{split}")).as_ref()]);
        database.split(&index, &at).unwrap();
        // Over what is packed.
        write(&late);

        let mut expected = BTreeSet::new();
        for (id, code) in wanted.iter().filter(|(_, code)| code.is_some()) {
            let holders = held.iter().filter(|(other, its)| *other != id && *its == code);
            expected.extend(holders.map(|(other, _)| (*id, *other, format!("code-{}", code.unwrap()))));
        }
        let snapshot = database.snapshot().unwrap();
        let mut found = BTreeSet::new();
        let id = |key: &[u8]| match mendb_model::key::decode(key, &[ColumnType::Int64]).unwrap()[..] {
            [Value::Int(id)] => id,
            ref other => panic!("{other:?}"),
        };
        snapshot.holders("flights", &block(&wanted), &mut |holder| {
            assert_eq!(holder.index, "by_code");
            let is_new = found.insert((id(holder.wanted), id(holder.key), holder.value.to_owned()));
            assert!(is_new, "each is told once");
            ControlFlow::Continue(())
        }).unwrap();
        prop_assert_eq!(&found, &expected);

        let mut told = 0;
        snapshot.holders("flights", &block(&wanted), &mut |_| {
            told += 1;
            if told == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }).unwrap();
        prop_assert_eq!(told, most.min(expected.len()));
    }
}
