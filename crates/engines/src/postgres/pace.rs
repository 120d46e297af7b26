//! A limit to the bytes a second of rows that come from a database and go to it, over all sessions of a process.
//!
//! While writers wait for a mend, nothing waits for the limit.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use mendb_model::rate::Account;

/// The limit of a process.
pub(super) struct Pace {
    start: Instant,
    /// None while all may go.
    account: Option<Mutex<Account>>,
    /// How many have lifted it.
    lifted: AtomicU32,
}

/// Lifts the limit for as long as it lives.
pub(super) struct Unpaced(Arc<Pace>);

impl Pace {
    #[expect(
        clippy::disallowed_methods,
        reason = "how fast a server is read cannot be repeated anyway, and nothing else depends on it"
    )]
    pub(super) fn new(bytes_per_s: Option<u64>) -> Self {
        Self {
            start: Instant::now(),
            account: bytes_per_s.map(|limit| Mutex::new(Account::new(limit))),
            lifted: AtomicU32::new(0),
        }
    }

    /// Waits until these bytes may go.
    #[expect(clippy::disallowed_methods, reason = "see `new`")]
    pub(super) fn take(&self, bytes: usize) {
        let Some(account) = &self.account else {
            return;
        };
        if self.lifted.load(Ordering::SeqCst) > 0 {
            return;
        }
        let mut account = account.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = account.take(self.start.elapsed(), bytes as u64);
        drop(account);
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
    }
}

impl Unpaced {
    pub(super) fn new(pace: &Arc<Pace>) -> Self {
        pace.lifted.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(pace))
    }
}

impl Drop for Unpaced {
    fn drop(&mut self) {
        self.0.lifted.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_waits_without_a_limit_or_while_it_is_lifted() {
        Pace::new(None).take(usize::MAX);
        let pace = Pace::new(Some(1));
        // Paid for in eleven days; a test that waits for that does not end.
        pace.take(1_000_000);
        pace.lifted.store(1, Ordering::SeqCst);
        pace.take(1);
    }
}
