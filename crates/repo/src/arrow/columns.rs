//! Arrow columns that grow by one value at a time.

use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, FixedSizeBinaryBuilder,
    Float32Builder, Float64Builder, Int8Builder, Int16Builder, Int32Builder, Int64Builder,
    StringBuilder, TimestampMicrosecondBuilder, UInt8Builder, UInt16Builder, UInt32Builder,
    UInt64Builder,
};
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{Array, ArrayRef, Int64Array, PrimitiveArray};
use mendb_model::{ColumnType, ValueRef};

use super::{Datetimes, UTC, data_type};

/// Milliseconds in a second.
pub(super) const MILLIS: i64 = 1000;

/// The column under construction.
#[derive(Debug)]
pub(super) enum ColumnBuilder {
    Bool(BooleanBuilder),
    Int8(Int8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Uint8(UInt8Builder),
    Uint16(UInt16Builder),
    Uint32(UInt32Builder),
    Uint64(UInt64Builder),
    Float(Float32Builder),
    Double(Float64Builder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    /// Seconds until the batch is finished, when it is known whether all fit into milliseconds.
    Datetime(Int64Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Decimal {
        builder: Decimal128Builder,
        /// Parquet cuts off what has more digits than the type.
        limit: u128,
        precision: u8,
    },
    Uuid(FixedSizeBinaryBuilder),
}

impl ColumnBuilder {
    pub(super) fn new(column_type: ColumnType) -> Self {
        use ColumnType as T;
        match column_type {
            T::Bool => Self::Bool(BooleanBuilder::new()),
            T::Int8 => Self::Int8(Int8Builder::new()),
            T::Int16 => Self::Int16(Int16Builder::new()),
            T::Int32 => Self::Int32(Int32Builder::new()),
            T::Int64 => Self::Int64(Int64Builder::new()),
            T::Uint8 => Self::Uint8(UInt8Builder::new()),
            T::Uint16 => Self::Uint16(UInt16Builder::new()),
            T::Uint32 => Self::Uint32(UInt32Builder::new()),
            T::Uint64 => Self::Uint64(UInt64Builder::new()),
            T::Float => Self::Float(Float32Builder::new()),
            T::Double => Self::Double(Float64Builder::new()),
            T::Utf8 | T::Json => Self::Text(StringBuilder::new()),
            T::String => Self::Bytes(BinaryBuilder::new()),
            T::Date => Self::Date(Date32Builder::new()),
            T::Datetime => Self::Datetime(Int64Builder::new()),
            T::Timestamp => Self::Timestamp(
                TimestampMicrosecondBuilder::new()
                    .with_data_type(data_type(column_type, Datetimes::default())),
            ),
            T::Decimal { precision, .. } => Self::Decimal {
                builder: Decimal128Builder::new()
                    .with_data_type(data_type(column_type, Datetimes::default())),
                limit: 10u128.pow(u32::from(precision)),
                precision,
            },
            T::Uuid => Self::Uuid(FixedSizeBinaryBuilder::new(16)),
        }
    }

    /// Adds a value, which was read as one of the column's type.
    ///
    /// # Errors
    /// The value is beyond what the type holds: what is wrong, as a verb phrase.
    ///
    /// # Panics
    /// The value is not of the type.
    #[inline]
    pub(super) fn append(&mut self, value: ValueRef<'_>) -> Result<(), String> {
        match (self, value) {
            (column, ValueRef::Null) => column.append_null(),
            (Self::Bool(builder), ValueRef::Bool(v)) => builder.append_value(v),
            // The readers of keys and rows made these values from integers of the width.
            (Self::Int8(builder), ValueRef::Int(v)) => builder.append_value(v as i8),
            (Self::Int16(builder), ValueRef::Int(v)) => builder.append_value(v as i16),
            (Self::Int32(builder), ValueRef::Int(v)) => builder.append_value(v as i32),
            (Self::Date(builder), ValueRef::Int(v)) => builder.append_value(v as i32),
            (Self::Int64(builder) | Self::Datetime(builder), ValueRef::Int(v)) => {
                builder.append_value(v);
            }
            (Self::Timestamp(builder), ValueRef::Int(v)) => builder.append_value(v),
            (Self::Uint8(builder), ValueRef::Uint(v)) => builder.append_value(v as u8),
            (Self::Uint16(builder), ValueRef::Uint(v)) => builder.append_value(v as u16),
            (Self::Uint32(builder), ValueRef::Uint(v)) => builder.append_value(v as u32),
            (Self::Uint64(builder), ValueRef::Uint(v)) => builder.append_value(v),
            (Self::Float(builder), ValueRef::Float(v)) => builder.append_value(v),
            (Self::Double(builder), ValueRef::Double(v)) => builder.append_value(v),
            (Self::Text(builder), ValueRef::Text(v)) => builder.append_value(v),
            (Self::Bytes(builder), ValueRef::Bytes(v)) => builder.append_value(v),
            (
                Self::Decimal {
                    builder,
                    limit,
                    precision,
                },
                ValueRef::Decimal(v),
            ) => {
                if v.unsigned_abs() >= *limit {
                    return Err(format!("holds a decimal of more than {precision} digits"));
                }
                builder.append_value(v);
            }
            (Self::Uuid(builder), ValueRef::Uuid(v)) => builder
                .append_value(v)
                .expect("the column is as wide as a Uuid"),
            (column, value) => panic!("a column {column:?} was given {value:?}"),
        }
        Ok(())
    }

    fn append_null(&mut self) {
        match self {
            Self::Bool(builder) => builder.append_null(),
            Self::Int8(builder) => builder.append_null(),
            Self::Int16(builder) => builder.append_null(),
            Self::Int32(builder) => builder.append_null(),
            Self::Int64(builder) | Self::Datetime(builder) => builder.append_null(),
            Self::Uint8(builder) => builder.append_null(),
            Self::Uint16(builder) => builder.append_null(),
            Self::Uint32(builder) => builder.append_null(),
            Self::Uint64(builder) => builder.append_null(),
            Self::Float(builder) => builder.append_null(),
            Self::Double(builder) => builder.append_null(),
            Self::Text(builder) => builder.append_null(),
            Self::Bytes(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Timestamp(builder) => builder.append_null(),
            Self::Decimal { builder, .. } => builder.append_null(),
            Self::Uuid(builder) => builder.append_null(),
        }
    }

    /// Whether a value lies outside of a timestamp in milliseconds.
    pub(super) fn needs_seconds(&self) -> bool {
        let Self::Datetime(builder) = self else {
            return false;
        };
        // Slots of NULLs hold zeros.
        let mut seconds = builder.values_slice().iter();
        seconds.any(|seconds| seconds.checked_mul(MILLIS).is_none())
    }

    /// The finished column; the builder is empty again.
    pub(super) fn finish(&mut self, datetimes: Datetimes) -> ArrayRef {
        match self {
            Self::Bool(builder) => Arc::new(builder.finish()),
            Self::Int8(builder) => Arc::new(builder.finish()),
            Self::Int16(builder) => Arc::new(builder.finish()),
            Self::Int32(builder) => Arc::new(builder.finish()),
            Self::Int64(builder) => Arc::new(builder.finish()),
            Self::Uint8(builder) => Arc::new(builder.finish()),
            Self::Uint16(builder) => Arc::new(builder.finish()),
            Self::Uint32(builder) => Arc::new(builder.finish()),
            Self::Uint64(builder) => Arc::new(builder.finish()),
            Self::Float(builder) => Arc::new(builder.finish()),
            Self::Double(builder) => Arc::new(builder.finish()),
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Bytes(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Datetime(builder) => datetime_column(builder.finish(), datetimes),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
            Self::Decimal { builder, .. } => Arc::new(builder.finish()),
            Self::Uuid(builder) => Arc::new(builder.finish()),
        }
    }
}

fn datetime_column(seconds: Int64Array, datetimes: Datetimes) -> ArrayRef {
    match datetimes {
        Datetimes::Seconds => Arc::new(seconds),
        Datetimes::Timestamps => {
            let nulls = seconds.nulls().cloned();
            let millis = seconds.values().iter().map(|seconds| seconds * MILLIS);
            let column = PrimitiveArray::<TimestampMillisecondType>::new(millis.collect(), nulls);
            Arc::new(column.with_timezone(UTC))
        }
    }
}
