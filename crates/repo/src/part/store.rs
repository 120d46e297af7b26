//! Bringing one file or bundle into the repository.
//!
//! Into a local directory a file is copied while it is hashed, under a name of its own, and renamed
//! when its content is known and on disk. Elsewhere it is hashed first and sent only if it is lacking,
//! in pieces that are hashed again. An upload that a crash cuts off leaves pieces that no listing shows:
//! let the bucket's life cycle rules end unfinished uploads.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blake3::{Hash, Hasher};
use bytes::Bytes;
use futures::{Stream, TryStreamExt, stream};
use object_store::ObjectStoreExt;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as ObjectPath;

use super::disk::{self, CopyFailure, FileToRead, NewFile};
use super::{Blob, BlobKind, PIECE_BYTES};
use crate::candidates::Candidates;
use crate::directory;
use crate::error::{Error, Result};
use crate::layout;
use crate::objects::{Objects, StoreKind};
use crate::random::random_id;

/// Pieces of one file that are sent at once.
const PIECES_AT_ONCE: usize = 2;
/// Stores take no more pieces of one object.
const MOST_PIECES: u64 = 10_000;

/// Content that is in the repository now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored {
    pub(super) blob: Blob,
    /// Whether it was not there before.
    pub(super) is_new: bool,
}

impl Objects {
    /// Stores a large file, unless the repository has it. In a local directory it lasts only after
    /// [`Self::make_last`].
    pub(super) async fn store_file(
        &self,
        source: FileToRead,
        candidates: &Arc<Candidates>,
    ) -> Result<Stored> {
        let stored = match &self.place {
            StoreKind::Directory(root) => {
                let (objects, root) = (self.clone(), root.clone());
                let candidates = Arc::clone(candidates);
                let place = move |blake3| Ok(candidates.place(BlobKind::File, blake3));
                let copied = self.blocking(move || objects.copy_in(&root, &source, place));
                copied.await?
            }
            StoreKind::Remote(_) if source.bytes <= PIECE_BYTES => {
                let bytes = self.blocking(move || source.read()).await?;
                let blob = candidates.place(BlobKind::File, blake3::hash(&bytes));
                return self.store_bytes(blob, bytes, candidates).await;
            }
            StoreKind::Remote(store) => {
                let source = Arc::new(source);
                let reader = Arc::clone(&source);
                let blake3 = self.blocking(move || reader.hash()).await?;
                let blob = candidates.place(BlobKind::File, blake3);
                let is_there = self.size(&blob.name()).await? == Some(source.bytes);
                if is_there && !candidates.is_damaged(&blob) {
                    let is_new = false;
                    return Ok(Stored { blob, is_new });
                }
                let bytes = source.bytes;
                let pieces = pieces(self.clone(), source, blake3);
                self.send(store, blob, bytes, pieces).await?
            }
        };
        if candidates.is_damaged(&stored.blob) {
            self.forget_damage(&stored.blob).await?;
        }
        Ok(stored)
    }

    /// Stores content that is in memory, unless the repository has it. What is there is read: it is found
    /// seldom, as by a task that is done again.
    pub(super) async fn store_bytes(
        &self,
        blob: Blob,
        bytes: Bytes,
        candidates: &Candidates,
    ) -> Result<Stored> {
        let name = blob.name();
        let size = bytes.len() as u64;
        let mut is_new = self.size(&name).await? != Some(size);
        if !is_new {
            let is_same = self.get(&name, size, |there| match there == bytes {
                true => Ok(()),
                false => Err("it has other bytes".to_owned()),
            });
            is_new = match is_same.await {
                Ok(()) => false,
                Err(error) if error.is_damage() => true,
                Err(error) => return Err(error),
            };
        }
        if is_new {
            self.put(&name, bytes).await?;
        }
        if candidates.is_damaged(&blob) {
            self.forget_damage(&blob).await?;
        }
        Ok(Stored { blob, is_new })
    }

    /// Makes the entries of objects in their directories last, also of those that someone else is
    /// just creating; a store that is not a local directory has done so.
    pub(super) async fn make_last(&self, blobs: impl Iterator<Item = Blob>) -> Result<()> {
        let StoreKind::Directory(root) = &self.place else {
            return Ok(());
        };
        let mut directories: Vec<PathBuf> = blobs
            .filter_map(|blob| Some(root.join(blob.name()).parent()?.to_owned()))
            .collect();
        if directories.is_empty() {
            return Ok(());
        }
        directories.extend([layout::BUNDLES, layout::FILES, ""].map(|name| root.join(name)));
        directories.sort();
        directories.dedup();
        let object = self.full_name(layout::FILES);
        self.blocking(move || {
            let mut synced = directories.iter().map(|path| directory::sync(path));
            let synced = synced.try_for_each(|synced| synced);
            synced.map_err(|error| Error::from_io("sync", object, 0, error))
        })
        .await
    }

    /// Copies a file into a local directory, where `place` says by its BLAKE3.
    pub(super) fn copy_in(
        &self,
        root: &Path,
        source: &FileToRead,
        place: impl FnOnce(Hash) -> Result<Blob>,
    ) -> Result<Stored> {
        // A number behind `#` marks what is unfinished: listings leave it out.
        let incoming = format!("{}/{}#1", layout::INCOMING, random_id());
        let write_error =
            |error| Error::from_io("write", self.full_name(&incoming), source.bytes, error);
        let mut from = source.open()?;
        let mut new = create(root.join(&incoming)).map_err(write_error)?;
        let copied = disk::copy(&mut from, &mut new.file, self.uploads());
        let copied = copied.map_err(|failure| match failure {
            CopyFailure::Read(error) => Error::file("read", &source.path, error),
            CopyFailure::Write(error) => write_error(error),
        })?;
        source.check_size(copied.bytes)?;
        let blob = place(copied.blake3)?;
        let name = blob.name();
        let object = root.join(&name);
        let is_new = !is_there(&object, source.bytes, copied.blake3);
        if is_new {
            let failed =
                |error| Error::from_io("write", self.full_name(&name), source.bytes, error);
            make_parent(&object).map_err(failed)?;
            new.keep_as(&object).map_err(failed)?;
        }
        Ok(Stored { blob, is_new })
    }

    /// Sends an object in pieces, which fail at their end unless they are what it should hold.
    pub(super) async fn send(
        &self,
        store: &Arc<dyn MultipartStore>,
        blob: Blob,
        bytes: u64,
        pieces: impl Stream<Item = Result<(usize, Bytes)>> + Send,
    ) -> Result<Stored> {
        let name = blob.name();
        let path = self.path(&name)?;
        let begin = self.retry("write", &name, 0, || async {
            Ok(store.create_multipart(&path).await?)
        });
        let upload = Upload {
            objects: self,
            store,
            name: &name,
            path: &path,
            id: begin.await?,
        };
        let sent = upload.send(bytes, pieces).await;
        if sent.is_err() {
            // The error that stopped it is what matters; pieces that stay are not shown anywhere.
            drop(store.abort_multipart(&path, &upload.id).await);
        }
        sent.map(|()| Stored { blob, is_new: true })
    }
}

/// An object that is being sent in pieces.
struct Upload<'a> {
    objects: &'a Objects,
    store: &'a Arc<dyn MultipartStore>,
    name: &'a str,
    path: &'a ObjectPath,
    id: String,
}

impl Upload<'_> {
    async fn send(
        &self,
        bytes: u64,
        pieces: impl Stream<Item = Result<(usize, Bytes)>> + Send,
    ) -> Result<()> {
        let pieces = pieces
            .map_ok(|(n, piece)| self.send_piece(n, piece))
            .try_buffered(PIECES_AT_ONCE);
        let parts: Vec<PartId> = pieces.try_collect().await?;
        let complete = self.objects.retry("write", self.name, 0, || async {
            let completed = self
                .store
                .complete_multipart(self.path, &self.id, parts.clone());
            let Err(error) = completed.await else {
                return Ok(());
            };
            // The answer may have got lost, and an upload cannot be completed twice.
            match self.objects.store.head(self.path).await {
                Ok(there) if there.size == bytes => Ok(()),
                _ => Err(error.into()),
            }
        });
        complete.await
    }

    async fn send_piece(&self, n: usize, piece: Bytes) -> Result<PartId> {
        let bytes = piece.len() as u64;
        self.objects.uploads().take(bytes).await;
        self.objects
            .retry("write", self.name, bytes, || async {
                let piece = piece.clone().into();
                Ok(self.store.put_part(self.path, &self.id, n, piece).await?)
            })
            .await
    }
}

/// What is left to read of a file.
struct Reader {
    file: fs::File,
    hasher: Hasher,
    next: usize,
}

/// The pieces of a file with their numbers. Ends with an error unless they have, put together, the
/// size and the BLAKE3 that are expected.
fn pieces(
    objects: Objects,
    source: Arc<FileToRead>,
    expected: Hash,
) -> impl Stream<Item = Result<(usize, Bytes)>> {
    let piece_bytes = piece_bytes(source.bytes);
    stream::try_unfold(None, move |reader: Option<Reader>| {
        let (objects, source) = (objects.clone(), Arc::clone(&source));
        async move {
            let work = move || read_piece(reader, &source, piece_bytes, expected);
            objects.blocking(work).await
        }
    })
}

/// All pieces except the last have one size.
pub(super) fn piece_bytes(bytes: u64) -> u64 {
    let least = bytes.div_ceil(MOST_PIECES).next_multiple_of(1 << 20);
    least.max(PIECE_BYTES)
}

type Piece = ((usize, Bytes), Option<Reader>);

fn read_piece(
    reader: Option<Reader>,
    source: &FileToRead,
    piece_bytes: u64,
    expected: Hash,
) -> Result<Option<Piece>> {
    let mut reader = match reader {
        Some(reader) => reader,
        None => Reader {
            file: source.open()?,
            hasher: Hasher::new(),
            next: 0,
        },
    };
    let mut piece = Vec::with_capacity(usize::try_from(piece_bytes).unwrap_or_default());
    let read = Read::by_ref(&mut reader.file)
        .take(piece_bytes)
        .read_to_end(&mut piece);
    read.map_err(|error| Error::file("read", &source.path, error))?;
    if piece.is_empty() {
        source.check_size(reader.hasher.count())?;
        return match reader.hasher.finalize() == expected {
            true => Ok(None),
            false => Err(source.changed("a second reading gave other bytes than the first")),
        };
    }
    reader.hasher.update(&piece);
    let n = reader.next;
    reader.next += 1;
    Ok(Some(((n, piece.into()), Some(reader))))
}

/// Whether a file is there with this content. One that cannot be read is none.
fn is_there(path: &Path, bytes: u64, blake3: Hash) -> bool {
    let has_size = fs::metadata(path).is_ok_and(|there| there.len() == bytes);
    let source = FileToRead {
        path: path.to_owned(),
        bytes,
    };
    has_size && source.hash().is_ok_and(|there| there == blake3)
}

/// Creates a file of a name that nobody else uses, and its directory.
fn create(path: PathBuf) -> io::Result<NewFile> {
    match NewFile::create(path.clone()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_parent(&path)?;
            NewFile::create(path)
        }
        other => other,
    }
}

fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}
