//! Rows whose unique values other rows still hold.
//!
//! Rows of a file may exchange unique values, however far apart they stand. Such a row waits until the
//! file is read, and everything of its key after it waits behind it, so that each key keeps its order.
//! What is there in the end is what one write of the whole file would leave.

use std::collections::HashSet;

use crate::formats::Record;

/// The most bytes that wait: beyond this rows are written together before the file ends.
pub const MAX_WAITING_BYTES: usize = 64 << 20;

/// Rows that wait.
#[derive(Default)]
pub struct Waiting {
    records: Vec<Record>,
    /// The keys of `records`, in their order.
    keys: Vec<Vec<u8>>,
    known: HashSet<Vec<u8>>,
    bytes: usize,
}

impl Waiting {
    /// Whether a row of this key waits.
    pub fn has(&self, key: &[u8]) -> bool {
        self.known.contains(key)
    }

    /// Makes a row wait.
    pub fn push(&mut self, key: Vec<u8>, record: Record) {
        self.bytes += record.size_bytes() + 2 * key.len();
        self.known.insert(key.clone());
        self.keys.push(key);
        self.records.push(record);
    }

    /// The rows, in the order in which they came.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Whether more wait than may.
    pub fn is_full(&self) -> bool {
        self.bytes > MAX_WAITING_BYTES
    }

    /// The last row of one of these keys.
    pub fn last_of(&self, keys: &[Vec<u8>]) -> Option<&Record> {
        let at = self.keys.iter().rposition(|key| keys.contains(key))?;
        Some(&self.records[at])
    }
}
