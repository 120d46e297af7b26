//! Which backups of a collection are kept: rules by count and by age, and what follows from them for chains.
//!
//! [`rules`] says which backups are wanted; [`mod@plan`] what becomes of the others: removed where nothing that is
//! kept stands on them, else folded into the next that is kept.

pub mod plan;
pub mod rules;

pub use plan::{Fate, Kept, RetentionPlan, plan};
pub use rules::{Period, Reason, Retention};

use crate::name::BackupId;
use crate::target::TargetMark;

/// A backup, as rules look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The backup, which says when it was taken.
    pub backup_id: BackupId,
    /// Its label.
    pub label: Option<String>,
    /// The target it is of. Rules count those of each target by themselves.
    pub target: Option<TargetMark>,
    /// What it stands on.
    pub parent: Option<BackupId>,
    /// Whether it has all that it was to have.
    pub is_complete: bool,
}

impl Point {
    /// What tells the backups of one target from those of others.
    fn target_id(&self) -> Option<&str> {
        self.target.as_ref().map(|target| target.target_id.as_str())
    }
}
