//! The program as its users and their scripts meet it: what it prints where, and how it ends.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that panics fails the test that called it"
)]

mod demo;
mod export;
mod foreign_files;
mod frame;
mod headerless;
mod ids;
mod import;
mod import_files;
mod import_values;
mod lost_journal;
mod mendb;
mod old_journal;
mod old_repository;
mod repositories;
mod shards;
mod targets;
mod two_targets;
mod verify;
