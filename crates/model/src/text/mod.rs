//! Values as text: what a user types for a split point and reads in an export.
//!
//! Date `2013-01-31`, Datetime `2013-01-31T05:00:00Z`, Timestamp `2013-01-31T05:00:00.123456Z`
//! (fraction only when there is one), String bytes `\x00ff`, Uuid with hyphens, floats in the
//! shortest form that reads back to the same bits. A date too far off for a calendar is `@` and its
//! number. NULL has no text.
//!
//! What is read is the value that is written, or it is refused: no digit, fraction of a second or time
//! of day is dropped. Float and Double alone take the nearest value, since that is what they are for,
//! and refuse what would become infinite or zero. [`TextRules`] are for those who want it otherwise.

mod number;
mod time;

use jiff::civil::{self, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span};
use serde::de::IgnoredAny;

use crate::key::{from_hex, to_hex};
use crate::value::{ColumnType, Value, ValueRef};
pub use number::Number;
use time::EPOCH;
pub use time::{Offset, TimeText};

/// Text that is not a value of a type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a value of type {column_type}{misfit}")]
pub struct NotAValue {
    /// What was given.
    pub text: String,
    /// What was wanted.
    pub column_type: ColumnType,
    /// Why it is none.
    pub misfit: Misfit,
}

/// Why text is not a value of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// It is written otherwise.
    Form,
    /// It is beyond the least or greatest value.
    Range,
    /// It has digits that the type does not hold.
    Digits,
    /// It is nearer to zero than any value but zero.
    TooSmall,
    /// It has a time of day or an offset, and the type is a date.
    TimeOfDay,
    /// The clocks of the time zone showed it twice, or never.
    Ambiguous,
    /// It is no JSON.
    Json,
}

impl Misfit {
    /// Whether [`TextRules::round`] takes such a value.
    pub fn can_be_rounded(self) -> bool {
        matches!(self, Self::Digits | Self::TooSmall | Self::TimeOfDay)
    }
}

impl std::fmt::Display for Misfit {
    /// Follows the words "not a value of type T".
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Form => "",
            Self::Range => ": it is out of range",
            Self::Digits => ": it has more digits than the type holds",
            Self::TooSmall => ": it is too close to zero",
            Self::TimeOfDay => ": it has a time of day or an offset",
            Self::Ambiguous => {
                ": the clocks of the time zone show it twice or never; write its offset"
            }
            Self::Json => ": it is no JSON",
        })
    }
}

/// What becomes of text that says more than its type holds, or less.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TextRules {
    /// Takes the nearest value where the type does not hold all digits; of a time, a Date takes the
    /// day.
    pub round: bool,
    /// The zone of times that are written without an offset; without it UTC.
    pub zone: Option<TimeZone>,
    /// Whether a comma stands before the fraction of a number, and no point.
    pub decimal_comma: bool,
}

impl TextRules {
    /// Nothing is rounded, times without an offset are UTC, numbers have a point.
    pub const EXACT: Self = Self {
        round: false,
        zone: None,
        decimal_comma: false,
    };
}

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

/// Reads a value of a type, exactly: see [`TextRules::EXACT`].
///
/// Also takes a space for the `T` of a date and time, a missing `Z`, offsets (`+02:00`), midnight for a
/// Date, `t`/`f`, `0`/`1` and `yes`/`no` for Bool, numbers with an exponent or with a fraction of
/// zeros for integers, and text without `\x` for the bytes of a String.
///
/// # Errors
/// The text is no value of the type, or one that the type does not hold.
pub fn parse(text: &str, column_type: ColumnType) -> Result<Value, NotAValue> {
    parse_by(text, column_type, &TextRules::EXACT)
}

/// Reads a value of a type by other rules than [`parse`].
///
/// # Errors
/// As [`parse`].
pub fn parse_by(
    text: &str,
    column_type: ColumnType,
    rules: &TextRules,
) -> Result<Value, NotAValue> {
    let value = read(text, column_type, rules);
    let misfit = match value {
        Ok(value) if column_type.accepts(value.as_ref()) => return Ok(value),
        Ok(_) => Misfit::Range,
        Err(misfit) => misfit,
    };
    Err(NotAValue {
        text: text.to_owned(),
        column_type,
        misfit,
    })
}

fn read(text: &str, column_type: ColumnType, rules: &TextRules) -> Result<Value, Misfit> {
    use ColumnType as T;
    let trimmed = text.trim();
    let round = rules.round;
    let zone = rules.zone.as_ref();
    let point = if rules.decimal_comma { ',' } else { '.' };
    let scaled = |scale| {
        let number = Number::read(trimmed, point).ok_or(Misfit::Form)?;
        number.scaled(scale, round)
    };
    let time = || TimeText::read(trimmed).ok_or(Misfit::Form);
    let range = |_| Misfit::Range;
    Ok(match column_type {
        T::Bool => Value::Bool(match trimmed.to_ascii_lowercase().as_str() {
            "true" | "t" | "1" | "yes" => true,
            "false" | "f" | "0" | "no" => false,
            _ => return Err(Misfit::Form),
        }),
        // Most are plain digits.
        T::Int8 | T::Int16 | T::Int32 | T::Int64 => Value::Int(match trimmed.parse() {
            Ok(plain) => plain,
            Err(_) => scaled(0)?.try_into().map_err(range)?,
        }),
        T::Uint8 | T::Uint16 | T::Uint32 | T::Uint64 => Value::Uint(match trimmed.parse() {
            Ok(plain) => plain,
            Err(_) => scaled(0)?.try_into().map_err(range)?,
        }),
        T::Float => Value::Float(number::float(trimmed, point, round)?),
        T::Double => Value::Double(number::float(trimmed, point, round)?),
        T::Utf8 => Value::Text(text.to_owned()),
        T::Json => read_json(trimmed)?,
        T::String => Value::Bytes(match text.strip_prefix("\\x") {
            Some(hex) => from_hex(hex).map_err(|_| Misfit::Form)?,
            None => text.as_bytes().to_vec(),
        }),
        T::Date | T::Datetime | T::Timestamp if trimmed.starts_with('@') => {
            Value::Int(trimmed[1..].parse().map_err(|_| Misfit::Form)?)
        }
        T::Date => Value::Int(time()?.days(round)?),
        T::Datetime => Value::Int(time()?.seconds(zone, round)?),
        T::Timestamp => Value::Int(time()?.micros(zone, round)?),
        T::Decimal { scale, .. } => Value::Decimal(scaled(scale)?),
        T::Uuid => {
            let uuid = uuid::Uuid::try_parse(trimmed).map_err(|_| Misfit::Form)?;
            Value::Uuid(uuid.into_bytes())
        }
    })
}

/// JSON as it stands, on one line: line ends can only be space between its tokens. `null` is NULL, so
/// that a column has one way to say that there is nothing.
fn read_json(text: &str) -> Result<Value, Misfit> {
    if text == "null" {
        return Ok(Value::Null);
    }
    serde_json::from_str::<IgnoredAny>(text).map_err(|_| Misfit::Json)?;
    Ok(Value::Text(text.replace(['\n', '\r'], " ")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back((column_type, value) in crate::row::tests::cell()) {
            let Some(text) = format(value.as_ref(), column_type) else { return Ok(()) };
            if column_type == ColumnType::Json {
                // Generated as any text; what JSON is kept has a test of its own.
                return Ok(());
            }
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
            "\"300\" is not a value of type Uint8: it is out of range"
        );
        assert_eq!(
            format(ValueRef::Int(0), ColumnType::Timestamp).as_deref(),
            Some("1970-01-01T00:00:00Z")
        );
    }

    #[test]
    fn nothing_is_dropped_to_make_a_value_fit() {
        use ColumnType as T;
        for (text, column_type, misfit) in [
            ("2020-01-01 23:30:00", T::Date, Misfit::TimeOfDay),
            ("2020-01-01T00:00:00-05:00", T::Date, Misfit::TimeOfDay),
            ("2020-01-01T00:00:00.999999Z", T::Datetime, Misfit::Digits),
            (
                "2020-01-01T00:00:00.123456789Z",
                T::Timestamp,
                Misfit::Digits,
            ),
            (
                "2020-06-01T12:00:00[Europe/Paris]",
                T::Timestamp,
                Misfit::Form,
            ),
            ("1e400", T::Double, Misfit::Range),
            ("1e39", T::Float, Misfit::Range),
            ("1e-50", T::Float, Misfit::TooSmall),
            ("1.5", T::Int64, Misfit::Digits),
            ("256", T::Uint8, Misfit::Range),
            ("-1", T::Uint8, Misfit::Range),
            ("plain", T::Json, Misfit::Json),
        ] {
            let error = parse(text, column_type).unwrap_err();
            assert_eq!(error.misfit, misfit, "{text} as {column_type}");
            let rounded = TextRules {
                round: true,
                ..TextRules::EXACT
            };
            let rounded = parse_by(text, column_type, &rounded);
            assert_eq!(rounded.is_ok(), misfit.can_be_rounded(), "{text} rounded");
        }
        assert_eq!(
            parse("2020-01-01 00:00:00", T::Date),
            Ok(Value::Int(18_262))
        );
        assert_eq!(parse("5.0", T::Int64), Ok(Value::Int(5)));
    }

    #[test]
    fn json_is_kept_on_one_line() {
        let read = |text| parse(text, ColumnType::Json);
        let text = |text: &str| Ok(Value::Text(text.to_owned()));
        assert_eq!(
            read(" {\"b\": 1.50,\r\n\"a\":[ ]}\n"),
            text("{\"b\": 1.50,  \"a\":[ ]}")
        );
        assert_eq!(read("\"5\""), text("\"5\""));
        assert_eq!(read("1e400"), text("1e400"));
        assert_eq!(read("null"), Ok(Value::Null));
        for bad in ["", "{\"a\":1", "'a'", "1 2", "NaN", "\"a\nb\""] {
            assert_eq!(read(bad).unwrap_err().misfit, Misfit::Json, "{bad}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read(&deep), text(&deep));
    }

    proptest! {
        /// Whatever is written, the value that is read is written as the same number or time.
        #[test]
        fn what_is_read_is_what_was_written(
            text in prop_oneof![
                "[+-]?[0-9]{0,22}[.]?[0-9]{0,12}",
                "[+-]?[0-9]{1,3}[.]?[0-9]{0,3}[eE][+-]?[0-9]{1,2}",
                "20[0-9]{2}-0[1-9]-[0-2][0-9][T ][01][0-9]:[0-5][0-9](:[0-5][0-9]([.][0-9]{0,10})?)?(Z|[+-]0[0-9]:?[0-5]0)?",
            ],
            (column_type, _) in crate::row::tests::cell(),
        ) {
            use ColumnType as T;
            let Ok(value) = parse(&text, column_type) else { return Ok(()) };
            let shown = format(value.as_ref(), column_type).unwrap_or_default();
            match column_type {
                T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::Uint8 | T::Uint16 | T::Uint32
                | T::Uint64 | T::Decimal { .. } => {
                    let number = |text| Number::read(text, '.').unwrap().scaled(38, false);
                    // Beyond an i128 at that scale the digits before the point are compared.
                    match (number(shown.as_str()), number(text.as_str())) {
                        (Err(Misfit::Range), Err(Misfit::Range)) => {}
                        (shown, text) => prop_assert_eq!(shown, text),
                    }
                }
                T::Date | T::Datetime | T::Timestamp => {
                    // A Timestamp holds what both say, and a nanosecond more in neither.
                    prop_assert_eq!(
                        parse(&shown, T::Timestamp).unwrap(),
                        parse(&text, T::Timestamp).unwrap(),
                        "{} {}", shown, text
                    );
                }
                T::Double => {
                    // The standard library reads the nearest value.
                    let nearest: f64 = text.parse().unwrap();
                    prop_assert_eq!(value, Value::Double(nearest));
                    let is_zero = Number::read(&text, '.').unwrap().is_zero();
                    prop_assert!(nearest.is_finite() && (nearest != 0.0 || is_zero));
                }
                _ => {}
            }
        }
    }
}
