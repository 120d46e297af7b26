//! What an engine tells its caller when something fails, by what the caller has to do.

use mendb_model::describe_error;
use mendb_rowstore::Error as StoreError;

/// What the caller of an engine has to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Try again later: nothing is wrong that will not pass.
    Retry,
    /// Take the snapshot again: it went away with its process.
    Refreeze,
    /// Look again at what is live and plan anew: it has changed since.
    Replan,
    /// Change what was asked for: the tables are not in a state that allows it.
    Request,
    /// Repair the environment (disk, permissions, damaged files), then resume.
    Repair,
}

/// What a target is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// Rows in key order.
    Rows,
    /// Immutable parts.
    Parts,
}

/// An error of an engine.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// What to do about it.
    pub remedy: Remedy,
    /// What kind of target is needed, where this one is of another: the program knows which addresses name such.
    pub needs: Option<TargetKind>,
    /// Whether who was asked, one of several, does not answer at all.
    pub is_unheard: bool,
    /// What failed, why, and what to do, the causes included.
    message: String,
}

/// The result of an engine.
pub type Result<T> = std::result::Result<T, EngineError>;

impl EngineError {
    /// An error that has no further cause.
    pub fn new(remedy: Remedy, message: impl Into<String>) -> Self {
        Self {
            remedy,
            needs: None,
            is_unheard: false,
            message: message.into(),
        }
    }

    /// That something was asked of a target of the other kind.
    pub(crate) fn needs(kind: TargetKind) -> Self {
        let message = match kind {
            TargetKind::Rows => "this works with row stores, and the target is one of parts",
            TargetKind::Parts => "this works with part stores, and the target is one of rows",
        };
        Self {
            needs: Some(kind),
            ..Self::new(Remedy::Request, message)
        }
    }

    /// Whether its cause is what was asked for, and not the moment: asking for something else may
    /// succeed, asking again does not.
    pub fn is_of_what_was_asked(&self) -> bool {
        matches!(self.remedy, Remedy::Request | Remedy::Repair)
    }

    /// The snapshot of `operation` does not exist in this process.
    pub(crate) fn snapshot_lost(operation: &str) -> Self {
        Self::new(
            Remedy::Refreeze,
            format!("the snapshot of operation {operation} is gone"),
        )
    }
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        let remedy = match &error {
            StoreError::Storage { .. }
            | StoreError::Stopped { .. }
            | StoreError::Damaged { .. }
            | StoreError::Format { .. }
            | StoreError::Locked { .. } => Remedy::Repair,
            _ => Remedy::Request,
        };
        Self::new(remedy, describe_error(&error))
    }
}
