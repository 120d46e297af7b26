//! What a step cost.

use crate::bench::measure::Cost;

/// What something cost, with the bytes it moved.
#[derive(Debug, Clone, Copy, Default)]
pub struct Measured {
    pub cost: Cost,
    /// Written to the backup, or read from it.
    pub bytes: u64,
}

impl Measured {
    /// Of several runs of the same that of medium length, with the most memory that any took. They
    /// all move the same.
    pub fn medium(runs: Vec<Self>) -> Self {
        Self {
            bytes: runs.iter().map(|run| run.bytes).max().unwrap_or(0),
            cost: Cost::medium(runs.into_iter().map(|run| run.cost).collect()),
        }
    }
}
