//! Clusters of real servers with a real ZooKeeper, through the real program.
#![expect(
    clippy::unwrap_used,
    reason = "a failed test is how these helpers report"
)]

mod agents;
mod backup;
mod certificates;
mod coordinators;
mod crash;
mod empty;
mod exact;
mod guide;
mod late;
mod mend;
#[path = "../points/mod.rs"]
mod points;
mod rates;
#[path = "../guides/reader.rs"]
mod reader;
mod replicas;
mod rollback;
mod rounds;
mod scale;
mod served;
#[path = "../../../engines/tests/servers/mod.rs"]
mod servers;
mod shards;
mod show;
mod simulated;
mod take_over;
