//! Parquet files: mendb's own and anybody's.
//!
//! A foreign file is read by its Parquet types alone: whether its writer kept text as dictionaries,
//! large strings or views does not show. Values go to the column's type where nothing is lost on the
//! way: integers of any width, decimals of another scale, times of any unit, text that parses.
//! Lists, structs and maps cannot be imported.
//!
//! Our own exports name the column types in the metadata of the Arrow fields.

use std::fs::File;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Schema, TimeUnit};
use mendb_model::text::TextRules;
use mendb_model::{Column, ColumnType, TableSchema};
use mendb_repo::arrow::TYPE_KEY;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::basic::LogicalType;
use parquet::errors::ParquetError;

use super::cell::Cell;
use super::fields::Fields;
use super::sink::SCHEMA_KEY;
use super::{FileOptions, Place, ReadError, Reading, Record, RecordSource};

/// Rows decoded at a time.
const BATCH_ROWS: usize = 4096;

/// The schema of the table that was exported to the file; `None` of a file of others.
///
/// # Errors
/// The file is no Parquet file.
pub fn exported(file: &File) -> Result<Option<TableSchema>, ReadError> {
    let metadata = load(file, true)?;
    let pairs = metadata.metadata().file_metadata().key_value_metadata();
    let mut pairs = pairs.into_iter().flatten();
    let written = pairs.find(|pair| pair.key == SCHEMA_KEY);
    // What others have written under our key is no reason not to read the file.
    Ok(written.and_then(|pair| serde_json::from_str(pair.value.as_ref()?).ok()))
}

/// The columns of a Parquet file.
///
/// # Errors
/// It is none, or has a column of a type that no table can hold and that is not passed over.
pub fn describe(file: &File, fields: &Fields) -> Result<Vec<Column>, ReadError> {
    let plain = load(file, true)?;
    // An embedded Arrow schema that does not fit the file is no reason not to read the file.
    let dressed = load(file, false).ok();
    let leaves = plain.metadata().file_metadata().schema_descr_ptr();
    let mut columns = Vec::with_capacity(plain.schema().fields().len());
    let all = plain.schema().fields().iter();
    fields.check(all.map(|field| field.name().as_str()))?;
    for (at, field) in plain.schema().fields().iter().enumerate() {
        let Some(name) = fields.column(field.name()) else {
            continue;
        };
        let own = dressed
            .as_ref()
            .and_then(|dressed| dressed.schema().field_with_name(field.name()).ok())
            .and_then(|field| field.metadata().get(TYPE_KEY)?.parse().ok());
        let logical = match leaves.root_schema().get_fields().get(at) {
            Some(node) => node.get_basic_info().logical_type_ref(),
            None => None,
        };
        let column_type = own
            .or_else(|| column_type(field.data_type(), logical))
            .ok_or_else(|| unsupported(field.name(), field.data_type()))?;
        columns.push(Column {
            name: name.to_owned(),
            column_type,
            not_null: false,
        });
    }
    Ok(columns)
}

fn load(file: &File, plain: bool) -> Result<ArrowReaderMetadata, ReadError> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(plain);
    ArrowReaderMetadata::load(file, options).map_err(broken)
}

fn broken(error: ParquetError) -> ReadError {
    ReadError::Parquet(Box::new(error))
}

fn unsupported(column: &str, data_type: &DataType) -> ReadError {
    ReadError::UnsupportedType {
        column: column.to_owned(),
        data_type: data_type.to_string(),
    }
}

/// The column type that holds what a Parquet column holds.
fn column_type(data_type: &DataType, logical: Option<&LogicalType>) -> Option<ColumnType> {
    use ColumnType as T;
    Some(match data_type {
        DataType::Boolean => T::Bool,
        DataType::Int8 => T::Int8,
        DataType::Int16 => T::Int16,
        DataType::Int32 => T::Int32,
        DataType::Int64 => T::Int64,
        DataType::UInt8 => T::Uint8,
        DataType::UInt16 => T::Uint16,
        DataType::UInt32 => T::Uint32,
        DataType::UInt64 => T::Uint64,
        DataType::Float32 => T::Float,
        DataType::Float64 => T::Double,
        DataType::Utf8 if matches!(logical, Some(LogicalType::Json)) => T::Json,
        DataType::Utf8 => T::Utf8,
        DataType::FixedSizeBinary(16) if matches!(logical, Some(LogicalType::Uuid)) => T::Uuid,
        DataType::Binary | DataType::FixedSizeBinary(_) => T::String,
        DataType::Date32 => T::Date,
        DataType::Timestamp(TimeUnit::Second, _) => T::Datetime,
        DataType::Timestamp(..) => T::Timestamp,
        DataType::Decimal128(precision, scale) => T::Decimal {
            precision: *precision,
            scale: u8::try_from(*scale).ok()?,
        },
        _ => return None,
    })
}

/// The rows of a Parquet file as values of a table.
pub struct ParquetSource {
    reader: ParquetRecordBatchReader,
    columns: Vec<Bound>,
    batch: RecordBatch,
    /// The row of the batch that is next.
    next: usize,
    rows_done: u64,
    rows_total: u64,
    size_bytes: u64,
    rules: TextRules,
}

/// A column of the file that is read.
struct Bound {
    position: usize,
    column: Column,
}

impl ParquetSource {
    /// Begins to read.
    ///
    /// # Errors
    /// The file is no Parquet file, or has a column that the table has not or of a type that no table
    /// can hold.
    pub fn new(
        file: File,
        reading: &Reading<'_>,
        options: &FileOptions,
    ) -> Result<Self, ReadError> {
        let size_bytes = file.metadata()?.len();
        let metadata = load(&file, true)?;
        let fields = metadata.schema().fields().iter();
        options.fields.check(fields.map(|field| field.name().as_str()))?;
        let mut columns = Vec::new();
        let mut roots = Vec::new();
        for (at, field) in metadata.schema().fields().iter().enumerate() {
            let Some(position) = reading.column(&options.fields, field.name())? else {
                continue;
            };
            if column_type(field.data_type(), None).is_none() {
                return Err(unsupported(field.name(), field.data_type()));
            }
            roots.push(at);
            columns.push(Bound {
                position,
                column: reading.schema.columns[position].clone(),
            });
        }
        let rows_total = metadata.metadata().file_metadata().num_rows();
        let mask = ProjectionMask::roots(metadata.parquet_schema(), roots);
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(broken)?;
        Ok(Self {
            reader,
            columns,
            batch: RecordBatch::new_empty(Schema::empty().into()),
            next: 0,
            rows_done: 0,
            rows_total: u64::try_from(rows_total).unwrap_or(0),
            size_bytes,
            rules: options.rules.clone(),
        })
    }
}

impl RecordSource for ParquetSource {
    fn next(&mut self) -> Result<Option<Record>, ReadError> {
        while self.next == self.batch.num_rows() {
            match self.reader.next() {
                Some(batch) => self.batch = batch.map_err(|error| broken(error.into()))?,
                None => return Ok(None),
            }
            self.next = 0;
        }
        let row = self.next;
        self.next += 1;
        self.rows_done += 1;
        let mut values = Vec::with_capacity(self.columns.len());
        for (bound, array) in self.columns.iter().zip(self.batch.columns()) {
            let column = &bound.column;
            let found = cell(array, row);
            let value = found.value(column.column_type, &self.rules);
            let value = value.map_err(|misfit| {
                let place = Place::Row(self.rows_done);
                ReadError::value(place, column, &found.to_text(), misfit)
            })?;
            values.push((bound.position, value));
        }
        Ok(Some(Record {
            place: Place::Row(self.rows_done),
            values,
        }))
    }

    fn bytes_done(&self) -> u64 {
        if self.rows_total == 0 {
            return self.size_bytes;
        }
        let share = self.rows_done as f64 / self.rows_total as f64;
        (self.size_bytes as f64 * share) as u64
    }
}

/// The cell of a column whose type has a [`column_type`].
fn cell(array: &ArrayRef, row: usize) -> Cell<'_> {
    if array.is_null(row) {
        return Cell::Null;
    }
    macro_rules! primitive {
        ($of:ty) => {
            array.as_primitive::<$of>().value(row)
        };
    }
    let time = |count, per_second, zone: &Option<_>| Cell::Time {
        count,
        per_second,
        local: zone.is_none(),
    };
    match array.data_type() {
        DataType::Boolean => Cell::Bool(array.as_boolean().value(row)),
        DataType::Int8 => Cell::Int(primitive!(Int8Type).into()),
        DataType::Int16 => Cell::Int(primitive!(Int16Type).into()),
        DataType::Int32 => Cell::Int(primitive!(Int32Type).into()),
        DataType::Int64 => Cell::Int(primitive!(Int64Type).into()),
        DataType::UInt8 => Cell::Int(primitive!(UInt8Type).into()),
        DataType::UInt16 => Cell::Int(primitive!(UInt16Type).into()),
        DataType::UInt32 => Cell::Int(primitive!(UInt32Type).into()),
        DataType::UInt64 => Cell::Int(primitive!(UInt64Type).into()),
        DataType::Float32 => Cell::Float(primitive!(Float32Type)),
        DataType::Float64 => Cell::Double(primitive!(Float64Type)),
        DataType::Utf8 => Cell::Text(array.as_string::<i32>().value(row)),
        DataType::Binary => Cell::Bytes(array.as_binary::<i32>().value(row)),
        DataType::FixedSizeBinary(_) => Cell::Bytes(array.as_fixed_size_binary().value(row)),
        DataType::Date32 => Cell::Days(primitive!(Date32Type).into()),
        DataType::Timestamp(TimeUnit::Second, zone) => {
            time(primitive!(TimestampSecondType), 1, zone)
        }
        DataType::Timestamp(TimeUnit::Millisecond, zone) => {
            time(primitive!(TimestampMillisecondType), 1_000, zone)
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            time(primitive!(TimestampMicrosecondType), 1_000_000, zone)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            time(primitive!(TimestampNanosecondType), 1_000_000_000, zone)
        }
        DataType::Decimal128(_, scale) => Cell::Decimal {
            scaled: primitive!(Decimal128Type),
            scale: scale.unsigned_abs(),
        },
        other => unreachable!("a column of type {other} was let through"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{
        Decimal128Array, DictionaryArray, Float64Array, Int32Array, LargeStringArray,
        StringViewArray, TimestampNanosecondArray, types::Int32Type as Key,
    };
    use arrow_schema::Field;
    use mendb_model::Value;
    use parquet::arrow::ArrowWriter;

    use super::*;

    fn file(columns: Vec<(&str, ArrayRef)>) -> File {
        let fields: Vec<Field> = columns
            .iter()
            .map(|(name, array)| Field::new(*name, array.data_type().clone(), true))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).unwrap();
        let file = tempfile::tempfile().unwrap();
        let mut writer = ArrowWriter::try_new(file.try_clone().unwrap(), schema, None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        file
    }

    fn read(file: File, columns: Vec<Column>) -> Result<Vec<Record>, String> {
        let schema = TableSchema {
            columns,
            key: Vec::new(),
            indexes: Vec::new(),
        };
        let reading = Reading {
            schema: &schema,
            only: None,
        };
        let mut source = ParquetSource::new(file, &reading, &FileOptions::default()).map_err(|error| error.to_string())?;
        let mut records = Vec::new();
        while let Some(record) = source.next().map_err(|error| error.to_string())? {
            records.push(record);
        }
        assert_eq!(source.bytes_done(), source.size_bytes);
        Ok(records)
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
        let records = read(foreign, columns).unwrap();
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
            read(doubles, vec![column]).unwrap_err(),
            "row 2, column a: \"2.5\" is not a value of type Int64: it has more digits than the type holds"
        );
    }
}
