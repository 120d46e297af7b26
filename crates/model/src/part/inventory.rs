//! The parts of a table at one moment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::hash::Hash128;
use super::name::PartName;
use crate::Malformed;

/// The partition that a table of files is taken for. No other is called so: ids are `all`, digits with
/// `-`, or hex digits.
pub const FILES_PARTITION: &str = "files";

/// A part, as metadata describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name at that moment.
    pub name: String,
    /// Its partition.
    pub partition_id: String,
    /// The first insert in it.
    pub min_block: i64,
    /// The last insert in it.
    pub max_block: i64,
    /// How many merges deep it is.
    pub level: u32,
    /// The block number of its last mutation; 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mutation: i64,
    /// Rows in it.
    pub rows: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Its identity.
    pub hash: Hash128,
    /// The disk it is on; `default` on servers that know no others.
    pub disk: String,
    /// When its directory was written, in seconds since 1970, by the server's clock: it tells a part from
    /// another that got its name and content later. `None` where it was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified_at_s: Option<i64>,
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

impl Part {
    /// A part of this name.
    ///
    /// # Errors
    /// The name is none of a part.
    pub fn new(
        name: &str,
        rows: u64,
        bytes: u64,
        hash: Hash128,
        disk: &str,
    ) -> Result<Self, Malformed> {
        let parsed: PartName = name.parse()?;
        Ok(Self {
            name: name.to_owned(),
            partition_id: parsed.partition_id,
            min_block: parsed.min_block,
            max_block: parsed.max_block,
            level: parsed.level,
            mutation: parsed.mutation,
            rows,
            bytes,
            hash,
            disk: disk.to_owned(),
            modified_at_s: None,
        })
    }

    /// The number up to which mutations and updates are in it: they concern parts below their own number.
    pub fn data_version(&self) -> i64 {
        if self.mutation > 0 {
            self.mutation
        } else {
            self.min_block
        }
    }

    /// Whether it is known to have no rows: of a table of files they may be unknown.
    pub fn has_no_rows(&self) -> bool {
        self.rows == 0 && self.partition_id != FILES_PARTITION
    }

    /// The highest number that its name shows to have been given: of a block or of a mutation.
    pub fn highest_number(&self) -> i64 {
        self.max_block.max(self.mutation)
    }

    /// What orders the parts of a partition: the order in which their rows were inserted.
    pub fn order(&self) -> (i64, i64, u32, i64) {
        (self.min_block, self.max_block, self.level, self.mutation)
    }
}

/// One run of a server process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRun {
    /// The name of the host.
    pub host: String,
    /// When the process started, in seconds since 1970, by the server's clock. Told by its uptime, so
    /// two questions may see it a second or two apart.
    pub started_at_s: i64,
}

impl ServerRun {
    /// How far apart two sights of one start may be.
    const TOLERANCE_S: i64 = 2;

    /// Whether both are the same run.
    pub fn is_same(&self, other: &Self) -> bool {
        let apart = self.started_at_s.abs_diff(other.started_at_s);
        self.host == other.host && apart <= Self::TOLERANCE_S.unsigned_abs()
    }
}

/// A mutation that was not finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mutation {
    /// Its id.
    pub mutation_id: String,
    /// What it does: `UPDATE x = 1 WHERE y = 2`.
    pub command: String,
    /// Parts it has not been through yet.
    pub parts_to_do: u64,
}

/// The active parts of a table at one moment: a backup's is the `CurrentParts` of its time. That of a table
/// which did not exist is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// When it was taken, in milliseconds since 1970, by the server's clock.
    pub taken_at_ms: u64,
    /// What tells this table from one of the same name before or after it: its UUID, or what else the
    /// server keeps for a table as long as it lives.
    pub incarnation: String,
    /// The server process that told.
    pub run: ServerRun,
    /// The parts, in the order of their partitions and blocks.
    pub parts: Vec<Part>,
    /// Mutations that were not finished.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mutations: Vec<Mutation>,
    /// Names of patch parts: updates that are not yet in the parts they concern.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patches: Vec<String>,
    /// Values of the partitions as the server prints them, by id. Backups of before it was kept have none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub partitions: BTreeMap<String, String>,
    /// Whether replicas agree on its numbers: each partition has its own, some are given ahead of their parts,
    /// and none is given twice as long as the table lives. Backups of before it was kept say that it is none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_replicated: bool,
}

impl Inventory {
    /// Puts the parts in their order.
    pub fn sort(&mut self) {
        self.parts
            .sort_by(|a, b| (&a.partition_id, a.order()).cmp(&(&b.partition_id, b.order())));
    }

    /// Rows of all parts.
    pub fn rows(&self) -> u64 {
        self.parts.iter().map(|part| part.rows).sum()
    }

    /// Bytes of all parts.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// The highest number that its parts show to have been given to a partition, or before it; `None` where
    /// none shows any. Where replicas agree on numbers, those of other partitions tell nothing.
    pub fn numbers_to(&self, partition_id: &str) -> Option<i64> {
        let counts = |part: &&Part| !self.is_replicated || part.partition_id == partition_id;
        let counted = self.parts.iter().filter(counts);
        counted.map(Part::highest_number).max()
    }
}
