//! Arrow columns read one value at a time.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType, TimestampMillisecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, BinaryArray, BooleanArray, FixedSizeBinaryArray, PrimitiveArray, StringArray,
};
use arrow_schema::{DataType, TimeUnit};
use mendb_model::{ColumnType, ValueRef};

use super::columns::MILLIS;

/// A column of a batch.
#[derive(Debug)]
pub(super) enum Cells<'a> {
    Bool(&'a BooleanArray),
    Int8(&'a PrimitiveArray<Int8Type>),
    Int16(&'a PrimitiveArray<Int16Type>),
    Int32(&'a PrimitiveArray<Int32Type>),
    Int64(&'a PrimitiveArray<Int64Type>),
    Uint8(&'a PrimitiveArray<UInt8Type>),
    Uint16(&'a PrimitiveArray<UInt16Type>),
    Uint32(&'a PrimitiveArray<UInt32Type>),
    Uint64(&'a PrimitiveArray<UInt64Type>),
    Float(&'a PrimitiveArray<Float32Type>),
    Double(&'a PrimitiveArray<Float64Type>),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Date(&'a PrimitiveArray<Date32Type>),
    Millis(&'a PrimitiveArray<TimestampMillisecondType>),
    Micros(&'a PrimitiveArray<TimestampMicrosecondType>),
    Decimal {
        column: &'a PrimitiveArray<Decimal128Type>,
        limit: u128,
    },
    Uuid(&'a FixedSizeBinaryArray),
}

/// Whether a column of an Arrow type can be read as a column type.
pub(super) fn is_readable(column_type: ColumnType, data_type: &DataType) -> bool {
    use ColumnType as T;
    match (column_type, data_type) {
        (T::Datetime, DataType::Int64 | DataType::Timestamp(TimeUnit::Millisecond, _))
        | (T::Timestamp, DataType::Timestamp(TimeUnit::Microsecond, _)) => true,
        _ => super::data_type(column_type, super::Datetimes::Timestamps) == *data_type,
    }
}

impl<'a> Cells<'a> {
    /// The cells of a column whose type [is readable](is_readable).
    ///
    /// # Panics
    /// It is not.
    pub(super) fn new(column_type: ColumnType, column: &'a dyn Array) -> Self {
        use ColumnType as T;
        match column_type {
            T::Bool => Self::Bool(column.as_boolean()),
            T::Int8 => Self::Int8(column.as_primitive()),
            T::Int16 => Self::Int16(column.as_primitive()),
            T::Int32 => Self::Int32(column.as_primitive()),
            T::Int64 => Self::Int64(column.as_primitive()),
            T::Uint8 => Self::Uint8(column.as_primitive()),
            T::Uint16 => Self::Uint16(column.as_primitive()),
            T::Uint32 => Self::Uint32(column.as_primitive()),
            T::Uint64 => Self::Uint64(column.as_primitive()),
            T::Float => Self::Float(column.as_primitive()),
            T::Double => Self::Double(column.as_primitive()),
            T::Utf8 | T::Json => Self::Text(column.as_string()),
            T::String => Self::Bytes(column.as_binary()),
            T::Date => Self::Date(column.as_primitive()),
            T::Datetime if *column.data_type() == DataType::Int64 => {
                Self::Int64(column.as_primitive())
            }
            T::Datetime => Self::Millis(column.as_primitive()),
            T::Timestamp => Self::Micros(column.as_primitive()),
            T::Decimal { precision, .. } => Self::Decimal {
                column: column.as_primitive(),
                limit: 10u128.pow(u32::from(precision)),
            },
            T::Uuid => Self::Uuid(column.as_fixed_size_binary()),
        }
    }

    /// The value of a row.
    ///
    /// # Errors
    /// The cell holds what its column type cannot: what is wrong, as a verb phrase.
    #[inline]
    pub(super) fn get(&self, row: usize) -> Result<ValueRef<'a>, &'static str> {
        fn value<'v, A: Array>(
            column: &A,
            row: usize,
            read: impl FnOnce(&A) -> ValueRef<'v>,
        ) -> Result<ValueRef<'v>, &'static str> {
            Ok(if column.is_null(row) {
                ValueRef::Null
            } else {
                read(column)
            })
        }
        match *self {
            Self::Bool(column) => value(column, row, |c| ValueRef::Bool(c.value(row))),
            Self::Int8(column) => value(column, row, |c| ValueRef::Int(c.value(row).into())),
            Self::Int16(column) => value(column, row, |c| ValueRef::Int(c.value(row).into())),
            Self::Int32(column) => value(column, row, |c| ValueRef::Int(c.value(row).into())),
            Self::Int64(column) => value(column, row, |c| ValueRef::Int(c.value(row))),
            Self::Uint8(column) => value(column, row, |c| ValueRef::Uint(c.value(row).into())),
            Self::Uint16(column) => value(column, row, |c| ValueRef::Uint(c.value(row).into())),
            Self::Uint32(column) => value(column, row, |c| ValueRef::Uint(c.value(row).into())),
            Self::Uint64(column) => value(column, row, |c| ValueRef::Uint(c.value(row))),
            Self::Float(column) => value(column, row, |c| ValueRef::Float(c.value(row))),
            Self::Double(column) => value(column, row, |c| ValueRef::Double(c.value(row))),
            Self::Text(column) if column.is_null(row) => Ok(ValueRef::Null),
            Self::Text(column) => Ok(ValueRef::Text(column.value(row))),
            Self::Bytes(column) if column.is_null(row) => Ok(ValueRef::Null),
            Self::Bytes(column) => Ok(ValueRef::Bytes(column.value(row))),
            Self::Date(column) => value(column, row, |c| ValueRef::Int(c.value(row).into())),
            Self::Micros(column) => value(column, row, |c| ValueRef::Int(c.value(row))),
            Self::Millis(column) if column.is_null(row) => Ok(ValueRef::Null),
            Self::Millis(column) => {
                let millis = column.value(row);
                if millis % MILLIS == 0 {
                    Ok(ValueRef::Int(millis / MILLIS))
                } else {
                    Err("holds a fraction of a second")
                }
            }
            Self::Decimal { column, .. } if column.is_null(row) => Ok(ValueRef::Null),
            Self::Decimal { column, limit } => {
                let decimal = column.value(row);
                if decimal.unsigned_abs() < limit {
                    Ok(ValueRef::Decimal(decimal))
                } else {
                    Err("holds a decimal with more digits than its type")
                }
            }
            Self::Uuid(column) => value(column, row, |c| {
                let bytes = c.value(row).try_into();
                ValueRef::Uuid(bytes.expect("the column is as wide as a Uuid"))
            }),
        }
    }
}
