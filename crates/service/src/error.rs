//! Errors of the service, by what the caller has to do.

use mendb_engines::{EngineError, Remedy};
use mendb_model::name::{BadName, OperationId};
use mendb_model::operation::{IllegalEvent, PlanError};
use mendb_model::part::{Selector, Unmatched};

use crate::row_conflict::{Conflicts, HolderFate};

/// Why a request was refused or the service could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request cannot be done as it is: change it, or what it is about.
    #[error("{message}")]
    Refused {
        /// What was refused, and why.
        message: String,
        /// What to do instead.
        hint: Option<String>,
    },
    /// Another operation stands in the way.
    #[error("{message}")]
    InTheWay {
        /// What was refused, and why.
        message: String,
        /// What to do instead.
        hint: String,
        /// Whether that operation goes on by itself, so that it will be out of the way some time.
        is_moving: bool,
    },
    /// Selectors that the user wrote fit nothing.
    #[error("nothing fits {}", unmatched.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    NothingFits {
        /// They.
        unmatched: Vec<Unmatched>,
    },
    /// Live rows hold what a mend would bring back, where a rule of the schema allows one row only.
    #[error("{}", conflicts_sentence(.0))]
    Conflicts(Box<Conflicts>),
    /// A backup of the collection failed before, and can be resumed or given up.
    #[error(
        "backup operation {operation_id} of collection {collection} has failed and was neither resumed nor cancelled"
    )]
    BackupFailed {
        /// The collection.
        collection: String,
        /// The operation that failed.
        operation_id: OperationId,
    },
    /// An increment has nothing that it could stand on.
    #[error("cannot take an incremental backup: {reason}")]
    FullNeeded {
        /// The collection.
        collection: String,
        /// Why.
        reason: String,
    },
    /// There is no such operation.
    #[error("there is no operation {0}")]
    UnknownOperation(String),
    /// There is no such collection.
    #[error("there is no collection {0} on this target")]
    UnknownCollection(String),
    /// A name that cannot be used.
    #[error(transparent)]
    BadName(#[from] BadName),
    /// The operation's state does not allow it.
    #[error(transparent)]
    Illegal(#[from] IllegalEvent),
    /// The request makes no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The database.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] mendb_repo::Error),
    /// A backup of clickhouse-backup.
    #[error(transparent)]
    Import(#[from] mendb_repo::clickhouse_backup::ImportError),
    /// The journal.
    #[error("journal {path}: {action}")]
    Journal {
        /// The file.
        path: String,
        /// What was being done.
        action: String,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// The journal holds something that this version cannot read.
    #[error("journal {path}: {detail}; it was written by another version of mendb, or is damaged")]
    JournalRecord {
        /// The file.
        path: String,
        /// What is wrong.
        detail: String,
    },
    /// The environment failed us.
    #[error("{action}")]
    Io {
        /// What was being done.
        action: String,
        /// The reason.
        source: std::io::Error,
    },
}

/// The result of the service.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A refusal with what to do instead.
    pub(crate) fn refused(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused {
            message: message.into(),
            hint: Some(hint.into()),
        }
    }

    /// That a table is not whole yet; `otherwise` says what can be done but waiting.
    pub(crate) fn being_restored(table: &str, otherwise: &str) -> Self {
        Self::refused(
            format!("table {table} is being restored, so there is nothing to compare with yet"),
            format!("mendb operation list shows by what{otherwise}"),
        )
    }

    pub(crate) fn unknown_operation(id: &OperationId) -> Self {
        Self::UnknownOperation(id.to_string())
    }

    /// What to do, if the message does not say so itself.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { hint, .. } => hint.clone(),
            Self::InTheWay { hint, .. } => Some(hint.clone()),
            Self::Conflicts(conflicts) => Some(conflicts_hint(conflicts).to_owned()),
            Self::NothingFits { unmatched } => Some(nothing_fits_hint(unmatched)),
            Self::BackupFailed { operation_id, .. } => Some(format!(
                "mendb operation resume {operation_id} continues it, mendb operation cancel {operation_id} gives it up"
            )),
            Self::FullNeeded { collection, .. } => {
                Some(format!("take a full backup: mendb backup {collection}"))
            }
            Self::UnknownOperation(_) => {
                Some("mendb operation list shows those there are".to_owned())
            }
            Self::UnknownCollection(_) => Some(
                "mendb collection list shows those there are; mendb collection create makes one"
                    .to_owned(),
            ),
            Self::Journal { path, source, .. } if is_no_database(source) => Some(format!(
                "bring it back from a copy; if there is none, move it away ({path}): mendb operation list then shows \
                 what unfinished operations hold, and mendb operation abandon lets go of that"
            )),
            Self::Journal { .. } => Some(
                "nothing was lost: free disk space or repair the file; then mendb operation list shows what is unfinished, and mendb operation watch finishes it".to_owned(),
            ),
            _ => None,
        }
    }

    /// Whether it is that another process leads by now, with whose journal this one worked.
    pub fn is_of_lost_lead(&self) -> bool {
        matches!(self, Self::Repository(mendb_repo::Error::NotLeading { .. }))
    }

    /// Whether the same may succeed later without anyone doing anything.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Engine(error) => error.remedy == Remedy::Retry,
            Self::Repository(error) => error.is_retriable(),
            Self::Import(error) => error.is_retriable(),
            _ => false,
        }
    }
}

/// How many rows are in the way.
fn conflicts_sentence(conflicts: &Conflicts) -> String {
    let rows = |count: u64| match count {
        1 => "1 row".to_owned(),
        many => format!("{many} rows"),
    };
    if conflicts.of(HolderFate::InBackup).next().is_some() {
        return "the backup has rows that share what unique indexes allow once, which their tables got since".to_owned();
    }
    if conflicts.of(HolderFate::Stays).next().is_some() {
        return format!(
            "what would come back is held in unique indexes by {} outside of the range",
            rows(conflicts.count)
        );
    }
    let erased = conflicts.of(HolderFate::Erased).count() as u64;
    format!(
        "{} outside of the range, which the backup lacks, would be erased: unique indexes have no room beside them for \
         what comes back",
        rows(erased)
    )
}

fn conflicts_hint(conflicts: &Conflicts) -> &'static str {
    if conflicts.of(HolderFate::InBackup).next().is_some() {
        "choose a backup that has one of the rows only (--to), keys that are without the other (--range), or restore \
         the table beside (--rename)"
    } else if conflicts.of(HolderFate::Stays).next().is_some() {
        "--include-conflicting mends these rows too, and --dry-run shows what that does; or change the range"
    } else {
        "--erase-newer erases them; the state before is kept, so that mendb undo can bring them back"
    }
}

/// Whether a file is not, or not any more, what SQLite wrote.
fn is_no_database(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(
        error.sqlite_error_code(),
        Some(DatabaseCorrupt | NotADatabase)
    )
}

fn nothing_fits_hint(unmatched: &[Unmatched]) -> String {
    let is_of_partitions = |unmatched: &Unmatched| unmatched.selector == Selector::Partitions;
    let how = if unmatched.iter().any(is_of_partitions) {
        "mendb show --parts tells partitions by their ids, which always name them"
    } else {
        "mendb show tells the tables of a backup; those of a ClickHouse server are named database.table, in backquotes \
         where a name has dots"
    };
    format!("correct it: {how}; or let it fit nothing: --if-exists")
}
