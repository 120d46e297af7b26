//! Values as the server sends and takes them in binary, and as rows of mendb have them.
//!
//! | type of the server | column of mendb |
//! |---|---|
//! | boolean, smallint, integer, bigint, real, double precision | Bool, Int16, Int32, Int64, Float, Double |
//! | text, varchar, char(n) | Utf8; the padding of char(n) is kept |
//! | bytea, uuid | String, Uuid |
//! | date, timestamp, timestamptz | Date, Timestamp; the infinities are the least and the greatest number |
//! | numeric(p,s) with p up to 38 | Decimal(p,s) |
//! | json, jsonb | Json |
//! | all others | String: the bytes that the server sends |

use mendb_model::value::{ColumnType, ValueRef};
use serde::{Deserialize, Serialize};

use super::numeric;

/// From the epoch of the server, 2000-01-01, to that of mendb, 1970-01-01.
const DAYS: i32 = 10_957;
const MICROSECONDS: i64 = 946_684_800_000_000;
/// In front of the text of a jsonb.
const JSONB_VERSION: u8 = 1;

/// How values of a column travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Wire {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Text,
    /// Text whose trailing blanks do not count when it is compared.
    PaddedText,
    Bytes,
    Uuid,
    Date,
    Timestamp,
    Numeric {
        precision: u8,
        scale: u8,
    },
    Json,
    Jsonb,
    /// Only carried.
    Native,
}

impl Wire {
    /// The type of the column.
    pub(super) fn column_type(self) -> ColumnType {
        match self {
            Self::Bool => ColumnType::Bool,
            Self::Int2 => ColumnType::Int16,
            Self::Int4 => ColumnType::Int32,
            Self::Int8 => ColumnType::Int64,
            Self::Float4 => ColumnType::Float,
            Self::Float8 => ColumnType::Double,
            Self::Text | Self::PaddedText => ColumnType::Utf8,
            Self::Bytes | Self::Native => ColumnType::String,
            Self::Uuid => ColumnType::Uuid,
            Self::Date => ColumnType::Date,
            Self::Timestamp => ColumnType::Timestamp,
            Self::Numeric { precision, scale } => ColumnType::Decimal { precision, scale },
            Self::Json | Self::Jsonb => ColumnType::Json,
        }
    }

    /// Whether values that the server takes for equal have equal bytes, and the order of bytes is one that the
    /// server can read rows in: then it can be in a key.
    pub(super) fn can_be_key(self) -> bool {
        !matches!(
            self,
            Self::Float4
                | Self::Float8
                | Self::PaddedText
                | Self::Json
                | Self::Jsonb
                | Self::Native
        )
    }

    /// Reads a value that is not NULL.
    ///
    /// # Errors
    /// What it is instead.
    #[inline]
    pub(super) fn decode(self, bytes: &[u8]) -> Result<ValueRef<'_>, String> {
        Ok(match self {
            Self::Bool => ValueRef::Bool(array::<1>(bytes)? != [0]),
            Self::Int2 => ValueRef::Int(i64::from(i16::from_be_bytes(array(bytes)?))),
            Self::Int4 => ValueRef::Int(i64::from(i32::from_be_bytes(array(bytes)?))),
            Self::Int8 => ValueRef::Int(i64::from_be_bytes(array(bytes)?)),
            Self::Float4 => ValueRef::Float(f32::from_be_bytes(array(bytes)?)),
            Self::Float8 => ValueRef::Double(f64::from_be_bytes(array(bytes)?)),
            Self::Text | Self::PaddedText | Self::Json => ValueRef::Text(utf8(bytes)?),
            Self::Jsonb => match bytes.split_first() {
                Some((&JSONB_VERSION, text)) => ValueRef::Text(utf8(text)?),
                _ => return Err("a jsonb of an unknown version".to_owned()),
            },
            Self::Bytes | Self::Native => ValueRef::Bytes(bytes),
            Self::Uuid => ValueRef::Uuid(array(bytes)?),
            Self::Date => ValueRef::Int(i64::from(match i32::from_be_bytes(array(bytes)?) {
                infinity @ (i32::MIN | i32::MAX) => infinity,
                days => days
                    .checked_add(DAYS)
                    .ok_or("a date beyond those of mendb")?,
            })),
            Self::Timestamp => ValueRef::Int(match i64::from_be_bytes(array(bytes)?) {
                infinity @ (i64::MIN | i64::MAX) => infinity,
                at => {
                    let at = at.checked_add(MICROSECONDS).filter(|at| *at != i64::MAX);
                    at.ok_or("a time beyond the year 294246, the last that mendb has")?
                }
            }),
            Self::Numeric { scale, .. } => ValueRef::Decimal(numeric::decode(bytes, scale)?),
        })
    }

    /// Appends a value as a field: its length, and itself.
    ///
    /// # Errors
    /// It is none of the column.
    pub(super) fn encode(self, out: &mut Vec<u8>, value: ValueRef<'_>) -> Result<(), String> {
        if value.is_null() {
            out.extend_from_slice(&(-1i32).to_be_bytes());
            return Ok(());
        }
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        match (self, value) {
            (Self::Bool, ValueRef::Bool(v)) => out.push(u8::from(v)),
            (Self::Int2, ValueRef::Int(v)) => {
                out.extend_from_slice(&narrow::<i16>(v)?.to_be_bytes());
            }
            (Self::Int4, ValueRef::Int(v)) => {
                out.extend_from_slice(&narrow::<i32>(v)?.to_be_bytes());
            }
            (Self::Int8, ValueRef::Int(v)) => out.extend_from_slice(&v.to_be_bytes()),
            (Self::Float4, ValueRef::Float(v)) => out.extend_from_slice(&v.to_be_bytes()),
            (Self::Float8, ValueRef::Double(v)) => out.extend_from_slice(&v.to_be_bytes()),
            (Self::Text | Self::PaddedText | Self::Json, ValueRef::Text(v)) => {
                out.extend_from_slice(v.as_bytes());
            }
            (Self::Jsonb, ValueRef::Text(v)) => {
                out.push(JSONB_VERSION);
                out.extend_from_slice(v.as_bytes());
            }
            (Self::Bytes | Self::Native, ValueRef::Bytes(v)) => out.extend_from_slice(v),
            (Self::Uuid, ValueRef::Uuid(v)) => out.extend_from_slice(&v),
            (Self::Date, ValueRef::Int(v)) => {
                let days = match narrow::<i32>(v)? {
                    infinity @ (i32::MIN | i32::MAX) => infinity,
                    days => days
                        .checked_sub(DAYS)
                        .ok_or("a date beyond those of the server")?,
                };
                out.extend_from_slice(&days.to_be_bytes());
            }
            (Self::Timestamp, ValueRef::Int(v)) => {
                let at = match v {
                    infinity @ (i64::MIN | i64::MAX) => infinity,
                    at => at
                        .checked_sub(MICROSECONDS)
                        .ok_or("a time beyond those of the server")?,
                };
                out.extend_from_slice(&at.to_be_bytes());
            }
            (Self::Numeric { scale, .. }, ValueRef::Decimal(v)) => numeric::encode(out, v, scale),
            (wire, value) => return Err(format!("{value:?} is no value of a column {wire:?}")),
        }
        let length =
            i32::try_from(out.len() - start - 4).map_err(|_| "a value of 2 GiB or more")?;
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }
}

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], String> {
    bytes
        .try_into()
        .map_err(|_| format!("{} bytes instead of {N}", bytes.len()))
}

fn utf8(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "text that is not UTF-8".to_owned())
}

fn narrow<T: TryFrom<i64>>(value: i64) -> Result<T, String> {
    T::try_from(value).map_err(|_| format!("{value}, which is too large"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn comes_back(wire: Wire, value: ValueRef<'_>) {
        let mut out = Vec::new();
        wire.encode(&mut out, value).unwrap();
        let length = i32::from_be_bytes(out[..4].try_into().unwrap());
        assert_eq!(length as usize, out.len() - 4);
        assert_eq!(wire.decode(&out[4..]).unwrap(), value);
    }

    proptest! {
        #[test]
        fn values_come_back(
            number: i32, time in -200_000_000_000_000_000i64..9_000_000_000_000_000_000, text: String, bytes: Vec<u8>,
            float: u64,
        ) {
            comes_back(Wire::Int4, ValueRef::Int(number.into()));
            comes_back(Wire::Int8, ValueRef::Int(time));
            comes_back(Wire::Date, ValueRef::Int(i64::from(number.max(-2_000_000_000))));
            comes_back(Wire::Timestamp, ValueRef::Int(time));
            comes_back(Wire::Text, ValueRef::Text(&text));
            comes_back(Wire::Jsonb, ValueRef::Text(&text));
            comes_back(Wire::Native, ValueRef::Bytes(&bytes));
            comes_back(Wire::Float8, ValueRef::Double(f64::from_bits(float)));
        }
    }

    #[test]
    fn infinities_are_the_ends_of_time() {
        for end in [i64::MIN, i64::MAX] {
            comes_back(Wire::Timestamp, ValueRef::Int(end));
            assert_eq!(
                Wire::Timestamp.decode(&end.to_be_bytes()),
                Ok(ValueRef::Int(end))
            );
        }
        for end in [i32::MIN, i32::MAX] {
            comes_back(Wire::Date, ValueRef::Int(end.into()));
        }
        // 2000-01-01 is the 10957th day.
        assert_eq!(Wire::Date.decode(&[0; 4]).unwrap(), ValueRef::Int(10_957));
        assert!(
            Wire::Timestamp
                .decode(&(i64::MAX - 1).to_be_bytes())
                .is_err()
        );
    }
}
