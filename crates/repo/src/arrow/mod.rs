//! Rows as Arrow record batches, and back, bit for bit.
//!
//! The columns of a batch are those of the table, in its order:
//!
//! | column type | Arrow type |
//! |---|---|
//! | Bool, Int8 to Int64, Uint8 to Uint64, Float, Double | the same |
//! | Utf8, Json | Utf8 |
//! | String | Binary |
//! | Date | Date32 |
//! | Datetime | Timestamp(Millisecond, UTC); Int64 seconds in batches where one lies outside of that |
//! | Timestamp | Timestamp(Microsecond, UTC) |
//! | Decimal(p,s) | Decimal128(p,s) |
//! | Uuid | FixedSizeBinary(16) |
//!
//! Parquet has no seconds, and milliseconds do not reach as far as the seconds of a Datetime: the
//! year 292,278,994 is where such a column falls back to plain integers. The metadata of each field
//! tells its column type under [`TYPE_KEY`].
//!
//! Changes have four more columns in front: [`OP_COLUMN`] (`upsert`, `reset` or `erase`),
//! [`SET_COLUMN`] (for an upsert, the names of the columns it sets, joined by commas; else NULL),
//! [`VERSION_COLUMN`] (the commit that made it) and [`REPLACED_COLUMN`] (the low 64 bits of the hash of the
//! row before it, NULL where there was none). Batches with a change that does not say what it replaced have
//! no such column, as those of before mendb noted it. Values outside the key are nullable, and NULL where
//! they are not set.

mod cells;
mod columns;
mod decode;
mod encode;
mod grid;

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use mendb_model::{ColumnType, Malformed, TableSchema};

pub use decode::BatchDecoder;
pub use encode::BatchEncoder;

/// What the change does.
pub const OP_COLUMN: &str = "_mendb_op";
/// Which columns an upsert sets.
pub const SET_COLUMN: &str = "_mendb_set";
/// The commit that made the change.
pub const VERSION_COLUMN: &str = "_mendb_version";
/// The mark of the row before the change.
pub const REPLACED_COLUMN: &str = "_mendb_replaced";
/// The key of the field metadata that holds the column type.
pub const TYPE_KEY: &str = "mendb.type";

const CHANGE_COLUMNS: usize = 4;
const UTC: &str = "UTC";

/// What the values of a row block are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Rows, as [`mendb_model::row`] encodes them.
    Rows,
    /// Changes, as [`mendb_model::change`] encodes them.
    Changes,
}

/// How a batch holds Datetime columns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Datetimes {
    /// As timestamps in milliseconds.
    #[default]
    Timestamps,
    /// As integers, in seconds.
    Seconds,
}

/// Whether a batch of changes has the column that tells what they replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReplacedRows {
    /// It has.
    #[default]
    Told,
    /// A change in it does not say.
    Untold,
}

/// Rows that cannot be turned into a batch, or a batch that does not hold the rows of a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// The bytes of a row, key or change.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A column is missing, of another type, or holds what its type cannot.
    #[error("column {column:?} {detail}")]
    Column {
        /// The column.
        column: String,
        /// What is wrong with it, as a verb phrase.
        detail: String,
    },
}

impl ConvertError {
    fn column(column: &str, detail: impl Into<String>) -> Self {
        Self::Column {
            column: column.to_owned(),
            detail: detail.into(),
        }
    }
}

/// The Arrow type of a column.
pub fn data_type(column_type: ColumnType, datetimes: Datetimes) -> DataType {
    use ColumnType as T;
    match column_type {
        T::Bool => DataType::Boolean,
        T::Int8 => DataType::Int8,
        T::Int16 => DataType::Int16,
        T::Int32 => DataType::Int32,
        T::Int64 => DataType::Int64,
        T::Uint8 => DataType::UInt8,
        T::Uint16 => DataType::UInt16,
        T::Uint32 => DataType::UInt32,
        T::Uint64 => DataType::UInt64,
        T::Float => DataType::Float32,
        T::Double => DataType::Float64,
        T::Utf8 | T::Json => DataType::Utf8,
        T::String => DataType::Binary,
        T::Date => DataType::Date32,
        T::Datetime => match datetimes {
            Datetimes::Timestamps => DataType::Timestamp(TimeUnit::Millisecond, Some(UTC.into())),
            Datetimes::Seconds => DataType::Int64,
        },
        T::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        T::Decimal { precision, scale } => DataType::Decimal128(precision, scale.cast_signed()),
        T::Uuid => DataType::FixedSizeBinary(16),
    }
}

/// The Arrow schema of the rows or changes of a table.
pub fn arrow_schema(
    schema: &TableSchema,
    content: Content,
    datetimes: Datetimes,
    replaced: ReplacedRows,
) -> SchemaRef {
    let mut fields = Vec::with_capacity(CHANGE_COLUMNS + schema.columns.len());
    if content == Content::Changes {
        fields.push(Field::new(OP_COLUMN, DataType::Utf8, false));
        fields.push(Field::new(SET_COLUMN, DataType::Utf8, true));
        fields.push(Field::new(VERSION_COLUMN, DataType::UInt64, false));
        if replaced == ReplacedRows::Told {
            fields.push(Field::new(REPLACED_COLUMN, DataType::UInt64, true));
        }
    }
    for column in &schema.columns {
        let always_there = content == Content::Rows || schema.key.contains(&column.name);
        let field = Field::new(
            &column.name,
            data_type(column.column_type, datetimes),
            !(column.not_null && always_there),
        );
        let metadata = [(TYPE_KEY.to_owned(), column.column_type.to_string())];
        fields.push(field.with_metadata(HashMap::from(metadata)));
    }
    Arc::new(Schema::new(fields))
}
