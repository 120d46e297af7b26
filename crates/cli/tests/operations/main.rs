//! Backups and restores through the real program: stories, crashes, kills, full disks, real data.

mod crash;
mod disk_full;
mod flights;
mod kill;
mod program;
mod s3;
#[path = "../../../repo/tests/it/s3_server.rs"]
mod s3_server;
mod story;
