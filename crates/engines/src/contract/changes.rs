//! What change streams keep, and why the changes since a backup may not be known.

use std::fmt;

use mendb_model::Version;

/// A change stream on the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveStream {
    /// Its name.
    pub name: String,
    /// It holds every change after this version.
    pub since_version: Version,
    /// The version of the last cut that attached or rotated it. A target that was set back to an
    /// earlier state, or is a copy of another, does not know of later cuts.
    pub cut_version: Version,
    /// The bytes of the change log of a table when it had grown too large and dropped the changes of this stream.
    pub outgrew_bytes: Option<u64>,
}

impl LiveStream {
    /// Whether it holds every change since the cut that a backup made at this version: it reaches back
    /// that far, and it saw that cut.
    pub fn continues(&self, version: Version) -> bool {
        self.outgrew_bytes.is_none() && self.since_version <= version && version <= self.cut_version
    }
}

/// What the change logs of a table keep for one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldBack {
    /// The stream.
    pub stream: String,
    /// Changes of rows; `None` where they are not counted.
    pub changes: Option<u64>,
    /// Bytes of changes, those of indexes included.
    pub bytes: u64,
}

/// How a table came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Born {
    /// The version of the commit that created it.
    pub version: Version,
    /// The operation that restored it, if one did.
    pub restored_by: Option<String>,
}

/// Why a target does not know what has changed in a table since a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangesLost {
    /// The table was created since.
    Created,
    /// An operation has restored it since.
    Restored {
        /// The operation.
        operation: String,
    },
    /// The target was set back to an earlier state, or is a copy.
    SetBack,
    /// Its change log was too large.
    Outgrown {
        /// Its bytes.
        bytes: u64,
    },
    /// The change log dropped them up to a later backup.
    LetGoUpTo,
    /// Their stream has ended.
    StreamEnded,
    /// The table was created or restored since, or the stream has ended: stores of before do not tell.
    Untold,
    /// The target keeps none.
    NotKept,
}

/// The reason, as what follows on "the changes are not known:".
impl fmt::Display for ChangesLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created => f.write_str("it was created after that, or dropped and created anew"),
            Self::Restored { operation } => {
                write!(f, "operation {operation} restored it after that")
            }
            Self::SetBack => f.write_str(
                "this target is not as it was backed up then: it was set back to an earlier state, or is a copy",
            ),
            Self::Outgrown { bytes } => write!(
                f,
                "its change log had grown to {bytes} bytes, more than rowstore.change_log_bytes allows, and dropped \
                 them"
            ),
            Self::LetGoUpTo => f.write_str(
                "its change log dropped them up to a later backup, which is not there any more",
            ),
            Self::StreamEnded => f.write_str(
                "its change stream has ended: a later full backup into this repository, mendb collection \
                 forget-repository or mendb collection drop ended it, or this target was set back to before it",
            ),
            Self::NotKept => f.write_str("this target keeps none"),
            Self::Untold => f.write_str(
                "it was created or restored after that, or its change stream has ended; this target is from \
                 before mendb noted which",
            ),
        }
    }
}
