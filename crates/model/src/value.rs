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
