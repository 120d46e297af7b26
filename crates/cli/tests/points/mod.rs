//! Persisted steps at which tests on real servers stop a process. Each stop takes seconds there, so a run
//! of all tests takes a few of them: `MENDB_CRASH_POINTS=all cargo nextest run -p mendb` takes each.

/// No operation of these tests has so many persisted steps: an enumeration must end by itself.
pub const MOST_POINTS: u64 = 200;

/// The first persisted step and every `few`th after it, or each one where `MENDB_CRASH_POINTS` is `all`.
pub fn points(few: usize) -> impl Iterator<Item = u64> {
    let takes_all = std::env::var("MENDB_CRASH_POINTS").is_ok_and(|which| which == "all");
    (1..MOST_POINTS).step_by(if takes_all { 1 } else { few })
}
