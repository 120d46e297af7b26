//! What the program tells of each kind of operation.

pub mod ending;
pub mod progress;
pub mod record;
