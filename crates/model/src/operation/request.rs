//! What a user asked for, resolved and validated: enough to run the operation without asking again.

use serde::{Deserialize, Serialize};

use crate::name::{BackupId, BackupKind};

/// The request behind an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Request {
    /// Take a backup.
    Backup(BackupRequest),
    /// Restore a chain into tables that are absent.
    Restore(RestoreRequest),
}

/// Take a backup of a collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRequest {
    /// The collection.
    pub collection: String,
    /// The backup that will exist.
    pub backup_id: BackupId,
    /// A name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The member tables.
    pub tables: Vec<String>,
    /// The newest backup when the increment was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ChainLink>,
    /// The change stream that the chain of this backup reads: named after its full backup.
    pub stream: String,
    /// Commit up to which the parent reaches; an increment holds the changes after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_version: Option<u64>,
    /// Streams of older chains, to be detached when this full backup exists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub old_streams: Vec<String>,
}

/// Restore a chain of backups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRequest {
    /// The collection.
    pub collection: String,
    /// The full backup and the increments up to the chosen one, in order.
    pub chain: Vec<ChainLink>,
    /// Which tables, and under which names.
    pub tables: Vec<TableMapping>,
}

/// A backup named so that no other can take its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainLink {
    /// The backup.
    pub backup_id: BackupId,
    /// BLAKE3 of its manifest, as hex digits.
    pub manifest_blake3: String,
}

/// A table of a backup and its name on the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableMapping {
    /// In the backup.
    pub source: String,
    /// On the target.
    pub target: String,
}

impl Request {
    /// The collection it concerns.
    pub fn collection(&self) -> &str {
        match self {
            Self::Backup(request) => &request.collection,
            Self::Restore(request) => &request.collection,
        }
    }

    /// The kind, as a word for users.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Backup(request) => match request.backup_id.kind() {
                BackupKind::Full => "full_backup",
                BackupKind::Incremental => "incremental_backup",
            },
            Self::Restore(_) => "restore",
        }
    }

    /// The tables of the target that it touches.
    pub fn target_tables(&self) -> Vec<&str> {
        match self {
            Self::Backup(request) => request.tables.iter().map(String::as_str).collect(),
            Self::Restore(request) => request
                .tables
                .iter()
                .map(|table| table.target.as_str())
                .collect(),
        }
    }
}
