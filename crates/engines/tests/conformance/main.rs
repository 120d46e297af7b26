//! One suite for every engine: what the service relies on. An engine joins by implementing
//! [`suite::Subject`].
#![expect(
    clippy::unwrap_used,
    reason = "a failed test is how these helpers report"
)]

mod clickhouse;
#[path = "../copies/mod.rs"]
mod copies;
mod folder;
#[path = "../folder_store/mod.rs"]
#[expect(dead_code, reason = "the tests of the service use the rest of it")]
mod folder_store;
mod part_suite;
mod postgres;
#[path = "../postgres_server/mod.rs"]
mod postgres_server;
mod row;
mod row_mend_suite;
mod row_suite;
#[path = "../servers/mod.rs"]
mod servers;
mod suite;
