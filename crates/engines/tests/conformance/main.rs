//! One suite for every engine: what the service relies on. An engine joins by implementing
//! [`suite::Subject`].
#![expect(
    clippy::unwrap_used,
    reason = "a failed test is how these helpers report"
)]

mod clickhouse;
#[path = "../copies/mod.rs"]
mod copies;
mod postgres;
#[path = "../postgres_server/mod.rs"]
mod postgres_server;
mod row;
mod row_suite;
#[path = "../servers/mod.rs"]
mod servers;
mod suite;
