//! Change streams of tables, and what they need of the change logs.

use serde::{Deserialize, Serialize};

use crate::catalogue::{StreamRecord, TableEntry};

/// A change stream of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamDescription {
    /// Its name.
    pub name: String,
    /// The version of the last cut that attached or rotated it.
    pub attached_at: u64,
    /// Changes above this version are kept for it.
    pub needed_after: u64,
    /// Of one that has lapsed, the bytes of the change log that were too many: nothing is kept for it.
    pub outgrew_bytes: Option<u64>,
}

pub(crate) fn describe(entry: &TableEntry) -> Vec<StreamDescription> {
    let description = |(name, record): (&String, &StreamRecord)| StreamDescription {
        name: name.clone(),
        attached_at: record.attached_at,
        needed_after: record.needed_after,
        outgrew_bytes: record.outgrew_bytes,
    };
    entry.streams.iter().map(description).collect()
}

/// Up to which version no stream of the table needs changes, as of a version.
pub(crate) fn floor(entry: &TableEntry, version: u64) -> u64 {
    let lasting = entry.streams.values().filter(|stream| stream.lasts());
    let needed = lasting.map(|stream| stream.needed_after);
    needed.min().unwrap_or(version)
}
