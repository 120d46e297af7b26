//! Persisted steps at which tests on real servers stop a process. Each stop takes seconds there, so a run
//! of all tests takes a few of them: `MENDB_CRASH_POINTS=all cargo nextest run -p mendb` takes each.

/// No operation of these tests has so many persisted steps: an enumeration must end by itself.
pub const MOST_POINTS: u64 = 200;

/// The first persisted step and every `few`th after it, or each one where `MENDB_CRASH_POINTS` is `all`.
pub fn points(few: usize) -> impl Iterator<Item = u64> {
    let every = match std::env::var_os("MENDB_CRASH_POINTS") {
        None => few,
        Some(which) if which == "all" => 1,
        Some(which) => panic!("MENDB_CRASH_POINTS is {which:?}: it can only be \"all\""),
    };
    (1..MOST_POINTS).step_by(every)
}
