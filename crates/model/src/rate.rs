//! What a limit to bytes a second lets through, and when.
//!
//! What is taken is let through as soon as what was taken before is paid for, and then paid for itself: long stretches keep
//! to the rate, whatever the sizes taken, and nobody waits for the first.

use std::time::Duration;

/// Unused time does not add up to more than this.
const MOST_SAVED: Duration = Duration::from_millis(200);

/// What was taken, on a clock that begins with the limit.
#[derive(Debug)]
pub struct Account {
    bytes_per_s: u64,
    /// When all that was taken is paid for.
    paid_at: Duration,
}

impl Account {
    /// Lets this many bytes a second through, at least 1.
    pub fn new(bytes_per_s: u64) -> Self {
        Self {
            bytes_per_s: bytes_per_s.max(1),
            paid_at: Duration::ZERO,
        }
    }

    /// Whether it is one of this limit.
    pub fn is_at(&self, bytes_per_s: u64) -> bool {
        self.bytes_per_s == bytes_per_s.max(1)
    }

    /// Takes bytes at a time; returns how long they have to wait.
    pub fn take(&mut self, now: Duration, bytes: u64) -> Duration {
        let begin = self.paid_at.max(now.saturating_sub(MOST_SAVED));
        self.paid_at = begin.saturating_add(self.price(bytes));
        begin.saturating_sub(now)
    }

    fn price(&self, bytes: u64) -> Duration {
        let whole = bytes / self.bytes_per_s;
        let rest = u128::from(bytes % self.bytes_per_s) * 1_000_000_000;
        let nanos = rest / u128::from(self.bytes_per_s);
        Duration::new(whole, u32::try_from(nanos).expect("less than a second"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_goes_at_once_and_the_next_waits_until_it_is_paid_for() {
        let mut account = Account::new(1000);
        let now = Duration::from_secs(5);
        assert_eq!(account.take(now, 3000), Duration::ZERO);
        assert_eq!(account.take(now, 1), Duration::from_secs(3) - MOST_SAVED);
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_carries_more_than_the_rate_and_what_was_saved(
            takes in proptest::collection::vec((0u64..2000, 1u64..100_000), 1..60),
            bytes_per_s in 1u64..100_000,
        ) {
            let mut account = Account::new(bytes_per_s);
            let mut now = Duration::ZERO;
            let mut taken = 0;
            for (later_ms, bytes) in takes {
                now += Duration::from_millis(later_ms);
                // Who waits comes back when it may go on.
                now += account.take(now, bytes);
                let allowed = (now + MOST_SAVED).as_secs_f64() * bytes_per_s as f64;
                prop_assert!(taken as f64 <= allowed + 1.0);
                taken += bytes;
            }
        }

        #[test]
        fn no_rate_and_no_size_overflows(bytes_per_s in 1u64.., bytes: u64) {
            let mut account = Account::new(bytes_per_s);
            for _ in 0..3 {
                account.take(Duration::ZERO, bytes);
            }
        }
    }
}
