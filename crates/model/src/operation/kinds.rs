//! Questions that a request of every kind answers.

use super::cluster::{ClusterRequest, ClusterWork};
use super::drill::Drill;
use super::maintenance::MaintenanceRequest;
use super::request::{
    BackupRequest, ChainLink, FindBy, MendRequest, MendSource, Request, RestoreRequest,
    RowMendRequest, TargetTable,
};
use super::step::StepKind;
use crate::name::{BackupId, BackupKind, OperationId};
use crate::target::TargetMark;

impl Request {
    /// The backup that it takes of a row store, if it takes one.
    pub fn row_backup(&self) -> Option<&BackupRequest> {
        match self {
            Self::Backup(request) => Some(request),
            Self::MendRows(request) => Some(&request.before),
            Self::Restore(_)
            | Self::PartBackup(_)
            | Self::Mend(_)
            | Self::Maintain(_)
            | Self::Cluster(_) => None,
        }
    }

    /// The collection it concerns; empty for what comes from no repository of ours.
    pub fn collection(&self) -> &str {
        match self {
            Self::Backup(request) => &request.collection,
            Self::Restore(request) => &request.collection,
            Self::PartBackup(request) => &request.collection,
            Self::Mend(request) => match &request.source {
                MendSource::Backup { collection, .. } => collection,
                MendSource::Undo { .. } | MendSource::Imported { .. } => "",
            },
            Self::MendRows(request) => &request.before.collection,
            Self::Maintain(request) => &request.collection,
            Self::Cluster(request) => &request.collection,
        }
    }

    /// The target that the backup it restores was taken of, if that is known to be another one.
    pub fn of_target(&self) -> Option<&TargetMark> {
        match self {
            Self::Restore(request) => request.of_target.as_ref(),
            Self::MendRows(request) => request.of_target.as_ref(),
            Self::Mend(request) => match &request.source {
                MendSource::Backup { of_target, .. } => of_target.as_ref(),
                MendSource::Undo { .. } | MendSource::Imported { .. } => None,
            },
            Self::Backup(_) | Self::PartBackup(_) | Self::Maintain(_) | Self::Cluster(_) => None,
        }
    }

    /// The tables of which it restores less than their definition: see [`RestoreRequest::plain_tables`].
    ///
    /// [`RestoreRequest::plain_tables`]: super::RestoreRequest::plain_tables
    pub fn plain_tables(&self) -> &[String] {
        match self {
            Self::Restore(request) => &request.plain_tables,
            Self::Backup(_)
            | Self::PartBackup(_)
            | Self::MendRows(_)
            | Self::Mend(_)
            | Self::Maintain(_)
            | Self::Cluster(_) => &[],
        }
    }

    /// Backups of the collection that nobody else may take away while it runs.
    pub fn backups(&self) -> Vec<&BackupId> {
        match self {
            Self::Backup(request) => {
                let parent = request.parent.iter().map(|link| &link.backup_id);
                parent.chain([&request.backup_id]).collect()
            }
            Self::Restore(request) => request.chain.iter().map(|link| &link.backup_id).collect(),
            Self::PartBackup(request) => {
                let known = request.known.iter().map(|link| &link.backup_id);
                known.chain([&request.backup_id]).collect()
            }
            Self::Mend(request) => match &request.source {
                MendSource::Backup { link, .. } => vec![&link.backup_id],
                MendSource::Undo { .. } | MendSource::Imported { .. } => Vec::new(),
            },
            Self::MendRows(request) => {
                let later: &[ChainLink] = match &request.find_by {
                    FindBy::Changes { later } | FindBy::Versions { later, .. } => later,
                    FindBy::Digests { .. } => &[],
                };
                let before = request.before.parent.iter().chain(later);
                let links = before.chain(&request.chain).map(|link| &link.backup_id);
                // The wanted backup last.
                let own = std::iter::once(&request.before.backup_id);
                own.chain(links).collect()
            }
            Self::Maintain(request) => request.backups(),
            Self::Cluster(request) => match &request.work {
                ClusterWork::Backup { backup_id, .. } | ClusterWork::Mend { backup_id } => {
                    vec![backup_id]
                }
                // What was kept beside each server is enough.
                ClusterWork::Undo { .. } => Vec::new(),
            },
        }
    }

    /// The operation that it takes back, if it does.
    pub fn undoes(&self) -> Option<&OperationId> {
        match self {
            Self::Mend(request) => match &request.source {
                MendSource::Undo { operation_id } => Some(operation_id),
                MendSource::Backup { .. } | MendSource::Imported { .. } => None,
            },
            Self::MendRows(request) => request.undoes.as_ref(),
            Self::Cluster(request) => match &request.work {
                ClusterWork::Undo { operation_id, .. } => Some(operation_id),
                ClusterWork::Backup { .. } | ClusterWork::Mend { .. } => None,
            },
            Self::Backup(_) | Self::Restore(_) | Self::PartBackup(_) | Self::Maintain(_) => None,
        }
    }

    /// Whether it makes a backup.
    pub fn is_backup(&self) -> bool {
        match self {
            Self::Backup(_) | Self::PartBackup(_) => true,
            Self::Cluster(request) => request.is_backup(),
            _ => false,
        }
    }

    /// Whether a backup is among what it makes, as that of the state before is of a mend of rows.
    pub fn takes_backup(&self) -> bool {
        self.is_backup() || self.row_backup().is_some()
    }

    /// The kind, as a word for users.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Backup(request) => match request.backup_id.kind() {
                BackupKind::Full => "full_backup",
                BackupKind::Incremental => "incremental_backup",
            },
            Self::Restore(_) | Self::Mend(_) if self.drill().is_some() => "drill",
            Self::Restore(_) => "restore",
            Self::PartBackup(_) => "backup",
            Self::Mend(request) => match &request.source {
                MendSource::Undo { .. } => "undo",
                MendSource::Backup { .. } | MendSource::Imported { .. } => "mend",
            },
            Self::MendRows(request) if request.undoes.is_some() => "undo",
            Self::MendRows(_) => "mend",
            Self::Maintain(request) => request.work.name(),
            Self::Cluster(request) => request.kind(),
        }
    }

    /// The same with its article: `an undo`.
    pub fn a_kind(&self) -> String {
        let kind = self.kind();
        let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) {
            "an"
        } else {
            "a"
        };
        format!("{article} {kind}")
    }

    /// The mend of a part store that it is, or the undo of one.
    pub fn part_mend(&self) -> Option<&MendRequest> {
        match self {
            Self::Mend(request) => Some(request),
            _ => None,
        }
    }

    /// The mend of a row store that it is, or the undo of one.
    pub fn row_mend(&self) -> Option<&RowMendRequest> {
        match self {
            Self::MendRows(request) => Some(request),
            _ => None,
        }
    }

    /// What it restores to prove it and remove it again, if it is a drill.
    pub fn drill(&self) -> Option<&Drill> {
        match self {
            Self::Restore(request) => request.drill.as_ref(),
            Self::Mend(request) => request.drill.as_ref(),
            Self::Backup(_)
            | Self::PartBackup(_)
            | Self::MendRows(_)
            | Self::Maintain(_)
            | Self::Cluster(_) => None,
        }
    }

    /// The restore that it is.
    pub fn restore(&self) -> Option<&RestoreRequest> {
        match self {
            Self::Restore(request) => Some(request),
            _ => None,
        }
    }

    /// The work on a repository alone that it is.
    pub fn maintenance(&self) -> Option<&MaintenanceRequest> {
        match self {
            Self::Maintain(request) => Some(request),
            _ => None,
        }
    }

    /// The work on a cluster that it is.
    pub fn cluster(&self) -> Option<&ClusterRequest> {
        match self {
            Self::Cluster(request) => Some(request),
            _ => None,
        }
    }

    /// Whether what it drafted is kept when it is done: another process puts it into the manifest of a cluster.
    pub(super) fn keeps_draft(&self) -> bool {
        matches!(self, Self::PartBackup(request) if request.of_shard.is_some())
    }

    /// The backup that it makes, be it that of the state before a mend.
    pub fn made_backup(&self) -> Option<&BackupId> {
        match self {
            Self::PartBackup(request) => Some(&request.backup_id),
            Self::Cluster(request) if request.is_backup() => Some(request.backup_id()),
            _ => self.row_backup().map(|request| &request.backup_id),
        }
    }

    /// What the ids of its operations begin with.
    pub fn id_prefix(&self) -> &'static str {
        match self {
            Self::Backup(_) | Self::PartBackup(_) => "backup",
            Self::Restore(_)
            | Self::Mend(_)
            | Self::MendRows(_)
            | Self::Maintain(_)
            | Self::Cluster(_) => self.kind(),
        }
    }

    /// What becomes of its tables, or backups, as a participle.
    pub fn doing(&self) -> &'static str {
        match self {
            Self::Backup(_) | Self::PartBackup(_) => "backed up",
            Self::Restore(_) => "restored",
            Self::Mend(_) if self.drill().is_some() => "restored",
            Self::Mend(_) | Self::MendRows(_) => "mended",
            Self::Cluster(request) if request.is_backup() => "backed up",
            Self::Cluster(_) => "mended",
            Self::Maintain(_) => "worked on",
        }
    }

    /// Whether it is about a target; else about a repository alone.
    pub fn has_target(&self) -> bool {
        !matches!(self, Self::Maintain(_))
    }

    /// Whether a step is one piece of work whatever there is, so that its tasks need not be looked for.
    pub fn is_one_task(&self, step: StepKind) -> bool {
        if let Self::Cluster(request) = self {
            return request.is_one_task(step);
        }
        match step {
            StepKind::Verify => matches!(self, Self::MendRows(_) | Self::PartBackup(_)),
            StepKind::Commit => matches!(self, Self::MendRows(_)),
            StepKind::Cut
            | StepKind::Seal
            | StepKind::Release
            | StepKind::Prepare
            | StepKind::Finish
            | StepKind::Replace
            | StepKind::Remove
            | StepKind::Tidy
            | StepKind::Rollback => true,
            StepKind::Copy
            | StepKind::Freeze
            | StepKind::Assess
            | StepKind::Load
            | StepKind::Apply
            | StepKind::Stage
            | StepKind::Fold => false,
        }
    }

    /// Whether it can go back from this step to its beginning, to take the cut again that the step reads. What is of one
    /// moment with other shards cannot: its moment is over.
    pub(super) fn can_cut_again(&self, step: StepKind) -> bool {
        let is_of_a_moment = matches!(
            self,
            Self::PartBackup(request) if request.exact && request.of_shard.is_some()
        );
        step.can_cut_again() && !is_of_a_moment
    }

    /// Whether it waits before this step until it is resumed.
    pub fn holds_before(&self, step: StepKind) -> bool {
        match self {
            Self::PartBackup(request) => {
                request.holds && matches!(step, StepKind::Verify | StepKind::Copy)
            }
            Self::Mend(request) => request.holds && step == StepKind::Commit,
            _ => false,
        }
    }

    /// Whether those who do its work wait at the end of this step until all have come so far.
    pub(super) fn holds_after(&self, step: StepKind) -> bool {
        matches!(self, Self::Cluster(_)) && matches!(step, StepKind::Freeze | StepKind::Stage)
    }

    /// Whether what it does is live once this step is done, so that it cannot be given up any more.
    pub(super) fn is_live_after(&self, step: StepKind) -> bool {
        matches!(self, Self::MendRows(mend) if mend.beside_writers) && step == StepKind::Commit
    }

    /// Whether it ends by itself where the target refuses it in this step, before anything is live: asked again, it would
    /// be refused again, and what it holds would be in the way of others. A backup and a restore have written nothing in
    /// their first step; what is refused later may be looked into.
    pub(super) fn ends_when_refused(&self, step: StepKind) -> bool {
        match self {
            Self::MendRows(mend) => mend.beside_writers,
            Self::Backup(_) => step == StepKind::Cut,
            Self::Restore(_) => step == StepKind::Prepare,
            _ => false,
        }
    }

    /// The tables of the target that it touches.
    pub fn target_tables(&self) -> Vec<TargetTable<'_>> {
        fn of_rows(names: &[String]) -> impl Iterator<Item = TargetTable<'_>> {
            names.iter().map(|name| TargetTable::Rows(name))
        }
        match self {
            Self::Backup(request) => of_rows(&request.tables).collect(),
            Self::Restore(request) => {
                let tables = request.tables.iter();
                let targets = tables.map(|table| TargetTable::Rows(&table.target));
                targets.collect()
            }
            Self::PartBackup(request) => request.tables.iter().map(TargetTable::Parts).collect(),
            Self::Mend(request) => {
                let tables = request.tables.iter();
                let targets = tables.map(|table| TargetTable::Parts(&table.target));
                targets.collect()
            }
            Self::MendRows(request) => {
                let tables = request.tables.iter();
                let mut names: Vec<TargetTable<'_>> = tables
                    .map(|table| TargetTable::Rows(&table.table))
                    .collect();
                for other in of_rows(&request.before.tables) {
                    if !names.contains(&other) {
                        names.push(other);
                    }
                }
                names
            }
            Self::Maintain(_) | Self::Cluster(_) => Vec::new(),
        }
    }
}
