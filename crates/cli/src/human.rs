//! Numbers as people read them.

use std::time::Duration;

/// `1,234,567`
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `0 B`, `512 B`, `1.5 KiB`, `12.0 GiB`
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut size = number as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be shown as 1024.0 of the smaller unit.
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// `0.42 s`, `12.3 s`, `3 min 05 s`, `2 h 07 min`
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 9.995 {
        format!("{seconds:.2} s")
    } else if seconds < 59.95 {
        format!("{seconds:.1} s")
    } else {
        let whole = seconds.round() as u64;
        match (whole / 3600, whole / 60 % 60, whole % 60) {
            (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
            (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
        }
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z as `2026-11-21T08:11:10Z`.
pub fn time(unix_ms: u64) -> String {
    let at = i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    match at {
        Some(at) => at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        None => format!("@{unix_ms} ms"),
    }
}

/// The same to the millisecond.
pub fn time_ms(unix_ms: u64) -> String {
    let seconds = time(unix_ms - unix_ms % 1000);
    match seconds.strip_suffix('Z') {
        Some(seconds) => format!("{seconds}.{:03}Z", unix_ms % 1000),
        None => seconds,
    }
}

/// Things a second, `0` when no time has passed.
pub fn rate(things: u64, duration: Duration) -> u64 {
    let seconds = duration.as_secs_f64();
    if seconds > 0.0 {
        (things as f64 / seconds) as u64
    } else {
        0
    }
}

/// `1 row`, `2 rows`, `1,234 rows`
pub fn rows(number: u64) -> String {
    of(number, "row", "rows")
}

/// `1 part`, `2 parts`
pub fn parts(number: u64) -> String {
    of(number, "part", "parts")
}

/// `1 table`, `2 tables`
pub fn tables(number: u64) -> String {
    of(number, "table", "tables")
}

/// `1 server`, `2 servers`
pub fn servers(number: u64) -> String {
    of(number, "server", "servers")
}

/// `1 shard`, `2 shards`
pub fn shards(number: u64) -> String {
    of(number, "shard", "shards")
}

/// `1 file`, `2 files`
pub fn files(number: u64) -> String {
    of(number, "file", "files")
}

fn of(number: u64, one: &str, many: &str) -> String {
    let unit = if number == 1 { one } else { many };
    format!("{} {unit}", count(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1000), "1,000");
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(rows(1), "1 row");
    }

    #[test]
    fn sizes_take_the_unit_that_keeps_them_short() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!(bytes(512 * 1024 * 1024), "512.0 MiB");
    }

    #[test]
    fn durations_take_the_unit_that_keeps_them_short() {
        let shown = |ms| duration(Duration::from_millis(ms));
        assert_eq!(shown(420), "0.42 s");
        assert_eq!(shown(12_340), "12.3 s");
        assert_eq!(shown(59_990), "1 min 00 s");
        assert_eq!(shown(7_620_000), "2 h 07 min");
    }

    #[test]
    fn times_are_in_utc_to_the_second() {
        assert_eq!(time(1_787_321_665_999), "2026-08-21T14:14:25Z");
        assert_eq!(time(u64::MAX), "@18446744073709551615 ms");
    }

    #[test]
    fn a_rate_of_no_time_is_zero() {
        assert_eq!(rate(5, Duration::ZERO), 0);
        assert_eq!(rate(5, Duration::from_secs(2)), 2);
    }
}
