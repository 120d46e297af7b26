//! What the ClickHouse engine says about a server, and what it freezes, on servers of both ages.
#![expect(
    clippy::unwrap_used,
    reason = "a failed test is how these helpers report"
)]

mod catalogue;
mod freeze;
mod inventory;
mod part_files;
mod places;
#[path = "../servers/mod.rs"]
mod servers;
mod world;
