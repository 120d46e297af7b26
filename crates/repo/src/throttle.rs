//! A limit to bytes a second.
//!
//! What is taken is let through as soon as what was taken before is paid for, and then paid for
//! itself: long stretches keep to the rate, whatever the sizes taken, and nobody waits for the first.
//! Bytes of requests that fail and are repeated are not counted again.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Unused time does not add up to more than this.
const MOST_SAVED: Duration = Duration::from_millis(200);

/// A limit to bytes a second, shared by all who take from it.
#[derive(Debug)]
pub(crate) struct Throttle {
    start: Instant,
    /// None while all may go.
    account: Mutex<Option<Account>>,
}

/// What was taken, on a clock that begins with the limit.
#[derive(Debug)]
struct Account {
    bytes_per_s: u64,
    /// When all that was taken is paid for.
    paid_at: Duration,
}

impl Account {
    fn new(bytes_per_s: u64) -> Self {
        Self {
            bytes_per_s: bytes_per_s.max(1),
            paid_at: Duration::ZERO,
        }
    }

    /// Takes bytes at a time; returns how long they have to wait.
    fn take(&mut self, now: Duration, bytes: u64) -> Duration {
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

impl Throttle {
    /// Lets this many bytes a second through, at least 1; without a number, all.
    #[expect(
        clippy::disallowed_methods,
        reason = "how fast a store is read cannot be repeated anyway, and nothing else depends on it"
    )]
    pub(crate) fn new(bytes_per_s: Option<u64>) -> Self {
        Self {
            start: Instant::now(),
            account: Mutex::new(bytes_per_s.map(Account::new)),
        }
    }

    /// From now on lets as many through; who waits already waits as long as he was told.
    pub(crate) fn change(&self, bytes_per_s: Option<u64>) {
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = match (&*account, bytes_per_s) {
            (Some(account), Some(bytes_per_s)) => account.bytes_per_s == bytes_per_s.max(1),
            (None, None) => true,
            _ => false,
        };
        if !is_same {
            *account = bytes_per_s.map(Account::new);
        }
    }

    /// Waits until these bytes may go.
    #[expect(clippy::disallowed_methods, reason = "see `new`")]
    pub(crate) async fn take(&self, bytes: u64) {
        let wait = self.reserve(bytes);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// As [`Self::take`], on a thread that may block.
    #[expect(clippy::disallowed_methods, reason = "see `new`")]
    pub(crate) fn take_blocking(&self, bytes: u64) {
        let wait = self.reserve(bytes);
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
    }

    fn reserve(&self, bytes: u64) -> Duration {
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        match account.as_mut() {
            Some(account) => account.take(self.start.elapsed(), bytes),
            None => Duration::ZERO,
        }
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

    #[test]
    fn a_limit_that_is_changed_forgets_what_was_to_be_paid() {
        let throttle = Throttle::new(Some(1));
        assert_eq!(throttle.reserve(1000), Duration::ZERO);
        assert!(throttle.reserve(1) > Duration::from_secs(900));
        // The same limit is the same account.
        throttle.change(Some(1));
        assert!(throttle.reserve(1) > Duration::from_secs(900));
        throttle.change(Some(1_000_000));
        assert_eq!(throttle.reserve(1), Duration::ZERO);
        throttle.change(None);
        assert_eq!(throttle.reserve(u64::MAX), Duration::ZERO);
        assert_eq!(throttle.reserve(1), Duration::ZERO);
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

    #[tokio::test]
    async fn without_a_limit_nothing_waits() {
        let throttle = Throttle::new(None);
        throttle.take(u64::MAX).await;
        throttle.take_blocking(u64::MAX);
    }
}
