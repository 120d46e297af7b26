//! What a store knows of a shard without reading it; written in the same commit as its rows.

use mendb_model::Digest;
use mendb_model::key::hex_option;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::kernel::{Section, ShardId, Tree};
use crate::shard::run::RunStats;
use crate::shard::stored::Stored;
use crate::shard::successor::Successor;

/// First byte of the key in the `meta` tree; eight bytes of shard id follow, big-endian.
const TAG: u8 = b's';

/// The bookkeeping of a shard. Persisted as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShardStats {
    /// Digest of all rows.
    pub(crate) digest: Digest,
    /// The last key of the base; what lies beyond does not exist. `None`: the base is empty.
    #[serde(with = "hex_option", default)]
    pub(crate) base_end: Option<Vec<u8>>,
    /// Bytes of packed blocks in the base.
    pub(crate) base_bytes: u64,
    /// How many rows are in the base; 0 where that was not noted when it was written.
    #[serde(default)]
    pub(crate) base_rows: u64,
    /// Bytes of the file of the shard, as far as anything in it is named.
    pub(crate) file_bytes: u64,
    /// The runs, by number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) runs: Vec<RunStats>,
    /// The number of the next run.
    pub(crate) next_run: u64,
    /// Bytes that were written to the delta since the base was written; overwritten ones count again,
    /// since they cost again until compaction.
    pub(crate) delta_bytes: u64,
    /// Bytes of single records that were written to the change log and not yet trimmed.
    pub(crate) log_bytes: u64,
    /// Digest of the single records of the change log.
    pub(crate) log: Digest,
    /// No record of the change log is at this version or below.
    pub(crate) log_floor: u64,
    /// What is known of what a mend has staged; `None` when that is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) staged: Option<StagedStats>,
    /// The shard that a mend fills to take the place of this one, of which nothing else is staged then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) successor: Option<Successor>,
}

/// The bookkeeping of the staged runs of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StagedStats {
    /// Digest of all rows of the shard as they will be.
    pub(crate) digest: Digest,
    /// What [`ShardStats::file_bytes`] was before.
    pub(crate) file_bytes_before: u64,
}

impl ShardStats {
    /// The key in the `meta` tree.
    pub(crate) fn key(shard: ShardId) -> Vec<u8> {
        let mut key = vec![TAG];
        key.extend_from_slice(&shard.0.to_be_bytes());
        key
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("stats have no map with keys that are not text")
    }

    pub(crate) fn decode(shard: ShardId, bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|error| {
            let what = "shard stats";
            let detail = error.to_string();
            Error::damaged(
                format!("the bookkeeping of shard {shard}"),
                mendb_model::Malformed { what, detail },
            )
        })
    }

    /// Whether there may be a row of `key` beneath the delta.
    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        let in_run = |run: &RunStats| run.first_key.as_slice() <= key && key <= &run.last_key;
        self.base_end.as_deref().is_some_and(|end| key <= end) || self.rows_in_runs().any(in_run)
    }

    fn rows_in_runs(&self) -> impl Iterator<Item = &RunStats> {
        self.runs.iter().filter(|run| !run.is_of_records)
    }

    /// Whether all rows are in the base.
    pub(crate) fn is_packed(&self) -> bool {
        self.delta_bytes == 0 && self.rows_in_runs().next().is_none()
    }

    /// The runs that hide rows beneath them.
    pub(crate) fn runs_over_rows(&self) -> impl Iterator<Item = &RunStats> {
        self.rows_in_runs().filter(|run| !run.hides_nothing)
    }

    /// The runs of rows that a reader reads, who sees what is staged or not.
    pub(crate) fn runs_seen(&self, sees_staged: bool) -> impl Iterator<Item = &RunStats> {
        let runs = self.rows_in_runs();
        runs.filter(move |run| sees_staged || !run.is_staged)
    }

    /// Where the blocks of the base are.
    pub(crate) fn base(&self, shard: ShardId) -> Option<Stored> {
        self.base_end.as_ref().map(|end| Stored {
            shard,
            section: Section::of_shard(Tree::Blocks, shard),
            last_key: end.clone(),
        })
    }

    /// The bookkeeping of what is staged, to be changed; it begins as what is there.
    pub(crate) fn staged_mut(&mut self) -> &mut StagedStats {
        let nothing = StagedStats {
            digest: self.digest,
            file_bytes_before: self.file_bytes,
        };
        self.staged.get_or_insert(nothing)
    }

    /// Digest of the rows that a reader sees, who sees what is staged or not.
    pub(crate) fn digest_seen(&self, sees_staged: bool) -> Digest {
        let staged = self.staged.filter(|_| sees_staged);
        staged.map_or(self.digest, |staged| staged.digest)
    }

    /// Bytes of runs of rows.
    pub(crate) fn run_bytes(&self) -> u64 {
        self.rows_in_runs().map(|run| run.bytes).sum()
    }

    /// Bytes of the change log, wherever it is.
    pub(crate) fn all_log_bytes(&self) -> u64 {
        let logged = self.runs.iter().filter(|run| run.is_logged);
        self.log_bytes + logged.map(|run| run.bytes).sum::<u64>()
    }

    /// At most so many bytes of the change log are of commits after a version.
    pub(crate) fn log_bytes_after(&self, version: u64) -> u64 {
        let after = (self.runs.iter()).filter(|run| run.is_logged && run.version > version);
        self.log_bytes + after.map(|run| run.bytes).sum::<u64>()
    }

    /// Bytes of rows, about, also of those that newer ones hide.
    pub(crate) fn bytes(&self) -> u64 {
        self.base_bytes + self.run_bytes() + self.delta_bytes
    }

    /// Bytes that the rows have once they are packed, about: rows over the base are taken to be as large as those in
    /// it, and beside it. Where these are not counted, it is all that there is.
    pub(crate) fn packed_bytes(&self) -> u64 {
        if self.base_rows == 0 {
            return self.bytes();
        }
        let (mut rows, mut bytes) = (self.base_rows, self.base_bytes);
        for run in self.rows_in_runs().filter(|run| run.hides_nothing) {
            rows += run.entries.rows;
            bytes += run.bytes;
        }
        let packed = u128::from(bytes) * u128::from(self.digest.rows) / u128::from(rows);
        u64::try_from(packed).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stats_round_trip_and_damage_is_an_error() {
        let stats = ShardStats {
            digest: Digest {
                rows: 3,
                sum: 1 << 100,
            },
            base_end: Some(vec![0, 255]),
            base_bytes: 1,
            base_rows: 1,
            file_bytes: 1,
            runs: Vec::new(),
            next_run: 4,
            delta_bytes: 2,
            log: Digest::default(),
            log_bytes: 3,
            log_floor: u64::MAX,
            staged: None,
            successor: None,
        };
        let mut staged = stats.clone();
        staged.staged_mut().digest.rows = 2;
        staged.runs.push(RunStats {
            number: 3,
            version: 0,
            entries: Digest::default(),
            bytes: 9,
            first_key: vec![1],
            last_key: vec![7, 0],
            is_of_records: false,
            is_logged: false,
            tells_replaced: true,
            is_staged: true,
            hides_nothing: false,
        });
        assert_eq!(
            ShardStats::decode(ShardId(7), &staged.encode()).unwrap(),
            staged
        );
        assert_eq!(staged.digest_seen(true).rows, 2);
        assert_eq!(staged.digest_seen(false).rows, 3);
        let bytes = stats.encode();
        assert_eq!(ShardStats::decode(ShardId(7), &bytes).unwrap(), stats);
        let error = ShardStats::decode(ShardId(7), &bytes[1..]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the bookkeeping of shard 7 is damaged; restore it from a backup"
        );
    }

    #[test]
    fn rows_that_hide_others_take_no_more_room_than_these() {
        let rows = |rows| Digest { rows, sum: 0 };
        let run = |entries, bytes, hides_nothing| RunStats {
            number: 0,
            version: 1,
            entries: rows(entries),
            bytes,
            first_key: vec![1],
            last_key: vec![7],
            is_of_records: false,
            is_logged: true,
            tells_replaced: true,
            is_staged: false,
            hides_nothing,
        };
        let mut stats = ShardStats {
            digest: rows(100),
            base_bytes: 1000,
            base_rows: 100,
            runs: vec![run(100, 2000, false)],
            ..ShardStats::default()
        };
        assert_eq!((stats.bytes(), stats.packed_bytes()), (3000, 1000));
        stats.digest = rows(150);
        stats.runs.push(run(50, 500, true));
        assert_eq!(stats.packed_bytes(), 1500);
        stats.delta_bytes = 10;
        stats.base_rows = 0;
        assert_eq!(stats.packed_bytes(), stats.bytes());
    }
}
