//! A limit to bytes a second.
//!
//! Bytes of requests that fail and are repeated are not counted again.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mendb_model::rate::Account;
use tokio::time::Instant;

/// A limit to bytes a second, shared by all who take from it.
#[derive(Debug)]
pub(crate) struct Throttle {
    start: Instant,
    /// None while all may go.
    account: Mutex<Option<Account>>,
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
            (Some(account), Some(bytes_per_s)) => account.is_at(bytes_per_s),
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
    use super::*;

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

    #[tokio::test]
    async fn without_a_limit_nothing_waits() {
        let throttle = Throttle::new(None);
        throttle.take(u64::MAX).await;
        throttle.take_blocking(u64::MAX);
    }
}
