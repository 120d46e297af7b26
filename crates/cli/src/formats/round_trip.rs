//! What is written in a format reads back as it was: for any schema and any rows.

use std::io::Write;

use mendb_model::{Column, ColumnType, IndexSchema, TableSchema, Value};
use proptest::prelude::*;

use super::csv::Header;
use super::fields::Fields;
use super::input::Input;
use super::sink::Sink;
use super::table_file::TableFile;
use super::{FileOptions, Format, Reading};

const TYPES: [ColumnType; 19] = [
    ColumnType::Bool,
    ColumnType::Int8,
    ColumnType::Int16,
    ColumnType::Int32,
    ColumnType::Int64,
    ColumnType::Uint8,
    ColumnType::Uint16,
    ColumnType::Uint32,
    ColumnType::Uint64,
    ColumnType::Float,
    ColumnType::Double,
    ColumnType::Utf8,
    ColumnType::String,
    ColumnType::Json,
    ColumnType::Date,
    ColumnType::Datetime,
    ColumnType::Timestamp,
    ColumnType::Decimal {
        precision: 22,
        scale: 9,
    },
    ColumnType::Uuid,
];

/// Parquet keeps times in milliseconds where all of them fit.
const MAX_SECONDS: i64 = i64::MAX / 1000;

fn value(column_type: ColumnType) -> BoxedStrategy<Value> {
    use ColumnType as T;
    // The bits of a NaN do not survive text; that it is one does.
    let single = |bits: u32| match f32::from_bits(bits) {
        v if v.is_nan() => Value::Float(f32::NAN),
        v => Value::Float(v),
    };
    let double = |bits: u64| match f64::from_bits(bits) {
        v if v.is_nan() => Value::Double(f64::NAN),
        v => Value::Double(v),
    };
    let some = match column_type {
        T::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        T::Int8 => any::<i8>().prop_map(|v| Value::Int(v.into())).boxed(),
        T::Int16 => any::<i16>().prop_map(|v| Value::Int(v.into())).boxed(),
        T::Int32 | T::Date => any::<i32>().prop_map(|v| Value::Int(v.into())).boxed(),
        T::Int64 | T::Timestamp => any::<i64>().prop_map(Value::Int).boxed(),
        T::Datetime => (-MAX_SECONDS..=MAX_SECONDS).prop_map(Value::Int).boxed(),
        T::Uint8 => any::<u8>().prop_map(|v| Value::Uint(v.into())).boxed(),
        T::Uint16 => any::<u16>().prop_map(|v| Value::Uint(v.into())).boxed(),
        T::Uint32 => any::<u32>().prop_map(|v| Value::Uint(v.into())).boxed(),
        T::Uint64 => any::<u64>().prop_map(Value::Uint).boxed(),
        T::Float => any::<u32>().prop_map(single).boxed(),
        T::Double => any::<u64>().prop_map(double).boxed(),
        T::Json => json().prop_map(Value::Text).boxed(),
        T::Utf8 => prop_oneof![
            any::<String>(),
            "[a-c,\"\\\\ \r\n{}\\[\\]:0-9]{0,6}",
            Just("NA".to_owned()),
            Just("null".to_owned()),
        ]
        .prop_map(Value::Text)
        .boxed(),
        T::String => any::<Vec<u8>>().prop_map(Value::Bytes).boxed(),
        T::Decimal { .. } => (-(10i128.pow(22) - 1)..10i128.pow(22))
            .prop_map(Value::Decimal)
            .boxed(),
        T::Uuid => any::<[u8; 16]>().prop_map(Value::Uuid).boxed(),
    };
    prop_oneof![1 => Just(Value::Null), 4 => some].boxed()
}

/// JSON on one line, but for `null`, which is NULL.
fn json() -> impl Strategy<Value = String> {
    let text = any::<String>().prop_map(|text| serde_json::Value::from(text).to_string());
    let leaf = prop_oneof![
        text.clone(),
        "-?(0|[1-9][0-9]{0,30})([.][0-9]{1,20})?([eE][+-]?[0-9]{1,4})?",
        Just("true".to_owned()),
    ];
    leaf.prop_recursive(3, 12, 4, move |inner| {
        let members = proptest::collection::vec((text.clone(), inner.clone()), 0..4);
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(|all| format!("[{}]", all.join(" , "))),
            members.prop_map(|members| {
                let members = members
                    .iter()
                    .map(|(name, value)| format!("{name}: {value}"));
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

fn table() -> impl Strategy<Value = (TableSchema, Vec<Vec<Value>>)> {
    proptest::collection::vec(proptest::sample::select(&TYPES[..]), 1..8).prop_flat_map(|types| {
        let columns: Vec<Column> = types
            .iter()
            .enumerate()
            .map(|(at, column_type)| Column {
                name: format!("c {at}"),
                column_type: *column_type,
                not_null: false,
            })
            .collect();
        // Any column can be the key here: nothing is stored.
        let key = columns
            .iter()
            .find(|column| column.column_type.can_be_key())
            .map(|column| column.name.clone());
        let schema = TableSchema {
            key: key.into_iter().collect(),
            columns,
            indexes: Vec::new(),
        };
        let row: Vec<_> = types.into_iter().map(value).collect();
        (Just(schema), proptest::collection::vec(row, 0..20))
    })
}

fn written(format: Format, schema: &TableSchema, rows: &[Vec<Value>]) -> Vec<u8> {
    written_as(format, schema, rows, &FileOptions::default())
}

fn written_as(
    format: Format,
    schema: &TableSchema,
    rows: &[Vec<Value>],
    options: &FileOptions,
) -> Vec<u8> {
    let header = options.header == Header::Present;
    let mut sink = Sink::new(format, Vec::new(), schema, &options.null, header).unwrap();
    for row in rows {
        sink.push(row).unwrap();
    }
    sink.finish().unwrap()
}

fn read(format: Format, schema: &TableSchema, bytes: &[u8]) -> Vec<Vec<Value>> {
    read_as(format, schema, bytes, FileOptions::default())
}

fn read_as(
    format: Format,
    schema: &TableSchema,
    bytes: &[u8],
    options: FileOptions,
) -> Vec<Vec<Value>> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let input = Input::open(file.path(), format, options, false).unwrap();
    let reading = Reading { schema, only: None };
    let mut source = input.records(reading).unwrap();
    let mut rows = Vec::new();
    while let Some(record) = source.next().unwrap() {
        let in_order = record.values.iter().map(|(position, _)| *position);
        assert!(in_order.eq(0..schema.columns.len()));
        rows.push(record.values.into_iter().map(|(_, value)| value).collect());
    }
    rows
}

proptest! {
    #[test]
    fn csv_reads_back_as_it_was(
        (schema, rows) in table(),
        null in proptest::sample::select(&["", "NA", "\\N", "0", "true", "NaN"][..]),
        header in proptest::sample::select(&[Header::Present, Header::Absent][..]),
    ) {
        let options = FileOptions { null: null.into(), header, ..FileOptions::default() };
        let bytes = written_as(Format::Csv, &schema, &rows, &options);
        prop_assert_eq!(read_as(Format::Csv, &schema, &bytes, options), rows);
    }

    #[test]
    fn json_lines_read_back_as_they_were((schema, rows) in table()) {
        let bytes = written(Format::Jsonl, &schema, &rows);
        let lines = bytes.split_inclusive(|byte| *byte == b'\n');
        prop_assert_eq!(lines.clone().count(), rows.len());
        for line in lines {
            // Any reader of JSON takes each line.
            let parsed: Result<serde_json::Map<String, serde_json::Value>, _> =
                serde_json::from_slice(line);
            let error = parsed.err().map(|error| error.to_string());
            let is_far = error.as_ref().is_some_and(|error| error.contains("out of range"));
            prop_assert!(error.is_none() || is_far, "{:?}", error);
        }
        prop_assert_eq!(read(Format::Jsonl, &schema, &bytes), rows);
    }

    #[test]
    fn parquet_reads_back_as_it_was((schema, rows) in table()) {
        prop_assume!(!schema.key.is_empty());
        let bytes = written(Format::Parquet, &schema, &rows);
        prop_assert_eq!(read(Format::Parquet, &schema, &bytes), rows.clone());
        // The file tells the types of its columns, so a table can be made from it.
        let file = tempfile::tempfile().unwrap();
        (&file).write_all(&bytes).unwrap();
        prop_assert_eq!(super::parquet::exported(&file).unwrap(), Some(schema.clone()));
        prop_assert_eq!(super::parquet::describe(&file, &Fields::default()).unwrap(), schema.columns);
    }

    #[test]
    fn a_schema_beside_rows_reads_back_as_it_was(
        (schema, _) in table(),
        null in any::<String>(),
        no_header: bool,
        not_null: bool,
        unique: bool,
    ) {
        let mut schema = schema;
        for column in &mut schema.columns {
            column.not_null = not_null;
        }
        schema.indexes = vec![IndexSchema {
            name: "by".to_owned(),
            columns: schema.key.clone(),
            cover: vec!["c 0".to_owned()],
            unique,
        }];
        let written = TableFile { schema, null, no_header };
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().write_all(written.to_json().unwrap().as_bytes()).unwrap();
        prop_assert_eq!(TableFile::read(file.path()).unwrap(), written);
    }

    #[test]
    fn the_same_rows_are_the_same_bytes((schema, rows) in table()) {
        prop_assume!(!schema.key.is_empty());
        for format in [Format::Csv, Format::Jsonl, Format::Parquet] {
            let once = written(format, &schema, &rows);
            prop_assert_eq!(once, written(format, &schema, &rows));
        }
    }
}
