use std::io::{Seek as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, Decimal128Array, DictionaryArray, Float64Array, Int32Array, LargeStringArray,
    StringViewArray, TimestampNanosecondArray, types::Int32Type as Key,
};
use arrow_schema::Field;
use mendb_model::{TableSchema, Value};
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::data_type::{Int96, Int96Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::*;
use crate::failure::causes;

fn file(columns: Vec<(&str, ArrayRef)>) -> File {
    compressed(columns, Compression::UNCOMPRESSED)
}

fn compressed(columns: Vec<(&str, ArrayRef)>, compression: Compression) -> File {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), true))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).unwrap();
    let file = tempfile::tempfile().unwrap();
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .build();
    let writer = file.try_clone().unwrap();
    let mut writer = ArrowWriter::try_new(writer, schema, Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    file
}

fn read(file: &File, columns: Vec<Column>) -> Result<Vec<Record>, ReadError> {
    let schema = TableSchema {
        columns,
        key: Vec::new(),
        indexes: Vec::new(),
    };
    let reading = Reading {
        schema: &schema,
        only: None,
    };
    let options = FileOptions::default();
    let mut source = ParquetSource::new(file, &reading, &options)?;
    let mut records = Vec::new();
    while let Some(record) = source.next()? {
        records.push(record);
    }
    let is_told = source.rows_total == records.len() as u64;
    assert!(!is_told || source.bytes_done() == source.size_bytes);
    Ok(records)
}

/// What a file has, as the types that it says itself.
fn read_all(file: &File) -> Result<Vec<Record>, String> {
    let read = describe(file, &Fields::default()).and_then(|columns| read(file, columns));
    read.map_err(|error| error.to_string())
}

#[test]
fn foreign_files_are_read_whatever_their_arrow_dressing() {
    let words: DictionaryArray<Key> = vec![Some("x"), None].into_iter().collect();
    let foreign = file(vec![
        ("i", Arc::new(Int32Array::from(vec![Some(7), None]))),
        ("dictionary", Arc::new(words)),
        ("large", Arc::new(LargeStringArray::from(vec!["a", "b"]))),
        ("view", Arc::new(StringViewArray::from(vec!["c", "d"]))),
        (
            "nanos",
            Arc::new(TimestampNanosecondArray::from(vec![1_500_000_000, 0])),
        ),
        (
            "money",
            Arc::new(
                Decimal128Array::from(vec![1250, -1])
                    .with_precision_and_scale(10, 2)
                    .unwrap(),
            ),
        ),
    ]);
    let columns = describe(&foreign, &Fields::default()).unwrap();
    let types: Vec<String> = columns
        .iter()
        .map(|column| column.column_type.to_string())
        .collect();
    assert_eq!(
        types,
        [
            "Int32",
            "Utf8",
            "Utf8",
            "Utf8",
            "Timestamp",
            "Decimal(10,2)"
        ]
    );
    let records = read(&foreign, columns).unwrap();
    let text = |text: &str| Value::Text(text.into());
    let row = |values: [Value; 6]| values.into_iter().enumerate().collect::<Vec<_>>();
    assert_eq!(
        records[0].values,
        row([
            Value::Int(7),
            text("x"),
            text("a"),
            text("c"),
            Value::Int(1_500_000),
            Value::Decimal(1250)
        ])
    );
    assert_eq!(records[1].place, Place::Row(2));
    assert_eq!(records[1].values[1], (1, Value::Null));
}

#[test]
fn a_value_that_does_not_fit_is_named_with_its_row() {
    let doubles = file(vec![("a", Arc::new(Float64Array::from(vec![1.0, 2.5])))]);
    let column = Column {
        name: "a".into(),
        column_type: ColumnType::Int64,
        not_null: false,
    };
    assert_eq!(
        read(&doubles, vec![column]).unwrap_err().to_string(),
        "row 2, column a: \"2.5\" is not a value of type Int64: it has more digits than the type holds"
    );
}

fn compressions() -> [Compression; 7] {
    [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::GZIP(GzipLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
    ]
}

fn words() -> Vec<(&'static str, ArrayRef)> {
    let words: Vec<String> = (0..40).map(|n| format!("word {}", n % 7)).collect();
    vec![
        ("n", Arc::new(Int32Array::from_iter_values(0..40))),
        ("words", Arc::new(LargeStringArray::from(words))),
    ]
}

#[test]
fn files_are_read_in_every_compression() {
    let expected = read_all(&file(words())).unwrap();
    assert_eq!(expected.len(), 40);
    for compression in compressions() {
        let read = read_all(&compressed(words(), compression));
        assert_eq!(read.as_ref(), Ok(&expected), "{compression}");
    }
}

#[test]
fn any_changed_byte_is_an_error_or_a_value_and_never_a_panic() {
    for compression in compressions() {
        let file = compressed(words(), compression);
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        for at in 0..bytes.len() {
            for changed in [0, 0xff, bytes[at] ^ 1, bytes[at] ^ 0x80] {
                file.write_all_at(&[changed], at as u64).unwrap();
                drop(read_all(&file));
            }
            file.write_all_at(&bytes[at..=at], at as u64).unwrap();
        }
    }
}

#[test]
fn every_cut_of_a_file_is_an_error() {
    let file = file(words());
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    for cut in 0..bytes.len() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes[..cut]).unwrap();
        file.rewind().unwrap();
        assert!(read_all(&file).is_err(), "cut at {cut}");
    }
}

#[test]
fn times_of_96_bits_are_exact_outside_of_what_64_bits_of_nanoseconds_hold() {
    const JULIAN_DAY_OF_1970: u32 = 2_440_588;
    let day = |days: i32, nanos: u64| {
        let mut time = Int96::new();
        time.set_data(
            nanos as u32,
            (nanos >> 32) as u32,
            JULIAN_DAY_OF_1970.wrapping_add_signed(days),
        );
        time
    };
    let with = |times: &[Int96]| {
        let schema = parse_message_type("message m { optional int96 t; required int32 n; }");
        let schema = Arc::new(schema.unwrap());
        let file = tempfile::tempfile().unwrap();
        let writer = file.try_clone().unwrap();
        let mut writer = SerializedFileWriter::new(writer, schema, Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut levels = vec![1; times.len()];
        levels.push(0);
        let mut column = group.next_column().unwrap().unwrap();
        let typed = column.typed::<Int96Type>();
        typed.write_batch(times, Some(&levels), None).unwrap();
        column.close().unwrap();
        let numbers: Vec<i32> = (0..=times.len() as i32).collect();
        let mut column = group.next_column().unwrap().unwrap();
        let typed = column.typed::<parquet::data_type::Int32Type>();
        typed.write_batch(&numbers, None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        file
    };
    // 9999-12-31, 1500-01-01, and a microsecond.
    let times = [
        day(2_932_896, 0),
        day(-171_664, 1_000),
        day(0, 86_399_999_999_000),
    ];
    let records = read_all(&with(&times)).unwrap();
    let read: Vec<Value> = records
        .into_iter()
        .map(|mut row| row.values.remove(0).1)
        .collect();
    assert_eq!(
        read,
        [
            Value::Int(2_932_896 * 86_400_000_000),
            Value::Int(-171_664 * 86_400_000_000 + 1),
            Value::Int(86_399_999_999),
            Value::Null,
        ]
    );
    assert_eq!(
        read_all(&with(&[day(2_932_896, 1)])).unwrap_err(),
        "row 1, column t: \"9999-12-31T00:00:00.000000001Z\" is not a value of type Timestamp: it has more digits than the type holds"
    );
}

#[test]
fn a_page_that_claims_more_than_it_has_bytes_for_is_refused() {
    for (name, what) in [
        (
            "dictionary-of-too-many-values",
            "a dictionary of column \"id\" has 16 bytes and claims to hold 811647363 values",
        ),
        (
            "page-that-claims-two-gigabytes",
            "a page of column \"t\" has 22 bytes and claims to hold 6576668668",
        ),
    ] {
        let path = format!("../../fuzz/corpus/parquet/{name}");
        let file = File::open(path).unwrap();
        let columns = describe(&file, &Fields::default()).unwrap();
        let refused = read(&file, columns).unwrap_err();
        let causes = causes(&refused);
        assert!(causes[0].contains(what), "{causes:?}");
    }
}
