//! The only place that reads the clock and draws random numbers, and the crash points of tests.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Signal, getpid, kill_process};

/// The variable that makes the process abort at its n-th crash point, counted from one.
pub const CRASH_AT: &str = "MENDB_CRASH_AT";
/// The variable that makes the process stop there, as by SIGSTOP, until it gets SIGCONT.
pub const STOP_AT: &str = "MENDB_STOP_AT";

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

/// Stops the process as a power cut would: no unwinding, no destructors, nothing flushed; or as a debugger does.
///
/// Called where something has just become durable, or is about to. With `MENDB_CRASH_AT=n` in the
/// environment the n-th call does not return, with `MENDB_STOP_AT=n` it returns when somebody continues the process;
/// without them nothing happens.
pub fn crash_point() {
    static PASSED: AtomicU64 = AtomicU64::new(0);
    static AT: LazyLock<[Option<u64>; 2]> =
        LazyLock::new(|| [CRASH_AT, STOP_AT].map(|name| std::env::var(name).ok()?.parse().ok()));
    let [crash_at, stop_at] = *AT;
    if crash_at.is_none() && stop_at.is_none() {
        return;
    }
    let point = Some(PASSED.fetch_add(1, Ordering::SeqCst) + 1);
    if point == crash_at {
        std::process::abort();
    }
    if point == stop_at {
        let stopped = kill_process(getpid(), Signal::STOP);
        stopped.expect("a process may stop itself");
    }
}
