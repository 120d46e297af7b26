//! One value of a Parquet column, and what it is as a value of a table.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};
use mendb_model::{ColumnType, Value, text};

const SECONDS_PER_DAY: i64 = 86_400;
pub(super) const NANOS_PER_SECOND: i64 = 1_000_000_000;
const NANOS_PER_MICROSECOND: i64 = 1_000;

/// A cell of a Parquet column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Bool(bool),
    Int(i128),
    Float(f32),
    Double(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// Days since 1970-01-01.
    Days(i64),
    /// A point in time.
    Time {
        /// Nanoseconds since 1970-01-01T00:00:00Z.
        nanos: i128,
    },
    Decimal {
        scaled: i128,
        scale: u8,
    },
}

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
    let time = |count: i64, per_second: i64| Cell::Time {
        nanos: i128::from(count) * i128::from(NANOS_PER_SECOND / per_second),
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
        DataType::Timestamp(TimeUnit::Second, _) => time(primitive!(TimestampSecondType), 1),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            time(primitive!(TimestampMillisecondType), 1_000)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            time(primitive!(TimestampMicrosecondType), 1_000_000)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            time(primitive!(TimestampNanosecondType), 1_000_000_000)
        }
        DataType::Decimal128(_, scale) => Cell::Decimal {
            scaled: primitive!(Decimal128Type),
            scale: scale.unsigned_abs(),
        },
        other => unreachable!("a column of type {other} was let through"),
    }
}

impl Cell<'_> {
    /// The cell in a message.
    pub(super) fn to_text(self) -> String {
        let show = |value: Value, column_type| text::format(value.as_ref(), column_type);
        let shown = match self {
            Self::Null => None,
            Self::Bool(v) => Some(v.to_string()),
            Self::Int(v) => Some(v.to_string()),
            Self::Float(v) => show(Value::Float(v), ColumnType::Float),
            Self::Double(v) => show(Value::Double(v), ColumnType::Double),
            Self::Text(v) => Some(v.to_owned()),
            Self::Bytes(v) => show(Value::Bytes(v.to_vec()), ColumnType::String),
            Self::Days(v) => show(Value::Int(v), ColumnType::Date),
            Self::Time { nanos } => Some(time_to_text(nanos)),
            Self::Decimal { scaled, scale } => {
                let column_type = ColumnType::Decimal {
                    precision: 38,
                    scale,
                };
                show(Value::Decimal(scaled), column_type)
            }
        };
        shown.unwrap_or_else(|| "NULL".to_owned())
    }
}

/// The cell as a value of a type; `None` where something would be lost.
pub(super) fn coerce(cell: &Cell<'_>, column_type: ColumnType) -> Option<Value> {
    use ColumnType as T;
    let value = match (*cell, column_type) {
        (Cell::Null, _) => Value::Null,
        (Cell::Bool(v), T::Bool) => Value::Bool(v),
        (Cell::Int(v), _) => of_int(v, column_type)?,
        (Cell::Float(v), T::Float) => Value::Float(v),
        (Cell::Float(v), T::Double) => Value::Double(v.into()),
        (Cell::Double(v), T::Double) => Value::Double(v),
        (Cell::Double(v), T::Float) if f64::from(v as f32) == v || v.is_nan() => {
            Value::Float(v as f32)
        }
        (Cell::Float(v), _) => of_int(whole(v.into())?, column_type)?,
        (Cell::Double(v), _) => of_int(whole(v)?, column_type)?,
        (Cell::Text(v), _) => text::parse(v, column_type).ok()?,
        (Cell::Bytes(v), T::String) => Value::Bytes(v.to_vec()),
        (Cell::Bytes(v), T::Uuid) => Value::Uuid(v.try_into().ok()?),
        (Cell::Bytes(v), T::Utf8 | T::Json) => Value::Text(std::str::from_utf8(v).ok()?.to_owned()),
        (Cell::Days(v), T::Date) => Value::Int(v),
        (Cell::Days(v), T::Datetime | T::Timestamp) => {
            let nanos = i128::from(v) * i128::from(SECONDS_PER_DAY * NANOS_PER_SECOND);
            of_time(nanos, column_type)?
        }
        (Cell::Time { nanos }, _) => of_time(nanos, column_type)?,
        (Cell::Decimal { scaled, scale }, _) => of_decimal(scaled, scale, column_type)?,
        _ => return None,
    };
    column_type.accepts(value.as_ref()).then_some(value)
}

fn of_int(v: i128, column_type: ColumnType) -> Option<Value> {
    use ColumnType as T;
    Some(match column_type {
        T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::Date | T::Datetime | T::Timestamp => {
            Value::Int(v.try_into().ok()?)
        }
        T::Uint8 | T::Uint16 | T::Uint32 | T::Uint64 => Value::Uint(v.try_into().ok()?),
        T::Double if (v as f64) as i128 == v => Value::Double(v as f64),
        T::Float if (v as f32) as i128 == v => Value::Float(v as f32),
        T::Decimal { scale, .. } => {
            Value::Decimal(v.checked_mul(10i128.checked_pow(u32::from(scale))?)?)
        }
        _ => return None,
    })
}

/// The whole number that a float is exactly.
fn whole(v: f64) -> Option<i128> {
    (v.fract() == 0.0 && v.abs() < 1e38).then_some(v as i128)
}

fn of_time(nanos: i128, column_type: ColumnType) -> Option<Value> {
    let unit = match column_type {
        ColumnType::Date => SECONDS_PER_DAY * NANOS_PER_SECOND,
        ColumnType::Datetime => NANOS_PER_SECOND,
        ColumnType::Timestamp => NANOS_PER_MICROSECOND,
        _ => return None,
    };
    let unit = i128::from(unit);
    (nanos % unit == 0).then_some(Value::Int((nanos / unit).try_into().ok()?))
}

/// A time with all its digits, whatever the calendar ends with.
fn time_to_text(nanos: i128) -> String {
    let per_second = i128::from(NANOS_PER_SECOND);
    let seconds = i64::try_from(nanos.div_euclid(per_second)).ok();
    let second = seconds.and_then(|seconds| {
        text::format(Value::Int(seconds).as_ref(), ColumnType::Datetime)?
            .strip_suffix('Z')
            .map(str::to_owned)
    });
    let Some(second) = second else {
        return format!("{nanos} ns since 1970-01-01");
    };
    match nanos.rem_euclid(per_second) {
        0 => format!("{second}Z"),
        fraction => {
            let digits = format!("{fraction:09}");
            format!("{second}.{}Z", digits.trim_end_matches('0'))
        }
    }
}

fn of_decimal(scaled: i128, scale: u8, column_type: ColumnType) -> Option<Value> {
    let wanted = match column_type {
        ColumnType::Decimal { scale, .. } => scale,
        ColumnType::Double | ColumnType::Float => {
            let shown = Cell::Decimal { scaled, scale }.to_text();
            return text::parse(&shown, column_type).ok();
        }
        _ => 0,
    };
    let rescaled = if wanted >= scale {
        scaled.checked_mul(10i128.checked_pow(u32::from(wanted - scale))?)?
    } else {
        let unit = 10i128.checked_pow(u32::from(scale - wanted))?;
        (scaled % unit == 0).then_some(scaled / unit)?
    };
    match column_type {
        ColumnType::Decimal { .. } => Some(Value::Decimal(rescaled)),
        _ => of_int(rescaled, column_type),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_change_their_type_only_when_nothing_is_lost() {
        use ColumnType as T;
        let money = T::Decimal {
            precision: 5,
            scale: 2,
        };
        let time = Cell::Time {
            nanos: 86_400_500_000_000,
        };
        for (cell, column_type, expected) in [
            (Cell::Double(5.0), T::Int64, Some(Value::Int(5))),
            (Cell::Double(5.5), T::Int64, None),
            (Cell::Double(f64::NAN), T::Int64, None),
            (Cell::Int(300), T::Uint8, None),
            (
                Cell::Int(1 << 53),
                T::Double,
                Some(Value::Double(2f64.powi(53))),
            ),
            (Cell::Int((1 << 53) + 1), T::Double, None),
            (Cell::Int(12), money, Some(Value::Decimal(1200))),
            (Cell::Int(1000), money, None),
            (
                Cell::Decimal {
                    scaled: 12_500,
                    scale: 4,
                },
                money,
                Some(Value::Decimal(125)),
            ),
            (
                Cell::Decimal {
                    scaled: 12_501,
                    scale: 4,
                },
                money,
                None,
            ),
            (
                Cell::Decimal {
                    scaled: 300,
                    scale: 2,
                },
                T::Int8,
                Some(Value::Int(3)),
            ),
            (
                Cell::Decimal {
                    scaled: 125,
                    scale: 2,
                },
                T::Double,
                Some(Value::Double(1.25)),
            ),
            (time, T::Timestamp, Some(Value::Int(86_400_500_000))),
            (time, T::Datetime, None),
            (Cell::Days(1), T::Datetime, Some(Value::Int(86_400))),
            (Cell::Text("2013-01-31"), T::Date, Some(Value::Int(15_736))),
            (Cell::Bool(true), T::Int64, None),
        ] {
            assert_eq!(
                coerce(&cell, column_type),
                expected,
                "{cell:?} as {column_type}"
            );
        }
    }

    #[test]
    fn a_time_is_shown_with_all_its_digits() {
        for (nanos, shown) in [
            (0, "1970-01-01T00:00:00Z"),
            (1, "1970-01-01T00:00:00.000000001Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (1_500_000_000, "1970-01-01T00:00:01.5Z"),
            (
                i128::MAX,
                "170141183460469231731687303715884105727 ns since 1970-01-01",
            ),
        ] {
            assert_eq!(Cell::Time { nanos }.to_text(), shown);
        }
    }
}
