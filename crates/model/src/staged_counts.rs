//! What a mend has staged.

/// Rows that a call staged, by what becomes of them. A call does not count what was staged before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StagedCounts {
    /// Rows that will be written.
    pub upserted: u64,
    /// Rows that will be removed.
    pub erased: u64,
    /// Keys that are as they are wanted: nothing was staged for them.
    pub kept: u64,
    /// Bytes of the keys and rows that will be written or removed, those of index rows not counted.
    pub bytes: u64,
}

impl std::ops::AddAssign for StagedCounts {
    fn add_assign(&mut self, other: Self) {
        self.upserted += other.upserted;
        self.erased += other.erased;
        self.kept += other.kept;
        self.bytes += other.bytes;
    }
}
