//! Mends of real ClickHouse servers that are stopped, watched, crowded and short of room.
#![expect(
    clippy::unwrap_used,
    reason = "a failed test is how these helpers report"
)]

/// Makes tests of promises that hold on every server: functions of a [`servers::Flavor`].
macro_rules! on_each_server {
    ($($promise:ident),+ $(,)?) => {
        mod on_current {
            $(#[test]
            fn $promise() {
                super::$promise($crate::servers::Flavor::Current);
            })+
        }
        mod on_18_16 {
            $(#[test]
            fn $promise() {
                super::$promise($crate::servers::Flavor::V18);
            })+
        }
    };
}

mod concurrency;
mod crash;
mod damaged;
mod meanwhile;
mod model;
#[path = "../points/mod.rs"]
mod points;
mod readers;
#[path = "../../../engines/tests/servers/mod.rs"]
mod servers;
mod space;
#[path = "../clickhouse/world.rs"]
#[expect(dead_code, reason = "the tests beside these use the rest of it")]
mod world;
