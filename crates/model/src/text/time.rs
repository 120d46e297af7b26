//! Dates and points in time as people write them, kept to the last digit until the type decides what
//! it holds.

use jiff::civil::{self, DateTime};
use jiff::tz::TimeZone;

use super::Misfit;

pub(super) const EPOCH: civil::Date = civil::date(1970, 1, 1);
const MICROS_PER_SECOND: i64 = 1_000_000;
/// Digits of a second's fraction that a Timestamp holds.
const MICROS_DIGITS: usize = 6;

/// `2013-01-31[ T]05:00[:00[.123]][Z| UTC|+02[[:]00]]`, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeText<'a> {
    /// The day.
    pub date: civil::Date,
    /// The time of day, without fractions of a second; `None` where only a date is written.
    pub time: Option<civil::Time>,
    /// The digits of the fraction of the second.
    pub fraction: &'a str,
    /// What is written of the offset.
    pub offset: Offset,
}

/// The offset of a time from UTC, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offset {
    /// None.
    Absent,
    /// `Z` or `UTC`.
    Utc,
    /// `+02:00`, in seconds to the east.
    Seconds(i64),
}

impl<'a> TimeText<'a> {
    /// Takes a date, or a date and time, apart. Whatever else stands there makes it none: a second of
    /// 60, the name of a time zone.
    pub fn read(text: &'a str) -> Option<Self> {
        let (date, rest) = read_date(text)?;
        if rest.is_empty() {
            return Some(Self {
                date,
                time: None,
                fraction: "",
                offset: Offset::Absent,
            });
        }
        let rest = rest.strip_prefix(['T', 't', ' '])?;
        let (hour, rest) = two_digits(rest)?;
        let (minute, rest) = two_digits(rest.strip_prefix(':')?)?;
        let (second, rest) = match rest.strip_prefix(':') {
            Some(rest) => two_digits(rest)?,
            None => (0, rest),
        };
        let (fraction, rest) = match rest.strip_prefix(['.', ',']) {
            Some(rest) => {
                let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                rest.split_at(digits)
            }
            None => ("", rest),
        };
        let time = civil::Time::new(hour, minute, second, 0).ok()?;
        Some(Self {
            date,
            time: Some(time),
            fraction,
            offset: read_offset(rest)?,
        })
    }

    /// Days since 1970-01-01. With `round` the time of day is dropped.
    ///
    /// # Errors
    /// A time of day other than midnight, or an offset, would be lost.
    pub(super) fn days(&self, round: bool) -> Result<i64, Misfit> {
        let is_midnight = self.time.is_none_or(|time| time == civil::Time::midnight())
            && self.fraction.bytes().all(|digit| digit == b'0');
        let in_utc = matches!(
            self.offset,
            Offset::Absent | Offset::Utc | Offset::Seconds(0)
        );
        if !(round || (is_midnight && in_utc)) {
            return Err(Misfit::TimeOfDay);
        }
        let days = EPOCH.until(self.date).map_err(|_| Misfit::Range)?;
        Ok(days.get_days().into())
    }

    /// Seconds since 1970-01-01T00:00:00Z; a time without an offset is one of `zone`, or of UTC. With
    /// `round` the nearest second.
    ///
    /// # Errors
    /// A fraction would be lost, or the time is none of the zone.
    pub(super) fn seconds(&self, zone: Option<&TimeZone>, round: bool) -> Result<i64, Misfit> {
        let up = self.rounds_up(0, round)?;
        Ok(self.whole_seconds(zone)? + i64::from(up))
    }

    /// The same in microseconds.
    ///
    /// # Errors
    /// As [`Self::seconds`].
    pub(super) fn micros(&self, zone: Option<&TimeZone>, round: bool) -> Result<i64, Misfit> {
        let kept = &self.fraction[..self.fraction.len().min(MICROS_DIGITS)];
        let up = self.rounds_up(kept.len(), round)?;
        let micros: i64 = format!("0{kept:0<MICROS_DIGITS$}")
            .parse()
            .map_err(|_| Misfit::Form)?;
        self.whole_seconds(zone)?
            .checked_mul(MICROS_PER_SECOND)
            .and_then(|whole| whole.checked_add(micros + i64::from(up)))
            .ok_or(Misfit::Range)
    }

    /// Whether a fraction of which the first digits are kept is nearer to the next value.
    fn rounds_up(&self, kept: usize, round: bool) -> Result<bool, Misfit> {
        let lost = &self.fraction.as_bytes()[kept..];
        if !round && lost.iter().any(|digit| *digit != b'0') {
            return Err(Misfit::Digits);
        }
        Ok(lost.first().is_some_and(|digit| *digit >= b'5'))
    }

    fn whole_seconds(&self, zone: Option<&TimeZone>) -> Result<i64, Misfit> {
        let civil = self.date.to_datetime(self.time.unwrap_or_default());
        let as_utc = |civil: DateTime| civil.duration_since(EPOCH.at(0, 0, 0, 0)).as_secs();
        match (self.offset, zone) {
            (Offset::Seconds(east), _) => Ok(as_utc(civil) - east),
            (Offset::Absent, Some(zone)) => {
                let ambiguous = zone.to_ambiguous_timestamp(civil);
                let there = ambiguous.unambiguous().map_err(|_| Misfit::Ambiguous)?;
                Ok(there.as_second())
            }
            (Offset::Absent | Offset::Utc, _) => Ok(as_utc(civil)),
        }
    }
}

/// `2013-01-31`, or with a sign and six digits of a year.
fn read_date(text: &str) -> Option<(civil::Date, &str)> {
    let (sign, year_digits, unsigned) = match text.as_bytes().first()? {
        b'-' => (-1, 6, &text[1..]),
        b'+' => (1, 6, &text[1..]),
        _ => (1, 4, text),
    };
    let (year, rest) = digits(unsigned, year_digits)?;
    let (month, rest) = two_digits(rest.strip_prefix('-')?)?;
    let (day, rest) = two_digits(rest.strip_prefix('-')?)?;
    let year = i16::try_from(year * sign).ok()?;
    Some((civil::Date::new(year, month, day).ok()?, rest))
}

fn read_offset(text: &str) -> Option<Offset> {
    let text = text.strip_prefix(' ').unwrap_or(text);
    let sign = match text.as_bytes().first() {
        None => return Some(Offset::Absent),
        Some(b'+') => 1,
        Some(b'-') => -1,
        Some(_) if text.eq_ignore_ascii_case("Z") || text.eq_ignore_ascii_case("UTC") => {
            return Some(Offset::Utc);
        }
        Some(_) => return None,
    };
    let (hours, rest) = two_digits(&text[1..])?;
    let (minutes, rest) = if rest.is_empty() {
        (0, rest)
    } else {
        two_digits(rest.strip_prefix(':').unwrap_or(rest))?
    };
    let sane = rest.is_empty() && hours < 24 && minutes < 60;
    let seconds = (i64::from(hours) * 60 + i64::from(minutes)) * 60;
    sane.then_some(Offset::Seconds(sign * seconds))
}

fn two_digits(text: &str) -> Option<(i8, &str)> {
    let (number, rest) = digits(text, 2)?;
    Some((i8::try_from(number).ok()?, rest))
}

fn digits(text: &str, count: usize) -> Option<(i32, &str)> {
    let (digits, rest) = text.split_at_checked(count)?;
    let all = digits.bytes().all(|byte| byte.is_ascii_digit());
    Some((all.then(|| digits.parse().ok())??, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<Result<i64, Misfit>> {
        Some(TimeText::read(text)?.seconds(None, false))
    }

    #[test]
    fn times_are_written_in_several_ways() {
        for text in [
            "2013-01-01T05:00:00Z",
            "2013-01-01 05:00",
            "2013-01-01 05:00:00 UTC",
            "2013-01-01t05:00:00.000z",
            "2013-01-01T07:00:00+02:00",
            "2013-01-01 07:00:00+0200",
            "2013-01-01T03:30:00-01:30",
            "2013-01-01 07:00:00+02",
        ] {
            assert_eq!(seconds(text), Some(Ok(1_357_016_400)), "{text}");
        }
        for text in [
            "2013-01-01T05:00:60Z",
            "2013-01-01T24:00:00Z",
            "2013-02-29T05:00:00Z",
            "2020-06-01T12:00:00[Europe/Paris]",
            "2020-06-01T12:00:00+02:00[Europe/Paris]",
            "2013-1-1",
            "2013-01-01T",
            "2013-01-01T05",
            "2013-01-01T05:00:00+24:00",
            "+2013-01-01",
            "２013-01-01",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_of_a_zone_that_is_twice_or_never_is_refused() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let read = |text| TimeText::read(text).unwrap().seconds(Some(&zone), false);
        assert_eq!(read("2024-07-01T02:00:00"), Ok(1_719_792_000));
        assert_eq!(read("2024-10-27T02:30:00"), Err(Misfit::Ambiguous));
        assert_eq!(read("2024-03-31T02:30:00"), Err(Misfit::Ambiguous));
        assert_eq!(read("2024-10-27T02:30:00+01:00"), Ok(1_729_992_600));
    }

    #[test]
    fn before_1970_a_fraction_still_counts_forward() {
        let read = |text| TimeText::read(text).unwrap();
        let before = read("1969-12-31T23:59:59.5Z");
        assert_eq!(before.micros(None, false), Ok(-500_000));
        assert_eq!(before.seconds(None, false), Err(Misfit::Digits));
        assert_eq!(before.seconds(None, true), Ok(0));
        let long = read("1969-12-31T23:59:59.9999999Z");
        assert_eq!(long.micros(None, false), Err(Misfit::Digits));
        assert_eq!(long.micros(None, true), Ok(0));
        assert_eq!(
            read("2020-01-01T00:00:00.1000000000000Z").micros(None, false),
            Ok(1_577_836_800_100_000)
        );
    }
}
