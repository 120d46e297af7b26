//! What the program prints of each kind of operation.

pub mod drill_report;
pub mod ending;
pub mod progress;
pub mod record;
pub mod shard_report;
