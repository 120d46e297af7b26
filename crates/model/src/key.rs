//! Keys as bytes whose order is the order of the values, and ranges of them.
//!
//! A key is its columns one after the other:
//!
//! | value | bytes |
//! |---|---|
//! | NULL | `00`: before every other value |
//! | any other | `01`, then by type |
//! | Bool | `00` or `01` |
//! | signed integers, Date, Datetime, Timestamp | big-endian, sign bit flipped, in the type's width |
//! | unsigned integers | big-endian, in the type's width |
//! | Float, Double | IEEE bits big-endian; all flipped when negative, else the sign bit: IEEE total order |
//! | Utf8, String | the bytes with `00` written as `00 ff`, then `00 00` |
//! | Decimal | 16 bytes big-endian, sign bit flipped |
//! | Uuid | its 16 bytes |

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::Malformed;
use crate::value::{ColumnType, Value, ValueRef};

/// The most bytes a key may have; the store below refuses keys from 64 KiB on.
pub const MAX_KEY_BYTES: usize = 32 * 1024;

/// Stands for NULL.
pub const NULL: u8 = 0;
/// In front of every other value.
pub const PRESENT: u8 = 1;

/// Appends one key column. The value must be one the type [accepts](ColumnType::accepts).
///
/// # Panics
/// The value is not of the type: the caller has not checked it.
#[inline]
pub fn encode_column(out: &mut Vec<u8>, column_type: ColumnType, value: ValueRef<'_>) {
    use ColumnType as T;
    if value.is_null() {
        return out.push(NULL);
    }
    out.push(PRESENT);
    match (column_type, value) {
        (T::Bool, ValueRef::Bool(v)) => out.push(u8::from(v)),
        (T::Int8, ValueRef::Int(v)) => out.push((v as u8) ^ 0x80),
        (T::Int16, ValueRef::Int(v)) => {
            out.extend_from_slice(&((v as u16) ^ (1 << 15)).to_be_bytes());
        }
        (T::Int32 | T::Date, ValueRef::Int(v)) => {
            out.extend_from_slice(&((v as u32) ^ (1 << 31)).to_be_bytes());
        }
        (T::Int64 | T::Datetime | T::Timestamp, ValueRef::Int(v)) => {
            out.extend_from_slice(&((v as u64) ^ (1 << 63)).to_be_bytes());
        }
        (T::Uint8, ValueRef::Uint(v)) => out.push(v as u8),
        (T::Uint16, ValueRef::Uint(v)) => out.extend_from_slice(&(v as u16).to_be_bytes()),
        (T::Uint32, ValueRef::Uint(v)) => out.extend_from_slice(&(v as u32).to_be_bytes()),
        (T::Uint64, ValueRef::Uint(v)) => out.extend_from_slice(&v.to_be_bytes()),
        (T::Float, ValueRef::Float(v)) => {
            let bits = v.to_bits();
            let ordered = if bits >> 31 == 1 {
                !bits
            } else {
                bits | (1 << 31)
            };
            out.extend_from_slice(&ordered.to_be_bytes());
        }
        (T::Double, ValueRef::Double(v)) => {
            let bits = v.to_bits();
            let ordered = if bits >> 63 == 1 {
                !bits
            } else {
                bits | (1 << 63)
            };
            out.extend_from_slice(&ordered.to_be_bytes());
        }
        (T::Utf8, ValueRef::Text(v)) => encode_bytes(out, v.as_bytes()),
        (T::String, ValueRef::Bytes(v)) => encode_bytes(out, v),
        (T::Decimal { .. }, ValueRef::Decimal(v)) => {
            out.extend_from_slice(&((v as u128) ^ (1 << 127)).to_be_bytes());
        }
        (T::Uuid, ValueRef::Uuid(v)) => out.extend_from_slice(&v),
        (column_type, value) => panic!("a key column of type {column_type} was given {value:?}"),
    }
}

fn encode_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

/// Bytes of the cell that text or bytes are in a key, without the mark before it.
#[inline]
pub fn text_length(text: &[u8]) -> usize {
    text.len() + text.iter().filter(|byte| **byte == 0).count() + 2
}

/// Writes text or bytes as the cell of a key, without the mark before it, and returns how many
/// bytes that took.
///
/// # Panics
/// `out` is shorter than the [`text_length`].
#[inline]
pub fn write_text(out: &mut [u8], text: &[u8]) -> usize {
    let mut end = 0;
    for (at, part) in text.split(|byte| *byte == 0).enumerate() {
        if at > 0 {
            out[end..end + 2].copy_from_slice(&[0, 0xff]);
            end += 2;
        }
        out[end..end + part.len()].copy_from_slice(part);
        end += part.len();
    }
    out[end..end + 2].copy_from_slice(&[0, 0]);
    end + 2
}

/// The key of some values, one per key column or fewer for a prefix.
///
/// # Panics
/// As [`encode_column`].
pub fn encode<'a>(types: &[ColumnType], values: impl IntoIterator<Item = ValueRef<'a>>) -> Vec<u8> {
    let mut out = Vec::with_capacity(types.len() * 10);
    for (column_type, value) in types.iter().zip(values) {
        encode_column(&mut out, *column_type, value);
    }
    out
}

/// Takes one column off the front of `bytes`. Text and bytes that hold a zero byte go through
/// `scratch`; all other values are read in place.
///
/// # Errors
/// The bytes are not a column of this type.
#[inline]
pub fn decode_column<'s, 'a: 's>(
    bytes: &mut &'a [u8],
    column_type: ColumnType,
    scratch: &'s mut Vec<u8>,
) -> Result<ValueRef<'s>, Malformed> {
    use ColumnType as T;
    let [mark] = take(bytes)?;
    match mark {
        NULL => return Ok(ValueRef::Null),
        PRESENT => {}
        other => {
            return Err(Malformed::new(
                "key",
                format!("column begins with {other:#04x}"),
            ));
        }
    }
    Ok(match column_type {
        T::Bool => match take(bytes)? {
            [0] => ValueRef::Bool(false),
            [1] => ValueRef::Bool(true),
            [other] => return Err(Malformed::new("key", format!("Bool of {other}"))),
        },
        T::Int8 => ValueRef::Int(i64::from((u8::from_be_bytes(take(bytes)?) ^ 0x80) as i8)),
        T::Int16 => ValueRef::Int(i64::from(
            (u16::from_be_bytes(take(bytes)?) ^ (1 << 15)) as i16,
        )),
        T::Int32 | T::Date => ValueRef::Int(i64::from(
            (u32::from_be_bytes(take(bytes)?) ^ (1 << 31)) as i32,
        )),
        T::Int64 | T::Datetime | T::Timestamp => {
            ValueRef::Int((u64::from_be_bytes(take(bytes)?) ^ (1 << 63)) as i64)
        }
        T::Uint8 => ValueRef::Uint(u64::from(u8::from_be_bytes(take(bytes)?))),
        T::Uint16 => ValueRef::Uint(u64::from(u16::from_be_bytes(take(bytes)?))),
        T::Uint32 => ValueRef::Uint(u64::from(u32::from_be_bytes(take(bytes)?))),
        T::Uint64 => ValueRef::Uint(u64::from_be_bytes(take(bytes)?)),
        T::Float => {
            let ordered = u32::from_be_bytes(take(bytes)?);
            let bits = if ordered >> 31 == 1 {
                ordered ^ (1 << 31)
            } else {
                !ordered
            };
            ValueRef::Float(f32::from_bits(bits))
        }
        T::Double => {
            let ordered = u64::from_be_bytes(take(bytes)?);
            let bits = if ordered >> 63 == 1 {
                ordered ^ (1 << 63)
            } else {
                !ordered
            };
            ValueRef::Double(f64::from_bits(bits))
        }
        T::Utf8 => {
            let raw = decode_bytes(bytes, scratch)?;
            ValueRef::Text(
                std::str::from_utf8(raw)
                    .map_err(|error| Malformed::new("key", error.to_string()))?,
            )
        }
        T::String => ValueRef::Bytes(decode_bytes(bytes, scratch)?),
        T::Decimal { .. } => {
            ValueRef::Decimal((u128::from_be_bytes(take(bytes)?) ^ (1 << 127)) as i128)
        }
        T::Uuid => ValueRef::Uuid(take(bytes)?),
        T::Json => return Err(Malformed::new("key", "a Json column")),
    })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (head, rest) = bytes
        .split_first_chunk::<N>()
        .ok_or_else(|| Malformed::new("key", "cut off"))?;
    *bytes = rest;
    Ok(*head)
}

fn decode_bytes<'s, 'a: 's>(
    bytes: &mut &'a [u8],
    scratch: &'s mut Vec<u8>,
) -> Result<&'s [u8], Malformed> {
    let all = *bytes;
    let mut from = 0;
    let mut escaped = false;
    loop {
        let zero = all[from..]
            .iter()
            .position(|byte| *byte == 0)
            .map(|at| from + at)
            .ok_or_else(|| Malformed::new("key", "text without end"))?;
        match all.get(zero + 1) {
            Some(0) => {
                *bytes = &all[zero + 2..];
                if !escaped {
                    return Ok(&all[..zero]);
                }
                scratch.extend_from_slice(&all[from..zero]);
                return Ok(scratch);
            }
            Some(0xff) => {
                if !escaped {
                    escaped = true;
                    scratch.clear();
                }
                scratch.extend_from_slice(&all[from..=zero]);
                from = zero + 2;
            }
            _ => return Err(Malformed::new("key", "zero byte without escape")),
        }
    }
}

/// The values of a key, or of a prefix of one.
///
/// # Errors
/// The bytes are not a key of these types.
pub fn decode(mut bytes: &[u8], types: &[ColumnType]) -> Result<Vec<Value>, Malformed> {
    let mut values = Vec::with_capacity(types.len());
    let mut scratch = Vec::new();
    for column_type in types {
        if bytes.is_empty() {
            break;
        }
        values.push(decode_column(&mut bytes, *column_type, &mut scratch)?.to_owned());
    }
    if bytes.is_empty() {
        Ok(values)
    } else {
        Err(Malformed::new("key", "bytes after the last column"))
    }
}

/// The keys from `start` on and below `end`; no `end` means all.
///
/// Serialised with both ends as hex digits; no `end` is `null`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyRange {
    /// The first key that belongs to the range.
    #[serde(with = "hex_bytes")]
    pub start: Vec<u8>,
    /// The first key after the range.
    #[serde(with = "hex_option")]
    pub end: Option<Vec<u8>>,
}

impl KeyRange {
    /// Every key.
    pub fn all() -> Self {
        Self::default()
    }

    /// The keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        let mut end = prefix.to_vec();
        while let Some(last) = end.pop() {
            if last < 0xff {
                end.push(last + 1);
                return Self {
                    start: prefix.to_vec(),
                    end: Some(end),
                };
            }
        }
        Self {
            start: prefix.to_vec(),
            end: None,
        }
    }

    /// The range of one key.
    pub fn only(key: &[u8]) -> Self {
        Self {
            start: key.to_vec(),
            // The least key behind it.
            end: Some([key, &[0]].concat()),
        }
    }

    /// Whether `key` is in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.locate(key) == Ordering::Equal
    }

    /// Where `key` lies: before the range (`Less`), in it, or after it (`Greater`).
    pub fn locate(&self, key: &[u8]) -> Ordering {
        if key < self.start.as_slice() {
            Ordering::Less
        } else if self.end.as_deref().is_some_and(|end| key >= end) {
            Ordering::Greater
        } else {
            Ordering::Equal
        }
    }

    /// Whether it has keys from `key` on, or would, were it not empty.
    pub fn ends_behind(&self, key: &[u8]) -> bool {
        self.end.as_deref().is_none_or(|end| key < end)
    }

    /// Whether no key can be in it.
    pub fn is_empty(&self) -> bool {
        self.end
            .as_deref()
            .is_some_and(|end| end <= self.start.as_slice())
    }

    /// The keys that are in both.
    pub fn intersect(&self, other: &Self) -> Self {
        let end = match (&self.end, &other.end) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.as_ref().or(b.as_ref()),
        };
        Self {
            start: self.start.clone().max(other.start.clone()),
            end: end.cloned(),
        }
    }

    /// The ranges that `points` cut all keys into; points are sorted and made unique first.
    pub fn split_at(mut points: Vec<Vec<u8>>) -> Vec<Self> {
        points.sort();
        points.dedup();
        points.retain(|point| !point.is_empty());
        let starts = std::iter::once(Vec::new()).chain(points.iter().cloned());
        let ends = points
            .iter()
            .cloned()
            .map(Some)
            .chain(std::iter::once(None));
        starts
            .zip(ends)
            .map(|(start, end)| Self { start, end })
            .collect()
    }
}

/// Bytes as lower-case hex digits.
pub fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
            let _ = write!(out, "{byte:02x}");
            out
        })
}

/// The bytes that [`to_hex`] wrote.
///
/// # Errors
/// Something else than pairs of hex digits.
pub fn from_hex(text: &str) -> Result<Vec<u8>, Malformed> {
    let bad = || Malformed::new("hex digits", format!("{text:?}"));
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return Err(bad());
    }
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).map_err(|_| bad()))
        .collect()
}

/// Serde for bytes as hex digits.
pub mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes hex digits.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::to_hex(bytes))
    }

    /// Reads hex digits.
    ///
    /// # Errors
    /// Something else than pairs of hex digits.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        super::from_hex(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Serde for optional bytes as hex digits or null.
pub mod hex_option {
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes hex digits or null.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => serializer.serialize_some(&super::to_hex(bytes)),
            None => serializer.serialize_none(),
        }
    }

    /// Reads hex digits or null.
    ///
    /// # Errors
    /// Something else than pairs of hex digits.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|text| super::from_hex(&text).map_err(serde::de::Error::custom))
            .transpose()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every type that can be a key, with values of it, in the order the field expects.
    pub(crate) fn column() -> impl Strategy<Value = (ColumnType, Value, Value)> {
        use ColumnType as T;
        let int = |t, range: std::ops::RangeInclusive<i64>| {
            (range.clone(), range)
                .prop_map(move |(a, b)| (t, Value::Int(a), Value::Int(b)))
                .boxed()
        };
        let uint = |t, max: u64| {
            (0..=max, 0..=max)
                .prop_map(move |(a, b)| (t, Value::Uint(a), Value::Uint(b)))
                .boxed()
        };
        prop_oneof![
            any::<(bool, bool)>().prop_map(|(a, b)| (T::Bool, Value::Bool(a), Value::Bool(b))),
            int(T::Int8, i8::MIN.into()..=i8::MAX.into()),
            int(T::Int16, i16::MIN.into()..=i16::MAX.into()),
            int(T::Int32, i32::MIN.into()..=i32::MAX.into()),
            int(T::Date, i32::MIN.into()..=i32::MAX.into()),
            int(T::Int64, i64::MIN..=i64::MAX),
            int(T::Timestamp, i64::MIN..=i64::MAX),
            uint(T::Uint8, u8::MAX.into()),
            uint(T::Uint16, u16::MAX.into()),
            uint(T::Uint32, u32::MAX.into()),
            uint(T::Uint64, u64::MAX),
            any::<(f32, f32)>().prop_map(|(a, b)| (T::Float, Value::Float(a), Value::Float(b))),
            any::<(f64, f64)>().prop_map(|(a, b)| (T::Double, Value::Double(a), Value::Double(b))),
            ("[\\x00-\\x03a]{0,5}", "[\\x00-\\x03a]{0,5}").prop_map(|(a, b)| (
                T::Utf8,
                Value::Text(a),
                Value::Text(b)
            )),
            (
                proptest::collection::vec(0u8..3, 0..5),
                proptest::collection::vec(0u8..3, 0..5)
            )
                .prop_map(|(a, b)| (T::String, Value::Bytes(a), Value::Bytes(b))),
            any::<(i128, i128)>().prop_map(|(a, b)| (
                T::Decimal {
                    precision: 38,
                    scale: 9
                },
                Value::Decimal(a),
                Value::Decimal(b)
            )),
            any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (
                T::Uuid,
                Value::Uuid(a),
                Value::Uuid(b)
            )),
            any::<i64>().prop_map(|a| (T::Int64, Value::Null, Value::Int(a))),
        ]
    }

    fn order(a: &Value, b: &Value) -> Ordering {
        match (a, b) {
            (Value::Null, Value::Null) => Ordering::Equal,
            (Value::Null, _) => Ordering::Less,
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Int(a), Value::Int(b)) => a.cmp(b),
            (Value::Uint(a), Value::Uint(b)) => a.cmp(b),
            (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
            (Value::Double(a), Value::Double(b)) => a.total_cmp(b),
            (Value::Text(a), Value::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
            (Value::Decimal(a), Value::Decimal(b)) => a.cmp(b),
            (Value::Uuid(a), Value::Uuid(b)) => a.cmp(b),
            other => panic!("values of different types {other:?}"),
        }
    }

    proptest! {
        #[test]
        fn byte_order_is_key_order(columns in proptest::collection::vec(column(), 1..5)) {
            let types: Vec<_> = columns.iter().map(|(t, _, _)| *t).collect();
            let a: Vec<_> = columns.iter().map(|(_, a, _)| a.clone()).collect();
            let b: Vec<_> = columns.iter().map(|(_, _, b)| b.clone()).collect();
            let expected = a
                .iter()
                .zip(&b)
                .map(|(a, b)| order(a, b))
                .find(|o| o.is_ne())
                .unwrap_or(Ordering::Equal);
            let key_a = encode(&types, a.iter().map(Value::as_ref));
            let key_b = encode(&types, b.iter().map(Value::as_ref));
            prop_assert_eq!(key_a.cmp(&key_b), expected);
            prop_assert_eq!(decode(&key_a, &types), Ok(a));
        }

        #[test]
        fn damaged_keys_are_errors_not_panics(bytes: Vec<u8>, columns in proptest::collection::vec(column(), 1..4)) {
            let types: Vec<_> = columns.iter().map(|(t, _, _)| *t).collect();
            let _ = decode(&bytes, &types);
        }

        #[test]
        fn a_prefix_range_holds_what_begins_with_it(prefix: Vec<u8>, key: Vec<u8>) {
            prop_assert_eq!(KeyRange::prefix(&prefix).contains(&key), key.starts_with(&prefix));
        }

        #[test]
        fn ranges_of_split_points_cover_each_key_once(points: Vec<Vec<u8>>, key: Vec<u8>) {
            let ranges = KeyRange::split_at(points);
            prop_assert_eq!(ranges.iter().filter(|range| range.contains(&key)).count(), 1);
            let json = serde_json::to_string(&ranges).unwrap();
            prop_assert_eq!(serde_json::from_str::<Vec<KeyRange>>(&json).unwrap(), ranges);
        }
    }
}
