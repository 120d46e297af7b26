//! Values as text: what a user types for a split point and reads in an export.
//!
//! Date `2013-01-31`, Datetime `2013-01-31T05:00:00Z`, Timestamp `2013-01-31T05:00:00.123456Z`
//! (fraction only when there is one), String bytes `\x00ff`, Uuid with hyphens, floats in the
//! shortest form that reads back to the same bits. A date too far off for a calendar is `@` and its
//! number. NULL has no text.

use jiff::civil::{self, DateTime};
use jiff::{SignedDuration, Span, Timestamp};

use crate::key::{from_hex, to_hex};
use crate::value::{ColumnType, Value, ValueRef};

/// Text that is not a value of a type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a value of type {column_type}")]
pub struct NotAValue {
    /// What was given.
    pub text: String,
    /// What was wanted.
    pub column_type: ColumnType,
}

const EPOCH: civil::Date = civil::date(1970, 1, 1);

/// The text of a value; `None` for NULL. A value of another type than the column's is shown as it is.
pub fn format(value: ValueRef<'_>, column_type: ColumnType) -> Option<String> {
    use ColumnType as T;
    Some(match (value, column_type) {
        (ValueRef::Null, _) => return None,
        (ValueRef::Bool(v), _) => v.to_string(),
        (ValueRef::Int(days), T::Date) => {
            calendar(days, |days| Some(civil_date(days)?.to_string()))
        }
        (ValueRef::Int(seconds), T::Datetime) => calendar(seconds, |s| {
            Some(format!(
                "{:.0}Z",
                after_epoch(SignedDuration::from_secs(s))?
            ))
        }),
        (ValueRef::Int(micros), T::Timestamp) => calendar(micros, |us| {
            Some(format!(
                "{}Z",
                after_epoch(SignedDuration::from_micros(us))?
            ))
        }),
        (ValueRef::Int(v), _) => v.to_string(),
        (ValueRef::Uint(v), _) => v.to_string(),
        (ValueRef::Float(v), _) => float(f64::from(v), format!("{v}"), format!("{v:e}")),
        (ValueRef::Double(v), _) => float(v, format!("{v}"), format!("{v:e}")),
        (ValueRef::Text(v), _) => v.to_owned(),
        (ValueRef::Bytes(v), _) => format!("\\x{}", to_hex(v)),
        (ValueRef::Decimal(v), T::Decimal { scale, .. }) => decimal(v, scale),
        (ValueRef::Decimal(v), _) => v.to_string(),
        (ValueRef::Uuid(v), _) => uuid::Uuid::from_bytes(v).to_string(),
    })
}

fn civil_date(days: i64) -> Option<civil::Date> {
    EPOCH.checked_add(Span::new().try_days(days).ok()?).ok()
}

fn after_epoch(duration: SignedDuration) -> Option<DateTime> {
    EPOCH.at(0, 0, 0, 0).checked_add(duration).ok()
}

/// A point in time, or its number when `show` finds it beyond the calendar (years -9999 to 9999).
fn calendar(number: i64, show: impl Fn(i64) -> Option<String>) -> String {
    show(number).unwrap_or_else(|| format!("@{number}"))
}

/// Plain digits where they stay short, an exponent where they would not.
fn float(v: f64, plain: String, exponent: String) -> String {
    let magnitude = v.abs();
    let short = magnitude == 0.0 || (1e-7..1e16).contains(&magnitude) || !v.is_finite();
    if short { plain } else { exponent }
}

fn decimal(scaled: i128, scale: u8) -> String {
    let sign = if scaled < 0 { "-" } else { "" };
    let digits = scaled.unsigned_abs().to_string();
    let scale = usize::from(scale);
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    if scale == 0 {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{fraction}")
    }
}

/// Reads a value of a type.
///
/// Also takes a space for the `T` of a date and time, a missing `Z`, offsets (`+02:00`), `t`/`f`,
/// `0`/`1` and `yes`/`no` for Bool, and text without `\x` for the bytes of a String.
///
/// # Errors
/// The text is no value of the type, or out of its range.
pub fn parse(text: &str, column_type: ColumnType) -> Result<Value, NotAValue> {
    let not_a_value = || NotAValue {
        text: text.to_owned(),
        column_type,
    };
    let value = read(text, column_type).ok_or_else(not_a_value)?;
    if column_type.accepts(value.as_ref()) {
        Ok(value)
    } else {
        Err(not_a_value())
    }
}

fn read(text: &str, column_type: ColumnType) -> Option<Value> {
    use ColumnType as T;
    let trimmed = text.trim();
    Some(match column_type {
        T::Bool => Value::Bool(match trimmed.to_ascii_lowercase().as_str() {
            "true" | "t" | "1" | "yes" => true,
            "false" | "f" | "0" | "no" => false,
            _ => return None,
        }),
        T::Int8 | T::Int16 | T::Int32 | T::Int64 => Value::Int(trimmed.parse().ok()?),
        T::Uint8 | T::Uint16 | T::Uint32 | T::Uint64 => Value::Uint(trimmed.parse().ok()?),
        T::Float => Value::Float(trimmed.parse().ok()?),
        T::Double => Value::Double(trimmed.parse().ok()?),
        T::Utf8 | T::Json => Value::Text(text.to_owned()),
        T::String => Value::Bytes(match text.strip_prefix("\\x") {
            Some(hex) => from_hex(hex).ok()?,
            None => text.as_bytes().to_vec(),
        }),
        T::Date | T::Datetime | T::Timestamp if trimmed.starts_with('@') => {
            Value::Int(trimmed[1..].parse().ok()?)
        }
        T::Date => {
            let date: civil::Date = trimmed.parse().ok()?;
            Value::Int(EPOCH.until(date).ok()?.get_days().into())
        }
        T::Datetime => Value::Int(instant(trimmed)?.as_secs()),
        T::Timestamp => Value::Int(instant(trimmed)?.as_micros().try_into().ok()?),
        T::Decimal { scale, .. } => Value::Decimal(read_decimal(trimmed, scale)?),
        T::Uuid => Value::Uuid(uuid::Uuid::try_parse(trimmed).ok()?.into_bytes()),
    })
}

/// The time since 1970 of a time with an offset, or without one of a time of day or a date in UTC.
fn instant(text: &str) -> Option<SignedDuration> {
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp.as_duration());
    }
    // A timestamp ends a day before the calendar; `9999-12-31T23:59:59Z` stands for never in many tables.
    let utc: DateTime = text.strip_suffix('Z').unwrap_or(text).parse().ok()?;
    Some(utc.duration_since(EPOCH.at(0, 0, 0, 0)))
}

fn read_decimal(text: &str, scale: u8) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let scale = usize::from(scale);
    let kept = fraction.get(..scale.min(fraction.len()))?;
    let all_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let exact = fraction[kept.len()..].bytes().all(|b| b == b'0');
    if (whole.is_empty() && fraction.is_empty())
        || !all_digits(whole)
        || !all_digits(kept)
        || !exact
    {
        return None;
    }
    let magnitude: i128 = format!("0{whole}{kept:0<scale$}").parse().ok()?;
    Some(if negative { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back((column_type, value) in crate::row::tests::cell()) {
            let Some(text) = format(value.as_ref(), column_type) else { return Ok(()) };
            let is_nan = matches!(value, Value::Float(v) if v.is_nan())
                || matches!(value, Value::Double(v) if v.is_nan());
            if is_nan {
                prop_assert!(parse(&text, column_type).is_ok());
            } else {
                prop_assert_eq!(parse(&text, column_type), Ok(value));
            }
        }

        #[test]
        fn any_text_is_a_value_or_an_error(text in ".{0,20}", (column_type, _) in crate::row::tests::cell()) {
            let _ = parse(&text, column_type);
        }
    }

    #[test]
    fn people_write_values_in_several_ways() {
        let int = |text, column_type| parse(text, column_type);
        assert_eq!(int("2013-01-01", ColumnType::Date), Ok(Value::Int(15706)));
        for text in [
            "2013-01-01T05:00:00Z",
            "2013-01-01 05:00:00",
            "2013-01-01T07:00:00+02:00",
        ] {
            assert_eq!(
                int(text, ColumnType::Datetime),
                Ok(Value::Int(1_357_016_400)),
                "{text}"
            );
        }
        let money = ColumnType::Decimal {
            precision: 12,
            scale: 2,
        };
        assert_eq!(parse("-0.5", money), Ok(Value::Decimal(-50)));
        assert_eq!(
            format(ValueRef::Decimal(-50), money).as_deref(),
            Some("-0.50")
        );
        let last = Ok(Value::Int(253_402_300_799));
        assert_eq!(int("9999-12-31T23:59:59Z", ColumnType::Datetime), last);
        assert!(parse("0.505", money).is_err(), "digits are never dropped");
        assert_eq!(
            parse("300", ColumnType::Uint8).unwrap_err().to_string(),
            "\"300\" is not a value of type Uint8"
        );
        assert_eq!(
            format(ValueRef::Int(0), ColumnType::Timestamp).as_deref(),
            Some("1970-01-01T00:00:00Z")
        );
    }
}
