//! The program's own clock: how long a command took, as its user sees it.

use std::time::{Duration, Instant};

/// Measures the time since it was started. Nothing is ever decided by it.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[expect(
        clippy::disallowed_methods,
        reason = "shows a user how long something took; no decision depends on it"
    )]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Waits before looking again at what another process does.
#[expect(
    clippy::disallowed_methods,
    reason = "paces what a user watches; no decision depends on it"
)]
pub fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}
