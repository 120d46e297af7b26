//! Backups and restores through the real program: stories, crashes, kills, full disks, real data.
#![expect(
    clippy::unwrap_used,
    reason = "a failed test is how these helpers report"
)]

mod any_write;
mod compact;
mod crash;
mod damage;
mod diff;
mod disk_full;
mod flights;
mod kill;
mod mend;
mod power_loss;
mod program;
mod prune;
mod ranges;
mod readers;
mod rebuild;
mod s3;
#[path = "../../../repo/tests/it/s3_server.rs"]
mod s3_server;
mod sharing;
mod story;
mod takeover;
mod target_power_loss;
