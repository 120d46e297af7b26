//! One value of a Parquet column.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};

use crate::formats::cell::{Cell, NANOS_PER_SECOND};

/// The cell of a column whose type has a [`column_type`].
pub(super) fn cell(array: &ArrayRef, row: usize) -> Cell<'_> {
    if array.is_null(row) {
        return Cell::Null;
    }
    macro_rules! primitive {
        ($of:ty) => {
            array.as_primitive::<$of>().value(row)
        };
    }
    let time = |count: i64, per_second: i64, zone: &Option<Arc<str>>| Cell::Time {
        nanos: i128::from(count) * i128::from(NANOS_PER_SECOND / per_second),
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
