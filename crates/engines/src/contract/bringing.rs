//! How parts are brought beside the live ones.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use mendb_model::part::{FileChecksum, Hash128, PartFile};

/// A part that was staged and sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedPart {
    /// Its directory.
    pub directory: PathBuf,
    /// Its name in the backup: tells its partition, and its level.
    pub name: String,
    /// The disk it is on.
    pub disk: String,
    /// What it must turn out to be.
    pub hash: Hash128,
}

/// A part that is to be put together.
#[derive(Debug)]
pub struct PartToBring<'a> {
    /// What it will be; its directory is one in what [`super::PartStore::stage_directory`] gave.
    pub staged: StagedPart,
    /// Where it comes from.
    pub from: PartFrom<'a>,
}

/// Where a part comes from.
#[derive(Debug, Clone, Copy)]
pub enum PartFrom<'a> {
    /// Its files, each from the server where it has one of the content, else from elsewhere.
    Files(&'a [PartFile]),
    /// A directory of the server; its bytes are proved against its `checksums.txt`.
    Directory(&'a Path),
    /// From elsewhere, whole: the number that [`Supplier::fetch_part`] knows it by.
    Elsewhere(usize),
}

/// Has what parts are put together of. Each answer can end it.
pub trait Supplier {
    /// Whether to go on.
    fn go_on(&mut self) -> ControlFlow<()>;

    /// Where the server has a file of this content, as far as is known.
    fn place_of(&mut self, file: &FileChecksum) -> ControlFlow<(), Option<PathBuf>>;

    /// The file is not any more where it was said to be. Where else, if there is one.
    fn is_gone(&mut self, file: &FileChecksum) -> ControlFlow<(), Option<PathBuf>>;

    /// What is where the file was said to be has other bytes.
    fn is_nowhere(&mut self, file: &FileChecksum);

    /// Writes files, proved against their BLAKE3, to where they are to be.
    fn fetch(&mut self, files: &[(&PartFile, PathBuf)]) -> ControlFlow<()>;

    /// Writes a whole part into a directory. Returns the bytes that were read for it.
    fn fetch_part(&mut self, at: usize, into: &Path) -> ControlFlow<(), u64>;
}

/// What bringing parts came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bringing {
    /// All are there under their names, every byte checked, durable.
    Done(Brought),
    /// The supplier has ended it. What is not whole is removed by who tries again.
    Stopped,
    /// The directory that a part was to come from is damaged. Nothing has got its name.
    Damaged {
        /// The part.
        part: String,
        /// What is wrong with it.
        files: Vec<DamagedFile>,
    },
}

/// A file whose bytes are not what `checksums.txt` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedFile {
    /// Its path inside the part, joined by `/`.
    pub name: String,
    /// What is wrong with it: `does not have the checksum that checksums.txt says`.
    pub why: String,
}

/// What was moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Brought {
    /// Bytes that the server had.
    pub linked_bytes: u64,
    /// Bytes from elsewhere.
    pub fetched_bytes: u64,
    /// Files from elsewhere; a whole part counts as one.
    pub fetched_files: u64,
}
