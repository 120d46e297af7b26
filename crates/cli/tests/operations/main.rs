//! Backups and restores through the real program: stories, crashes, kills, full disks, real data.

mod crash;
mod disk_full;
mod flights;
mod kill;
mod program;
mod story;
