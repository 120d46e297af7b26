//! How a store is opened.

/// How a store is opened. What is on disk does not depend on it.
#[derive(Debug, Clone)]
pub struct Options {
    /// A shard that grows larger splits itself.
    pub split_bytes: u64,
    /// Memory for pages that were read or written; readers of other commits than the last take a quarter of
    /// it each.
    pub cache_bytes: u64,
    /// A shard whose recent writes pass this and a quarter of its packed rows is packed anew.
    pub compact_bytes: u64,
    /// A change log shorter than this may keep what no stream needs any more: to make it anew takes its
    /// time too.
    pub trim_bytes: u64,
    /// A change log of a table larger than this lets its neediest stream lapse: a stream that nobody reads
    /// any more does not grow for ever.
    pub log_bytes: u64,
    /// Whether a write is on disk before it is acknowledged. Schema changes, cuts, splits and what
    /// begins, publishes or ends a restore or mend always are.
    pub durable: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            split_bytes: 512 << 20,
            cache_bytes: 32 << 20,
            compact_bytes: 64 << 20,
            trim_bytes: 1 << 20,
            log_bytes: 16 << 30,
            durable: true,
        }
    }
}
