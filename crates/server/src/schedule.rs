//! What is due, decided by the time that it is told and by nothing else.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cron::Cron;
use crate::store::schedule::Schedule;

/// Missed times are counted up to this many.
const MOST_MISSED: u64 = 1000;

/// The most that times are put off: those that are put off at one moment are few, as a rule is due once a minute at most.
pub const MOST_JITTER_S: u32 = 3600;

/// What is to be done about a schedule now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Nothing until somebody resumes it.
    Paused,
    /// Nothing before that.
    Wait {
        /// When something is due, in milliseconds since 1970; never, where there is none.
        until_ms: Option<u64>,
    },
    /// To run what was due then. What was due before it is not caught up: one run stands for all.
    Run {
        /// When it was due.
        due_ms: u64,
        /// Times before it that were not run.
        missed: u64,
    },
}

/// The time zone of a name.
///
/// # Errors
/// There is none.
pub fn zone(name: &str) -> Result<TimeZone, String> {
    if name.eq_ignore_ascii_case("utc") {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|_| format!("{name:?} is no time zone, such as Europe/Paris"))
}

/// Decides. A clock that was set back lets wait until what was decided has passed again.
///
/// # Errors
/// The rule or its time zone cannot be read.
pub fn choose(schedule: &Schedule, now_ms: u64) -> Result<Choice, String> {
    let cron = Cron::parse(&schedule.cron)?;
    let zone = zone(&schedule.time_zone)?;
    if schedule.paused_at_ms.is_some() {
        return Ok(Choice::Paused);
    }
    let decided = timestamp(schedule.decided_ms);
    let mut until = timestamp(now_ms);
    let mut put_off: Option<u64> = None;
    // The last time that is due, unless it is put off; then the one before it, and so on: as many as jitter holds.
    while let Some((due, count)) = cron.due(decided, until, &zone, MOST_MISSED) {
        let begins_ms = ms(due) + jitter_ms(schedule, ms(due));
        if begins_ms <= now_ms {
            return Ok(Choice::Run {
                due_ms: ms(due),
                missed: count - 1,
            });
        }
        put_off = Some(put_off.map_or(begins_ms, |first| first.min(begins_ms)));
        until = timestamp(ms(due).saturating_sub(1));
    }
    let next = || cron.next(decided.max(timestamp(now_ms)), &zone).map(ms);
    Ok(Choice::Wait {
        until_ms: put_off.or_else(|| next().map(|due_ms| due_ms + jitter_ms(schedule, due_ms))),
    })
}

/// How long a time is put off: always as long for one time of one schedule, also after a crash.
fn jitter_ms(schedule: &Schedule, due_ms: u64) -> u64 {
    let most_ms = u64::from(schedule.jitter_s) * 1000;
    if most_ms == 0 {
        return 0;
    }
    let of = blake3::hash(format!("{}/{due_ms}", schedule.name).as_bytes());
    let mut number = [0; 8];
    number.copy_from_slice(&of.as_bytes()[..8]);
    u64::from_le_bytes(number) % most_ms
}

fn timestamp(ms: u64) -> Timestamp {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
}

fn ms(timestamp: Timestamp) -> u64 {
    u64::try_from(timestamp.as_millisecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Map;

    use super::*;
    use crate::store::schedule::Work;

    fn at(text: &str) -> u64 {
        ms(text.parse().unwrap())
    }

    fn schedule(cron: &str, zone: &str, from: &str) -> Schedule {
        Schedule {
            name: "nightly".into(),
            work: Work::Full,
            collection: "world".into(),
            cron: cron.into(),
            time_zone: zone.into(),
            arguments: Map::new(),
            created_at_ms: at(from),
            decided_ms: at(from),
            jitter_s: 0,
            paused_at_ms: None,
        }
    }

    /// Runs a schedule under a clock that goes from one time to another by steps; when it ran, in its zone.
    fn ran(
        schedule: &mut Schedule,
        until: &str,
        step_ms: impl Fn(u64) -> u64,
    ) -> Vec<(String, u64)> {
        let zone = zone(&schedule.time_zone).unwrap();
        let mut now = schedule.decided_ms;
        let mut ran = Vec::new();
        while now < at(until) {
            now += step_ms(now);
            if let Choice::Run { due_ms, missed } = choose(schedule, now).unwrap() {
                schedule.decided_ms = due_ms;
                let due = timestamp(due_ms).to_zoned(zone.clone());
                ran.push((due.strftime("%F %H:%M").to_string(), missed));
            }
        }
        ran
    }

    #[test]
    fn two_years_of_nights_have_one_run_each_whatever_the_clock_does() {
        let mut schedule = schedule("30 2 * * *", "Europe/Berlin", "2025-12-31T12:00:00Z");
        let ran = ran(&mut schedule, "2027-12-31T12:00:00Z", |_| 600_000);
        assert_eq!(ran.len(), 730);
        let mut of_day: BTreeMap<&str, u32> = BTreeMap::new();
        for (due, missed) in &ran {
            *of_day.entry(&due[..10]).or_default() += 1;
            assert_eq!(*missed, 0);
            let spring = ["2026-03-29", "2027-03-28"].contains(&&due[..10]);
            assert_eq!(&due[11..], if spring { "03:30" } else { "02:30" });
        }
        assert!(of_day.values().all(|count| *count == 1));
    }

    #[test]
    fn what_was_missed_is_caught_up_once() {
        let mut nights = schedule("0 3 * * *", "UTC", "2026-01-01T12:00:00Z");
        // A week without a server.
        let gap = |now| {
            if now == at("2026-01-05T12:00:00Z") {
                7 * 86_400_000
            } else {
                3_600_000
            }
        };
        let ran = ran(&mut nights, "2026-01-14T12:00:00Z", gap);
        let missed: Vec<_> = ran.iter().filter(|(_, missed)| *missed > 0).collect();
        assert_eq!(missed, [&("2026-01-12 03:00".to_owned(), 6)]);
        assert_eq!(ran.len(), 4 + 1 + 2);
    }

    #[test]
    fn a_clock_that_is_set_back_runs_nothing_twice() {
        let mut nights = schedule("0 * * * *", "UTC", "2026-01-01T00:00:00Z");
        let choice = choose(&nights, at("2026-01-01T05:00:30Z")).unwrap();
        let due_ms = at("2026-01-01T05:00:00Z");
        assert_eq!(choice, Choice::Run { due_ms, missed: 4 });
        nights.decided_ms = due_ms;
        for asked_at in ["2026-01-01T02:00:00Z", "2026-01-01T05:59:59Z"] {
            let until_ms = Some(at("2026-01-01T06:00:00Z"));
            assert_eq!(
                choose(&nights, at(asked_at)).unwrap(),
                Choice::Wait { until_ms }
            );
        }
    }

    #[test]
    fn jitter_puts_each_time_off_by_its_own_while_and_loses_none() {
        for cron in ["0 * * * *", "*/7 * * * *"] {
            let mut hours = schedule(cron, "UTC", "2026-01-01T00:00:00Z");
            let plain = ran(&mut hours.clone(), "2026-01-04T00:00:00Z", |_| 10_000);
            hours.jitter_s = 1800;
            let mut now = hours.decided_ms;
            let (mut ran, mut missed_all, mut delays) = (0, 0, std::collections::BTreeSet::new());
            while now < at("2026-01-04T00:00:00Z") {
                now += 10_000;
                match choose(&hours, now).unwrap() {
                    Choice::Run { due_ms, missed } => {
                        assert!(due_ms > hours.decided_ms && now - due_ms <= 1_810_000);
                        hours.decided_ms = due_ms;
                        ran += 1;
                        missed_all += missed;
                        delays.insert(now - due_ms);
                    }
                    Choice::Wait { until_ms } => assert!(until_ms.unwrap() > now),
                    Choice::Paused => panic!("it is not"),
                }
            }
            // Where a time is put off behind the next, one run stands for both.
            let all = plain.len() as u64;
            assert!(
                (all.saturating_sub(5)..=all).contains(&(ran + missed_all)),
                "{ran} {missed_all} {all}"
            );
            assert!(delays.len() > 20, "{delays:?}");
        }
    }

    #[test]
    fn a_schedule_that_is_paused_is_never_due() {
        let mut nights = schedule("0 3 * * *", "UTC", "2026-01-01T00:00:00Z");
        nights.paused_at_ms = Some(at("2026-01-01T01:00:00Z"));
        let choice = choose(&nights, at("2027-01-01T00:00:00Z"));
        assert_eq!(choice, Ok(Choice::Paused));
    }

    #[test]
    fn a_rule_that_cannot_be_read_is_told_and_not_guessed() {
        assert!(choose(&schedule("0 0 * *", "UTC", "2026-01-01T00:00:00Z"), 0).is_err());
        assert!(
            choose(
                &schedule("0 0 * * *", "Mars/North", "2026-01-01T00:00:00Z"),
                0
            )
            .is_err()
        );
    }
}
