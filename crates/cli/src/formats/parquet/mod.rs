//! Parquet files: mendb's own and anybody's.
//!
//! A foreign file is read by its Parquet types alone: whether its writer kept text as dictionaries,
//! large strings or views does not show.
//! Lists, structs and maps cannot be imported, nor times of a day.
//!
//! A foreign file is bytes of others: where the library panics at them, that is an error.
//!
//! Our own exports name the column types in the metadata of the Arrow fields, and have the schema of
//! their table in the metadata of the file.

mod cell;
mod foreign_file;
mod int96;
mod pages;

use std::fs::File;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Schema, TimeUnit};
use mendb_model::text::TextRules;
use mendb_model::{Column, ColumnType, TableSchema};
use mendb_repo::arrow::TYPE_KEY;
use mendb_repo::foreign::guard;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::basic::LogicalType;
use parquet::errors::ParquetError;

use self::cell::cell;
use self::foreign_file::ForeignFile;
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
    let file = ForeignFile::of(file)?;
    shielded(|| ArrowReaderMetadata::load(&file, options))
}

/// What the library reads from a file.
fn shielded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ReadError> {
    let read =
        guard(read).unwrap_or_else(|panicked| Err(ParquetError::General(panicked.to_string())));
    read.map_err(|error| ReadError::Parquet(Box::new(error)))
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
    /// The rows that the reader has, of the times of 96 bits alone.
    nanos: Option<ParquetRecordBatchReader>,
    columns: Vec<Bound>,
    batch: RecordBatch,
    nanos_batch: RecordBatch,
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
    /// Of times of 96 bits, its place among them.
    int96: Option<usize>,
}

impl ParquetSource {
    /// Begins to read.
    ///
    /// # Errors
    /// The file is no Parquet file, or has a column that the table has not or of a type that no table
    /// can hold.
    pub fn new(
        file: &File,
        reading: &Reading<'_>,
        options: &FileOptions,
    ) -> Result<Self, ReadError> {
        let size_bytes = file.metadata()?.len();
        let mut metadata = load(file, true)?;
        let fields = metadata.schema().fields().iter();
        options
            .fields
            .check(fields.map(|field| field.name().as_str()))?;
        let mut columns = Vec::new();
        let mut roots = Vec::new();
        let mut int96 = Vec::new();
        for (at, field) in metadata.schema().fields().iter().enumerate() {
            let Some(position) = reading.column(&options.fields, field.name())? else {
                continue;
            };
            if column_type(field.data_type(), None).is_none() {
                return Err(unsupported(field.name(), field.data_type()));
            }
            let is_int96 = int96::is(&metadata, at);
            columns.push(Bound {
                position,
                column: reading.schema.columns[position].clone(),
                int96: is_int96.then_some(int96.len()),
            });
            roots.push(at);
            int96.extend(is_int96.then_some(at));
        }
        let clone = ForeignFile::of(file)?;
        shielded(|| pages::check(clone, metadata.metadata(), &roots))?;
        let mut nanos = None;
        if !int96.is_empty() {
            let options =
                ArrowReaderOptions::new().with_schema(int96::in_seconds(&metadata, &int96));
            let clone = ForeignFile::of(file)?;
            let seconds = shielded(|| ArrowReaderMetadata::load(&clone, options))?;
            nanos = Some(batches(file, metadata, int96)?);
            metadata = seconds;
        }
        let rows_total = metadata.metadata().file_metadata().num_rows();
        let empty = RecordBatch::new_empty(Schema::empty().into());
        Ok(Self {
            reader: batches(file, metadata, roots)?,
            nanos,
            columns,
            batch: empty.clone(),
            nanos_batch: empty,
            next: 0,
            rows_done: 0,
            rows_total: u64::try_from(rows_total).unwrap_or(0),
            size_bytes,
            rules: options.rules.clone(),
        })
    }

    /// Reads the next rows; `false` when there are none.
    fn advance(&mut self) -> Result<bool, ReadError> {
        let next =
            |reader: &mut ParquetRecordBatchReader| shielded(|| Ok(reader.next().transpose()?));
        let Some(batch) = next(&mut self.reader)? else {
            return Ok(false);
        };
        if let Some(nanos) = &mut self.nanos {
            let batch_of_nanos = next(nanos)?;
            self.nanos_batch = batch_of_nanos
                .filter(|nanos| nanos.num_rows() == batch.num_rows())
                .ok_or_else(|| {
                    let what = "its columns have different numbers of rows";
                    ReadError::Parquet(Box::new(ParquetError::General(what.to_owned())))
                })?;
        }
        self.batch = batch;
        self.next = 0;
        Ok(true)
    }
}

/// Reads columns of a file.
fn batches(
    file: &File,
    metadata: ArrowReaderMetadata,
    roots: Vec<usize>,
) -> Result<ParquetRecordBatchReader, ReadError> {
    let mask = ProjectionMask::roots(metadata.parquet_schema(), roots);
    let file = ForeignFile::of(file)?;
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS);
    shielded(|| builder.build())
}

impl RecordSource for ParquetSource {
    fn next(&mut self) -> Result<Option<Record>, ReadError> {
        while self.next == self.batch.num_rows() {
            if !self.advance()? {
                return Ok(None);
            }
        }
        let row = self.next;
        self.next += 1;
        self.rows_done += 1;
        let mut values = Vec::with_capacity(self.columns.len());
        for (bound, array) in self.columns.iter().zip(self.batch.columns()) {
            let column = &bound.column;
            let found = match bound.int96 {
                Some(at) => int96::cell(array, self.nanos_batch.column(at), row),
                None => cell(array, row),
            };
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

#[cfg(test)]
mod tests;
