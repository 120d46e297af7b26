//! Rows and changes come back from segments bit for bit.

use mendb_model::name::TablePath;
use mendb_model::{Change, Column, ColumnSet, ColumnType, TableSchema, Value, key, row};
use mendb_repo::arrow::{BatchEncoder, ConvertError, Datetimes, data_type};
use mendb_repo::{
    Content, EncodedSegment, Error, RepositoryOptions, SegmentEncoder, SegmentReader,
};
use proptest::prelude::*;

use crate::rows::{Row, Rows, blocks, rows, schema, unblock};

fn encode(
    schema: &TableSchema,
    content: Content,
    rows: &Rows,
    segment_bytes: u64,
) -> Result<Vec<EncodedSegment>, Error> {
    let options = RepositoryOptions {
        segment_bytes,
        ..RepositoryOptions::default()
    };
    let mut encoder = SegmentEncoder::new(TablePath::table("t"), schema, content, &options)?;
    let mut segments = Vec::new();
    for block in blocks(rows, 7) {
        encoder.push(&block)?;
        segments.extend(std::iter::from_fn(|| encoder.take()));
    }
    encoder.finish()?;
    segments.extend(std::iter::from_fn(|| encoder.take()));
    Ok(segments)
}

fn decode(
    schema: &TableSchema,
    content: Content,
    segment: &EncodedSegment,
) -> Result<Vec<Row>, Error> {
    let bytes = segment.bytes.clone();
    let entry = segment.clone().stored_as("object".into());
    let reader = SegmentReader::new("object".into(), bytes, &entry, schema, content)?;
    let blocks: Vec<_> = reader.collect::<Result<_, _>>()?;
    Ok(unblock(&blocks))
}

fn table_of_one(column_type: ColumnType) -> TableSchema {
    let column = |name: &str, column_type| Column {
        name: name.into(),
        column_type,
        not_null: true,
    };
    TableSchema {
        columns: vec![
            column("id", ColumnType::Uint32),
            column("value", column_type),
        ],
        key: vec!["id".into()],
        indexes: Vec::new(),
    }
}

fn numbered(schema: &TableSchema, values: impl IntoIterator<Item = Value>) -> Rows {
    let values = values.into_iter().enumerate();
    values
        .map(|(id, value)| {
            let key = key::encode(&schema.key_types(), [Value::Uint(id as u64).as_ref()]);
            (key, row::encode(&schema.value_types(), &[value]))
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_written_is_read(
        (schema, content, rows) in (schema(), any::<bool>()).prop_flat_map(|(schema, changes)| {
            let content = if changes { Content::Changes } else { Content::Rows };
            (Just(schema.clone()), Just(content), rows(&schema, content))
        }),
        segment_bytes in 1u64..4000,
    ) {
        let segments = encode(&schema, content, &rows, segment_bytes).unwrap();
        let mut read = Vec::new();
        for segment in &segments {
            let of_segment = decode(&schema, content, segment).unwrap();
            prop_assert_eq!(of_segment.len() as u64, segment.rows);
            prop_assert_eq!(&of_segment.first().unwrap().0, &segment.first_key);
            prop_assert_eq!(&of_segment.last().unwrap().0, &segment.last_key);
            prop_assert_eq!(&segment.blake3, &blake3::hash(&segment.bytes).to_hex().to_string());
            read.extend(of_segment);
        }
        prop_assert_eq!(read, rows.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_segment_ends_at_its_size_and_no_row_is_torn() {
    let schema = table_of_one(ColumnType::Uint64);
    let rows = numbered(&schema, (0..100_000).map(Value::Uint));
    let row_bytes: usize = rows
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    let segment_bytes = row_bytes as u64 / 4;
    let segments = encode(&schema, Content::Rows, &rows, segment_bytes).unwrap();
    assert_eq!(segments.len(), 4);
    assert_eq!(
        segments.iter().map(|segment| segment.rows).sum::<u64>(),
        100_000
    );
    let read: Vec<_> = segments
        .iter()
        .flat_map(|segment| decode(&schema, Content::Rows, segment).unwrap())
        .collect();
    assert_eq!(read, rows.into_iter().collect::<Vec<_>>());
}

#[test]
fn no_rows_make_no_segment() {
    let schema = table_of_one(ColumnType::Bool);
    let segments = encode(&schema, Content::Rows, &Rows::new(), 1000).unwrap();
    assert!(segments.is_empty());
}

#[test]
fn datetimes_are_timestamps_until_one_lies_beyond_them() {
    let schema = table_of_one(ColumnType::Datetime);
    let at = |seconds: i64, encoder: &mut BatchEncoder| {
        let row = numbered(&schema, [Value::Int(seconds)])
            .pop_first()
            .unwrap();
        encoder.push(&row.0, &row.1).unwrap();
        let batch = encoder.finish().unwrap();
        batch.schema().field(1).data_type().clone()
    };
    let mut encoder = BatchEncoder::new(&schema, Content::Rows).unwrap();
    let timestamps = data_type(ColumnType::Datetime, Datetimes::Timestamps);
    let seconds = data_type(ColumnType::Datetime, Datetimes::Seconds);
    assert_eq!(at(1_790_000_000, &mut encoder), timestamps);
    assert_eq!(at(i64::MAX / 1000, &mut encoder), timestamps);
    assert_eq!(at(i64::MAX / 1000 + 1, &mut encoder), seconds);
    assert_eq!(at(0, &mut encoder), seconds);

    let rows = numbered(&schema, [0, i64::MIN, 7].map(Value::Int));
    let segments = encode(&schema, Content::Rows, &rows, 1).unwrap();
    assert_eq!(segments.len(), 3);
}

#[test]
fn rows_that_break_their_schema_are_refused_by_name() {
    let schema = table_of_one(ColumnType::Decimal {
        precision: 4,
        scale: 2,
    });
    let refused = |rows: Rows| match encode(&schema, Content::Rows, &rows, 1000) {
        Err(Error::Rows { table, source }) => {
            assert_eq!(table, "t");
            source
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(
        refused(numbered(&schema, [Value::Null])).to_string(),
        "column \"value\" is NOT NULL and holds NULL"
    );
    assert_eq!(
        refused(numbered(&schema, [Value::Decimal(10_000)])).to_string(),
        "column \"value\" holds a decimal of more than 4 digits"
    );
    let cut = Rows::from([(vec![1, 2], vec![0])]);
    assert!(matches!(refused(cut), ConvertError::Malformed(_)));
}

#[test]
fn a_change_that_sets_no_column_or_unknown_ones_is_told_apart() {
    let schema = table_of_one(ColumnType::Int64);
    let key = key::encode(&schema.key_types(), [Value::Uint(1).as_ref()]);
    let change = |slots: &[usize]| {
        let set = ColumnSet::of(slots.iter().copied());
        Rows::from([(key.clone(), Change::upsert(set, vec![0], 9).encode())])
    };
    let nothing = change(&[]);
    let segments = encode(&schema, Content::Changes, &nothing, 1000).unwrap();
    let read = decode(&schema, Content::Changes, &segments[0]).unwrap();
    assert_eq!(read, nothing.into_iter().collect::<Vec<_>>());
    let error = encode(&schema, Content::Changes, &change(&[1]), 1000).unwrap_err();
    assert!(matches!(error, Error::Rows { .. }), "{error:?}");
}

#[test]
fn a_segment_of_another_table_is_named_as_damaged() {
    let schema = table_of_one(ColumnType::Int64);
    let rows = numbered(&schema, [Value::Int(1)]);
    let segment = &encode(&schema, Content::Rows, &rows, 1000).unwrap()[0];
    let other = table_of_one(ColumnType::Utf8);
    let error = decode(&other, Content::Rows, segment)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "object is damaged: column \"value\" of type Utf8 cannot be read from Int64"
    );
    let error = decode(&schema, Content::Changes, segment)
        .unwrap_err()
        .to_string();
    assert_eq!(error, "object is damaged: column \"_mendb_op\" is missing");
}
