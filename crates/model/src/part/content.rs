//! What a part consists of: its files, how they are identified, and where a repository has them.

use serde::{Deserialize, Serialize};

use super::hash::Hash128;
use super::inventory::Part;

/// What `checksums.txt` says of a file: with its size, the identity of its content within one server
/// and across servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileChecksum {
    /// Its size.
    pub bytes: u64,
    /// Its hash, as [`super::FileHasher`] computes it.
    pub hash: Hash128,
}

/// One file of a part in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartFile {
    /// Its path inside the part, parts of the path joined by `/`: `data.bin`, `p.proj/data.bin`.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 of its content, as hex digits.
    pub blake3: String,
    /// What the part's `checksums.txt` (or that of its projection) says of it; files that it does not
    /// list have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Hash128>,
    /// Where the repository has it.
    pub place: FilePlace,
}

impl PartFile {
    /// Its identity as servers know it.
    pub fn identity(&self) -> Option<FileChecksum> {
        self.checksum.map(|hash| FileChecksum {
            bytes: self.bytes,
            hash,
        })
    }
}

/// Where a repository has the content of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "in")]
pub enum FilePlace {
    /// An object of its own, named by the file's BLAKE3.
    File {
        /// Which of the objects of this name.
        #[serde(default, skip_serializing_if = "is_first")]
        generation: u64,
    },
    /// A stretch of an object that bundles small files.
    Bundle {
        /// BLAKE3 of the bundle, which names it.
        bundle: String,
        /// Where the file begins in it.
        offset: u64,
        /// Which of the objects of this name.
        #[serde(default, skip_serializing_if = "is_first")]
        generation: u64,
    },
}

/// Most names have one object. Another is written where the first may be removed by then.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "it is called by what serde derives"
)]
fn is_first(generation: &u64) -> bool {
    *generation == 0
}

/// A part in a backup, with its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRecord {
    /// The part as it was.
    pub part: Part,
    /// Its files, in the order of their names.
    pub files: Vec<PartFile>,
}

impl PartRecord {
    /// Bytes of its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// An object of a backup beside its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Its name below the directory of the backup.
    pub object: String,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 of its bytes, as hex digits.
    pub blake3: String,
}
