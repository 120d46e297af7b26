//! Requests about a repository alone: to fold backups, to remove backups, and to remove files that no backup needs.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::step::{PlannedStep, StepKind};
use crate::name::BackupId;

/// Work on a repository, decided: which backups are folded, which go, and whether files that no backup needs
/// go after them. Deleting, compacting, pruning and tidying differ in nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceRequest {
    /// What the user asked for.
    pub work: MaintenanceWork,
    /// The collection whose backups are folded or removed; empty where only files go.
    pub collection: String,
    /// Backups that are removed, those first that stand on others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removals: Vec<Removal>,
    /// Runs that are folded then, one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folds: Vec<FoldedRun>,
    /// Backups that were to stay when this was decided, and without which it is not done: they may have been taken
    /// away by another since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keeps: Vec<BackupId>,
    /// The order, as options of the command line: the same text means the same operation while that is not over.
    pub order: String,
    /// Whether files of parts that no backup needs are looked for, and removed when they have waited.
    pub tidies: bool,
}

/// What a user asked of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaintenanceWork {
    /// To remove backups.
    Delete,
    /// To fold a run of backups.
    Compact,
    /// To keep what rules say.
    Prune,
    /// To remove files that no backup needs.
    Tidy,
}

impl MaintenanceWork {
    /// The word for it, which is that of the command.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
            Self::Prune => "prune",
            Self::Tidy => "tidy",
        }
    }
}

impl fmt::Display for MaintenanceWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A run of backups that becomes one: its last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldedRun {
    /// The first of the run.
    pub first: BackupId,
    /// The last, which stays.
    pub last: BackupId,
    /// Those that are no restore points afterwards, oldest first.
    pub goes: Vec<BackupId>,
    /// What is read for it, in bytes.
    pub bytes: u64,
}

/// A backup that is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// The backup.
    pub backup_id: BackupId,
    /// Whether it has no manifest: only what is left of it is there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_leftover: bool,
}

impl MaintenanceRequest {
    /// Backups of the collection that go, or that another takes the place of.
    pub fn backups(&self) -> Vec<&BackupId> {
        let folds = self.folds.iter();
        let folded = folds.flat_map(|fold| fold.goes.iter().chain([&fold.last]));
        let removed = self.removals.iter().map(|removal| &removal.backup_id);
        removed.chain(folded).collect()
    }

    /// Whether it has the same order: then the other need not be asked for. What it was decided to do may
    /// be more than the other would, as part of it is done by then.
    pub fn is_same_order(&self, other: &Self) -> bool {
        (self.work, &self.collection, &self.order) == (other.work, &other.collection, &other.order)
    }

    /// Whether backups are folded or removed by it.
    pub fn does_something(&self) -> bool {
        !self.removals.is_empty() || !self.folds.is_empty()
    }

    /// The backups that are no restore points afterwards, with those that they become part of.
    pub fn goes(&self) -> Vec<(&BackupId, Option<&BackupId>)> {
        let removed = self
            .removals
            .iter()
            .map(|removal| (&removal.backup_id, None));
        let folded = self.folds.iter().flat_map(|fold| {
            let goes = fold.goes.iter();
            goes.map(move |id| (id, Some(&fold.last)))
        });
        removed.chain(folded).collect()
    }

    /// The steps, in order. What is removed goes first: some of it may stand on what is folded. Each run is
    /// planned, folded and replaced before the next.
    pub(super) fn steps(&self) -> Vec<PlannedStep> {
        let plain = |kind| PlannedStep {
            kind,
            incremental_idx: None,
            bytes_total: 0,
        };
        let mut steps = Vec::new();
        if !self.removals.is_empty() {
            steps.push(plain(StepKind::Remove));
        }
        for (at, fold) in (0u32..).zip(&self.folds) {
            for kind in [StepKind::Prepare, StepKind::Fold, StepKind::Replace] {
                steps.push(PlannedStep {
                    kind,
                    incremental_idx: (self.folds.len() > 1).then_some(at),
                    bytes_total: if kind == StepKind::Fold {
                        fold.bytes
                    } else {
                        0
                    },
                });
            }
        }
        if self.tidies {
            steps.push(plain(StepKind::Tidy));
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::BackupKind;

    fn id(at: i64) -> BackupId {
        BackupId::new(at, BackupKind::Incremental).unwrap()
    }

    fn request() -> MaintenanceRequest {
        let fold = |first, last| FoldedRun {
            first: id(first),
            last: id(last),
            goes: vec![id(first)],
            bytes: 100,
        };
        MaintenanceRequest {
            work: MaintenanceWork::Prune,
            collection: "shop".into(),
            folds: vec![fold(1, 2), fold(3, 4)],
            removals: vec![Removal {
                backup_id: id(5),
                is_leftover: false,
            }],
            keeps: vec![id(2), id(4)],
            order: "--keep-last 2".into(),
            tidies: true,
        }
    }

    fn labels(request: &MaintenanceRequest) -> Vec<String> {
        request.steps().iter().map(PlannedStep::label).collect()
    }

    #[test]
    fn what_goes_goes_first_then_each_run_is_folded_before_the_next_and_files_go_last() {
        let both = [
            "remove",
            "prepare 0",
            "fold 0",
            "replace 0",
            "prepare 1",
            "fold 1",
            "replace 1",
            "tidy",
        ];
        assert_eq!(labels(&request()), both);
        let mut one = request();
        one.folds.truncate(1);
        one.removals.clear();
        one.tidies = false;
        assert_eq!(labels(&one), ["prepare", "fold", "replace"]);
    }

    #[test]
    fn only_the_same_order_is_the_same_operation() {
        let all = request();
        let mut left = request();
        left.folds.remove(0);
        assert!(all.is_same_order(&left), "part of it was done since");
        left.order = "--keep-last 3".into();
        assert!(!all.is_same_order(&left), "it would keep more");
        let tidy = MaintenanceRequest {
            work: MaintenanceWork::Tidy,
            ..request()
        };
        assert!(!all.is_same_order(&tidy));
    }
}
