//! Column types and the values they hold.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The type of a column.
///
/// Serialised as its name: `"Int64"`, `"Decimal(22,9)"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ColumnType {
    /// True or false.
    Bool,
    /// Signed, 8 bits.
    Int8,
    /// Signed, 16 bits.
    Int16,
    /// Signed, 32 bits.
    Int32,
    /// Signed, 64 bits.
    Int64,
    /// Unsigned, 8 bits.
    Uint8,
    /// Unsigned, 16 bits.
    Uint16,
    /// Unsigned, 32 bits.
    Uint32,
    /// Unsigned, 64 bits.
    Uint64,
    /// IEEE 754, 32 bits.
    Float,
    /// IEEE 754, 64 bits.
    Double,
    /// Text in UTF-8.
    Utf8,
    /// Any bytes.
    String,
    /// JSON kept as the text it came as; cannot be part of a key.
    Json,
    /// Days since 1970-01-01, negative before.
    Date,
    /// Seconds since 1970-01-01T00:00:00Z.
    Datetime,
    /// Microseconds since 1970-01-01T00:00:00Z.
    Timestamp,
    /// A decimal of `precision` digits, `scale` of them after the point, held as a scaled integer.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, at most `precision`.
        scale: u8,
    },
    /// 16 bytes, RFC 9562.
    Uuid,
}

/// A value of a column, owned.
///
/// `Int` carries every signed integer type and also Date (days), Datetime (seconds) and Timestamp
/// (microseconds); `Text` carries Utf8 and Json; `Decimal` the scaled integer.
/// Floating point values are equal when their bits are.
#[derive(Debug, Clone, Default)]
#[expect(
    missing_docs,
    reason = "the type's own text says what each variant carries"
)]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f32),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    Decimal(i128),
    Uuid([u8; 16]),
}

/// A value of a column, borrowed from where it is stored. The variants are those of [`Value`].
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the variants are those of Value")]
pub enum ValueRef<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f32),
    Double(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Decimal(i128),
    Uuid([u8; 16]),
}

impl Value {
    /// The same value, borrowed.
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Null => ValueRef::Null,
            Self::Bool(v) => ValueRef::Bool(*v),
            Self::Int(v) => ValueRef::Int(*v),
            Self::Uint(v) => ValueRef::Uint(*v),
            Self::Float(v) => ValueRef::Float(*v),
            Self::Double(v) => ValueRef::Double(*v),
            Self::Text(v) => ValueRef::Text(v),
            Self::Bytes(v) => ValueRef::Bytes(v),
            Self::Decimal(v) => ValueRef::Decimal(*v),
            Self::Uuid(v) => ValueRef::Uuid(*v),
        }
    }

    /// Whether this is NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}

impl Eq for Value {}

impl PartialEq for ValueRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Uint(a), Self::Uint(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Double(a), Self::Double(b)) => a.to_bits() == b.to_bits(),
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Decimal(a), Self::Decimal(b)) => a == b,
            (Self::Uuid(a), Self::Uuid(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for ValueRef<'_> {}

impl ValueRef<'_> {
    /// An owned copy.
    pub fn to_owned(&self) -> Value {
        match *self {
            Self::Null => Value::Null,
            Self::Bool(v) => Value::Bool(v),
            Self::Int(v) => Value::Int(v),
            Self::Uint(v) => Value::Uint(v),
            Self::Float(v) => Value::Float(v),
            Self::Double(v) => Value::Double(v),
            Self::Text(v) => Value::Text(v.into()),
            Self::Bytes(v) => Value::Bytes(v.into()),
            Self::Decimal(v) => Value::Decimal(v),
            Self::Uuid(v) => Value::Uuid(v),
        }
    }

    /// Whether this is NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

impl ColumnType {
    /// Whether a column of this type can be part of a key.
    pub fn can_be_key(self) -> bool {
        self != Self::Json
    }

    /// Whether `value` can be stored in a column of this type. NULL always can; the column decides.
    pub fn accepts(self, value: ValueRef<'_>) -> bool {
        use ColumnType as T;
        match (self, value) {
            (_, ValueRef::Null)
            | (T::Bool, ValueRef::Bool(_))
            | (T::Int64 | T::Datetime | T::Timestamp, ValueRef::Int(_))
            | (T::Uint64, ValueRef::Uint(_))
            | (T::Float, ValueRef::Float(_))
            | (T::Double, ValueRef::Double(_))
            | (T::Utf8 | T::Json, ValueRef::Text(_))
            | (T::String, ValueRef::Bytes(_))
            | (T::Uuid, ValueRef::Uuid(_)) => true,
            (T::Int8, ValueRef::Int(v)) => i8::try_from(v).is_ok(),
            (T::Int16, ValueRef::Int(v)) => i16::try_from(v).is_ok(),
            (T::Int32 | T::Date, ValueRef::Int(v)) => i32::try_from(v).is_ok(),
            (T::Uint8, ValueRef::Uint(v)) => u8::try_from(v).is_ok(),
            (T::Uint16, ValueRef::Uint(v)) => u16::try_from(v).is_ok(),
            (T::Uint32, ValueRef::Uint(v)) => u32::try_from(v).is_ok(),
            (T::Decimal { precision, .. }, ValueRef::Decimal(v)) => {
                v.unsigned_abs() < 10u128.pow(u32::from(precision))
            }
            _ => false,
        }
    }
}

impl<'a> From<&'a Value> for ValueRef<'a> {
    #[inline]
    fn from(value: &'a Value) -> Self {
        value.as_ref()
    }
}

impl<'a> From<&ValueRef<'a>> for ValueRef<'a> {
    #[inline]
    fn from(value: &ValueRef<'a>) -> Self {
        *value
    }
}

/// A value whose cells all have the same length, written to a place known before: who holds values
/// column by column writes one column into all rows after the other. The bytes are those of
/// [`crate::key`] and [`crate::row`].
pub trait Fixed: Copy {
    /// Bytes of the cell in a row, and in a key behind [`crate::key::PRESENT`].
    const WIDTH: usize;

    /// Writes the cell of a row.
    ///
    /// # Panics
    /// `out` is not [`Self::WIDTH`] bytes long.
    fn write_row(self, out: &mut [u8]);

    /// Writes the cell of a key, without the mark before it.
    ///
    /// # Panics
    /// As [`Self::write_row`].
    fn write_key(self, out: &mut [u8]);
}

macro_rules! fixed_number {
    ($number:ty, $ordered:expr) => {
        impl Fixed for $number {
            const WIDTH: usize = size_of::<Self>();

            #[inline]
            fn write_row(self, out: &mut [u8]) {
                out.copy_from_slice(&self.to_le_bytes());
            }

            #[inline]
            fn write_key(self, out: &mut [u8]) {
                let ordered = $ordered;
                out.copy_from_slice(&ordered(self).to_be_bytes());
            }
        }
    };
}

fixed_number!(i8, |v: i8| v ^ i8::MIN);
fixed_number!(i16, |v: i16| v ^ i16::MIN);
fixed_number!(i32, |v: i32| v ^ i32::MIN);
fixed_number!(i64, |v: i64| v ^ i64::MIN);
fixed_number!(i128, |v: i128| v ^ i128::MIN);
fixed_number!(u8, |v: u8| v);
fixed_number!(u16, |v: u16| v);
fixed_number!(u32, |v: u32| v);
fixed_number!(u64, |v: u64| v);
fixed_number!(f32, |v: f32| {
    let bits = v.to_bits();
    let negative = bits >> 31 == 1;
    if negative { !bits } else { bits | (1 << 31) }
});
fixed_number!(f64, |v: f64| {
    let bits = v.to_bits();
    let negative = bits >> 63 == 1;
    if negative { !bits } else { bits | (1 << 63) }
});

impl Fixed for bool {
    const WIDTH: usize = 1;

    #[inline]
    fn write_row(self, out: &mut [u8]) {
        out.copy_from_slice(&[u8::from(self)]);
    }

    #[inline]
    fn write_key(self, out: &mut [u8]) {
        self.write_row(out);
    }
}

impl Fixed for [u8; 16] {
    const WIDTH: usize = 16;

    #[inline]
    fn write_row(self, out: &mut [u8]) {
        out.copy_from_slice(&self);
    }

    #[inline]
    fn write_key(self, out: &mut [u8]) {
        self.write_row(out);
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decimal { precision, scale } => write!(f, "Decimal({precision},{scale})"),
            simple => write!(f, "{simple:?}"),
        }
    }
}

/// A column type that is not one of mendb's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown column type {0:?}; the types are Bool, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, \
     Uint64, Float, Double, Utf8, String, Json, Date, Datetime, Timestamp, Decimal(p,s) and Uuid"
)]
pub struct UnknownType(String);

impl std::str::FromStr for ColumnType {
    type Err = UnknownType;

    /// Reads a type by name, in any case: `int64`, `Decimal(22,9)`.
    fn from_str(text: &str) -> Result<Self, UnknownType> {
        let unknown = || UnknownType(text.to_owned());
        let lower = text.trim().to_ascii_lowercase();
        if let Some(arguments) = lower.strip_prefix("decimal") {
            let (precision, scale) = arguments
                .trim()
                .strip_prefix('(')
                .and_then(|a| a.strip_suffix(')'))
                .and_then(|a| a.split_once(','))
                .ok_or_else(unknown)?;
            let precision: u8 = precision.trim().parse().map_err(|_| unknown())?;
            let scale: u8 = scale.trim().parse().map_err(|_| unknown())?;
            if !(1..=38).contains(&precision) || scale > precision {
                return Err(unknown());
            }
            return Ok(Self::Decimal { precision, scale });
        }
        Ok(match lower.as_str() {
            "bool" => Self::Bool,
            "int8" => Self::Int8,
            "int16" => Self::Int16,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "uint8" => Self::Uint8,
            "uint16" => Self::Uint16,
            "uint32" => Self::Uint32,
            "uint64" => Self::Uint64,
            "float" => Self::Float,
            "double" => Self::Double,
            "utf8" => Self::Utf8,
            "string" => Self::String,
            "json" => Self::Json,
            "date" => Self::Date,
            "datetime" => Self::Datetime,
            "timestamp" => Self::Timestamp,
            "uuid" => Self::Uuid,
            _ => return Err(unknown()),
        })
    }
}

impl TryFrom<String> for ColumnType {
    type Error = UnknownType;
    fn try_from(text: String) -> Result<Self, UnknownType> {
        text.parse()
    }
}

impl From<ColumnType> for String {
    fn from(column_type: ColumnType) -> Self {
        column_type.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::row::tests::cell;
    use crate::{key, row};

    fn fixed<T: Fixed>(value: T) -> (Vec<u8>, Vec<u8>) {
        let (mut in_row, mut in_key) = (vec![0; T::WIDTH], vec![0; T::WIDTH]);
        value.write_row(&mut in_row);
        value.write_key(&mut in_key);
        (in_row, in_key)
    }

    fn text(value: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut in_row = vec![0; row::text_length(value.len())];
        let mut in_key = vec![0; key::text_length(value)];
        assert_eq!(row::write_text(&mut in_row, value), in_row.len());
        assert_eq!(key::write_text(&mut in_key, value), in_key.len());
        (in_row, in_key)
    }

    /// The cell of a row and of a key, without what is in front of it.
    fn cells(column_type: ColumnType, value: &Value) -> (Vec<u8>, Vec<u8>) {
        use ColumnType as T;
        match (column_type, value) {
            (T::Int8, Value::Int(v)) => fixed(*v as i8),
            (T::Int16, Value::Int(v)) => fixed(*v as i16),
            (T::Int32 | T::Date, Value::Int(v)) => fixed(*v as i32),
            (_, Value::Int(v)) => fixed(*v),
            (T::Uint8, Value::Uint(v)) => fixed(*v as u8),
            (T::Uint16, Value::Uint(v)) => fixed(*v as u16),
            (T::Uint32, Value::Uint(v)) => fixed(*v as u32),
            (_, Value::Uint(v)) => fixed(*v),
            (_, Value::Bool(v)) => fixed(*v),
            (_, Value::Float(v)) => fixed(*v),
            (_, Value::Double(v)) => fixed(*v),
            (_, Value::Decimal(v)) => fixed(*v),
            (_, Value::Uuid(v)) => fixed(*v),
            (_, Value::Text(v)) => text(v.as_bytes()),
            (_, Value::Bytes(v)) => text(v),
            (_, Value::Null) => (Vec::new(), Vec::new()),
        }
    }

    proptest! {
        #[test]
        fn cells_are_those_of_keys_and_rows((column_type, value) in cell()) {
            let (in_row, in_key) = cells(column_type, &value);
            let head: &[u8] = if value.is_null() { &[0] } else { &[1, 1] };
            let expected = row::encode(&[column_type], std::slice::from_ref(&value));
            prop_assert_eq!([head, &in_row].concat(), expected);
            if column_type.can_be_key() {
                let mark = if value.is_null() { key::NULL } else { key::PRESENT };
                let expected = key::encode(&[column_type], [value.as_ref()]);
                prop_assert_eq!([&[mark], in_key.as_slice()].concat(), expected);
            }
        }
    }
}
