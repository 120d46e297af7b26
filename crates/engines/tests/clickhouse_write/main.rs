//! What changes a ClickHouse server: on real ones, of both ages wherever they can.
#![expect(
    clippy::unwrap_used,
    reason = "a failed test is how these helpers report"
)]

mod attach;
mod bench;
#[path = "../copies/mod.rs"]
mod copies;
mod crash;
mod create;
mod exchange;
mod kinds_of_parts;
mod removing;
#[path = "../servers/mod.rs"]
mod servers;
