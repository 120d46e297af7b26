//! PostgreSQL through the real program, on real servers.
#![expect(
    clippy::unwrap_used,
    reason = "a failed test is how these helpers report"
)]

mod again;
mod candidates;
mod changed_keys;
mod chosen;
#[path = "../serve/client.rs"]
#[expect(dead_code, reason = "the tests of the server use the rest of it")]
mod client;
mod crash;
mod guide;
mod increments;
mod indexes;
mod inheritance;
mod journals;
mod leaders;
mod meanwhile;
mod nested;
mod partitions;
#[path = "../points/mod.rs"]
mod points;
#[path = "../../../engines/tests/postgres_server/mod.rs"]
mod postgres_server;
mod ranges;
#[path = "../guides/reader.rs"]
mod reader;
mod rewind_model;
mod rewinds;
mod rounds;
mod rules;
#[path = "../../../repo/tests/it/s3_server.rs"]
mod s3_server;
mod served;
#[path = "../serve/serving.rs"]
mod serving;
mod shop;
mod spans;
mod standby;
mod story;
mod streams;
mod tables;
mod tls;
mod types;
