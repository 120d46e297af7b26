//! Why an attempt ended before its task was done.

use mendb_engines::{EngineError, Remedy};
use mendb_model::operation::ShardAgent;
use mendb_repo::clickhouse_backup::ImportError;

use crate::error::Error;

/// Why an attempt ended before its task was done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TaskError {
    /// The coordinator told it to stop.
    #[error("stopped")]
    Stopped,
    /// The database failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The agent that does the work does not answer.
    #[error("{why}")]
    Unheard {
        /// Who does not, why, and what to look at.
        why: EngineError,
        /// Whether it has answered something in this attempt.
        was_heard: bool,
        /// Another one that could do it, and has just answered.
        other: Option<Box<ShardAgent>>,
    },
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] mendb_repo::Error),
    /// A backup of clickhouse-backup cannot be read.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// Another operation works with what this one would take away, and will be done some time.
    #[error("{0}")]
    InUse(String),
    /// What was done cannot be right.
    #[error("{0}")]
    Proof(String),
    /// Parts, named here, may hold rows that somebody brought beside rows that are to go.
    #[error("rows that came cannot be told from rows that are to go, in parts {0}")]
    Unclear(String),
    /// A part that was kept to take a mend back by is damaged, and is not brought back.
    #[error(
        "{0}; cancel the undo, then mendb restore --in-place brings its table to what a backup holds"
    )]
    DamagedKept(String),
    /// The journal cannot be read or written.
    #[error(transparent)]
    Journal(#[from] Box<Error>),
}

impl TaskError {
    /// Whether another attempt may succeed without anyone doing anything.
    pub(crate) fn is_retriable(&self) -> bool {
        match self {
            Self::Engine(error) => error.remedy == Remedy::Retry,
            Self::Unheard { .. } => true,
            Self::Repository(error) => error.is_retriable(),
            Self::Import(error) => error.is_retriable(),
            Self::InUse(_) => true,
            Self::Stopped
            | Self::Proof(_)
            | Self::Unclear(_)
            | Self::DamagedKept(_)
            | Self::Journal(_) => false,
        }
    }
}

impl TaskError {
    /// Whether what was asked for cannot be done as the target is.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Engine(error) => matches!(error.remedy, Remedy::Request | Remedy::Replan),
            Self::Proof(_) => true,
            _ => false,
        }
    }
}

impl From<Error> for TaskError {
    fn from(error: Error) -> Self {
        Self::Journal(Box::new(error))
    }
}

/// What a task found out on behalf of a user who waits for the answer.
impl From<TaskError> for Error {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::Engine(error) | TaskError::Unheard { why: error, .. } => error.into(),
            TaskError::Repository(error) => error.into(),
            TaskError::Import(error) => error.into(),
            TaskError::Journal(error) => *error,
            TaskError::Proof(message) | TaskError::InUse(message) => Self::Refused {
                message,
                hint: None,
            },
            error @ (TaskError::Stopped | TaskError::Unclear(_) | TaskError::DamagedKept(_)) => {
                Self::Refused {
                    message: error.to_string(),
                    hint: None,
                }
            }
        }
    }
}

/// What a task comes to.
pub(crate) type TaskResult<T> = Result<T, TaskError>;
