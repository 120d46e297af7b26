//! The steps that operations are made of.

use serde::{Deserialize, Serialize};

/// What a step does. Each is a barrier: the next begins when every shard has reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// Backup: lock the tables, attach or rotate the streams and take the snapshot, at one version.
    Cut,
    /// Backup of a cluster: have every shard frozen.
    Freeze,
    /// Backup: write rows or changes of every shard into segments.
    Copy,
    /// Backup: put the manifest. From here on the backup exists.
    Seal,
    /// Backup: release what the stream no longer needs, detach old streams, unlock.
    Release,
    /// Mend: find out what of each table is to be kept, removed and fetched, and that the repository
    /// has all of it.
    Assess,
    /// Restore and mend: check that every object is there and fits, then create the tables that are
    /// missing, locked.
    Prepare,
    /// Restore: load the rows of the full backup, or of the whole chain where that is read as one.
    Load,
    /// Restore: apply the changes of one increment.
    Apply,
    /// Mend: bring missing parts beside the live ones, checked byte for byte.
    Stage,
    /// Mend: make them live and remove what the backup does not have, partition by partition.
    Commit,
    /// Restore: compare counts and digests of every shard range with the manifest. Mend: compare the
    /// multiset of part hashes with it.
    Verify,
    /// Restore and mend: unlock the tables. Drill: remove them.
    Finish,
    /// Maintenance: fold the shards of a run of backups, beside what there is.
    Fold,
    /// Maintenance: put the folded backup in the place of the last of its run, and remove the others.
    Replace,
    /// Maintenance: remove backups.
    Remove,
    /// Maintenance: remove files that no backup needs.
    Tidy,
    /// After a cancel: bring the target back to where it was before the operation.
    Rollback,
}

impl StepKind {
    /// The name in the journal and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Freeze => "freeze",
            Self::Copy => "copy",
            Self::Seal => "seal",
            Self::Release => "release",
            Self::Assess => "assess",
            Self::Prepare => "prepare",
            Self::Load => "load",
            Self::Apply => "apply",
            Self::Stage => "stage",
            Self::Commit => "commit",
            Self::Verify => "verify",
            Self::Finish => "finish",
            Self::Fold => "fold",
            Self::Replace => "replace",
            Self::Remove => "remove",
            Self::Tidy => "tidy",
            Self::Rollback => "rollback",
        }
    }

    /// Whether an operation can still be cancelled while it is in this step: not once others may
    /// have begun to rely on its result.
    pub fn can_cancel(self) -> bool {
        !matches!(self, Self::Release | Self::Finish | Self::Rollback)
    }

    /// Whether its tasks need the manifest in the making.
    pub fn needs_draft(self) -> bool {
        matches!(
            self,
            Self::Seal
                | Self::Release
                | Self::Stage
                | Self::Verify
                | Self::Finish
                | Self::Replace
                | Self::Rollback
        )
    }

    /// Whether it reads a cut that the operation can take again, by going back to its beginning.
    pub fn can_cut_again(self) -> bool {
        matches!(self, Self::Copy)
    }

    /// Whether a table that fails stops only itself: the others go on, and the operation fails when
    /// none is left to do.
    pub fn isolates_failures(self) -> bool {
        matches!(self, Self::Assess | Self::Stage | Self::Commit)
    }
}

/// A step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// What it does.
    pub kind: StepKind,
    /// Its place in the chain of backups, counted from the full one: for Load and Apply. The place of its run
    /// among those that are folded, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incremental_idx: Option<u32>,
    /// Bytes it will move, as far as known: the weight of the step in the progress of the whole.
    pub bytes_total: u64,
}

impl PlannedStep {
    pub(super) fn new(kind: StepKind) -> Self {
        Self {
            kind,
            incremental_idx: None,
            bytes_total: 0,
        }
    }

    /// `apply 2`, or just the kind.
    pub fn label(&self) -> String {
        match (self.kind, self.incremental_idx) {
            (StepKind::Load, _) | (_, None) => self.kind.name().to_owned(),
            (kind, Some(idx)) => format!("{} {idx}", kind.name()),
        }
    }

    pub(super) fn rollback() -> Self {
        Self::new(StepKind::Rollback)
    }
}
