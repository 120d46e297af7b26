//! A cluster of ClickHouse servers, as the program sees it: which servers there are, how each is, and what is done to all.

pub mod addresses;
mod args;
pub mod command;
pub mod coordinator;
pub mod inserts;
pub mod survey;
pub mod topology;

pub use args::ClusterArgs;
