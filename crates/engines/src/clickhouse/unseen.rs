//! What another replica brought in the instant in which a partition was replaced, and what went before it was here.
//!
//! A replacement or a removal of a partition takes all numbers that were given before it, on all replicas, also those
//! of parts that the replica here does not have yet; and no statement takes less, or keeps other replicas from
//! inserting. So what is here is looked at last, right after this replica has caught up, and the shared log is read
//! afterwards: a part that another replica brought into the log since, with a number that went, and that is neither
//! put together with the rest nor held, is lost. It is named, since the client that inserted it got an answer.
//!
//! *Crash*: what the last look saw is on disk before the statement is sent, and stays until the log was read. *Limit*:
//! the log keeps its last entries only, 100 unless the table says otherwise; where it begins too late, that is said.
//! An insert that had its number before the replacement and comes into the log after that was read is not named.

use mendb_model::part::{PartName, TableName};
use serde::{Deserialize, Serialize};

use super::ClickHouse;
use super::live_parts::FoundPart;
use super::markers::table_directory;
use super::replica_log::{LogEntry, number};
use crate::error::{EngineError, Remedy, Result};

/// What is known right before a partition is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LastLook {
    pub(super) partition_id: String,
    /// The number of the next entry of the shared log.
    pub(super) log_end: u64,
    /// Parts that are brought again, or are held.
    seen: Vec<String>,
}

impl LastLook {
    pub(super) fn new(partition_id: &str, log_end: u64) -> Self {
        Self {
            partition_id: partition_id.to_owned(),
            log_end,
            seen: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, parts: &[FoundPart]) {
        let names = parts.iter().map(|part| part.name.to_string());
        self.seen.extend(names);
    }

    /// Whether a part was seen, by itself or in a merge.
    fn has_seen(&self, part: &PartName) -> bool {
        let seen = self
            .seen
            .iter()
            .filter_map(|name| name.parse::<PartName>().ok());
        let mut seen = seen.filter(|seen| seen.partition_id == part.partition_id);
        seen.any(|seen| seen.min_block <= part.min_block && part.max_block <= seen.max_block)
    }

    /// What the log says about the time since.
    fn choose<'a>(&self, log: &'a [LogEntry], own: &str) -> Since<'a> {
        let begin = log.first().and_then(|entry| number(&entry.node));
        if begin.map_or(self.log_end > 0, |begin| begin > self.log_end) {
            return Since::Forgotten;
        }
        let since = log
            .iter()
            .filter(|entry| number(&entry.node).is_none_or(|number| number >= self.log_end));
        let since: Vec<&LogEntry> = since.collect();
        let ranges = since.iter().filter(|entry| entry.source == own);
        let ranges = ranges.filter_map(|entry| entry.taken_to(&self.partition_id));
        let Some(taken_to) = ranges.max() else {
            return Since::Untouched;
        };
        let is_unseen = |part: &PartName| {
            part.partition_id == self.partition_id
                && part.max_block <= taken_to
                && !self.has_seen(part)
        };
        // What cannot be read may be lost.
        let is_lost = |entry: &&LogEntry| {
            entry.source != own
                && entry
                    .brings()
                    .is_none_or(|parts| parts.iter().any(is_unseen))
        };
        Since::Taken {
            lost: since.into_iter().filter(is_lost).collect(),
        }
    }
}

/// What became of a partition since the last look.
#[derive(Debug, PartialEq, Eq)]
enum Since<'a> {
    /// The log does not go back so far.
    Forgotten,
    /// This replica has taken nothing from it.
    Untouched,
    /// It has.
    Taken {
        /// What went unseen.
        lost: Vec<&'a LogEntry>,
    },
}

impl ClickHouse {
    /// Remembers a look until what came of it was told.
    pub(super) fn remember_look(
        &self,
        operation: &str,
        name: &TableName,
        look: &LastLook,
    ) -> Result<()> {
        self.markers().write(operation, &look_name(name), look)
    }

    /// The look of an attempt that did not come to tell.
    pub(super) fn last_look(&self, operation: &str, name: &TableName) -> Result<Option<LastLook>> {
        self.markers().read(operation, &look_name(name))
    }

    /// Refuses to call an exchange done that took what another replica brought after the last look. That is told
    /// once.
    pub(super) fn check_none_lost(
        &self,
        operation: &str,
        name: &TableName,
        told: &TableName,
        look: &LastLook,
    ) -> Result<()> {
        let mut told_of = Ok(());
        if let Some(own) = self.own_replica(told)? {
            let log = self.entries(&own.node("log"))?;
            let partition_id = &look.partition_id;
            let message = match look.choose(&log, &own.name) {
                Since::Untouched => None,
                Since::Taken { lost } if lost.is_empty() => None,
                Since::Taken { lost } => {
                    let parts: Vec<String> = (lost.iter())
                        .map(|entry| {
                            format!("{} {} of replica {}", entry.kind, entry.part, entry.source)
                        })
                        .collect();
                    Some(format!(
                        "parts were inserted into partition {partition_id} of {told} in the instant in which it was \
                         exchanged, and went with what was replaced before they were on this server: {}; look whether \
                         their rows are there all the same, insert again those that are not, then resume",
                        parts.join(", ")
                    ))
                }
                Since::Forgotten => Some(format!(
                    "whether parts were inserted into partition {partition_id} of {told} through other replicas in the \
                     instant in which it was exchanged cannot be told: the log that the replicas share has forgotten it; \
                     see what was inserted then, then resume"
                )),
            };
            if let Some(message) = message {
                told_of = Err(EngineError::new(Remedy::Repair, message));
            }
        }
        self.markers().remove(operation, &look_name(name))?;
        told_of
    }
}

fn look_name(name: &TableName) -> String {
    format!("{}.look", table_directory(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u32, source: &str, kind: &str, rest: &str) -> LogEntry {
        let text = format!(
            "format version: 4\ncreate_time: 2024-01-01 00:00:00\nsource replica: {source}\nblock_id: 7_1_2\n\
             {kind}\n{rest}\n"
        );
        LogEntry::read(&format!("log-{number:010}"), &text)
    }

    fn look(log_end: u64, seen: &[&str]) -> LastLook {
        LastLook {
            seen: seen.iter().map(|name| (*name).to_owned()).collect(),
            ..LastLook::new("7", log_end)
        }
    }

    const REPLACED: &str = "drop_range_name: 7_0_5_4294967295\nfrom_database: d\nfrom_table: t__mendb_1\n\
                            source_parts: ['7_1_1_0']";

    fn log() -> Vec<LogEntry> {
        vec![
            entry(3, "r2", "get", "7_2_2_0"),
            entry(4, "r2", "get", "7_3_3_0"),
            entry(5, "r2", "get", "7_4_4_0"),
            entry(6, "r1", "get", "7_5_5_0"),
            entry(7, "r2", "get", "8_1_1_0"),
            entry(8, "r2", "merge", "7_3_3_0\n7_4_4_0\ninto\n7_3_4_1"),
            entry(9, "r1", "REPLACE_RANGE", REPLACED),
            entry(10, "r2", "get", "7_8_8_0"),
        ]
    }

    #[test]
    fn what_another_replica_brought_unseen_before_a_replacement_is_lost() {
        let log = log();
        let lost = vec![&log[2]];
        for seen in ["7_3_3_0", "7_1_3_1", "7_3_3_0_6"] {
            let told = look(4, &[seen]).choose(&log, "r1");
            let expected = Since::Taken { lost: lost.clone() };
            assert_eq!(told, expected, "{seen}");
        }
        let all = look(4, &["7_3_4_1"]).choose(&log, "r1");
        assert_eq!(all, Since::Taken { lost: Vec::new() });
    }

    #[test]
    fn what_no_replacement_of_ours_took_is_not_lost() {
        let log = log();
        assert_eq!(look(4, &[]).choose(&log, "r3"), Since::Untouched);
        assert_eq!(look(10, &[]).choose(&log, "r1"), Since::Untouched);
        let dropped = [
            entry(0, "r1", "drop", "8_0_5_999999999"),
            entry(1, "r2", "get", "7_1_1_0"),
        ];
        assert_eq!(look(0, &[]).choose(&dropped, "r1"), Since::Untouched);
    }

    #[test]
    fn a_range_that_cannot_be_read_may_have_taken_anything() {
        let log = [
            entry(0, "r2", "get", "7_9_9_0"),
            entry(1, "r1", "REPLACE_RANGE", ""),
        ];
        let told = look(0, &[]).choose(&log, "r1");
        assert_eq!(
            told,
            Since::Taken {
                lost: vec![&log[0]]
            }
        );
    }

    #[test]
    fn what_a_replacement_through_another_replica_brought_unseen_is_lost_too() {
        let replaced = |parts: &str| {
            let rest = format!(
                "drop_range_name: 7_0_3_4294967295\nsource_parts: ['1_1_1_0']\nnew_parts: {parts}"
            );
            [
                entry(0, "r2", "REPLACE_RANGE", &rest),
                entry(1, "r1", "REPLACE_RANGE", REPLACED),
            ]
        };
        for (parts, is_lost) in [
            ("['7_4_4_0','7_5_5_0']", true),
            ("['7_4_4_0']", false),
            ("['8_4_4_0']", false),
            ("[]", false),
            ("", true),
            ("['?']", true),
        ] {
            let log = replaced(parts);
            let lost = log.iter().take(usize::from(is_lost)).collect();
            let told = look(0, &["7_4_4_0"]).choose(&log, "r1");
            assert_eq!(told, Since::Taken { lost }, "{parts}");
        }
        let unreadable = [
            entry(0, "r2", "get", "?"),
            entry(1, "r1", "REPLACE_RANGE", REPLACED),
        ];
        let lost = vec![&unreadable[0]];
        assert_eq!(
            look(0, &[]).choose(&unreadable, "r1"),
            Since::Taken { lost }
        );
    }

    #[test]
    fn a_log_that_has_forgotten_is_not_taken_for_one_that_says_no() {
        assert_eq!(look(2, &[]).choose(&log(), "r1"), Since::Forgotten);
        assert_eq!(look(2, &[]).choose(&[], "r1"), Since::Forgotten);
        assert_eq!(look(0, &[]).choose(&[], "r1"), Since::Untouched);
    }
}
