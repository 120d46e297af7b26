//! restore(backup(database)) = database by either strategy, for random schemas, edits, splits and chains.

use mendb_model::name::BackupKind::{Full, Incremental};
use mendb_model::name::TablePath;
use mendb_model::operation::RestoreStrategy;
use mendb_model::{ColumnType, IndexSchema, TableSchema, Value};
use mendb_rowstore::WriteBatch;
use proptest::prelude::*;

use crate::world::*;

/// Few keys, so that edits meet.
const KEYS: i64 = 40;

fn value(column_type: ColumnType) -> BoxedStrategy<Value> {
    let some = match column_type {
        ColumnType::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        ColumnType::Utf8 => "[a-c\u{0}é]{0,4}".prop_map(Value::Text).boxed(),
        ColumnType::String => proptest::collection::vec(0u8..3, 0..4)
            .prop_map(Value::Bytes)
            .boxed(),
        ColumnType::Double => any::<u64>()
            .prop_map(|bits| Value::Double(f64::from_bits(bits)))
            .boxed(),
        ColumnType::Decimal { .. } => (-10i128.pow(20)..10i128.pow(20))
            .prop_map(Value::Decimal)
            .boxed(),
        ColumnType::Uint16 => (0u64..300).prop_map(Value::Uint).boxed(),
        ColumnType::Uuid => any::<[u8; 16]>().prop_map(Value::Uuid).boxed(),
        _ => (-3i64..100).prop_map(Value::Int).boxed(),
    };
    prop_oneof![1 => Just(Value::Null), 4 => some].boxed()
}

const TYPES: [ColumnType; 9] = [
    ColumnType::Bool,
    ColumnType::Int64,
    ColumnType::Utf8,
    ColumnType::String,
    ColumnType::Double,
    ColumnType::Decimal {
        precision: 22,
        scale: 9,
    },
    ColumnType::Uint16,
    ColumnType::Uuid,
    ColumnType::Timestamp,
];

/// A table `orders` with an Int64 key, a second key column, some values and up to two indexes.
pub fn schema() -> impl Strategy<Value = TableSchema> {
    (
        proptest::sample::select(&TYPES[..]),
        proptest::collection::vec(proptest::sample::select(&TYPES[..]), 0..5),
        proptest::collection::vec((0usize..6, 0usize..6), 0..3),
    )
        .prop_map(|(second_key, values, indexes)| {
            let mut columns = vec![column("id", ColumnType::Int64), column("k2", second_key)];
            columns.extend(
                values
                    .iter()
                    .enumerate()
                    .map(|(at, t)| column(&format!("v{at}"), *t)),
            );
            let name = |at: usize| columns[at % columns.len()].name.clone();
            let index = |(at, (first, cover)): (usize, &(usize, usize))| IndexSchema {
                name: format!("by{at}"),
                columns: vec![name(*first)],
                cover: if name(*first) == name(*cover) {
                    Vec::new()
                } else {
                    vec![name(*cover)]
                },
                unique: false,
            };
            let indexes = indexes.iter().enumerate().map(index).collect();
            TableSchema {
                key: vec!["id".into(), "k2".into()],
                indexes,
                columns,
            }
        })
}

#[derive(Debug, Clone)]
pub enum Edit {
    Upsert(Vec<Option<Value>>),
    Replace(Vec<Value>),
    Erase(Vec<Value>),
    Split(i64),
    Merge,
}

pub fn edit(schema: &TableSchema) -> impl Strategy<Value = Edit> + use<> {
    let row: Vec<_> = schema
        .columns
        .iter()
        .enumerate()
        .map(|(at, c)| {
            if at == 0 {
                (0..KEYS).prop_map(Value::Int).boxed()
            } else {
                value(c.column_type)
            }
        })
        .collect();
    let partial: Vec<_> = row
        .iter()
        .enumerate()
        .map(|(at, v)| {
            if at < 2 {
                v.clone().prop_map(Some).boxed()
            } else {
                proptest::option::of(v.clone()).boxed()
            }
        })
        .collect();
    prop_oneof![
        6 => partial.prop_map(Edit::Upsert),
        3 => row.clone().prop_map(Edit::Replace),
        3 => row[..2].to_vec().prop_map(Edit::Erase),
        1 => (0..KEYS).prop_map(Edit::Split),
        1 => Just(Edit::Merge),
    ]
}

pub type Rounds = Vec<(bool, Vec<Edit>)>;

fn scenario() -> impl Strategy<Value = (TableSchema, Rounds)> {
    schema().prop_flat_map(|schema| {
        let edits = proptest::collection::vec(edit(&schema), 0..25);
        let rounds = proptest::collection::vec((proptest::bool::weighted(0.2), edits), 1..5);
        (Just(schema), rounds)
    })
}

pub fn make(world: &World, edits: Vec<Edit>) {
    let table = world.table("orders");
    let path = TablePath::table("orders");
    for edit in edits {
        let mut batch = WriteBatch::new();
        match edit {
            Edit::Upsert(row) => {
                let given = row
                    .into_iter()
                    .enumerate()
                    .filter_map(|(at, value)| Some((at, value?)));
                batch.upsert(&table, given.collect()).unwrap();
            }
            Edit::Replace(row) => batch.replace(&table, row).unwrap(),
            Edit::Erase(key) => batch.erase(&table, key).unwrap(),
            Edit::Split(at) => {
                world.database.split(&path, &order_key(at)).unwrap();
                continue;
            }
            Edit::Merge => {
                let border = world.database.shards(&path).unwrap()[0].range.end.clone();
                if let Some(border) = border {
                    world.database.merge(&path, &border).unwrap();
                }
                continue;
            }
        }
        world.database.write(batch).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn what_was_backed_up_comes_back((schema, rounds) in scenario()) {
        let world = World::new();
        world.database.create_table("orders", schema, Vec::new()).unwrap();
        world.service.create_collection("shop", &["orders".into()]).unwrap();
        let mut states = Vec::new();
        for (at, (full, edits)) in rounds.into_iter().enumerate() {
            make(&world, edits);
            let kind = if full || at == 0 { Full } else { Incremental };
            world.done(&world.backup(kind, &format!("b{at}")));
            states.push(contents(&world.database));
        }
        for (at, state) in states.iter().enumerate() {
            for strategy in [RestoreStrategy::Sequential, RestoreStrategy::Merged] {
                world.drop_tables();
                world.done(&world.restore_by(&format!("b{at}"), strategy));
                prop_assert_eq!(&contents(&world.database), state, "b{} {:?}", at, strategy);
            }
        }
    }
}
