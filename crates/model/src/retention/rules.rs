//! The rules by which backups are wanted.

use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::Point;
use crate::name::matches;

/// A piece of the calendar, in UTC as the ids of backups are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// From one full hour to the next.
    Hour,
    /// From midnight to midnight.
    Day,
    /// Seven days from Monday on, as ISO 8601 counts them.
    Week,
    /// Of the Gregorian calendar.
    Month,
    /// Of the Gregorian calendar.
    Year,
}

impl Period {
    /// All, the shortest first.
    pub const ALL: [Self; 5] = [Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// How often there is one.
    fn adverb(self) -> &'static str {
        match self {
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        }
    }

    /// Which one a moment is in, in seconds since 1970: two moments are in the same one where the numbers are
    /// equal, and later ones have larger numbers.
    fn number(self, at_s: i64) -> (i64, i64) {
        let at = Timestamp::from_second(at_s).unwrap_or_default();
        let civil = TimeZone::UTC.to_datetime(at);
        let year = i64::from(civil.year());
        match self {
            Self::Hour => (at_s.div_euclid(3600), 0),
            Self::Day => (year, i64::from(civil.date().day_of_year())),
            Self::Week => {
                let week = civil.date().iso_week_date();
                (i64::from(week.year()), i64::from(week.week()))
            }
            Self::Month => (year, i64::from(civil.month())),
            Self::Year => (year, 0),
        }
    }
}

/// Which backups are kept. A backup that one rule wants is kept; the newest of a target always is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    /// So many of the newest.
    pub last: u32,
    /// Those that are at most so much older than the newest, in seconds.
    pub within_s: Option<i64>,
    /// The newest of each of so many periods that have one, counted from the newest period.
    pub periods: Vec<(Period, u32)>,
    /// Those whose label matches one of these comma-separated patterns with `*` and `?`.
    pub labels: Option<String>,
}

/// Why a backup is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "rule")]
pub enum Reason {
    /// It is the newest of its target.
    Newest,
    /// It is among the last.
    Last,
    /// It is not old enough.
    Within,
    /// It is the newest of its period.
    Period {
        /// The period.
        period: Period,
    },
    /// Its label is named.
    Label,
    /// It lacks something, and no backup after it is complete.
    NewerThanComplete,
    /// Backups that are kept stand on it, and it cannot be folded into one of them.
    Needed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => f.write_str("newest"),
            Self::Last => f.write_str("last"),
            Self::Within => f.write_str("within"),
            Self::Period { period } => f.write_str(period.name()),
            Self::Label => f.write_str("label"),
            Self::NewerThanComplete => f.write_str("newer than complete ones"),
            Self::Needed => f.write_str("others stand on it"),
        }
    }
}

/// As the options of `mendb prune`: rules that want the same have the same text.
impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut options = Vec::new();
        if self.last > 0 {
            options.push(format!("--keep-last {}", self.last));
        }
        match self.within_s {
            Some(seconds) if seconds % 3600 == 0 => {
                options.push(format!("--keep-within {}h", seconds / 3600));
            }
            Some(seconds) => options.push(format!("--keep-within {seconds}s")),
            None => {}
        }
        for (period, count) in self.periods.iter().filter(|(_, count)| *count > 0) {
            options.push(format!("--keep-{} {count}", period.adverb()));
        }
        if let Some(labels) = &self.labels {
            options.push(format!("--keep-label {labels:?}"));
        }
        f.write_str(&options.join(" "))
    }
}

impl Retention {
    /// Whether it wants nothing, so that only the newest would stay.
    pub fn is_empty(&self) -> bool {
        let counts = self.periods.iter().all(|(_, count)| *count == 0);
        self.last == 0 && self.within_s.is_none() && counts && self.labels.is_none()
    }

    /// Why each of these backups, oldest first, is wanted; nothing for one that is not. Backups that lack
    /// something are not counted, so that none of them pushes a complete one out.
    pub fn wanted(&self, points: &[Point]) -> Vec<Vec<Reason>> {
        let mut reasons = vec![Vec::new(); points.len()];
        let mut targets: Vec<Option<&str>> = points.iter().map(Point::target_id).collect();
        targets.sort_unstable();
        targets.dedup();
        for target in targets {
            let of_target = |at: &usize| points[*at].target_id() == target;
            let own: Vec<usize> = (0..points.len()).filter(of_target).collect();
            self.want(points, &own, &mut reasons);
        }
        reasons
    }

    /// The same for the backups of one target, given by their places.
    fn want(&self, points: &[Point], own: &[usize], reasons: &mut [Vec<Reason>]) {
        let is_complete = |at: &&usize| points[**at].is_complete;
        let complete: Vec<usize> = own.iter().filter(is_complete).copied().collect();
        let newest_complete = complete.last().copied();
        for at in own.iter().filter(|at| !points[**at].is_complete) {
            if newest_complete.is_none_or(|newest| *at > newest) {
                reasons[*at].push(Reason::NewerThanComplete);
            }
        }
        let Some(newest) = newest_complete else {
            return;
        };
        let at_s = |at: usize| points[at].backup_id.unix_seconds();
        reasons[newest].push(Reason::Newest);
        for at in complete.iter().rev().take(self.last as usize) {
            reasons[*at].push(Reason::Last);
        }
        if let Some(within_s) = self.within_s {
            let oldest_s = at_s(newest).saturating_sub(within_s);
            for at in complete.iter().filter(|at| at_s(**at) >= oldest_s) {
                reasons[*at].push(Reason::Within);
            }
        }
        for (period, count) in &self.periods {
            let mut left = *count;
            let mut last = None;
            for at in complete.iter().rev() {
                let number = period.number(at_s(*at));
                if left == 0 {
                    break;
                }
                if last != Some(number) {
                    last = Some(number);
                    left -= 1;
                    reasons[*at].push(Reason::Period { period: *period });
                }
            }
        }
        if let Some(patterns) = &self.labels {
            for at in own {
                let label = points[*at].label.as_deref();
                if label.is_some_and(|label| matches(patterns, label)) {
                    reasons[*at].push(Reason::Label);
                }
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::name::{BackupId, BackupKind};
    use crate::target::TargetMark;

    pub(in crate::retention) fn point(at_s: i64, parent: Option<i64>) -> Point {
        let id = |at_s, is_full: bool| {
            let kind = if is_full {
                BackupKind::Full
            } else {
                BackupKind::Incremental
            };
            BackupId::new(at_s, kind).unwrap()
        };
        Point {
            backup_id: id(at_s, parent.is_none()),
            label: None,
            target: None,
            // Whether the parent is a full one does not matter to what is tested.
            parent: parent.map(|at_s| id(at_s, at_s == 0)),
            is_complete: true,
        }
    }

    #[test]
    fn rules_that_want_the_same_have_the_same_text() {
        let rules = Retention {
            last: 7,
            within_s: Some(86_400),
            periods: vec![(Period::Day, 14), (Period::Week, 0), (Period::Month, 12)],
            labels: Some("release-*, v1".into()),
        };
        let text = "--keep-last 7 --keep-within 24h --keep-daily 14 --keep-monthly 12 --keep-label \"release-*, v1\"";
        assert_eq!(rules.to_string(), text);
        let mut less = rules;
        less.periods.retain(|(_, count)| *count > 0);
        assert_eq!(less.to_string(), text);
    }

    fn kept(rules: &Retention, points: &[Point]) -> Vec<usize> {
        let wanted = rules.wanted(points);
        (0..points.len())
            .filter(|at| !wanted[*at].is_empty())
            .collect()
    }

    const DAY_S: i64 = 86_400;

    #[test]
    fn weeks_begin_on_monday_and_the_last_days_of_december_may_be_of_the_next_year() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap().as_second();
        let sunday = at("2026-11-29T23:59:59Z");
        assert_ne!(Period::Week.number(sunday), Period::Week.number(sunday + 1));
        assert_eq!(
            Period::Week.number(sunday - 6 * DAY_S),
            Period::Week.number(sunday)
        );
        let new_year = at("2025-01-01T00:00:00Z");
        assert_eq!(
            Period::Week.number(new_year - DAY_S),
            Period::Week.number(new_year)
        );
        assert_ne!(
            Period::Year.number(new_year - 1),
            Period::Year.number(new_year)
        );
    }

    #[test]
    fn the_newest_of_each_target_is_kept_whatever_the_rules_say() {
        let mark = |id: &str| TargetMark {
            target_id: id.to_owned(),
            url: String::new(),
            host: None,
        };
        let mut points: Vec<_> = (0..4).map(|at| point(at * DAY_S, None)).collect();
        points[1].target = Some(mark("a"));
        points[2].target = Some(mark("b"));
        assert_eq!(kept(&Retention::default(), &points), [1, 2, 3]);
    }

    #[test]
    fn a_backup_that_lacks_something_pushes_no_complete_one_out() {
        let mut points: Vec<_> = (0..5).map(|at| point(at * DAY_S, None)).collect();
        points[2].is_complete = false;
        points[4].is_complete = false;
        let rules = Retention {
            last: 2,
            ..Retention::default()
        };
        assert_eq!(
            kept(&rules, &points),
            [1, 3, 4],
            "not 2, as 3 is complete and newer"
        );
    }

    #[test]
    fn a_label_is_kept_however_old() {
        let mut points: Vec<_> = (0..3).map(|at| point(at * DAY_S, None)).collect();
        points[0].label = Some("release-7".into());
        let rules = Retention {
            labels: Some("keep, release-*".into()),
            ..Retention::default()
        };
        assert_eq!(kept(&rules, &points), [0, 2]);
    }

    fn rules() -> impl Strategy<Value = Retention> {
        let periods =
            prop::collection::vec((prop::sample::select(&Period::ALL[..]), 0u32..5), 0..4);
        let within = prop::option::of(0i64..100 * DAY_S);
        (0u32..5, within, periods).prop_map(|(last, within_s, periods)| Retention {
            last,
            within_s,
            periods,
            labels: None,
        })
    }

    proptest! {
        /// Against the rules said word by word: a backup stays exactly if one of them wants it.
        #[test]
        fn what_is_kept_is_exactly_what_the_rules_say(
            rules in rules(),
            times in prop::collection::btree_set(0i64..900 * DAY_S, 1..60),
        ) {
            let times: Vec<i64> = times.into_iter().collect();
            let points: Vec<_> = times.iter().map(|at_s| point(*at_s, None)).collect();
            let newest = times[times.len() - 1];
            let expected = times.iter().enumerate().filter(|(at, time)| {
                let newer = times.len() - 1 - at;
                let of_period = |(period, count): &(Period, u32)| {
                    let number = period.number(**time);
                    let later = times[at + 1..].iter().map(|time| period.number(*time));
                    let later: HashSet<_> = later.collect();
                    !later.contains(&number) && later.len() < *count as usize
                };
                newer == 0
                    || newer < rules.last as usize
                    || rules.within_s.is_some_and(|within_s| newest - **time <= within_s)
                    || rules.periods.iter().any(of_period)
            });
            let expected: Vec<usize> = expected.map(|(at, _)| at).collect();
            prop_assert_eq!(kept(&rules, &points), expected);
        }
    }
}
