//! Where rows that are written into a store come from.

/// The rows of one task of one step of an operation. They come in key order, and each shard remembers the last key
/// of each source that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowSource {
    /// The step of the operation.
    pub step: u32,
    /// The task of the step.
    pub index: u32,
}
