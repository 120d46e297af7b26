//! What an earlier backup in the repository has of a table.

use std::collections::{HashMap, HashSet};

use blake3::Hash;
use mendb_model::part::{FileChecksum, Hash128, PartFile, PartRecord};

use super::{BUNDLED_BELOW, Blob, FileOnDisk, NeededFiles};
use crate::error::Result;
use crate::repository::Repository;

/// Where the files of earlier parts of a table are, by what they are. Names play no part, but of files
/// that are the same, that of the same part is preferred: a part whose files lie together is fetched
/// with few requests.
///
/// Memory is that of the records.
#[derive(Debug, Default)]
pub struct KnownFiles {
    records: Vec<PartRecord>,
    parts: HashMap<Hash128, usize>,
    listed: HashMap<FileChecksum, At>,
    /// Small files: those without a known checksum are read anyway.
    small: HashMap<Hash, At>,
}

/// A file: which record, and which of its files.
type At = (usize, usize);

impl Repository {
    /// What of the files of parts, from part lists of an earlier backup, the repository still has and will
    /// have. A backup that builds on it takes up anew what was lost, or may be removed, instead of failing
    /// over it when it ends.
    ///
    /// # Errors
    /// The store fails.
    pub async fn known_files(
        &self,
        records: impl IntoIterator<Item = PartRecord>,
    ) -> Result<KnownFiles> {
        let mut records: Vec<PartRecord> = records.into_iter().collect();
        let mut needed = NeededFiles::default();
        for file in records.iter().flat_map(|record| &record.files) {
            needed.add(file)?;
        }
        let lost = self.wrong_of(&needed).await?;
        if !lost.is_empty() {
            tracing::warn!(
                objects = lost.len(),
                "files of an earlier backup are missing or wrong: they are written again"
            );
        }
        let candidates = self.candidates().await?;
        let mut lost: HashSet<Blob> = lost.into_iter().map(|(blob, _)| blob).collect();
        let needed = needed.iter().map(|(blob, _)| blob);
        lost.extend(needed.filter(|blob| !candidates.trust(blob)));
        if !lost.is_empty() {
            for record in &mut records {
                let is_there = |file: &PartFile| Blob::of(file).is_ok_and(|b| !lost.contains(&b));
                record.files.retain(is_there);
            }
        }
        Ok(KnownFiles::new(records))
    }
}

impl KnownFiles {
    /// What the parts of one table, from part lists of an earlier backup, say. A file that is named as
    /// nothing can be is not known. Whether the repository has them still is not looked at: see
    /// [`Repository::known_files`].
    pub fn new(records: impl IntoIterator<Item = PartRecord>) -> Self {
        let mut known = Self::default();
        for mut record in records {
            record.files.sort_by(|a, b| a.name.cmp(&b.name));
            let place = known.records.len();
            known.parts.insert(record.part.hash, place);
            for (n, file) in record.files.iter().enumerate() {
                if let Some(identity) = file.identity() {
                    known.listed.insert(identity, (place, n));
                }
                if file.bytes < BUNDLED_BELOW
                    && let Ok(blake3) = Hash::from_hex(&file.blake3)
                {
                    known.small.insert(blake3, (place, n));
                }
            }
            known.records.push(record);
        }
        known
    }

    /// The file that is the same as one that `checksums.txt` lists.
    pub(super) fn listed(&self, part: Hash128, file: &FileOnDisk) -> Option<&PartFile> {
        let identity = file.identity()?;
        self.same_name(part, &file.name)
            .filter(|known| known.identity() == Some(identity))
            .or_else(|| Some(self.file(*self.listed.get(&identity)?)))
    }

    /// The small file that has this content.
    pub(super) fn content(&self, part: Hash128, name: &str, blake3: &Hash) -> Option<&PartFile> {
        self.same_name(part, name)
            .filter(|known| *known.blake3 == *blake3.to_hex())
            .or_else(|| Some(self.file(*self.small.get(blake3)?)))
    }

    /// The file of this name in the part of this hash.
    fn same_name(&self, part: Hash128, name: &str) -> Option<&PartFile> {
        let files = &self.records[*self.parts.get(&part)?].files;
        let at = files.binary_search_by(|file| file.name.as_str().cmp(name));
        at.ok().map(|at| &files[at])
    }

    fn file(&self, (record, file): At) -> &PartFile {
        &self.records[record].files[file]
    }
}
