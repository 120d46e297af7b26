//! The plan of a mend: what of a table is kept, removed and fetched, partition by partition.

use std::fmt;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use super::hash::Hash128;
use super::inventory::{Inventory, Part};
use super::table_name::TableName;
use super::unfinished::Unfinished;

/// In which order the work of a partition is done (`restore_order`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionMethod {
    /// Swap where the disk has room, else remove first.
    #[default]
    Auto,
    /// Remove what is not in the backup, then fetch and attach: needs the least room.
    RemoveFirst,
    /// Fetch all that is missing, then exchange: readers see before or after.
    Swap,
}

/// What to do with parts that came between planning and commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnConcurrentInsert {
    /// Stop the table before anything is removed.
    #[default]
    Fail,
    /// Remove them as everything else that the backup does not have.
    Remove,
    /// Leave them where they are, beside what the backup has.
    Keep,
}

impl OnConcurrentInsert {
    /// The word for it, as flags and arguments have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Remove => "remove",
            Self::Keep => "keep",
        }
    }
}

/// What happens to a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is as in the backup.
    Nothing,
    /// Missing parts are attached; nothing is removed and order does not matter.
    Attach,
    /// Parts are dropped; nothing is missing.
    Drop,
    /// Its content is put together in a staging table and exchanged at once.
    Swap,
    /// Parts are removed, then missing ones fetched and brought in: readers see it incomplete meanwhile.
    RemoveFirst,
}

/// Why a live part counts as parts of the backup. The best proof comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// Its files are the same: their hash is.
    SameContent,
    /// The server's part log names what it was merged from.
    PartLog,
    /// The numbers of its blocks were given once, and it fills those of the parts from end to end.
    BlockNumbers,
}

/// A live part that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its name on the server.
    pub name: String,
    /// Its hash there.
    pub hash: Hash128,
    /// Places in the list of wanted parts of those that it holds, in their order. None for one that somebody
    /// brought and that stays all the same.
    pub holds: Vec<u32>,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Why it may stay.
    pub proof: Proof,
}

/// A live part that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Its name on the server.
    pub name: String,
    /// Its hash there.
    pub hash: Hash128,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
    /// The disk it is on.
    pub disk: String,
}

/// A part of the backup that the server lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// Its place in the list of wanted parts, counted over all lists of the table.
    pub wanted: u32,
    /// Its name in the backup.
    pub name: String,
    /// Its hash.
    pub hash: Hash128,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Of these, bytes of files that the server has already and that are only linked.
    pub linked_bytes: u64,
    /// The rest, which the repository delivers.
    pub download_bytes: u64,
    /// Files that the repository delivers.
    pub download_files: u64,
    /// The disk it will be on.
    pub disk: String,
}

/// A live part with rows that somebody brought while or after a table was mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CamePart {
    /// Its name on the server.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// Whether others are, or may be, in it beside rows that came: they cannot be told apart.
    pub mixed: bool,
}

impl fmt::Display for CamePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, rows, mixed } = self;
        let beside = if *mixed { ", others among them" } else { "" };
        write!(f, "{name} ({rows} rows{beside})")
    }
}

/// What happens to one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionPlan {
    /// The partition.
    pub partition_id: String,
    /// What is done.
    pub action: Action,
    /// Live parts that stay, in the order of the backup.
    pub keep: Vec<Kept>,
    /// Live parts that go.
    pub remove: Vec<Removed>,
    /// Parts of the backup that come, in the order of the backup.
    pub fetch: Vec<Fetched>,
}

/// What happened to the parts of a table since the backup: told by three states, counted in parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinceBackup {
    /// Still there, unchanged.
    pub unchanged: u64,
    /// Gone into merges.
    pub merged: u64,
    /// Rewritten by a mutation.
    pub mutated: u64,
    /// Gone.
    pub dropped: u64,
    /// Live parts that were not there: inserted or attached.
    pub inserted: u64,
}

/// A live part whose bytes are not what its `checksums.txt` says. Its hash is read from there, so it looks
/// like the part of the backup and is none: it goes, and the part comes anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedPart {
    /// Its name on the server.
    pub name: String,
    /// The hash that it would have if it were whole.
    pub hash: Hash128,
    /// Its damaged files by their paths in the part; none where only the server says that it is damaged.
    pub files: Vec<String>,
}

/// What happens to one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablePlan {
    /// In the backup.
    pub source: TableName,
    /// On the target.
    pub target: TableName,
    /// It does not exist there: it is created first.
    pub create: bool,
    /// Whether partitions that change always have to be put together whole, in the order of blocks.
    pub order_sensitive: bool,
    /// What happened since the backup; `None` where the backup does not tell (two states only).
    pub since_backup: Option<SinceBackup>,
    /// What the table was when it was planned; `None` for one that does not exist.
    #[serde(default)]
    pub before: Option<Inventory>,
    /// Mutations that are not finished and would still change kept parts, by id: they are stopped before
    /// the commit.
    pub kill_mutations: Vec<String>,
    /// Live parts that somebody brought: of the plan of an undo, since the mend that it takes back; of a mend
    /// that stopped before them, since it was planned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub came: Vec<CamePart>,
    /// What is to be done instead once the user goes on, where it stopped over what came: planned when that
    /// was told, so that what comes later stops it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Box<TablePlan>>,
    /// Live parts that are damaged, as far as their bytes were read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<DamagedPart>,
    /// What is to be known before the plan is carried out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Mutations that were not finished when the backup was made: the table will lack them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfinished: Vec<Unfinished>,
    /// Every partition that the backup or the table has, in order.
    pub partitions: Vec<PartitionPlan>,
}

/// Parts with their rows and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Parts.
    pub parts: u64,
    /// Their rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    /// Adds a part.
    pub fn add(&mut self, rows: u64, bytes: u64) {
        self.parts += 1;
        self.rows += rows;
        self.bytes += bytes;
    }
}

/// The sums of a plan, and of what was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Live parts that stay.
    pub kept: Amount,
    /// Live parts that go.
    pub removed: Amount,
    /// Parts that come.
    pub fetched: Amount,
    /// Bytes of files that are only linked.
    pub linked_bytes: u64,
    /// Bytes that the repository delivers.
    pub download_bytes: u64,
    /// Files that the repository delivers.
    pub download_files: u64,
}

/// A part of the backup that should be live, and where its record is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The part.
    pub part: Part,
    /// The list that has its record.
    pub list: u32,
    /// Its place in that list.
    pub position: u32,
    /// Whether it is known to have no rows: then nothing has to be brought for it.
    pub is_empty: bool,
}

impl Tally {
    /// Of a table.
    pub fn of(plan: &TablePlan) -> Self {
        let mut tally = Self::default();
        for partition in &plan.partitions {
            tally += Self::of_partition(partition);
        }
        tally
    }

    /// Of a partition.
    pub fn of_partition(plan: &PartitionPlan) -> Self {
        let mut tally = Self::default();
        for part in &plan.keep {
            tally.kept.add(part.rows, part.bytes);
        }
        for part in &plan.remove {
            tally.removed.add(part.rows, part.bytes);
        }
        for part in &plan.fetch {
            tally.fetched.add(part.rows, part.bytes);
            tally.linked_bytes += part.linked_bytes;
            tally.download_bytes += part.download_bytes;
            tally.download_files += part.download_files;
        }
        tally
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.kept += other.kept;
        self.removed += other.removed;
        self.fetched += other.fetched;
        self.linked_bytes += other.linked_bytes;
        self.download_bytes += other.download_bytes;
        self.download_files += other.download_files;
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.parts += other.parts;
        self.rows += other.rows;
        self.bytes += other.bytes;
    }
}
