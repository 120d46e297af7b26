//! The only place that reads the clock and draws random numbers, and the crash points of tests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The variable that makes the process abort at its n-th crash point, counted from one.
pub const CRASH_AT: &str = "MENDB_CRASH_AT";

/// Milliseconds since 1970-01-01T00:00:00Z.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the clock that all others are told to use"
)]
pub fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A random number from 0 to 1.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the source of randomness that all others are told to use"
)]
pub fn jitter() -> f64 {
    rand::random()
}

/// Six random hex digits, to tell apart what was made in the same second.
pub fn nonce() -> String {
    format!(
        "{:06x}",
        (jitter() * f64::from(0x0100_0000)) as u32 & 0x00ff_ffff
    )
}

/// 32 random hex digits, which nothing else will ever have.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the source of randomness that all others are told to use"
)]
pub fn random_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Stops the process as a power cut would: no unwinding, no destructors, nothing flushed.
///
/// Called where something has just become durable, or is about to. With `MENDB_CRASH_AT=n` in the
/// environment the n-th call does not return; without it nothing happens.
pub fn crash_point() {
    static PASSED: AtomicU64 = AtomicU64::new(0);
    static CRASH_AT_POINT: std::sync::LazyLock<Option<u64>> =
        std::sync::LazyLock::new(|| std::env::var(CRASH_AT).ok()?.parse().ok());
    if let Some(at) = *CRASH_AT_POINT
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == at
    {
        std::process::abort();
    }
}
