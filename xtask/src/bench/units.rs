//! Numbers as people read them.

use std::time::Duration;

/// `5,000,000`.
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

/// `12.3 s`, in hundredths below ten seconds.
pub fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 10.0 {
        format!("{seconds:.2} s")
    } else {
        format!("{seconds:.1} s")
    }
}

/// `530 MB`, in tenths below ten; a megabyte is a million bytes.
pub fn megabytes(bytes: u64) -> String {
    let megabytes = bytes as f64 / 1e6;
    if megabytes < 10.0 {
        format!("{megabytes:.1} MB")
    } else {
        format!("{megabytes:.0} MB")
    }
}

/// How many of something in a second: `412,000/s`, to three digits.
pub fn rate(number: u64, time: Duration) -> String {
    let rate = number as f64 / time.as_secs_f64().max(1e-9);
    let unit = 10f64.powi((rate.max(1.0).log10().floor() as i32 - 2).max(0));
    format!("{}/s", count(((rate / unit).round() * unit) as u64))
}

/// `3.4` or `34`: one digit behind the point where it says something.
pub fn digits(number: f64) -> String {
    if number < 10.0 {
        format!("{number:.1}")
    } else {
        format!("{number:.0}")
    }
}

/// How many times as long the first takes as the second.
pub fn times(longer: Duration, shorter: Duration) -> f64 {
    longer.as_secs_f64() / shorter.as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_as_people_read_them() {
        assert_eq!(count(999), "999");
        assert_eq!(count(5_000_000), "5,000,000");
        assert_eq!(seconds(Duration::from_millis(1234)), "1.23 s");
        assert_eq!(seconds(Duration::from_millis(12_345)), "12.3 s");
        assert_eq!(megabytes(9_940_000), "9.9 MB");
        assert_eq!(megabytes(530_400_000), "530 MB");
        assert_eq!(rate(5_000_000, Duration::from_secs(12)), "417,000/s");
        assert_eq!(rate(50, Duration::from_secs(1)), "50/s");
        assert_eq!(digits(3.44), "3.4");
        assert_eq!(digits(34.4), "34");
    }
}
