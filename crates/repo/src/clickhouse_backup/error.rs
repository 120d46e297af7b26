//! What can go wrong with a backup of clickhouse-backup. Each error names the backup, the table and the
//! part as far as they are known.

use std::fmt;
use std::io;
use std::path::PathBuf;

use mendb_model::part::{Hash128, TableName};

/// The result of work on imported backups.
pub type Result<T, E = ImportError> = std::result::Result<T, E>;

/// An error of an imported backup. `Display` does not repeat the source.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The place cannot be read, or an object in it.
    #[error(transparent)]
    Store(#[from] crate::Error),
    /// No backup has this name.
    #[error(
        "{url} has no backup {name:?} of clickhouse-backup; {}",
        there_text(there)
    )]
    NoSuchBackup {
        /// The place.
        url: String,
        /// The name asked for.
        name: String,
        /// The names that are there, ascending.
        there: Vec<String>,
    },
    /// The backup has no `metadata.json`.
    #[error(
        "backup {backup} in {url} is broken: it has no metadata.json, which is written last; make it again"
    )]
    Broken {
        /// The place.
        url: String,
        /// The backup.
        backup: String,
    },
    /// The data was written by the server's own `BACKUP`.
    #[error(
        "backup {backup} was written by the server itself (use_embedded_backup_restore): only the server's RESTORE reads it"
    )]
    Embedded {
        /// The backup.
        backup: String,
    },
    /// The backup does not have the table.
    #[error("backup {backup} has no table {table}")]
    NoSuchTable {
        /// The backup.
        backup: String,
        /// The table.
        table: TableName,
    },
    /// Only the schema of the table was backed up: without this error a mend would take it for empty.
    #[error("backup {backup} has only the schema of table {table}, none of its data")]
    SchemaOnly {
        /// The backup.
        backup: String,
        /// The table.
        table: TableName,
    },
    /// What creates the table cannot be read.
    #[error("backup {backup}: the statement that creates {table} cannot be read: {detail}")]
    Statement {
        /// The backup.
        backup: String,
        /// The table.
        table: TableName,
        /// What is wrong with it.
        detail: String,
    },
    /// A part has a name that no part has.
    #[error("{of} has a name that no part has")]
    PartName {
        /// The part.
        of: Box<PartOf>,
        /// What is wrong with it.
        #[source]
        source: mendb_model::Malformed,
    },
    /// The backup needs another one that is not there.
    #[error("{of} is in a backup before that one, and {problem}: the chain is broken there")]
    MissingParent {
        /// The part, in the backup that refers to it.
        of: Box<PartOf>,
        /// What is wrong, as a sentence.
        problem: String,
    },
    /// Backups refer to each other in a circle.
    #[error("backups refer to each other in a circle: {}", chain.join(" -> "))]
    Circle {
        /// From the backup that was asked for to the one that was there before.
        chain: Vec<String>,
    },
    /// The backup lacks a part that it lists.
    #[error("{of} is missing: {detail}")]
    MissingPart {
        /// The part.
        of: Box<PartOf>,
        /// What was looked for.
        detail: String,
    },
    /// A part is referred to by name, and the part of that name is another one.
    #[error(
        "{of} is {wanted}, but the one of this name in backup {parent}, to which it refers, is {found}: names of parts do not tell content, and the one that is meant is in neither"
    )]
    OtherContent {
        /// The part, in the backup that refers to it.
        of: Box<PartOf>,
        /// What that says of it: its hash.
        wanted: String,
        /// The backup that has a part of that name.
        parent: String,
        /// The hash of that.
        found: String,
    },
    /// Archives of a compression that is not read.
    #[error(
        "{object} is compressed with {compression}, which is not known here; have clickhouse-backup download the backup and read it where it is then"
    )]
    Compression {
        /// The archive.
        object: String,
        /// Its compression, by its extension.
        compression: String,
    },
    /// A part on a disk that does not keep it as files.
    #[error("{of} is on disk {disk} of type {disk_type}: only parts on local disks are read")]
    Disk {
        /// The part.
        of: Box<PartOf>,
        /// The disk.
        disk: String,
        /// Its type, as the server called it.
        disk_type: String,
    },
    /// An archive is damaged, or has what an archive of parts cannot have.
    #[error("{object} is damaged: {detail}")]
    Archive {
        /// The archive.
        object: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A part is not what its own `checksums.txt` says.
    #[error("{of} is damaged: {detail}")]
    DamagedPart {
        /// The part.
        of: Box<PartOf>,
        /// What is wrong with it.
        detail: String,
    },
    /// A part is whole, but not the one that was promised.
    #[error("{of} is {found}, not {promised}: it is another part of the same name")]
    OtherPart {
        /// The part.
        of: Box<PartOf>,
        /// The hash that metadata promised.
        promised: Hash128,
        /// The hash of what is there.
        found: Hash128,
    },
    /// A file of a part cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A part of a table in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartOf {
    /// The backup.
    pub backup: String,
    /// The table.
    pub table: TableName,
    /// The name of the part.
    pub part: String,
}

impl fmt::Display for PartOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            backup,
            table,
            part,
        } = self;
        write!(f, "part {part} of {table} in backup {backup}")
    }
}

impl PartOf {
    pub(super) fn missing(&self, detail: impl Into<String>) -> ImportError {
        ImportError::MissingPart {
            of: Box::new(self.clone()),
            detail: detail.into(),
        }
    }

    pub(super) fn damaged(&self, detail: impl Into<String>) -> ImportError {
        ImportError::DamagedPart {
            of: Box::new(self.clone()),
            detail: detail.into(),
        }
    }
}

fn there_text(there: &[String]) -> String {
    if there.is_empty() {
        "it has none".to_owned()
    } else {
        format!("it has {}", there.join(", "))
    }
}

impl ImportError {
    /// Whether the same call may succeed later although nobody mends anything.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retriable())
    }

    /// Whether something in the backup is missing or damaged.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Store(error) => error.is_damage(),
            Self::Broken { .. }
            | Self::MissingParent { .. }
            | Self::Circle { .. }
            | Self::MissingPart { .. }
            | Self::OtherContent { .. }
            | Self::Archive { .. }
            | Self::DamagedPart { .. }
            | Self::OtherPart { .. } => true,
            _ => false,
        }
    }
}
