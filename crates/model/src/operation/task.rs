//! The tasks of a step, one per shard, and what workers report about them.

use serde::{Deserialize, Serialize, Serializer};

use crate::digest::Digest;
use crate::key::{KeyRange, hex_option};
use crate::manifest::{Manifest, Segment};
use crate::name::{BackupId, TablePath};
use crate::operation::cluster::ShardAgent;
use crate::operation::shard_method::ChosenMethod;
use crate::part::{PartList, ShardContents, TableName};

/// What one shard has to do in a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "task")]
pub enum TaskSpec {
    /// The step is one piece of work for the whole target.
    Whole,
    /// Write a shard of the snapshot into segments.
    Copy {
        /// The sharded table.
        path: TablePath,
        /// The shard's place in the draft of the manifest.
        shard: u32,
        /// Its keys.
        range: KeyRange,
        /// What its rows must add up to; of the changes of an increment nothing is known before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<Digest>,
    },
    /// Fold what a run of backups has of a shard of its last.
    Fold {
        /// The sharded table.
        path: TablePath,
        /// The shard's place in the last backup.
        shard: u32,
    },
    /// Bring the segments of one shard of a backup to the shards that own their keys now.
    Restore {
        /// The backup they are in.
        backup_id: BackupId,
        /// The sharded table in the backup.
        source: TablePath,
        /// The sharded table on the target.
        target: TablePath,
        /// The shard's place in the manifest.
        shard: u32,
    },
    /// Compare a range of a restored table with a shard in the manifest.
    Verify {
        /// The backup to compare with.
        backup_id: BackupId,
        /// The sharded table in the backup.
        source: TablePath,
        /// The sharded table on the target.
        target: TablePath,
        /// The shard's place in the manifest.
        shard: u32,
    },
    /// Write frozen parts of a table into the repository.
    CopyParts {
        /// The table.
        table: TableName,
        /// Its place in the draft of the manifest.
        table_idx: u32,
        /// The place of the list of these parts among those of the table.
        chunk: u32,
        /// The parts.
        parts: Vec<PartAt>,
    },
    /// Stage the rows of a range that differ from the wanted backup, or all where the table is new or the shard is
    /// rebuilt.
    MendRows {
        /// The sharded table.
        path: TablePath,
        /// Its keys.
        range: KeyRange,
        /// Whether the table is created: then all rows of the backup are brought.
        create: bool,
        /// Of its keys only these, if there are any here: single ones, ascending.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        only: Vec<KeyRange>,
        /// The method that was chosen for it. `None` where there is no choice: the table is created, or single keys
        /// are mended.
        #[serde(rename = "road", default, skip_serializing_if = "Option::is_none")]
        method: Option<ChosenMethod>,
    },
    /// What the step does to one table of a part store.
    Mend {
        /// The table on the target.
        target: TableName,
        /// Its place in the request.
        table_idx: u32,
    },
    /// What the agent of a shard of a cluster does in the step.
    Shard {
        /// The shard.
        shard: String,
        /// Its place in the request.
        shard_idx: u32,
    },
}

/// A part by its name and the disk it is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartAt {
    /// The disk.
    pub disk: String,
    /// The part.
    pub name: String,
}

impl TaskSpec {
    /// The table of the target that the task works on, as people name it.
    pub fn table(&self) -> Option<String> {
        match self {
            Self::Whole => None,
            Self::Copy { path, .. } | Self::Fold { path, .. } => Some(path.to_string()),
            Self::Restore { target, .. } | Self::Verify { target, .. } => Some(target.to_string()),
            Self::MendRows { path, .. } => Some(path.to_string()),
            Self::CopyParts { table, .. } => Some(table.to_string()),
            Self::Mend { target, .. } => Some(target.to_string()),
            Self::Shard { shard, .. } => Some(format!("shard {shard}")),
        }
    }
}

/// A task as it is allocated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTask {
    /// What to do.
    pub spec: TaskSpec,
    /// Bytes it will move, as far as known.
    pub bytes_total: u64,
}

impl NewTask {
    /// The one task of a step that is one piece of work.
    pub fn whole() -> Self {
        Self {
            spec: TaskSpec::Whole,
            bytes_total: 0,
        }
    }
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    /// To be requested; not before the time of its backoff.
    Pending,
    /// Requested in its current attempt.
    Running,
    /// Reported done. Never changes again within the step.
    Done,
    /// Failed for good, in a step whose tables do not stop each other. To be requested again when the
    /// operation is resumed.
    Failed,
}

/// The work of one shard in the current step. Only the machine writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// What to do. Not part of the serialised form: it does not change, and is a record of its own.
    #[serde(skip_serializing, default = "whole")]
    pub spec: TaskSpec,
    /// Where it stands.
    pub status: TaskStatus,
    /// Counts requests. Reports of another attempt are ignored.
    pub attempt: u32,
    /// Errors in a row without progress in between: the exponent of the backoff.
    pub failures: u32,
    /// All up to this key is done.
    #[serde(with = "hex_option")]
    pub last_key: Option<Vec<u8>>,
    /// Rows done.
    pub rows: u64,
    /// Bytes done.
    pub bytes: u64,
    /// Bytes to do, as far as known.
    pub bytes_total: u64,
    /// What it brought about so far. Segments are not part of the serialised form: each is a record of its own.
    #[serde(serialize_with = "without_segments")]
    pub output: TaskOutput,
    /// A pending task is not requested before this time.
    pub not_before_ms: u64,
    /// When the running attempt was requested or last heard of.
    pub last_heard_ms: u64,
    /// The last error, kept until there is progress.
    pub error: Option<String>,
    /// Since when the agent that does the work was not heard, of those that this process has asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unheard_since_ms: Option<u64>,
}

fn whole() -> TaskSpec {
    TaskSpec::Whole
}

fn without_segments<S: Serializer>(output: &TaskOutput, serializer: S) -> Result<S::Ok, S::Error> {
    match output {
        TaskOutput::Segments(_) => TaskOutput::None.serialize(serializer),
        other => other.serialize(serializer),
    }
}

impl Task {
    /// What stands in the place of a task while it is changed.
    pub(super) fn vacant() -> Self {
        Self::new(NewTask::whole(), 0)
    }

    /// The segments that are finished, of a task that makes such.
    pub fn segments(&self) -> &[Segment] {
        match &self.output {
            TaskOutput::Segments(segments) => segments,
            _ => &[],
        }
    }

    pub(super) fn new(new: NewTask, attempt_floor: u32) -> Self {
        Self {
            spec: new.spec,
            status: TaskStatus::Pending,
            attempt: attempt_floor,
            failures: 0,
            last_key: None,
            rows: 0,
            bytes: 0,
            bytes_total: new.bytes_total,
            output: TaskOutput::None,
            not_before_ms: 0,
            last_heard_ms: 0,
            error: None,
            unheard_since_ms: None,
        }
    }
}

/// What a task leaves behind for later steps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskOutput {
    /// Nothing but the fact that it is done.
    #[default]
    None,
    /// Segments finished so far, in key order.
    Segments(Vec<Segment>),
    /// Changes of a shard that were found by comparing, as segments in key order, and the digest of all its rows.
    Found {
        /// The changes.
        segments: Vec<Segment>,
        /// The rows.
        digest: Digest,
    },
    /// A list of parts whose files are in the repository.
    Parts(PartList),
    /// Why the table of the task cannot be backed up: the backup goes on without it. Of a rollback, what it could not take
    /// back.
    Lacks(String),
    /// Rows of a range that were compared and staged so far.
    Mended(MendedRows),
    /// What was staged of all ranges is live.
    Published {
        /// Milliseconds that writers waited.
        writers_waited_ms: u64,
        /// Ranges that were compared again, as they were written meanwhile.
        again: Vec<MendedShard>,
    },
    /// The manifest as the cut sees it: every shard, no segment yet.
    Draft(Box<Manifest>),
    /// What a shard of a cluster has in the repository.
    Shard {
        /// The shard.
        shard: String,
        /// The replica that it was taken of.
        replica: String,
        /// Its tables.
        contents: Box<ShardContents>,
    },
}

/// What a mend does, or would do, to the rows of a range. Rows that an attempt has staged without living to
/// report it are not counted by the next, which finds them staged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MendedRows {
    /// Live rows that are read: one for each key that may differ, or all of a range whose digest does.
    pub read: u64,
    /// Rows that are written: they are not there, or are others.
    pub upserted: u64,
    /// Rows that are removed: the backup does not have them.
    pub erased: u64,
    /// Rows that were looked at and are as they should be.
    pub kept: u64,
    /// Bytes of the keys and rows that are written or removed, those of index rows not counted.
    #[serde(default)]
    pub written_bytes: u64,
    /// Bytes read from the repository.
    pub fetched_bytes: u64,
    /// Requests to the repository.
    pub requests: u64,
    /// Milliseconds that writers waited, where they wait for the publish only.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub writers_waited_ms: u64,
    /// Rows that differ and stay, as they were written after the moment that was named.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub newer: u64,
    /// Rows that chosen transactions wrote and that stay, as others wrote them again since.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rewritten: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A key range of a table, and what a mend did to its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MendedShard {
    /// The sharded table.
    pub path: TablePath,
    /// The keys.
    pub range: KeyRange,
    /// What was done.
    pub rows: MendedRows,
    /// The method that was chosen for it.
    #[serde(rename = "road", default, skip_serializing_if = "Option::is_none")]
    pub method: Option<ChosenMethod>,
}

impl std::ops::AddAssign for MendedRows {
    fn add_assign(&mut self, other: Self) {
        self.read += other.read;
        self.upserted += other.upserted;
        self.erased += other.erased;
        self.kept += other.kept;
        self.written_bytes += other.written_bytes;
        self.fetched_bytes += other.fetched_bytes;
        self.requests += other.requests;
        self.writers_waited_ms += other.writers_waited_ms;
        self.newer += other.newer;
        self.rewritten += other.rewritten;
    }
}

/// What a worker reports about an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The step.
    pub step: u32,
    /// The task in it.
    pub shard_idx: u32,
    /// The attempt it speaks of.
    pub attempt: u32,
    /// How it goes.
    pub status: ReportStatus,
    /// All up to this key is done, durably.
    #[serde(with = "hex_option")]
    pub last_key: Option<Vec<u8>>,
    /// Rows done since the task began, over all attempts.
    pub rows: u64,
    /// Bytes done since the task began, over all attempts.
    pub bytes: u64,
    /// What it brought about since the task began; of segments only those that earlier reports of the attempt did
    /// not name. The report that ends an attempt names all of the attempt: another may be lost.
    pub output: TaskOutput,
    /// How many segments of the task come before those in the output.
    #[serde(default)]
    pub segments_before: usize,
}

/// How an attempt goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportStatus {
    /// Still at work; what it counts is durable.
    InProgress,
    /// Done, and proved to be.
    Success,
    /// It gave up.
    Error {
        /// Whether another attempt may succeed without anyone doing anything.
        retriable: bool,
        /// What failed, why, and what to do.
        message: String,
    },
    /// The agent that does the work elsewhere does not answer. Another attempt may succeed.
    Unheard {
        /// Who does not answer, why, and what to look at.
        message: String,
        /// Whether it has answered something in this attempt.
        was_heard: bool,
        /// Another one that could do it, and has just answered.
        other: Option<Box<ShardAgent>>,
    },
    /// What was asked for cannot be done as the target is, and nothing of it was: what can end by itself does.
    Refused {
        /// What refuses it, why, and what to do.
        message: String,
    },
    /// The cut that it reads does not exist any more: it must be taken again where the operation can do
    /// that, and is a fatal error elsewhere.
    CutLost {
        /// What is gone, and how that was noticed.
        message: String,
    },
    /// It stopped because it was told to.
    Stopped,
}
