//! What is asked of a repository alone: backups are folded or removed, and files that none needs.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::plan::{PlannedStep, StepKind};
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

    /// Whether it does all that another would do, and more perhaps: then the other need not be asked for.
    pub fn covers(&self, other: &Self) -> bool {
        let folds = |fold: &FoldedRun| self.folds.iter().any(|own| own.last == fold.last);
        let goes: Vec<_> = self.goes().collect();
        self.work == other.work
            && self.collection == other.collection
            && (self.tidies || !other.tidies)
            && other.folds.iter().all(folds)
            && other.goes().all(|id| goes.contains(&id))
    }

    /// The backups that are no restore points afterwards.
    fn goes(&self) -> impl Iterator<Item = &BackupId> {
        let folded = self.folds.iter().flat_map(|fold| &fold.goes);
        let removed = self.removals.iter().map(|removal| &removal.backup_id);
        removed.chain(folded)
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
    fn what_is_left_to_do_of_a_request_is_covered_by_it_and_more_is_not() {
        let all = request();
        let mut left = request();
        // It took the place of the last of its run already: the first is only to be removed.
        let folded = left.folds.remove(0);
        left.removals[0].backup_id = folded.first;
        assert!(all.covers(&all) && all.covers(&left) && !left.covers(&all));
        left.work = MaintenanceWork::Delete;
        assert!(!all.covers(&left));
    }
}
