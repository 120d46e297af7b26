//! Random tables, rows and changes.

use std::collections::BTreeMap;

use mendb_model::change::partial_row;
use mendb_model::schema::ColumnPosition;
use mendb_model::{
    Change, Column, ColumnType, RowBlock, RowBlockBuilder, TableSchema, Value, key, row,
};
use mendb_repo::Content;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// What a row block holds, by key.
pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

fn column_type() -> impl Strategy<Value = ColumnType> {
    use ColumnType as T;
    prop_oneof![
        Just(T::Bool),
        Just(T::Int8),
        Just(T::Int16),
        Just(T::Int32),
        Just(T::Int64),
        Just(T::Uint8),
        Just(T::Uint16),
        Just(T::Uint32),
        Just(T::Uint64),
        Just(T::Float),
        Just(T::Double),
        Just(T::Utf8),
        Just(T::String),
        Just(T::Json),
        Just(T::Date),
        Just(T::Datetime),
        Just(T::Timestamp),
        (1u8..=38)
            .prop_flat_map(|precision| (Just(precision), 0..=precision))
            .prop_map(|(precision, scale)| T::Decimal { precision, scale }),
        Just(T::Uuid),
    ]
}

fn value(column_type: ColumnType) -> BoxedStrategy<Value> {
    use ColumnType as T;
    let text = || prop_oneof![Just(String::new()), ".{0,9}", "[ab]{1,2}"].prop_map(Value::Text);
    match column_type {
        T::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        T::Int8 => any::<i8>().prop_map(|v| Value::Int(v.into())).boxed(),
        T::Int16 => any::<i16>().prop_map(|v| Value::Int(v.into())).boxed(),
        T::Int32 | T::Date => any::<i32>().prop_map(|v| Value::Int(v.into())).boxed(),
        T::Datetime => prop_oneof![
            20 => (-4_000_000_000i64..4_000_000_000).prop_map(Value::Int),
            1 => any::<i64>().prop_map(Value::Int),
        ]
        .boxed(),
        T::Int64 | T::Timestamp => any::<i64>().prop_map(Value::Int).boxed(),
        T::Uint8 => any::<u8>().prop_map(|v| Value::Uint(v.into())).boxed(),
        T::Uint16 => any::<u16>().prop_map(|v| Value::Uint(v.into())).boxed(),
        T::Uint32 => any::<u32>().prop_map(|v| Value::Uint(v.into())).boxed(),
        T::Uint64 => any::<u64>().prop_map(Value::Uint).boxed(),
        T::Float => prop_oneof![any::<u32>(), Just(1 << 31), Just(0), Just(0x7fa0_0001)]
            .prop_map(|bits| Value::Float(f32::from_bits(bits)))
            .boxed(),
        T::Double => prop_oneof![any::<u64>(), Just(1 << 63), Just(0), Just(0x7ff4 << 48)]
            .prop_map(|bits| Value::Double(f64::from_bits(bits)))
            .boxed(),
        T::Utf8 | T::Json => text().boxed(),
        T::String => vec(prop_oneof![Just(0u8), any::<u8>()], 0..9)
            .prop_map(Value::Bytes)
            .boxed(),
        T::Decimal { precision, .. } => {
            let limit = 10i128.pow(precision.into());
            (1 - limit..limit).prop_map(Value::Decimal).boxed()
        }
        T::Uuid => any::<[u8; 16]>().prop_map(Value::Uuid).boxed(),
    }
}

/// A schema whose key columns stand anywhere among the others.
pub fn schema() -> impl Strategy<Value = TableSchema> {
    let columns = vec((column_type(), any::<bool>(), any::<bool>()), 1..9);
    columns.prop_map(|columns| {
        let mut key = Vec::new();
        let mut all = Vec::new();
        for (at, (column_type, in_key, not_null)) in columns.into_iter().enumerate() {
            let name = format!("c.{at} é");
            if in_key && column_type.can_be_key() {
                key.insert(key.len() / 2, name.clone());
            }
            all.push(Column {
                name,
                column_type,
                not_null,
            });
        }
        if key.is_empty() {
            key.push("id".to_owned());
            all.push(Column {
                name: "id".to_owned(),
                column_type: ColumnType::Uint32,
                not_null: true,
            });
        }
        let schema = TableSchema {
            columns: all,
            key,
            indexes: Vec::new(),
        };
        schema.validate().unwrap();
        schema
    })
}

/// One value per column; NULL where the column allows it.
fn values(schema: &TableSchema) -> impl Strategy<Value = Vec<Value>> + use<> {
    let columns = schema.columns.iter().map(|column| {
        let value = value(column.column_type);
        if column.not_null {
            value
        } else {
            option::weighted(0.7, value)
                .prop_map(Option::unwrap_or_default)
                .boxed()
        }
    });
    columns.collect::<Vec<_>>()
}

fn split(schema: &TableSchema, values: &[Value]) -> (Vec<u8>, Vec<Value>) {
    let mut key_values = vec![Value::Null; schema.key.len()];
    let mut slots = Vec::new();
    for (value, place) in values.iter().zip(schema.column_positions()) {
        match place {
            ColumnPosition::Key(position) => key_values[position] = value.clone(),
            ColumnPosition::Slot(_) => slots.push(value.clone()),
        }
    }
    let key = key::encode(&schema.key_types(), key_values.iter().map(Value::as_ref));
    (key, slots)
}

/// Some rows or changes of a table.
pub fn rows(schema: &TableSchema, content: Content) -> BoxedStrategy<Rows> {
    let (types, schema) = (schema.value_types(), schema.clone());
    let of_values = values(&schema);
    match content {
        Content::Rows => vec(of_values, 0..60)
            .prop_map(move |rows| {
                let rows = rows.iter().map(|values| {
                    let (key, slots) = split(&schema, values);
                    (key, row::encode(&types, &slots))
                });
                rows.collect()
            })
            .boxed(),
        Content::Changes => {
            let set = vec(any::<bool>(), types.len());
            let change = (of_values, 0..3, set, any::<u64>());
            vec(change, 0..60)
                .prop_map(move |changes| {
                    let changes = changes.into_iter().map(|(values, kind, set, version)| {
                        let (key, slots) = split(&schema, &values);
                        let change = match kind {
                            0 => Change::erase(version),
                            1 => Change::reset(row::encode(&types, &slots), version),
                            _ => {
                                let slots = slots.into_iter().zip(set);
                                let given: Vec<_> =
                                    slots.map(|(slot, set)| set.then_some(slot)).collect();
                                let (set, row) = partial_row(&types, &given);
                                Change::upsert(set, row, version)
                            }
                        };
                        (key, change.encode())
                    });
                    changes.collect()
                })
                .boxed()
        }
    }
}

/// Rows cut into blocks of `block_rows`.
pub fn blocks(rows: &Rows, block_rows: usize) -> Vec<RowBlock> {
    let mut builder = RowBlockBuilder::new();
    let mut blocks = Vec::new();
    for (key, value) in rows {
        builder.push(key, value);
        if builder.len() == block_rows {
            blocks.push(builder.finish());
        }
    }
    blocks.push(builder.finish());
    blocks
}

/// What blocks hold.
pub fn unblock<'a>(blocks: impl IntoIterator<Item = &'a RowBlock>) -> Vec<Row> {
    let rows = blocks.into_iter().flat_map(RowBlock::iter);
    rows.map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect()
}
