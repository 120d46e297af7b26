//! Entries of the log that replicas share and of the queue that each of them has, as they are written in the keeper.
//!
//! ```text
//! format version: 4
//! create_time: 2024-01-01 00:00:00
//! source replica: r1
//! block_id: 202401_…
//! get
//! 202401_5_5_0
//! ```

use mendb_model::part::PartName;

/// What begins the names of entries in the log.
pub(super) const LOG: &str = "log-";

/// An entry, as far as a mend looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogEntry {
    /// Its name in the log or in the queue.
    pub(super) node: String,
    /// The replica that gave it.
    pub(super) source: String,
    /// What is to be done.
    pub(super) kind: String,
    /// The part that is brought, or the range of parts that goes.
    pub(super) part: String,
}

impl LogEntry {
    pub(super) fn read(node: &str, text: &str) -> Self {
        let field = |name: &str| {
            let told = text.lines().find_map(|line| line.strip_prefix(name));
            told.unwrap_or_default().to_owned()
        };
        let mut lines = text.lines().skip_while(|line| line.contains(": "));
        let kind = lines.next().unwrap_or_default().to_owned();
        let part = match kind.as_str() {
            "REPLACE_RANGE" => field("drop_range_name: "),
            _ => lines.next().unwrap_or_default().to_owned(),
        };
        Self {
            node: node.to_owned(),
            source: field("source replica: "),
            kind,
            part,
        }
    }

    /// Whether rows come or go by it. Merges and mutations make parts of such as are there.
    pub(super) fn brings_or_takes(&self) -> bool {
        !matches!(self.kind.as_str(), "merge" | "mutate")
    }

    /// The part that it brings, if it brings one.
    pub(super) fn brings(&self) -> Option<PartName> {
        match self.kind.as_str() {
            "get" | "attach" => self.part.parse().ok(),
            _ => None,
        }
    }

    /// Whether it takes parts away by their numbers.
    pub(super) fn takes(&self) -> bool {
        matches!(self.kind.as_str(), "REPLACE_RANGE" | "drop" | "detach")
    }

    /// The highest number that goes of a partition where it takes parts away; of a range that cannot be read, all.
    pub(super) fn taken_to(&self, partition_id: &str) -> Option<i64> {
        if !self.takes() {
            return None;
        }
        match self.part.parse::<PartName>() {
            Ok(range) => (range.partition_id == partition_id).then_some(range.max_block),
            Err(_) => Some(i64::MAX),
        }
    }
}

/// The number of an entry of the log.
pub(super) fn number(node: &str) -> Option<u64> {
    node.strip_prefix(LOG)?.parse().ok()
}
