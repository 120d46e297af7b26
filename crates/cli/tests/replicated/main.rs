//! Replicated tables of real servers and a real ZooKeeper: one replica is mended through the real program, and the
//! others follow.
#![expect(
    clippy::unwrap_used,
    reason = "a failed test is how these helpers report"
)]

mod crash;
mod damage;
mod equal_blocks;
mod keeper;
mod lagging;
mod lost_place;
mod meanwhile;
mod merges;
#[path = "../points/mod.rs"]
mod points;
mod readers;
mod restarts;
#[path = "../../../engines/tests/servers/mod.rs"]
mod servers;
mod shard;
mod undo;
mod untried;
#[path = "../clickhouse/world.rs"]
#[expect(dead_code, reason = "the tests beside these use the rest of it")]
mod world;
