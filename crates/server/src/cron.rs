//! When something is due: `minute hour day month weekday`, in a time zone.
//!
//! A time that a change of the clock leaves out is due as much later as the clock was put on; one that comes twice is
//! due once. Where the hour is `*` or a step of it, what is meant is an interval: it goes on in each hour that there is,
//! and is neither put off nor left out.

use std::collections::BTreeSet;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A time that recurs is looked for so far ahead: a 29 February on a Monday comes within 28 years, but for 1900 and
/// its like.
const YEARS: i64 = 41;

/// A rule for times that recur.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    minutes: BTreeSet<u8>,
    hours: BTreeSet<u8>,
    days: BTreeSet<u8>,
    months: BTreeSet<u8>,
    weekdays: BTreeSet<u8>,
    /// Whether the days of the month, and those of the week, are all.
    any_day: bool,
    any_weekday: bool,
    /// Whether the hours are an interval.
    is_interval: bool,
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Cron {
    /// Reads a rule: five fields, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    ///
    /// # Errors
    /// It is none, or never due.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = match text.trim() {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            text => text,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(format!(
                "{text:?} has {} fields and not five: minute hour day month weekday, as in \"30 2 * * *\"",
                fields.len()
            ));
        };
        let mut weekdays = set(weekday, "weekday", 0, 7, &WEEKDAYS, 0)?;
        if weekdays.remove(&7) {
            weekdays.insert(0);
        }
        let cron = Self {
            minutes: set(minute, "minute", 0, 59, &[], 0)?,
            hours: set(hour, "hour", 0, 23, &[], 0)?,
            days: set(day, "day", 1, 31, &[], 0)?,
            months: set(month, "month", 1, 12, &MONTHS, 1)?,
            weekdays,
            any_day: day.starts_with('*'),
            any_weekday: weekday.starts_with('*'),
            is_interval: hour.starts_with('*'),
        };
        if cron.next(Timestamp::UNIX_EPOCH, &TimeZone::UTC).is_none() {
            return Err(format!("{text:?} is never due"));
        }
        Ok(cron)
    }

    /// The first time after a moment; none where the calendar ends before.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut date = after.to_zoned(zone.clone()).date();
        // A day may reach into the next by a change of the clock.
        date = date.yesterday().unwrap_or(date);
        let last = date.checked_add(jiff::Span::new().years(YEARS)).ok()?;
        while date <= last {
            if self.has_day(date) {
                let due = if self.is_interval {
                    self.interval(date, after, zone)
                } else {
                    self.fixed(date, after, zone)
                };
                if due.is_some() {
                    return due;
                }
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// The last time that is not after `now` and after `since`, with how many there were; more than `most` are not
    /// counted.
    pub fn due(
        &self,
        since: Timestamp,
        now: Timestamp,
        zone: &TimeZone,
        most: u64,
    ) -> Option<(Timestamp, u64)> {
        const WINDOWS_H: [i64; 4] = [1, 24 * 2, 24 * 62, 24 * 366 * 41];
        let mut count = 0;
        let mut at = since;
        while count < most {
            match self.next(at, zone) {
                Some(next) if next <= now => at = next,
                _ => break,
            }
            count += 1;
        }
        if count < most {
            return (count > 0).then_some((at, count));
        }
        // Many were missed: the last is looked for from the end.
        for hours in WINDOWS_H {
            let start = now.checked_sub(SignedDuration::from_hours(hours));
            let mut at = start.unwrap_or(since).max(since);
            let mut last = None;
            while let Some(next) = self.next(at, zone).filter(|next| *next <= now) {
                at = next;
                last = Some(next);
            }
            if let Some(last) = last {
                return Some((last, count));
            }
        }
        None
    }

    /// Whether a day is one of the rule: as cron has it, one of either kind where both are named.
    fn has_day(&self, date: Date) -> bool {
        if !self.months.contains(&date.month().unsigned_abs()) {
            return false;
        }
        let of_month = self.days.contains(&date.day().unsigned_abs());
        let weekday = date.weekday().to_sunday_zero_offset().unsigned_abs();
        let of_week = self.weekdays.contains(&weekday);
        match (self.any_day, self.any_weekday) {
            (false, false) => of_month || of_week,
            _ => of_month && of_week,
        }
    }

    /// The first of fixed times of a day after a moment.
    fn fixed(&self, date: Date, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let times = self.hours.iter().flat_map(|hour| {
            let minutes = self.minutes.iter();
            minutes.map(move |minute| (*hour, *minute))
        });
        times
            .filter_map(|(hour, minute)| at(date, hour, minute, zone))
            .filter(|due| *due > after)
            .min()
    }

    /// The first of the minutes that there are in a day after a moment.
    fn interval(&self, date: Date, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let begin = at(date, 0, 0, zone)?;
        let end = at(date.tomorrow().ok()?, 0, 0, zone)?;
        let minute = SignedDuration::from_mins(1);
        let mut due = begin;
        if after >= begin {
            let passed = after.duration_since(begin).as_mins() + 1;
            due = begin.checked_add(SignedDuration::from_mins(passed)).ok()?;
        }
        while due < end {
            let time = due.to_zoned(zone.clone());
            let hour = time.hour().unsigned_abs();
            if self.hours.contains(&hour) && self.minutes.contains(&time.minute().unsigned_abs()) {
                return Some(due);
            }
            due = due.checked_add(minute).ok()?;
        }
        None
    }
}

/// A time of a day: of two the first, and of none as much later as the clock was put on.
fn at(date: Date, hour: u8, minute: u8, zone: &TimeZone) -> Option<Timestamp> {
    let (hour, minute) = (i8::try_from(hour).ok()?, i8::try_from(minute).ok()?);
    let time: DateTime = date.at(hour, minute, 0, 0);
    zone.to_ambiguous_timestamp(time).compatible().ok()
}

/// The values of a field: `*`, `5`, `1-5`, `*/15`, `mon-fri`, and lists of them.
fn set(
    field: &str,
    name: &str,
    least: u8,
    most: u8,
    names: &[&str],
    first: u8,
) -> Result<BTreeSet<u8>, String> {
    let wrong = || format!("{field:?} is no {name} from {least} to {most}");
    let value = |text: &str| -> Result<u8, String> {
        let lower = text.to_ascii_lowercase();
        if let Some(at) = names.iter().position(|name| *name == lower) {
            return u8::try_from(at).map(|at| at + first).map_err(|_| wrong());
        }
        let value: u8 = text.parse().map_err(|_| wrong())?;
        if (least..=most).contains(&value) {
            Ok(value)
        } else {
            Err(wrong())
        }
    };
    let mut values = BTreeSet::new();
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                let step: u8 = step.parse().map_err(|_| wrong())?;
                if step == 0 {
                    return Err(wrong());
                }
                (range, Some(step))
            }
            None => (part, None),
        };
        let (from, to) = match (range, range.split_once('-'), step) {
            ("*", _, _) => (least, if name == "weekday" { 6 } else { most }),
            (_, Some((from, to)), _) => (value(from)?, value(to)?),
            (_, None, None) => (value(range)?, value(range)?),
            (_, None, Some(_)) => (value(range)?, most),
        };
        if from > to {
            return Err(wrong());
        }
        // One that is never taken is a mistake: */70 is not every 70 minutes.
        if let Some(step) = step.filter(|step| *step > 1 && *step > to - from) {
            return Err(format!(
                "{part:?} of the {name} takes steps of {step}, and its range from {from} to {to} has no room for one"
            ));
        }
        values.extend((from..=to).step_by(usize::from(step.unwrap_or(1))));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(rule: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let cron = Cron::parse(rule).unwrap();
        let zone = TimeZone::get(zone).unwrap();
        let mut at: Timestamp = from.parse().unwrap();
        let mut due = Vec::new();
        for _ in 0..count {
            at = cron.next(at, &zone).unwrap();
            due.push(
                at.to_zoned(zone.clone())
                    .strftime("%m-%dT%H:%M%:z")
                    .to_string(),
            );
        }
        due
    }

    #[test]
    fn a_rule_is_due_at_its_times_and_no_others() {
        assert_eq!(
            due("30 2 * * mon-fri", "UTC", "2026-11-27T02:30:00Z", 2),
            ["11-30T02:30+00:00", "12-01T02:30+00:00"]
        );
        assert_eq!(
            due("*/20 8-9 1 jan *", "UTC", "2026-01-01T08:30:00Z", 3),
            [
                "01-01T08:40+00:00",
                "01-01T09:00+00:00",
                "01-01T09:20+00:00"
            ]
        );
        // A day of the month or of the week, where both are named.
        assert_eq!(
            due("0 0 13 * 5", "UTC", "2026-03-01T00:00:00Z", 3),
            [
                "03-06T00:00+00:00",
                "03-13T00:00+00:00",
                "03-20T00:00+00:00"
            ]
        );
        assert_eq!(
            due("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", 1),
            ["02-29T00:00+00:00"]
        );
        // A step to the end of its range is one that is taken.
        assert_eq!(
            due("*/59 */23 1 1 *", "UTC", "2026-01-01T00:00:00Z", 2),
            ["01-01T00:59+00:00", "01-01T23:00+00:00"]
        );
        assert_eq!(
            due("0 0 * * 7", "UTC", "2026-11-28T00:00:00Z", 1),
            ["11-29T00:00+00:00"]
        );
    }

    #[test]
    fn a_time_that_the_clock_leaves_out_is_due_later_and_one_that_comes_twice_once() {
        // The clock goes from 2:00 to 3:00 on 29 March 2026, and from 3:00 to 2:00 on 25 October.
        assert_eq!(
            due("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2),
            ["03-29T03:30+02:00", "03-30T02:30+02:00"]
        );
        assert_eq!(
            due("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
            ["10-25T02:30+02:00", "10-26T02:30+01:00"]
        );
    }

    #[test]
    fn an_interval_goes_on_through_a_change_of_the_clock() {
        assert_eq!(
            due("0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", 4),
            [
                "10-25T02:00+02:00",
                "10-25T02:00+01:00",
                "10-25T03:00+01:00",
                "10-25T04:00+01:00"
            ]
        );
        assert_eq!(
            due("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:15:00Z", 3),
            [
                "03-29T01:30+01:00",
                "03-29T03:00+02:00",
                "03-29T03:30+02:00"
            ]
        );
    }

    #[test]
    fn what_was_missed_is_counted_and_its_last_time_found() {
        let cron = Cron::parse("* * * * *").unwrap();
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let since = at("2026-01-01T00:00:00Z");
        let due = |now, most| cron.due(since, at(now), &TimeZone::UTC, most);
        assert_eq!(due("2026-01-01T00:00:59Z", 10), None);
        assert_eq!(
            due("2026-01-01T00:03:10Z", 10),
            Some((at("2026-01-01T00:03:00Z"), 3))
        );
        assert_eq!(
            due("2027-06-01T00:00:30Z", 10),
            Some((at("2027-06-01T00:00:00Z"), 10))
        );
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for rule in [
            "",
            "* * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "*/0 * * * *",
            "*/70 * * * *",
            "*/60 * * * *",
            "0 */24 * * *",
            "0 0 */31 * *",
            "0 0 1 */12 *",
            "0 0 * * */7",
            "10-20/11 * * * *",
            "50/10 * * * *",
            "5-1 * * * *",
            "0 0 30 2 *",
            "x * * * *",
            "@never",
            "-1 * * * *",
        ] {
            assert!(Cron::parse(rule).is_err(), "{rule}");
        }
    }
}
