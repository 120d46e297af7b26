//! Arrow columns as the cells of keys and rows.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, BooleanArray};
use arrow_schema::{DataType, TimeUnit};
use mendb_model::value::Fixed;
use mendb_model::{ColumnType, key, row};

use super::columns::MILLIS;

/// A column of a batch, whose values were checked against their column type.
#[derive(Debug)]
pub(super) struct Cells<'a> {
    values: Values<'a>,
    /// Which rows are not NULL; `None` when all are.
    present: Option<Vec<bool>>,
}

/// The values of a column; those of rows that are NULL mean nothing.
#[derive(Debug)]
enum Values<'a> {
    Bool(&'a BooleanArray),
    Int8(&'a [i8]),
    Int16(&'a [i16]),
    Int32(&'a [i32]),
    Int64(&'a [i64]),
    Uint8(&'a [u8]),
    Uint16(&'a [u16]),
    Uint32(&'a [u32]),
    Uint64(&'a [u64]),
    Float(&'a [f32]),
    Double(&'a [f64]),
    /// The text of a row lies between two offsets.
    Text {
        offsets: &'a [i32],
        bytes: &'a [u8],
    },
    /// Milliseconds of whole seconds.
    Millis(&'a [i64]),
    Decimal(&'a [i128]),
    Uuid(&'a [[u8; 16]]),
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
    /// # Errors
    /// A cell holds what its column type cannot: what is wrong, as a verb phrase.
    ///
    /// # Panics
    /// The type is not readable.
    pub(super) fn new(
        column_type: ColumnType,
        column: &'a dyn Array,
    ) -> Result<Self, &'static str> {
        let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
        let cells = Self {
            values: Values::of(column_type, column),
            present: nulls.map(|nulls| nulls.iter().collect()),
        };
        cells.check(column_type)?;
        Ok(cells)
    }

    fn check(&self, column_type: ColumnType) -> Result<(), &'static str> {
        match (&self.values, column_type) {
            (Values::Millis(millis), _) if !self.all(millis, |millis| millis % MILLIS == 0) => {
                Err("holds a fraction of a second")
            }
            (Values::Decimal(decimals), ColumnType::Decimal { precision, .. }) => {
                let limit = 10u128.pow(u32::from(precision));
                match self.all(decimals, |decimal| decimal.unsigned_abs() < limit) {
                    true => Ok(()),
                    false => Err("holds a decimal with more digits than its type"),
                }
            }
            _ => Ok(()),
        }
    }

    /// Whether all values that are not NULL are good.
    fn all<T: Copy>(&self, values: &[T], good: impl Fn(T) -> bool) -> bool {
        let mut rows = values.iter().enumerate();
        rows.all(|(row, value)| good(*value) || !self.is_present(row))
    }

    /// Whether no row is NULL.
    pub(super) fn are_all_present(&self) -> bool {
        self.present.is_none()
    }

    /// Whether a row is not NULL.
    #[inline]
    pub(super) fn is_present(&self, row: usize) -> bool {
        self.present.as_ref().is_none_or(|present| present[row])
    }

    /// Adds the bytes that the cells take in rows to the lengths of these.
    pub(super) fn add_to_rows(&self, lengths: &mut [usize]) {
        match &self.values {
            Values::Text { offsets, .. } => {
                for (row, (length, ends)) in lengths.iter_mut().zip(offsets.windows(2)).enumerate()
                {
                    if self.is_present(row) {
                        *length += row::text_length((ends[1] - ends[0]) as usize);
                    }
                }
            }
            fixed => self.add_fixed(lengths, fixed.width()),
        }
    }

    /// Adds the bytes that the cells take in keys to the lengths of these.
    pub(super) fn add_to_keys(&self, lengths: &mut [usize]) {
        // The mark.
        lengths.iter_mut().for_each(|length| *length += 1);
        match &self.values {
            Values::Text { offsets, bytes } => {
                for (row, length) in lengths.iter_mut().enumerate() {
                    if self.is_present(row) {
                        *length += key::text_length(text(offsets, bytes, row));
                    }
                }
            }
            fixed => self.add_fixed(lengths, fixed.width()),
        }
    }

    fn add_fixed(&self, lengths: &mut [usize], width: usize) {
        match &self.present {
            None => lengths.iter_mut().for_each(|length| *length += width),
            Some(present) => {
                for (length, present) in lengths.iter_mut().zip(present) {
                    *length += width * usize::from(*present);
                }
            }
        }
    }

    /// Writes the cells of some rows. `ends` has for each where what is written of it ends.
    pub(super) fn write_to_rows(&self, rows: Range<usize>, out: &mut [u8], ends: &mut [usize]) {
        match &self.values {
            Values::Bool(v) => self.fixed_to_rows(rows, out, ends, |row| v.value(row)),
            Values::Int8(v) => self.fixed_to_rows(rows, out, ends, |row| v[row]),
            Values::Int16(v) => self.fixed_to_rows(rows, out, ends, |row| v[row]),
            Values::Int32(v) => self.fixed_to_rows(rows, out, ends, |row| v[row]),
            Values::Int64(v) => self.fixed_to_rows(rows, out, ends, |row| v[row]),
            Values::Uint8(v) => self.fixed_to_rows(rows, out, ends, |row| v[row]),
            Values::Uint16(v) => self.fixed_to_rows(rows, out, ends, |row| v[row]),
            Values::Uint32(v) => self.fixed_to_rows(rows, out, ends, |row| v[row]),
            Values::Uint64(v) => self.fixed_to_rows(rows, out, ends, |row| v[row]),
            Values::Float(v) => self.fixed_to_rows(rows, out, ends, |row| v[row]),
            Values::Double(v) => self.fixed_to_rows(rows, out, ends, |row| v[row]),
            Values::Millis(v) => self.fixed_to_rows(rows, out, ends, |row| v[row] / MILLIS),
            Values::Decimal(v) => self.fixed_to_rows(rows, out, ends, |row| v[row]),
            Values::Uuid(v) => self.fixed_to_rows(rows, out, ends, |row| v[row]),
            Values::Text { offsets, bytes } => self.each_present(rows, ends, |row, end| {
                *end += row::write_text(&mut out[*end..], text(offsets, bytes, row));
            }),
        }
    }

    fn fixed_to_rows<T: Fixed>(
        &self,
        rows: Range<usize>,
        out: &mut [u8],
        ends: &mut [usize],
        value: impl Fn(usize) -> T,
    ) {
        self.each_present(rows, ends, |row, end| {
            value(row).write_row(&mut out[*end..*end + T::WIDTH]);
            *end += T::WIDTH;
        });
    }

    /// Writes the cells of some keys. `ends` has for each where what is written of it ends.
    pub(super) fn write_to_keys(&self, rows: Range<usize>, out: &mut [u8], ends: &mut [usize]) {
        for (row, end) in rows.clone().zip(ends.iter_mut()) {
            out[*end] = match self.is_present(row) {
                true => key::PRESENT,
                false => key::NULL,
            };
            *end += 1;
        }
        match &self.values {
            Values::Bool(v) => self.fixed_to_keys(rows, out, ends, |row| v.value(row)),
            Values::Int8(v) => self.fixed_to_keys(rows, out, ends, |row| v[row]),
            Values::Int16(v) => self.fixed_to_keys(rows, out, ends, |row| v[row]),
            Values::Int32(v) => self.fixed_to_keys(rows, out, ends, |row| v[row]),
            Values::Int64(v) => self.fixed_to_keys(rows, out, ends, |row| v[row]),
            Values::Uint8(v) => self.fixed_to_keys(rows, out, ends, |row| v[row]),
            Values::Uint16(v) => self.fixed_to_keys(rows, out, ends, |row| v[row]),
            Values::Uint32(v) => self.fixed_to_keys(rows, out, ends, |row| v[row]),
            Values::Uint64(v) => self.fixed_to_keys(rows, out, ends, |row| v[row]),
            Values::Float(v) => self.fixed_to_keys(rows, out, ends, |row| v[row]),
            Values::Double(v) => self.fixed_to_keys(rows, out, ends, |row| v[row]),
            Values::Millis(v) => self.fixed_to_keys(rows, out, ends, |row| v[row] / MILLIS),
            Values::Decimal(v) => self.fixed_to_keys(rows, out, ends, |row| v[row]),
            Values::Uuid(v) => self.fixed_to_keys(rows, out, ends, |row| v[row]),
            Values::Text { offsets, bytes } => self.each_present(rows, ends, |row, end| {
                *end += key::write_text(&mut out[*end..], text(offsets, bytes, row));
            }),
        }
    }

    fn fixed_to_keys<T: Fixed>(
        &self,
        rows: Range<usize>,
        out: &mut [u8],
        ends: &mut [usize],
        value: impl Fn(usize) -> T,
    ) {
        self.each_present(rows, ends, |row, end| {
            value(row).write_key(&mut out[*end..*end + T::WIDTH]);
            *end += T::WIDTH;
        });
    }

    #[inline]
    fn each_present(
        &self,
        rows: Range<usize>,
        ends: &mut [usize],
        mut write: impl FnMut(usize, &mut usize),
    ) {
        let rows = rows.zip(ends);
        match &self.present {
            None => rows.for_each(|(row, end)| write(row, end)),
            Some(present) => rows
                .filter(|(row, _)| present[*row])
                .for_each(|(row, end)| write(row, end)),
        }
    }
}

impl<'a> Values<'a> {
    fn of(column_type: ColumnType, column: &'a dyn Array) -> Self {
        use ColumnType as T;
        match column_type {
            T::Bool => Self::Bool(column.as_boolean()),
            T::Int8 => Self::Int8(numbers::<Int8Type>(column)),
            T::Int16 => Self::Int16(numbers::<Int16Type>(column)),
            T::Int32 => Self::Int32(numbers::<Int32Type>(column)),
            T::Int64 => Self::Int64(numbers::<Int64Type>(column)),
            T::Uint8 => Self::Uint8(numbers::<UInt8Type>(column)),
            T::Uint16 => Self::Uint16(numbers::<UInt16Type>(column)),
            T::Uint32 => Self::Uint32(numbers::<UInt32Type>(column)),
            T::Uint64 => Self::Uint64(numbers::<UInt64Type>(column)),
            T::Float => Self::Float(numbers::<Float32Type>(column)),
            T::Double => Self::Double(numbers::<Float64Type>(column)),
            T::Utf8 | T::Json => {
                let column = column.as_string::<i32>();
                Self::Text {
                    offsets: column.value_offsets(),
                    bytes: column.value_data(),
                }
            }
            T::String => {
                let column = column.as_binary::<i32>();
                Self::Text {
                    offsets: column.value_offsets(),
                    bytes: column.value_data(),
                }
            }
            T::Date => Self::Int32(numbers::<Date32Type>(column)),
            T::Datetime if *column.data_type() == DataType::Int64 => {
                Self::Int64(numbers::<Int64Type>(column))
            }
            T::Datetime => Self::Millis(numbers::<TimestampMillisecondType>(column)),
            T::Timestamp => Self::Int64(numbers::<TimestampMicrosecondType>(column)),
            T::Decimal { .. } => Self::Decimal(numbers::<Decimal128Type>(column)),
            T::Uuid => Self::Uuid(column.as_fixed_size_binary().value_data().as_chunks().0),
        }
    }

    /// Bytes of a cell, or 0 when they differ.
    fn width(&self) -> usize {
        match self {
            Self::Text { .. } => 0,
            Self::Bool(_) | Self::Int8(_) | Self::Uint8(_) => 1,
            Self::Int16(_) | Self::Uint16(_) => 2,
            Self::Int32(_) | Self::Uint32(_) | Self::Float(_) => 4,
            Self::Int64(_) | Self::Uint64(_) | Self::Double(_) | Self::Millis(_) => 8,
            Self::Decimal(_) | Self::Uuid(_) => 16,
        }
    }
}

fn numbers<T: ArrowPrimitiveType>(column: &dyn Array) -> &[T::Native] {
    column.as_primitive::<T>().values()
}

#[inline]
fn text<'a>(offsets: &[i32], bytes: &'a [u8], row: usize) -> &'a [u8] {
    &bytes[offsets[row] as usize..offsets[row + 1] as usize]
}
