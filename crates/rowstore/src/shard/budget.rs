//! How much memory a commit may fill before it is made.

use std::cell::Cell;

/// A commit keeps so many bytes of rows; what is more goes to the files of shards before it.
const KEPT_BYTES: usize = 32 << 20;

/// What is left of it for all shards of a commit together.
pub(crate) struct Budget(Cell<usize>);

impl Default for Budget {
    fn default() -> Self {
        Self(Cell::new(KEPT_BYTES))
    }
}

impl Budget {
    /// How many of `wanted` bytes one shard may keep.
    pub(crate) fn grant(&self, wanted: usize) -> usize {
        wanted.min(self.0.get())
    }

    /// Counts bytes that are kept until the commit.
    pub(crate) fn keep(&self, bytes: usize) {
        self.0.set(self.0.get().saturating_sub(bytes));
    }
}
