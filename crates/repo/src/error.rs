//! What can go wrong with a repository. Each error names the object, with the URL of its repository.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

use mendb_model::name::{BackupId, BadName};

use crate::arrow::ConvertError;

/// The result of work on a repository.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a repository. `Display` does not repeat the source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL does not name a place a repository can be.
    #[error(
        "{url:?} cannot be a repository: {detail}; use file:///directory, a path, s3://bucket/prefix or memory:"
    )]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The collection has a name that cannot be one.
    #[error("bad collection name")]
    Name(#[from] BadName),
    /// The object is not there.
    #[error("{object} does not exist")]
    NotFound {
        /// The object.
        object: String,
    },
    /// The object is there, but not as it was written. Reading it again did not help.
    #[error("{object} is damaged: {detail}")]
    Damaged {
        /// The object.
        object: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The object was written by a mendb that this one does not understand.
    #[error(
        "{object} has format version {version}, this mendb reads versions up to {newest}: use the mendb that wrote it or a newer one"
    )]
    UnknownFormat {
        /// The object.
        object: String,
        /// Its format version.
        version: u64,
        /// The newest that is known of such objects.
        newest: u32,
    },
    /// The store makes no conditional writes, or ignores their conditions.
    #[error(
        "{repository} cannot be shared: {detail}. Backups can be made there and restored, but not deleted, compacted or tidied up, as another process may be at work"
    )]
    NoConditions {
        /// The repository.
        repository: String,
        /// What it does not do, as a clause.
        detail: String,
    },
    /// The same of a place that is to hold a log.
    #[error(
        "{log} cannot hold a journal that servers share: {detail}. A server that was stopped could write there beside the one that took over"
    )]
    NoSharedLog {
        /// The log.
        log: String,
        /// What the store does not do, as a clause.
        detail: String,
    },
    /// A place cannot hold a log, whatever its store does.
    #[error("{log} cannot hold a journal that servers share: {detail}")]
    NoLogPlace {
        /// The log.
        log: String,
        /// What is there, as a clause.
        detail: String,
    },
    /// The bucket of a place does not exist.
    #[error("{place} is in a bucket that does not exist")]
    NoBucket {
        /// The place.
        place: String,
    },
    /// A log that was there is not.
    #[error(
        "the journal that servers share is gone from {log} (it had the id {id}): nothing is written there"
    )]
    LogGone {
        /// Where it was.
        log: String,
        /// Its id.
        id: String,
    },
    /// Another log is where one was.
    #[error(
        "another journal is in {log} than the one that was there: {there} instead of {known}; nothing is written there"
    )]
    OtherLog {
        /// Where it was.
        log: String,
        /// The id of the one that was there.
        known: String,
        /// The id of the one that is.
        there: String,
    },
    /// The newest entries of a log were removed.
    #[error(
        "the newest entries of {log} are gone: entry {last} was there, and the last one is {end}"
    )]
    LogCut {
        /// The log.
        log: String,
        /// An entry that was there.
        last: u64,
        /// The last one that is.
        end: u64,
    },
    /// Another process has taken over a log, and appends to it.
    #[error("this process leads no more in {log}: another has taken over, and nothing was written")]
    NotLeading {
        /// The log.
        log: String,
    },
    /// Another process removes or folds backups of the repository.
    #[error("{holder} is at work in {repository}: it {work}")]
    Leased {
        /// The repository.
        repository: String,
        /// Which process.
        holder: String,
        /// What it does, as a verb phrase.
        work: String,
    },
    /// Another process has taken this one for dead and gone on.
    #[error(
        "this process was not heard of in {repository} for too long, and another took its place: nothing more was removed"
    )]
    LeaseLost {
        /// The repository.
        repository: String,
    },
    /// A backup cannot stand on one that is just being removed.
    #[error("{child} cannot stand on backup {parent}, which another process is deleting")]
    Leaving {
        /// The manifest that was to be written.
        child: String,
        /// The backup that goes.
        parent: BackupId,
    },
    /// A backup cannot be removed while another is about to be sealed that stands on it.
    #[error(
        "backup {backup} of collection {collection} in {repository} cannot go: backup {by}, which stands on it, is just being made, or was left unfinished"
    )]
    Claimed {
        /// The repository.
        repository: String,
        /// The collection.
        collection: String,
        /// The backup.
        backup: BackupId,
        /// The one that is being made.
        by: BackupId,
    },
    /// The backup was deleted, or what there was of it, while it was being made.
    #[error("{object} cannot be written: the backup was deleted while it was being made")]
    Deleted {
        /// The manifest.
        object: String,
    },
    /// The store refused or failed, as often as it was asked.
    #[error("cannot {action} {object}")]
    Store {
        /// The object, or the directory for listings.
        object: String,
        /// What was attempted: `read`, `write`, `list`, `delete`.
        action: &'static str,
        /// Whether it may work later without anyone doing something about it.
        retriable: bool,
        /// What the store said.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The store did not answer in time, as often as it was asked.
    #[error("cannot {action} {object}: no answer within {limit_ms} ms")]
    TimedOut {
        /// The object, or the directory for listings.
        object: String,
        /// What was attempted.
        action: &'static str,
        /// The time it had.
        limit_ms: u64,
    },
    /// The disk of a local repository, or its quota, is full.
    #[error(
        "no space left to write {object} ({bytes} bytes): free space there, then resume the operation"
    )]
    DiskFull {
        /// The object.
        object: String,
        /// Its size.
        bytes: u64,
        /// What the system said.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A backup lacks objects that its manifest names.
    #[error("{object} {problem}{}", others_text(*others))]
    Incomplete {
        /// The first such object.
        object: String,
        /// What is wrong with it, as a verb phrase: `does not exist`, `has 3 bytes instead of 5`.
        problem: String,
        /// How many more there are.
        others: usize,
    },
    /// A backup was deleted, but the files of its parts could not be.
    #[error(
        "backup {backup} is deleted, but files that it alone needed may stay: not all could be looked through"
    )]
    FilesStay {
        /// The backup that is gone.
        backup: BackupId,
        /// What stopped it: most often another backup that cannot be read.
        source: Box<Error>,
    },
    /// Another operation made this backup first.
    #[error("{object} was already written by operation {operation_id}: that backup stays as it is")]
    Taken {
        /// The manifest.
        object: String,
        /// The operation that wrote it.
        operation_id: String,
    },
    /// The backup is complete, so its objects are no leftovers.
    #[error("{object} exists: the backup is complete and can be deleted, but not discarded")]
    Complete {
        /// The manifest.
        object: String,
    },
    /// What is left of a backup is what others stand on.
    #[error(
        "{} {} on backup {backup} of collection {collection} in {repository}, so what it is made of stays",
        join(by),
        if by.len() == 1 { "stands" } else { "stand" }
    )]
    StoodOn {
        /// The repository.
        repository: String,
        /// The collection.
        collection: String,
        /// The backup.
        backup: BackupId,
        /// The backups that stand on it, oldest first.
        by: Vec<BackupId>,
    },
    /// All ids of backups are given.
    #[error(
        "no id is left for a backup: the clock, or an id that was given before, is in the year 9999"
    )]
    NoIdLeft,
    /// A run of backups cannot be folded into one.
    #[error("backups {first} to {last} cannot be folded into one: {detail}")]
    CannotCompact {
        /// The first of the run.
        first: BackupId,
        /// Its last.
        last: BackupId,
        /// Why, as a clause.
        detail: String,
    },
    /// What a run of backups was folded into does not lead to the rows of the last.
    #[error(
        "folding backups {first} to {last} went wrong: {detail}. Nothing was changed; mendb verify tells whether one of them is damaged"
    )]
    Unproved {
        /// The first of the run.
        first: BackupId,
        /// Its last.
        last: BackupId,
        /// Where rows or changes do not add up, as a clause.
        detail: String,
    },
    /// The last backup of a chain does not have the table that is asked for.
    #[error("backup {backup} has no table {table}")]
    NoSuchTable {
        /// The backup.
        backup: BackupId,
        /// The table or index.
        table: String,
    },
    /// No backup has this id or label.
    #[error(
        "collection {collection} in {repository} has no backup {wanted:?}; {}",
        there_text(there)
    )]
    NoSuchBackup {
        /// The repository.
        repository: String,
        /// The collection.
        collection: String,
        /// The id or label asked for.
        wanted: String,
        /// The backups that are there, ascending, with their labels.
        there: Vec<String>,
    },
    /// Several backups have this label.
    #[error(
        "several backups of collection {collection} have the label {label:?}: {}; name one by its id",
        join(ids)
    )]
    AmbiguousLabel {
        /// The collection.
        collection: String,
        /// The label asked for.
        label: String,
        /// The backups that have it.
        ids: Vec<BackupId>,
    },
    /// A backup stands on a parent that is not what it was, or not there.
    #[error("{child} stands on {parent}, which {detail}: the chain is broken there")]
    BrokenChain {
        /// The manifest of the increment.
        child: String,
        /// The manifest it names as its parent.
        parent: String,
        /// What is wrong with the parent, as a verb phrase.
        detail: String,
    },
    /// A file of a part on this machine cannot be read, or one that is brought back not be written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was attempted: `read`, `write`.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A file of a part is not what it was when its part was looked at. Parts never change: something
    /// else writes there, or the disk is failing.
    #[error("{} changed while it was backed up: {detail}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// How.
        detail: String,
    },
    /// Rows that were given to be written cannot be.
    #[error("cannot write the rows of {table} into a segment")]
    Rows {
        /// The table or index.
        table: String,
        /// Why.
        source: ConvertError,
    },
}

fn others_text(others: usize) -> String {
    match others {
        0 => String::new(),
        1 => ", and 1 other object of the backup is missing or wrong".to_owned(),
        n => format!(", and {n} other objects of the backup are missing or wrong"),
    }
}

/// The newest are the likely ones.
const MOST_SHOWN: usize = 5;

fn there_text(there: &[String]) -> String {
    if there.is_empty() {
        return "it has none".to_owned();
    }
    let shown = &there[there.len().saturating_sub(MOST_SHOWN)..];
    let dots = if shown.len() < there.len() {
        "…, "
    } else {
        ""
    };
    format!("it has {dots}{}", shown.join(", "))
}

fn join(ids: &[BackupId]) -> String {
    let ids: Vec<_> = ids.iter().map(BackupId::as_str).collect();
    ids.join(", ")
}

impl Error {
    /// Whether the same call may succeed later although nobody mends anything.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Store { retriable, .. } => *retriable,
            Self::TimedOut { .. } | Self::Leased { .. } | Self::LeaseLost { .. } => true,
            Self::FilesStay { source, .. } => source.is_retriable(),
            _ => false,
        }
    }

    /// Whether it is about a file of a part on this machine: nothing is wrong with the repository.
    pub fn is_of_local_file(&self) -> bool {
        matches!(self, Self::File { .. } | Self::Changed { .. })
    }

    /// Whether something in the repository is missing or not as this mendb writes it, so that it
    /// stays like that until someone mends it.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::NotFound { .. }
                | Self::Damaged { .. }
                | Self::UnknownFormat { .. }
                | Self::Incomplete { .. }
                | Self::BrokenChain { .. }
        )
    }

    /// The error for what the system said about a file of a part.
    pub(crate) fn file(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            action,
            source,
        }
    }

    /// The error for what the system said about an object in a local directory; `bytes` is the size of
    /// what was written.
    pub(crate) fn from_io(
        action: &'static str,
        object: String,
        bytes: u64,
        error: io::Error,
    ) -> Self {
        if error.kind() == io::ErrorKind::NotFound {
            return Self::NotFound { object };
        }
        let store = "local directory";
        let source = error.into();
        Self::from_store(
            action,
            object,
            bytes,
            object_store::Error::Generic { store, source },
        )
    }

    /// The error for what a store said about an object; `bytes` is the size of what was written.
    pub(crate) fn from_store(
        action: &'static str,
        object: String,
        bytes: u64,
        error: object_store::Error,
    ) -> Self {
        if matches!(error, object_store::Error::NotFound { .. }) {
            return Self::NotFound { object };
        }
        if let object_store::Error::NotImplemented { operation, .. } = error {
            return Self::NoConditions {
                repository: object,
                detail: format!("its store does not do {operation}"),
            };
        }
        let io = io_kind(&error);
        let full = matches!(
            io,
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        );
        let retriable = match &error {
            object_store::Error::Generic { .. } => {
                !io.is_some_and(is_permanent) && !is_refusal(&error)
            }
            _ => false,
        };
        let source: Box<dyn StdError + Send + Sync> = match error {
            // Its own text would only repeat that of its source.
            object_store::Error::Generic { source, .. } => source,
            other => Box::new(other),
        };
        if full {
            return Self::DiskFull {
                object,
                bytes,
                source,
            };
        }
        Self::Store {
            object,
            action,
            retriable,
            source,
        }
    }
}

/// The kind of the I/O error at the root of another error.
fn io_kind(error: &(dyn StdError + 'static)) -> Option<io::ErrorKind> {
    let chain = std::iter::successors(Some(error), |&error| error.source());
    chain
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .map(io::Error::kind)
        .last()
}

/// Whether asking again cannot help.
fn is_permanent(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as K;
    matches!(
        kind,
        K::StorageFull
            | K::QuotaExceeded
            | K::PermissionDenied
            | K::ReadOnlyFilesystem
            | K::NotADirectory
            | K::IsADirectory
            | K::FileTooLarge
            | K::InvalidFilename
            | K::InvalidInput
            | K::Unsupported
    )
}

/// Whether an HTTP store refused the request as such. The store keeps the type of its request errors
/// to itself, so that only their text tells; a text that changes costs needless retries, no more.
fn is_refusal(error: &object_store::Error) -> bool {
    let text = error.to_string();
    let code = text
        .split_once("status code: ")
        .and_then(|(_, rest)| rest.get(..3))
        .and_then(|code| code.parse::<u16>().ok());
    code.is_some_and(|code| (400..500).contains(&code) && !matches!(code, 408 | 409 | 425 | 429))
}
