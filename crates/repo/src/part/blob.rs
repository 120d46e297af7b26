//! The objects that hold the content of files.

use blake3::Hash;
use mendb_model::part::{FilePlace, PartFile};

use crate::error::{Error, Result};
use crate::layout;

/// An object named by the BLAKE3 of what it holds, and by its generation: of one that may be removed
/// another is written under a name that nobody removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Blob {
    kind: BlobKind,
    blake3: [u8; 32],
    generation: u64,
}

/// What an object holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum BlobKind {
    /// A file.
    File,
    /// Many small files.
    Bundle,
}

impl BlobKind {
    pub(crate) const ALL: [Self; 2] = [Self::File, Self::Bundle];

    /// What it is called where that says which it is.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::File => "files",
            Self::Bundle => "bundles",
        }
    }

    /// The directory of the directories that these objects are in.
    pub(crate) fn root(self) -> &'static str {
        match self {
            Self::File => layout::FILES,
            Self::Bundle => layout::BUNDLES,
        }
    }
}

impl Blob {
    /// The first object for some content.
    pub(crate) fn new(kind: BlobKind, blake3: Hash) -> Self {
        Self {
            kind,
            blake3: blake3.into(),
            generation: 0,
        }
    }

    /// Another object for the same content.
    pub(crate) fn of_generation(self, generation: u64) -> Self {
        Self { generation, ..self }
    }

    /// The object that holds a file.
    ///
    /// # Errors
    /// What names it is no BLAKE3: the list that it is from is damaged.
    pub(crate) fn of(file: &PartFile) -> Result<Self> {
        let (kind, digits, generation) = match &file.place {
            FilePlace::File { generation } => (BlobKind::File, &file.blake3, *generation),
            FilePlace::Bundle {
                bundle, generation, ..
            } => (BlobKind::Bundle, bundle, *generation),
        };
        Ok(Self::new(kind, hash(digits, file)?).of_generation(generation))
    }

    /// Says of a file that it is in this object, which holds the same content as the one it is in.
    pub(crate) fn hold(self, file: &mut PartFile) {
        let (FilePlace::File { generation } | FilePlace::Bundle { generation, .. }) =
            &mut file.place;
        *generation = self.generation;
    }

    /// How many bytes it must have at least to hold the file.
    pub(crate) fn least_bytes(file: &PartFile) -> Result<u64> {
        match &file.place {
            FilePlace::File { .. } => Ok(file.bytes),
            FilePlace::Bundle { offset, .. } => offset.checked_add(file.bytes).ok_or_else(|| {
                let detail = format!("it places {} at byte {offset} of a bundle", file.name);
                damaged_list(file, detail)
            }),
        }
    }

    pub(crate) fn kind(&self) -> BlobKind {
        self.kind
    }

    /// The byte that its hash begins with, which chooses its directory.
    pub(crate) fn prefix(&self) -> u8 {
        self.blake3[0]
    }

    /// What it is named after.
    pub(crate) fn blake3(&self) -> Hash {
        self.blake3.into()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// The directory that it is in.
    pub(crate) fn directory(&self) -> String {
        layout::prefix_directory(self.kind.root(), self.prefix())
    }

    /// The last part of its name.
    pub(crate) fn file_name(&self) -> String {
        let digits = self.blake3().to_hex();
        match self.generation {
            0 => digits.to_string(),
            generation => format!("{digits}.{generation}"),
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.directory(), self.file_name())
    }

    /// The object with this last part of a name; `None` when no object has such a one.
    pub(crate) fn from_file_name(kind: BlobKind, file_name: &str) -> Option<Self> {
        let (digits, generation) = match file_name.split_once('.') {
            Some((digits, generation)) => (digits, generation.parse().ok()?),
            None => (file_name, 0),
        };
        let blob = Self::new(kind, Hash::from_hex(digits).ok()?).of_generation(generation);
        (blob.file_name() == file_name).then_some(blob)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_object_is_known_by_its_name(content: [u8; 4], generation: u64) {
            for kind in BlobKind::ALL {
                let blob = Blob::new(kind, blake3::hash(&content)).of_generation(generation);
                prop_assert_eq!(Blob::from_file_name(kind, &blob.file_name()), Some(blob));
            }
        }

        #[test]
        fn what_is_no_name_of_an_object_is_none(name in "[0-9a-fA-F]{0,66}(\\.[0-9+]{0,22})?") {
            let blob = Blob::from_file_name(BlobKind::File, &name);
            prop_assert!(blob.is_none_or(|blob| blob.file_name() == name));
        }
    }
}
