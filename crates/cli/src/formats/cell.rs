//! A value as a file holds it, and the one way from there into a column, for all formats: what the
//! column's type does not hold is refused, and not made to fit.

use mendb_model::text::{self, Misfit, TextRules};
use mendb_model::{ColumnType, Value};

const SECONDS_PER_DAY: i64 = 86_400;
/// Parquet has no finer times.
pub const NANOS_PER_SECOND: i64 = 1_000_000_000;
const NANOS_PER_MICROSECOND: i64 = 1_000;

/// A value of a file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    /// None.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// A float of 32 bits.
    Float(f32),
    /// A float of 64 bits.
    Double(f64),
    /// Text, also that of a number or a time.
    Text(&'a str),
    /// JSON, as it is written.
    Json(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Days since 1970-01-01.
    Days(i64),
    /// A point in time.
    Time {
        /// Nanoseconds since 1970-01-01T00:00:00.
        nanos: i128,
        /// Whether it is a time of some zone and not of UTC.
        local: bool,
    },
    /// A decimal.
    Decimal {
        /// The number without its point.
        scaled: i128,
        /// Digits after the point.
        scale: u8,
    },
}

impl Cell<'_> {
    /// The value of a column of a type.
    ///
    /// # Errors
    /// The type does not hold it, or only by the rules that were not asked for.
    pub fn value(&self, column_type: ColumnType, rules: &TextRules) -> Result<Value, Misfit> {
        use ColumnType as T;
        let value = match (*self, column_type) {
            (Self::Null, _) => Value::Null,
            (Self::Bool(v), T::Bool) => Value::Bool(v),
            (Self::Int(v), T::Date | T::Datetime | T::Timestamp) => {
                Value::Int(v.try_into().map_err(|_| Misfit::Range)?)
            }
            (Self::Float(v), T::Float) => Value::Float(v),
            (Self::Float(v), T::Double) => Value::Double(v.into()),
            (Self::Double(v), T::Double) => Value::Double(v),
            (Self::Double(v), T::Float) => Value::Float(nearest(v, rules.round)?),
            (Self::Json(_), T::Json) => self.read(column_type, rules)?,
            (Self::Json(_), _) => return Err(Misfit::Form),
            (Self::Bytes(v), T::String) => Value::Bytes(v.to_vec()),
            (Self::Bytes(v), T::Uuid) => Value::Uuid(v.try_into().map_err(|_| Misfit::Form)?),
            (Self::Bytes(v), T::Utf8 | T::Json) => {
                let text = std::str::from_utf8(v).map_err(|_| Misfit::Form)?;
                Cell::Text(text).value(column_type, rules)?
            }
            (Self::Days(v), T::Date) => Value::Int(v),
            (Self::Days(v), T::Datetime | T::Timestamp) if rules.zone.is_none() => {
                let nanos = i128::from(v) * i128::from(SECONDS_PER_DAY * NANOS_PER_SECOND);
                let local = false;
                Cell::Time { nanos, local }.value(column_type, rules)?
            }
            (Self::Time { nanos, local }, T::Date | T::Datetime | T::Timestamp)
                if !local || rules.zone.is_none() =>
            {
                match exact_time(nanos, column_type) {
                    Some(number) => Value::Int(number.try_into().map_err(|_| Misfit::Range)?),
                    None => self.read(column_type, rules)?,
                }
            }
            // It is known that the type holds what was read.
            _ => return self.read(column_type, rules),
        };
        if column_type.accepts(value.as_ref()) {
            Ok(value)
        } else {
            Err(Misfit::Range)
        }
    }

    /// By its text.
    fn read(&self, column_type: ColumnType, rules: &TextRules) -> Result<Value, Misfit> {
        let read = |text: &str| text::parse_by(text, column_type, rules).map_err(|e| e.misfit);
        match self {
            Self::Text(text) | Self::Json(text) => read(text),
            other => read(&other.to_text()),
        }
    }

    /// The value as a user would write it.
    pub fn to_text(self) -> String {
        let show = |value: Value, column_type| text::format(value.as_ref(), column_type);
        let shown = match self {
            Self::Null => None,
            Self::Bool(v) => Some(v.to_string()),
            Self::Int(v) => Some(v.to_string()),
            Self::Float(v) => show(Value::Float(v), ColumnType::Float),
            Self::Double(v) => show(Value::Double(v), ColumnType::Double),
            Self::Text(v) | Self::Json(v) => Some(v.to_owned()),
            Self::Bytes(v) => show(Value::Bytes(v.to_vec()), ColumnType::String),
            Self::Days(v) => show(Value::Int(v), ColumnType::Date),
            Self::Time { nanos, local } => Some(time_text(nanos, local)),
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

/// The nearest Float that is finite where `v` is.
fn nearest(v: f64, round: bool) -> Result<f32, Misfit> {
    let nearest = v as f32;
    if nearest.is_infinite() && v.is_finite() {
        Err(Misfit::Range)
    } else if nearest == 0.0 && v != 0.0 && !round {
        Err(Misfit::TooSmall)
    } else {
        Ok(nearest)
    }
}

/// The number that a time type holds for a time, where it holds it exactly.
fn exact_time(nanos: i128, column_type: ColumnType) -> Option<i128> {
    let unit = i128::from(match column_type {
        ColumnType::Date => SECONDS_PER_DAY * NANOS_PER_SECOND,
        ColumnType::Timestamp => NANOS_PER_MICROSECOND,
        _ => NANOS_PER_SECOND,
    });
    (nanos % unit == 0).then_some(nanos / unit)
}

/// A time with all its digits, whatever the calendar ends with, and without `Z` where it is local.
fn time_text(nanos: i128, local: bool) -> String {
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
    let utc = if local { "" } else { "Z" };
    match nanos.rem_euclid(per_second) {
        0 => format!("{second}{utc}"),
        fraction => {
            let digits = format!("{fraction:09}");
            format!("{second}.{}{utc}", digits.trim_end_matches('0'))
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    const ROUND: TextRules = TextRules {
        round: true,
        ..TextRules::EXACT
    };

    fn time(nanos: i128) -> Cell<'static> {
        let local = false;
        Cell::Time { nanos, local }
    }

    #[test]
    fn values_change_their_type_only_when_nothing_is_lost() {
        use ColumnType as T;
        let money = T::Decimal {
            precision: 5,
            scale: 2,
        };
        let decimal = |scaled, scale| Cell::Decimal { scaled, scale };
        let half = time(86_400_500_000_000);
        let far = Cell::Double(1e300);
        for (cell, column_type, expected) in [
            (Cell::Double(5.0), T::Int64, Ok(Value::Int(5))),
            (Cell::Double(5.5), T::Int64, Err(Misfit::Digits)),
            (Cell::Double(f64::NAN), T::Int64, Err(Misfit::Form)),
            (Cell::Double(0.1), T::Float, Ok(Value::Float(0.1))),
            (far, T::Float, Err(Misfit::Range)),
            (Cell::Double(1e-300), T::Float, Err(Misfit::TooSmall)),
            (
                Cell::Double(f64::INFINITY),
                T::Float,
                Ok(Value::Float(f32::INFINITY)),
            ),
            (Cell::Int(300), T::Uint8, Err(Misfit::Range)),
            (
                Cell::Int(1 << 53),
                T::Double,
                Ok(Value::Double(2f64.powi(53))),
            ),
            (Cell::Int(12), money, Ok(Value::Decimal(1200))),
            (Cell::Int(1000), money, Err(Misfit::Range)),
            (decimal(12_500, 4), money, Ok(Value::Decimal(125))),
            (decimal(12_501, 4), money, Err(Misfit::Digits)),
            (decimal(300, 2), T::Int8, Ok(Value::Int(3))),
            (decimal(125, 2), T::Double, Ok(Value::Double(1.25))),
            (half, T::Timestamp, Ok(Value::Int(86_400_500_000))),
            (half, T::Datetime, Err(Misfit::Digits)),
            (half, T::Date, Err(Misfit::TimeOfDay)),
            (time(1), T::Timestamp, Err(Misfit::Digits)),
            (
                time(i128::from(i64::MAX) * 1_000_000_000),
                T::Timestamp,
                Err(Misfit::Range),
            ),
            (Cell::Days(1), T::Datetime, Ok(Value::Int(86_400))),
            (Cell::Text("2013-01-31"), T::Date, Ok(Value::Int(15_736))),
            (Cell::Text("{}"), T::Json, Ok(Value::Text("{}".into()))),
            (Cell::Text("x"), T::Json, Err(Misfit::Json)),
            (Cell::Bytes(b"x"), T::Json, Err(Misfit::Json)),
            (Cell::Json("{}"), T::Utf8, Err(Misfit::Form)),
            (Cell::Bool(true), T::Int64, Err(Misfit::Form)),
        ] {
            let value = cell.value(column_type, &TextRules::EXACT);
            assert_eq!(value, expected, "{cell:?} as {column_type}");
            if let Err(misfit) = expected {
                let rounded = cell.value(column_type, &ROUND);
                assert_eq!(rounded.is_ok(), misfit.can_be_rounded(), "{cell:?} rounded");
            }
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
            assert_eq!(time(nanos).to_text(), shown);
        }
        assert_eq!(
            time(-1).value(ColumnType::Timestamp, &ROUND),
            Ok(Value::Int(0))
        );
    }

    #[test]
    fn a_time_without_zone_is_one_of_the_zone_asked_for() {
        let rules = TextRules {
            zone: Some(TimeZone::fixed(jiff::tz::offset(2))),
            ..TextRules::EXACT
        };
        let read = |cell: Cell<'_>| cell.value(ColumnType::Datetime, &rules);
        let local = Cell::Time {
            nanos: 0,
            local: true,
        };
        assert_eq!(read(local), Ok(Value::Int(-7200)));
        assert_eq!(read(time(0)), Ok(Value::Int(0)));
        assert_eq!(read(Cell::Days(0)), Ok(Value::Int(-7200)));
        assert_eq!(
            local.value(ColumnType::Datetime, &TextRules::EXACT),
            Ok(Value::Int(0))
        );
    }
}
