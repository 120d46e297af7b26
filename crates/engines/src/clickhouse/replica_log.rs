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
    /// Of a replacement the parts that come, as they are written.
    new_parts: String,
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
            new_parts: field("new_parts: "),
        }
    }

    /// Whether rows come or go by it. Merges and mutations make parts of such as are there.
    pub(super) fn brings_or_takes(&self) -> bool {
        !matches!(self.kind.as_str(), "merge" | "mutate")
    }

    /// The parts that it brings with rows of their own; `None` where they cannot be read.
    pub(super) fn brings(&self) -> Option<Vec<PartName>> {
        match self.kind.as_str() {
            "get" | "attach" => Some(vec![self.part.parse().ok()?]),
            "REPLACE_RANGE" => {
                let names = self.new_parts.strip_prefix('[')?.strip_suffix(']')?;
                let names = names.split(',').filter(|name| !name.is_empty());
                let read = |name: &str| name.trim_matches('\'').parse().ok();
                names.map(read).collect()
            }
            _ => Some(Vec::new()),
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
