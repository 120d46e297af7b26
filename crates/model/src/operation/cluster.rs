//! Requests about a cluster: what is ordered of the agent of one server of each shard.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::step::{PlannedStep, StepKind};
use crate::name::{BackupId, OperationId};
use crate::part::OnConcurrentInsert;

/// The argument by which an agent is told to wait when its shard is frozen, or staged, until it is told to go on.
pub const HOLD: &str = "hold";
/// The argument of a backup of which all is to be of one moment.
pub const EXACT: &str = "exact";

/// Work on a cluster, decided: which agents do it, and what each is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRequest {
    /// The cluster.
    pub cluster: String,
    /// The collection.
    pub collection: String,
    /// What is done.
    pub work: ClusterWork,
    /// The shards, each with the agent that does its part.
    pub shards: Vec<ShardAgent>,
    /// Agents that were lost while they did the part of a shard, which another replica does since. What they have begun is
    /// given up when they are asked the next time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<ShardAgent>,
    /// The other replicas of the shards, which may do the part of one whose agent is lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<ShardAgent>,
    /// An agent that is not heard for so long is lost, and one of the others does its part; 0 has it waited for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub take_over_after_ms: u64,
    /// What each agent is told beside, as arguments of its command.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub arguments: Map<String, Value>,
    /// What becomes of parts that come into tables, where a user said it when the operation was resumed or cancelled:
    /// it holds in place of what `arguments` say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_concurrent_insert: Option<OnConcurrentInsert>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The agent that works for a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardAgent {
    /// The shard.
    pub shard: String,
    /// The replica whose server it is beside.
    pub replica: String,
    /// Where it answers: `https://host:port`.
    pub agent: String,
    /// The server that it has to be beside: where that runs and has its data, as it tells itself.
    pub server: String,
}

/// What is done to a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum ClusterWork {
    /// One backup of all shards.
    Backup {
        /// The backup that will exist.
        backup_id: BackupId,
        /// A name for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<String>,
    },
    /// Every shard is brought to what a backup of the cluster holds of it.
    Mend {
        /// The backup.
        backup_id: BackupId,
    },
    /// A mend of the cluster is taken back.
    Undo {
        /// It.
        operation_id: OperationId,
        /// What it had told agents beside.
        arguments: Map<String, Value>,
        /// The backup that it mended to.
        backup_id: BackupId,
    },
}

impl ClusterRequest {
    /// The kind, as a word for users.
    pub fn kind(&self) -> &'static str {
        match self.work {
            ClusterWork::Backup { .. } => "backup",
            ClusterWork::Mend { .. } => "mend",
            ClusterWork::Undo { .. } => "undo",
        }
    }

    /// Whether it makes a backup.
    pub fn is_backup(&self) -> bool {
        matches!(self.work, ClusterWork::Backup { .. })
    }

    /// The backup that is made or mended to.
    pub fn backup_id(&self) -> &BackupId {
        match &self.work {
            ClusterWork::Backup { backup_id, .. }
            | ClusterWork::Mend { backup_id }
            | ClusterWork::Undo { backup_id, .. } => backup_id,
        }
    }

    /// Whether all shards wait for each other: each is frozen before any is copied, and each is staged before any is changed.
    /// Operations that an older mendb has begun do not.
    pub fn waits_for_all(&self) -> bool {
        self.is_said(HOLD)
    }

    /// Whether it makes a backup of which all shards are to be of one moment.
    pub fn is_exact(&self) -> bool {
        self.is_backup() && self.is_said(EXACT)
    }

    /// Whether the part of a shard was begun by another replica than the one that does it.
    pub fn is_replaced(&self, shard: &str) -> bool {
        self.left.iter().any(|left| left.shard == shard)
    }

    /// The other replicas that could do the part of a shard if its agent were lost, and may in this step.
    pub fn others_of(&self, shard: &str, step: StepKind) -> impl Iterator<Item = &ShardAgent> {
        let is_asked = self.take_over_after_ms > 0;
        let may = move |other: &&ShardAgent| {
            other.shard == shard && self.may_be_replaced(other, step).is_ok()
        };
        self.others.iter().filter(move |_| is_asked).filter(may)
    }

    /// The place of the shard whose part another replica may do in this step. Until replicas begin to be changed nobody can
    /// tell which one has begun, so that any can; an agent that was lost then waits for good, or fails, where it wakes.
    pub(super) fn may_be_replaced(&self, by: &ShardAgent, step: StepKind) -> Result<usize, String> {
        match (&self.work, step) {
            (ClusterWork::Undo { .. }, _) => {
                return Err(
                    "what an undo brings back is on the disks of the replica that was mended"
                        .to_owned(),
                );
            }
            _ if self.is_exact() => {
                return Err(
                    "its shards are frozen at one moment, at which no other replica was: cancel it, and take the backup \
                     again"
                        .to_owned(),
                );
            }
            (ClusterWork::Backup { .. }, StepKind::Copy)
            | (_, StepKind::Prepare | StepKind::Cut | StepKind::Freeze | StepKind::Stage) => {}
            (_, step) => {
                return Err(format!(
                    "it is in step {}, in which only the agent of a shard knows how far that is: have it run again",
                    step.name()
                ));
            }
        }
        if !self.waits_for_all() {
            return Err(
                "an older mendb has begun it: its shards do not wait for each other".to_owned(),
            );
        }
        let ShardAgent { shard, replica, .. } = by;
        let at = self.shards.iter().position(|at| at.shard == *shard);
        let at = at.ok_or_else(|| format!("it has no shard {shard}"))?;
        if self.shards[at].replica == *replica {
            return Err(format!(
                "replica {replica} is the one that does the part of shard {shard}"
            ));
        }
        let is_it = |left: &ShardAgent| left.shard == *shard && left.replica == *replica;
        if self.left.iter().any(is_it) {
            return Err(format!(
                "replica {replica} has begun the part of shard {shard} before, and was given up"
            ));
        }
        Ok(at)
    }

    /// Has another replica do the part of a shard.
    pub(super) fn replace(&mut self, at: usize, by: ShardAgent) {
        let before = std::mem::replace(&mut self.shards[at], by);
        self.left.push(before);
    }

    fn is_said(&self, argument: &str) -> bool {
        self.arguments.get(argument) == Some(&Value::Bool(true))
    }

    /// Whether a step is one piece of work; else each shard has a task. Shards of one moment are frozen by one piece.
    pub(super) fn is_one_task(&self, step: StepKind) -> bool {
        match step {
            StepKind::Cut | StepKind::Seal | StepKind::Rollback => true,
            StepKind::Freeze => self.is_exact(),
            _ => false,
        }
    }

    /// The steps. A backup asks all agents whether they are ready before any of them freezes, and has all of them frozen
    /// before any of them copies; a mend has all of them plan before any of them brings anything, and has all of them
    /// bring all before any of them changes anything.
    pub(super) fn steps(&self) -> Vec<PlannedStep> {
        let waited_for = match (self.is_backup(), self.waits_for_all()) {
            (_, false) => None,
            (true, true) => Some(StepKind::Freeze),
            (false, true) => Some(StepKind::Stage),
        };
        let (before, after): (&[StepKind], &[StepKind]) = match self.is_backup() {
            true => (
                &[StepKind::Prepare, StepKind::Cut],
                &[StepKind::Copy, StepKind::Seal],
            ),
            false => (&[StepKind::Prepare], &[StepKind::Commit]),
        };
        let kinds = before.iter().copied().chain(waited_for);
        let kinds = kinds.chain(after.iter().copied());
        kinds.map(PlannedStep::new).collect()
    }
}
