//! Backups and mends of real ClickHouse servers, through the real program.
//!
//! A test that begins with [`on_each_server`] is run on ClickHouse 26.9 and on 18.16, each time as a
//! test of its own; what only one of them can do is tested there alone.
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

mod backup_cost;
mod bytes;
mod cancelled;
mod clickhouse_backup;
mod compat;
mod cost;
mod definitions;
mod imported;
mod incomplete;
mod journal;
mod kept;
mod names;
mod order;
mod part_files;
mod plain;
#[path = "../points/mod.rs"]
mod points;
mod restore;
mod rights;
mod schema;
mod selectors;
mod served;
#[path = "../../../engines/tests/servers/mod.rs"]
mod servers;
#[path = "../serve/serving.rs"]
mod serving;
mod shapes;
mod story;
mod world;
