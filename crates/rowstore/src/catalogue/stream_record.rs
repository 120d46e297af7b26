//! What a catalogue knows of a change stream.

use serde::{Deserialize, Serialize};

/// A change stream of a table, and so of its indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StreamRecord {
    /// The version of the last cut that attached or rotated it.
    pub(crate) attached_at: u64,
    /// Changes above this version are needed. Of one that has lapsed the highest there is, so that a program
    /// that knows nothing of that takes no increment by it.
    pub(crate) needed_after: u64,
    /// The bytes of the change log when it outgrew its limit; the stream has lapsed then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) outgrew_bytes: Option<u64>,
}

impl StreamRecord {
    /// One that needs what comes after a version.
    pub(crate) fn attached(version: u64) -> Self {
        Self {
            attached_at: version,
            needed_after: version,
            outgrew_bytes: None,
        }
    }

    /// Whether it has not lapsed.
    pub(crate) fn lasts(&self) -> bool {
        self.outgrew_bytes.is_none()
    }
}
