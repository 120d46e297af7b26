//! The commands, one file each. A file holds the command's arguments, which are its help, and `run`.

pub mod audit;
pub mod backup;
pub mod chain;
pub mod cluster;
pub mod collection;
pub mod config;
pub mod config_import;
pub mod delete;
pub mod demo;
pub mod diff;
pub mod drill;
pub mod list;
pub mod operation;
pub mod prune;
pub mod repository;
pub mod restore;
pub mod schedule;
pub mod selectors;
pub mod show;
pub mod table;
pub mod target;
pub mod token;
pub mod undo;
pub mod verify;
