//! The columns of a row outside its key, as bytes.
//!
//! ```text
//! slot count (varint) | bitmap, one bit a slot, set when not NULL | cells of the set slots in order
//! ```
//!
//! A cell is its type's bytes little-endian (Bool one byte, Date four, Datetime and Timestamp
//! eight, Decimal sixteen, Uuid as it is), or for Utf8, String and Json a varint length and the
//! bytes. NULLs at the end are not written, so that a row has one encoding, and stays the same when
//! a column is added to its table.

use crate::value::{ColumnType, Value, ValueRef};
use crate::{Malformed, varint};

/// Appends the row of `values`, one per slot.
///
/// # Panics
/// A value is not of its type: the caller has not checked it with [`ColumnType::accepts`].
pub fn encode_into<'a>(
    out: &mut Vec<u8>,
    types: &[ColumnType],
    values: impl Iterator<Item = ValueRef<'a>> + Clone,
) {
    let present = |(_, value): &(usize, ValueRef<'_>)| !value.is_null();
    let slots = values
        .clone()
        .enumerate()
        .filter(present)
        .last()
        .map_or(0, |(at, _)| at + 1);
    varint::put(out, slots as u64);
    let bitmap = out.len();
    out.resize(bitmap + slots.div_ceil(8), 0);
    for ((slot, value), column_type) in values.enumerate().take(slots).zip(types) {
        if value.is_null() {
            continue;
        }
        out[bitmap + slot / 8] |= 1 << (slot % 8);
        encode_cell(out, *column_type, value);
    }
}

/// The row of `values`, one per slot.
///
/// # Panics
/// As [`encode_into`].
pub fn encode(types: &[ColumnType], values: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_into(&mut out, types, values.iter().map(Value::as_ref));
    out
}

#[inline]
fn encode_cell(out: &mut Vec<u8>, column_type: ColumnType, value: ValueRef<'_>) {
    use ColumnType as T;
    match (column_type, value) {
        (T::Bool, ValueRef::Bool(v)) => out.push(u8::from(v)),
        (T::Int8, ValueRef::Int(v)) => out.push(v as u8),
        (T::Int16, ValueRef::Int(v)) => out.extend_from_slice(&(v as i16).to_le_bytes()),
        (T::Int32 | T::Date, ValueRef::Int(v)) => out.extend_from_slice(&(v as i32).to_le_bytes()),
        (T::Int64 | T::Datetime | T::Timestamp, ValueRef::Int(v)) => {
            out.extend_from_slice(&v.to_le_bytes());
        }
        (T::Uint8, ValueRef::Uint(v)) => out.push(v as u8),
        (T::Uint16, ValueRef::Uint(v)) => out.extend_from_slice(&(v as u16).to_le_bytes()),
        (T::Uint32, ValueRef::Uint(v)) => out.extend_from_slice(&(v as u32).to_le_bytes()),
        (T::Uint64, ValueRef::Uint(v)) => out.extend_from_slice(&v.to_le_bytes()),
        (T::Float, ValueRef::Float(v)) => out.extend_from_slice(&v.to_le_bytes()),
        (T::Double, ValueRef::Double(v)) => out.extend_from_slice(&v.to_le_bytes()),
        (T::Utf8 | T::Json, ValueRef::Text(v)) => put_bytes(out, v.as_bytes()),
        (T::String, ValueRef::Bytes(v)) => put_bytes(out, v),
        (T::Decimal { .. }, ValueRef::Decimal(v)) => out.extend_from_slice(&v.to_le_bytes()),
        (T::Uuid, ValueRef::Uuid(v)) => out.extend_from_slice(&v),
        (column_type, value) => panic!("a column of type {column_type} was given {value:?}"),
    }
}

#[inline]
fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Bytes of the cell that text or bytes of a length are in a row.
#[inline]
pub fn text_length(length: usize) -> usize {
    varint::length(length as u64) + length
}

/// Writes text or bytes as the cell of a row, and returns how many bytes that took.
///
/// # Panics
/// `out` is shorter than the [`text_length`].
#[inline]
pub fn write_text(out: &mut [u8], text: &[u8]) -> usize {
    let head = varint::write(out, text.len() as u64);
    let end = head + text.len();
    out[head..end].copy_from_slice(text);
    end
}

/// Bytes in front of the cells of a row whose last set slot is the one before `slots`.
#[inline]
pub fn head_length(slots: usize) -> usize {
    varint::length(slots as u64) + slots.div_ceil(8)
}

/// Writes what is in front of the cells of a row, and returns how many bytes that took. `bitmap`
/// has a bit for each slot, and may be longer.
///
/// # Panics
/// `out` is shorter than the [`head_length`], or `bitmap` shorter than the slots.
#[inline]
pub fn write_head(out: &mut [u8], slots: usize, bitmap: &[u8]) -> usize {
    let head = varint::write(out, slots as u64);
    let bytes = slots.div_ceil(8);
    // A loop: bitmaps are so short that a call to copy them takes longer.
    for (to, from) in out[head..head + bytes].iter_mut().zip(&bitmap[..bytes]) {
        *to = *from;
    }
    head + bytes
}

/// Reads the cells of a row in slot order.
#[derive(Debug, Clone)]
pub struct RowReader<'a> {
    bitmap: &'a [u8],
    cells: &'a [u8],
    slots: usize,
    next: usize,
}

impl<'a> RowReader<'a> {
    /// Begins to read a row.
    ///
    /// # Errors
    /// The bytes end inside the bitmap.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut rest = bytes;
        let slots = varint::take(&mut rest)
            .and_then(|slots| usize::try_from(slots).ok())
            .ok_or_else(|| Malformed::new("row", "no slot count"))?;
        let (bitmap, cells) = rest
            .split_at_checked(slots.div_ceil(8))
            .ok_or_else(|| Malformed::new("row", "cut off in its bitmap"))?;
        Ok(Self {
            bitmap,
            cells,
            slots,
            next: 0,
        })
    }

    /// The value of the next slot, which is of type `column_type`; NULL behind the last one written.
    ///
    /// # Errors
    /// The bytes end inside the cell, or its text is not UTF-8.
    #[inline]
    pub fn next(&mut self, column_type: ColumnType) -> Result<ValueRef<'a>, Malformed> {
        let slot = self.next;
        self.next += 1;
        if slot >= self.slots || self.bitmap[slot / 8] & (1 << (slot % 8)) == 0 {
            return Ok(ValueRef::Null);
        }
        decode_cell(&mut self.cells, column_type)
    }

    /// Passes over the next slot, without a look at what its text is.
    ///
    /// # Errors
    /// The bytes end inside the cell.
    #[inline]
    pub fn skip(&mut self, column_type: ColumnType) -> Result<(), Malformed> {
        let slot = self.next;
        self.next += 1;
        if slot >= self.slots || self.bitmap[slot / 8] & (1 << (slot % 8)) == 0 {
            return Ok(());
        }
        use ColumnType as T;
        let bytes = match column_type {
            T::Bool | T::Int8 | T::Uint8 => 1,
            T::Int16 | T::Uint16 => 2,
            T::Int32 | T::Uint32 | T::Date | T::Float => 4,
            T::Int64 | T::Uint64 | T::Datetime | T::Timestamp | T::Double => 8,
            T::Decimal { .. } | T::Uuid => 16,
            T::Utf8 | T::Json | T::String => return take_bytes(&mut self.cells).map(|_| ()),
        };
        let rest = self.cells.get(bytes..);
        self.cells = rest.ok_or_else(|| Malformed::new("row", "cut off"))?;
        Ok(())
    }

    /// Checks that all slots were read and nothing is left over.
    ///
    /// # Errors
    /// The row has more slots or bytes than were read.
    #[inline]
    pub fn finish(self) -> Result<(), Malformed> {
        if self.next < self.slots {
            return Err(Malformed::new(
                "row",
                format!("{} slots, the table has {}", self.slots, self.next),
            ));
        }
        if self.cells.is_empty() {
            Ok(())
        } else {
            Err(Malformed::new("row", "bytes after its last cell"))
        }
    }
}

#[inline]
fn decode_cell<'a>(
    bytes: &mut &'a [u8],
    column_type: ColumnType,
) -> Result<ValueRef<'a>, Malformed> {
    use ColumnType as T;
    Ok(match column_type {
        T::Bool => ValueRef::Bool(take::<1>(bytes)? != [0]),
        T::Int8 => ValueRef::Int(i64::from(i8::from_le_bytes(take(bytes)?))),
        T::Int16 => ValueRef::Int(i64::from(i16::from_le_bytes(take(bytes)?))),
        T::Int32 | T::Date => ValueRef::Int(i64::from(i32::from_le_bytes(take(bytes)?))),
        T::Int64 | T::Datetime | T::Timestamp => ValueRef::Int(i64::from_le_bytes(take(bytes)?)),
        T::Uint8 => ValueRef::Uint(u64::from(u8::from_le_bytes(take(bytes)?))),
        T::Uint16 => ValueRef::Uint(u64::from(u16::from_le_bytes(take(bytes)?))),
        T::Uint32 => ValueRef::Uint(u64::from(u32::from_le_bytes(take(bytes)?))),
        T::Uint64 => ValueRef::Uint(u64::from_le_bytes(take(bytes)?)),
        T::Float => ValueRef::Float(f32::from_le_bytes(take(bytes)?)),
        T::Double => ValueRef::Double(f64::from_le_bytes(take(bytes)?)),
        T::Utf8 | T::Json => {
            let text = std::str::from_utf8(take_bytes(bytes)?);
            ValueRef::Text(text.map_err(|error| Malformed::new("row", error.to_string()))?)
        }
        T::String => ValueRef::Bytes(take_bytes(bytes)?),
        T::Decimal { .. } => ValueRef::Decimal(i128::from_le_bytes(take(bytes)?)),
        T::Uuid => ValueRef::Uuid(take(bytes)?),
    })
}

#[inline]
fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (head, rest) = bytes
        .split_first_chunk::<N>()
        .ok_or_else(|| Malformed::new("row", "cut off"))?;
    *bytes = rest;
    Ok(*head)
}

#[inline]
fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let cut_off = || Malformed::new("row", "cut off in its text");
    let length = varint::take(bytes)
        .and_then(|l| usize::try_from(l).ok())
        .ok_or_else(cut_off)?;
    let (head, rest) = bytes.split_at_checked(length).ok_or_else(cut_off)?;
    *bytes = rest;
    Ok(head)
}

/// The values of a row, one per type.
///
/// # Errors
/// The bytes are not a row of these types.
pub fn decode(bytes: &[u8], types: &[ColumnType]) -> Result<Vec<Value>, Malformed> {
    let mut reader = RowReader::new(bytes)?;
    let values: Result<_, _> = types
        .iter()
        .map(|t| Ok(reader.next(*t)?.to_owned()))
        .collect();
    reader.finish()?;
    values
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A column type and a value it accepts.
    pub(crate) fn cell() -> impl Strategy<Value = (ColumnType, Value)> {
        use ColumnType as T;
        prop_oneof![
            any::<bool>().prop_map(|v| (T::Bool, Value::Bool(v))),
            any::<i8>().prop_map(|v| (T::Int8, Value::Int(v.into()))),
            any::<i16>().prop_map(|v| (T::Int16, Value::Int(v.into()))),
            any::<i32>().prop_map(|v| (T::Int32, Value::Int(v.into()))),
            any::<i64>().prop_map(|v| (T::Int64, Value::Int(v))),
            any::<u8>().prop_map(|v| (T::Uint8, Value::Uint(v.into()))),
            any::<u16>().prop_map(|v| (T::Uint16, Value::Uint(v.into()))),
            any::<u32>().prop_map(|v| (T::Uint32, Value::Uint(v.into()))),
            any::<u64>().prop_map(|v| (T::Uint64, Value::Uint(v))),
            any::<u32>().prop_map(|v| (T::Float, Value::Float(f32::from_bits(v)))),
            any::<u64>().prop_map(|v| (T::Double, Value::Double(f64::from_bits(v)))),
            ".{0,12}".prop_map(|v| (T::Utf8, Value::Text(v))),
            ".{0,12}".prop_map(|v| (T::Json, Value::Text(v))),
            any::<Vec<u8>>().prop_map(|v| (T::String, Value::Bytes(v))),
            any::<i32>().prop_map(|v| (T::Date, Value::Int(v.into()))),
            any::<i64>().prop_map(|v| (T::Datetime, Value::Int(v))),
            any::<i64>().prop_map(|v| (T::Timestamp, Value::Int(v))),
            (-10i128.pow(21)..10i128.pow(21)).prop_map(|v| (
                T::Decimal {
                    precision: 22,
                    scale: 9
                },
                Value::Decimal(v)
            )),
            any::<[u8; 16]>().prop_map(|v| (T::Uuid, Value::Uuid(v))),
            Just((T::Int64, Value::Null)),
        ]
    }

    proptest! {
        #[test]
        fn round_trips(cells in proptest::collection::vec(cell(), 0..20)) {
            let (types, values): (Vec<_>, Vec<_>) = cells.into_iter().unzip();
            for (column_type, value) in types.iter().zip(&values) {
                prop_assert!(column_type.accepts(value.as_ref()));
            }
            prop_assert_eq!(decode(&encode(&types, &values), &types), Ok(values));
        }

        #[test]
        fn what_is_skipped_is_what_would_be_read(
            cells in proptest::collection::vec((cell(), any::<bool>()), 0..20),
        ) {
            let (cells, skipped): (Vec<_>, Vec<_>) = cells.into_iter().unzip();
            let (types, values): (Vec<_>, Vec<_>) = cells.into_iter().unzip();
            let row = encode(&types, &values);
            let mut reader = RowReader::new(&row).unwrap();
            for ((column_type, value), skipped) in types.iter().zip(&values).zip(skipped) {
                match skipped {
                    true => prop_assert_eq!(reader.skip(*column_type), Ok(())),
                    false => prop_assert_eq!(reader.next(*column_type).unwrap().to_owned(), value.clone()),
                }
            }
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn an_added_column_reads_as_null_and_changes_no_bytes(cells in proptest::collection::vec(cell(), 0..20)) {
            let (mut types, mut values): (Vec<_>, Vec<_>) = cells.into_iter().unzip();
            let before = encode(&types, &values);
            types.push(ColumnType::Utf8);
            values.push(Value::Null);
            prop_assert_eq!(encode(&types, &values), before.clone());
            prop_assert_eq!(decode(&before, &types), Ok(values));
        }

        #[test]
        fn heads_are_those_of_rows(present in proptest::collection::vec(any::<bool>(), 0..300)) {
            let mut bitmap = vec![0; present.len().div_ceil(8)];
            for slot in (0..present.len()).filter(|slot| present[*slot]) {
                bitmap[slot / 8] |= 1 << (slot % 8);
            }
            let slots = present.iter().rposition(|set| *set).map_or(0, |last| last + 1);
            let mut head = vec![0; head_length(slots)];
            prop_assert_eq!(write_head(&mut head, slots, &bitmap), head.len());
            let values = present.iter().map(|set| match set {
                true => Value::Text(String::new()),
                false => Value::Null,
            });
            let values: Vec<_> = values.collect();
            let row = encode(&vec![ColumnType::Utf8; present.len()], &values);
            prop_assert_eq!(&row[..head.len()], head);
        }

        #[test]
        fn damaged_rows_are_errors_not_panics(
            bytes: Vec<u8>,
            cells in proptest::collection::vec(cell(), 0..6),
        ) {
            let types: Vec<_> = cells.iter().map(|(t, _)| *t).collect();
            let _ = decode(&bytes, &types);
        }
    }
}
