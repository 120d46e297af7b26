//! The objects that hold the content of files.

use blake3::Hash;
use mendb_model::part::{FilePlace, PartFile};

use crate::error::{Error, Result};
use crate::layout;

/// An object named by the BLAKE3 of what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Blob {
    /// A file.
    File(Hash),
    /// Many small files.
    Bundle(Hash),
}

impl Blob {
    /// The object that holds a file.
    ///
    /// # Errors
    /// What names it is no BLAKE3: the list that it is from is damaged.
    pub(crate) fn of(file: &PartFile) -> Result<Self> {
        match &file.place {
            FilePlace::File => Ok(Self::File(hash(&file.blake3, file)?)),
            FilePlace::Bundle { bundle, .. } => Ok(Self::Bundle(hash(bundle, file)?)),
        }
    }

    /// How many bytes it must have at least to hold the file.
    pub(crate) fn least_bytes(file: &PartFile) -> Result<u64> {
        match &file.place {
            FilePlace::File => Ok(file.bytes),
            FilePlace::Bundle { offset, .. } => offset.checked_add(file.bytes).ok_or_else(|| {
                let detail = format!("it places {} at byte {offset} of a bundle", file.name);
                damaged_list(file, detail)
            }),
        }
    }

    /// The byte that its hash begins with, which chooses its directory.
    pub(crate) fn shelf(&self) -> u8 {
        self.blake3().as_bytes()[0]
    }

    /// What it is named after.
    pub(crate) fn blake3(&self) -> &Hash {
        match self {
            Self::File(blake3) | Self::Bundle(blake3) => blake3,
        }
    }

    /// The directory that it is in.
    pub(crate) fn directory(&self) -> String {
        let name = self.name();
        let end = name.rfind('/').expect("objects are in directories");
        name[..end].to_owned()
    }

    /// Its name.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::File(blake3) => layout::file(blake3),
            Self::Bundle(blake3) => layout::bundle(blake3),
        }
    }
}

/// The BLAKE3 of a file's content.
pub(crate) fn blake3_of(file: &PartFile) -> Result<Hash> {
    hash(&file.blake3, file)
}

fn hash(digits: &str, file: &PartFile) -> Result<Hash> {
    Hash::from_hex(digits).map_err(|_| {
        let detail = format!(
            "it names {digits:?} as the BLAKE3 of what {} is in",
            file.name
        );
        damaged_list(file, detail)
    })
}

fn damaged_list(file: &PartFile, detail: String) -> Error {
    Error::Damaged {
        object: format!("the part list that names file {}", file.name),
        detail,
    }
}
