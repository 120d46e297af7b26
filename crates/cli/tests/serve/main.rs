//! The program as a server: who may ask, what is answered, what a crash leaves, and that its own commands speak to it.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that panics fails the test that called it"
)]

#[path = "../cli/mendb.rs"]
mod mendb;

mod browser;
mod client;
mod crash;
mod dashboard;
mod drills;
mod fuzz;
mod hooks;
mod hostile;
mod kills;
mod leaving;
mod logs;
mod may;
mod process;
#[path = "../../../engines/tests/servers/python.rs"]
mod python;
mod reload;
mod remote;
mod schedules;
mod server;
mod story;
mod tables;
#[cfg(feature = "otlp")]
mod traces;
