//! Bringing parts into the repository.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use blake3::Hash;
use bytes::Bytes;
use mendb_model::part::{FileChecksum, FilePlace, Hash128, Part, PartFile, PartRecord};
use tokio::task::{JoinError, JoinSet};

use super::disk::FileToRead;
use super::{BUNDLE_BYTES, BUNDLED_BELOW, Blob, BlobKind, FileOnDisk, KnownFiles};
use crate::candidates::Candidates;
use crate::error::Result;
use crate::objects::Objects;
use crate::repository::Repository;

/// What the repository did not have before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Uploaded {
    /// Files.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// Brings parts into the repository, as far as it lacks their files.
///
/// Several files are stored at once, over all writers of the repository at most
/// [`crate::RepositoryOptions::transfers`]; [`Self::add`] waits while so many are. Dropping the writer
/// ends its transfers; what is stored by then belongs to no backup.
#[derive(Debug)]
pub struct PartWriter {
    repository: Repository,
    objects: Objects,
    known: Arc<KnownFiles>,
    /// What may not be relied on, as of the first part.
    candidates: Option<Arc<Candidates>>,
    parts: Vec<DraftPart>,
    contents: Vec<Content>,
    /// Contents that this writer has met, by what tells them apart.
    listed: HashMap<FileChecksum, ContentIdx>,
    small: HashMap<Hash, ContentIdx>,
    bundle: Bundle,
    transfers: JoinSet<Result<Transferred>>,
    /// Objects that this writer wrote or found.
    blobs: HashSet<Blob>,
    uploaded: Uploaded,
}

/// A place in the list of contents.
type ContentIdx = usize;

#[derive(Debug)]
struct DraftPart {
    part: Part,
    files: Vec<(FileOnDisk, ContentIdx)>,
}

/// The content of one or more files.
#[derive(Debug)]
enum Content {
    /// It is being stored.
    Pending,
    Stored {
        blake3: String,
        place: FilePlace,
    },
}

/// Small files that are to be stored together.
#[derive(Debug, Default)]
struct Bundle {
    bytes: Vec<u8>,
    files: Vec<BundledFile>,
}

#[derive(Debug)]
struct BundledFile {
    content: ContentIdx,
    blake3: Hash,
    offset: u64,
}

/// What a transfer ended with.
#[derive(Debug)]
struct Transferred {
    blob: Blob,
    is_new: bool,
    bytes: u64,
    what: TransferredFiles,
}

#[derive(Debug)]
enum TransferredFiles {
    Large(ContentIdx),
    Small(Vec<BundledFile>),
}

impl Repository {
    /// A writer for parts of one table, of which the repository is known to have some files.
    pub fn part_writer(&self, known: Arc<KnownFiles>) -> PartWriter {
        PartWriter {
            repository: self.clone(),
            objects: self.objects.clone(),
            known,
            candidates: None,
            parts: Vec::new(),
            contents: Vec::new(),
            listed: HashMap::new(),
            small: HashMap::new(),
            bundle: Bundle::default(),
            transfers: JoinSet::new(),
            blobs: HashSet::new(),
            uploaded: Uploaded::default(),
        }
    }
}

impl PartWriter {
    /// Adds a part whose files are in a directory. They must stay there until [`Self::finish`] returns.
    ///
    /// Reads and hashes small files where it is called and waits for the store: call it from a thread
    /// that may block. After an error the writer is of no more use.
    ///
    /// # Errors
    /// [`crate::Error::File`] when a file cannot be read, [`crate::Error::Changed`] when it has another
    /// size than was said or changes while it is read; or the store fails, also for a part before.
    pub async fn add(
        &mut self,
        part: Part,
        directory: &Path,
        mut files: Vec<FileOnDisk>,
    ) -> Result<()> {
        files.sort_by(|a, b| a.name.cmp(&b.name));
        if self.candidates.is_none() {
            self.candidates = Some(self.repository.candidates().await?);
        }
        let mut draft = Vec::with_capacity(files.len());
        for file in files {
            let content = self.content_of(part.hash, directory, &file).await?;
            draft.push((file, content));
        }
        self.parts.push(DraftPart { part, files: draft });
        while let Some(done) = self.transfers.try_join_next() {
            self.transferred(done)?;
        }
        Ok(())
    }

    /// The content of a file, which is being stored then unless it is in the repository.
    async fn content_of(
        &mut self,
        part: Hash128,
        directory: &Path,
        file: &FileOnDisk,
    ) -> Result<ContentIdx> {
        if let Some(identity) = file.identity() {
            if let Some(met) = self.listed.get(&identity) {
                return Ok(*met);
            }
            if let Some(known) = self.known.listed(part, file) {
                let content = Content::of(known);
                return Ok(self.push(content));
            }
        }
        let source = FileToRead::new(directory, file);
        let content = if file.bytes < BUNDLED_BELOW {
            self.add_small(part, file, &source).await?
        } else {
            self.begin_large(source).await
        };
        if let Some(identity) = file.identity() {
            self.listed.insert(identity, content);
        }
        Ok(content)
    }

    fn push(&mut self, content: Content) -> ContentIdx {
        self.contents.push(content);
        self.contents.len() - 1
    }

    async fn add_small(
        &mut self,
        part: Hash128,
        file: &FileOnDisk,
        source: &FileToRead,
    ) -> Result<ContentIdx> {
        let bytes = source.read()?;
        let blake3 = blake3::hash(&bytes);
        if let Some(known) = self.known.content(part, &file.name, &blake3) {
            let content = Content::of(known);
            return Ok(self.push(content));
        }
        if let Some(met) = self.small.get(&blake3) {
            return Ok(*met);
        }
        let content = self.push(Content::Pending);
        self.small.insert(blake3, content);
        self.bundle.push(content, blake3, &bytes);
        if self.bundle.bytes.len() as u64 >= BUNDLE_BYTES {
            self.store_bundle().await;
        }
        Ok(content)
    }

    /// Begins to store a large file, as soon as a transfer is free.
    async fn begin_large(&mut self, source: FileToRead) -> ContentIdx {
        let content = self.push(Content::Pending);
        let permit = self.objects.transfer().await;
        let objects = self.objects.clone();
        let candidates = self.candidates.clone().unwrap_or_default();
        self.transfers.spawn(async move {
            let bytes = source.bytes;
            let stored = objects.store_file(source, &candidates).await?;
            drop(permit);
            Ok(Transferred {
                blob: stored.blob,
                is_new: stored.is_new,
                bytes,
                what: TransferredFiles::Large(content),
            })
        });
        content
    }

    /// Begins to store the bundle, as soon as a transfer is free, and begins a new one.
    async fn store_bundle(&mut self) {
        let Bundle { bytes, files } = std::mem::take(&mut self.bundle);
        let permit = self.objects.transfer().await;
        let objects = self.objects.clone();
        let candidates = self.candidates.clone().unwrap_or_default();
        self.transfers.spawn(async move {
            let bytes = Bytes::from(bytes);
            let blob = candidates.place(BlobKind::Bundle, blake3::hash(&bytes));
            let stored = (objects.store_bytes(blob, bytes.clone(), &candidates)).await?;
            drop(permit);
            Ok(Transferred {
                blob,
                is_new: stored.is_new,
                bytes: bytes.len() as u64,
                what: TransferredFiles::Small(files),
            })
        });
    }

    /// Waits until everything is stored for good, and returns the parts with their files, in the order
    /// in which they were added.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub async fn finish(mut self) -> Result<(Vec<PartRecord>, Uploaded)> {
        if !self.bundle.files.is_empty() {
            self.store_bundle().await;
        }
        while let Some(done) = self.transfers.join_next().await {
            self.transferred(done)?;
        }
        let blobs = std::mem::take(&mut self.blobs);
        self.objects.make_last(blobs.into_iter()).await?;
        let records = self.parts.into_iter().map(|draft| PartRecord {
            part: draft.part,
            files: draft
                .files
                .into_iter()
                .map(|(file, content)| self.contents[content].named(file))
                .collect(),
        });
        Ok((records.collect(), self.uploaded))
    }

    fn transferred(&mut self, done: Result<Result<Transferred>, JoinError>) -> Result<()> {
        let done = done.unwrap_or_else(|error| Err(self.objects.cut_off(error)))?;
        let files = match done.what {
            TransferredFiles::Large(content) => {
                self.contents[content] = Content::Stored {
                    blake3: done.blob.blake3().to_hex().to_string(),
                    place: FilePlace::File {
                        generation: done.blob.generation(),
                    },
                };
                1
            }
            TransferredFiles::Small(files) => {
                let bundle = done.blob.blake3().to_hex();
                for file in &files {
                    self.contents[file.content] = Content::Stored {
                        blake3: file.blake3.to_hex().to_string(),
                        place: FilePlace::Bundle {
                            bundle: bundle.to_string(),
                            offset: file.offset,
                            generation: done.blob.generation(),
                        },
                    };
                }
                files.len() as u64
            }
        };
        if done.is_new {
            self.uploaded.files += files;
            self.uploaded.bytes += done.bytes;
        }
        self.blobs.insert(done.blob);
        Ok(())
    }
}

impl Content {
    fn of(file: &PartFile) -> Self {
        Self::Stored {
            blake3: file.blake3.clone(),
            place: file.place.clone(),
        }
    }

    fn named(&self, file: FileOnDisk) -> PartFile {
        let Self::Stored { blake3, place } = self else {
            panic!("all transfers have ended: {} is stored", file.name);
        };
        PartFile {
            name: file.name,
            bytes: file.bytes,
            blake3: blake3.clone(),
            checksum: file.checksum,
            place: place.clone(),
        }
    }
}

impl Bundle {
    fn push(&mut self, content: ContentIdx, blake3: Hash, bytes: &[u8]) {
        self.files.push(BundledFile {
            content,
            blake3,
            offset: self.bytes.len() as u64,
        });
        self.bytes.extend_from_slice(bytes);
    }
}
