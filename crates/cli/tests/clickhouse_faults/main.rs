//! Mends of real ClickHouse servers that are stopped, watched, crowded and short of room.
#![expect(
    clippy::unwrap_used,
    reason = "a failed test is how these helpers report"
)]

mod concurrency;
mod crash;
mod damaged;
mod model;
mod readers;
#[path = "../../../engines/tests/servers/mod.rs"]
mod servers;
mod space;
#[path = "../clickhouse/world.rs"]
#[expect(dead_code, reason = "the tests beside these use the rest of it")]
mod world;
