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

use super::disk::{self, CopyFailure, NewFile, Source};
use super::{Blob, PIECE_BYTES};
use crate::directory;
use crate::error::{Error, Result};
use crate::layout;
use crate::objects::{Objects, Place};
use crate::repository::random_id;

/// Pieces of one file that are sent at once.
const PIECES_AT_ONCE: usize = 2;
/// Stores take no more pieces of one object.
const MOST_PIECES: u64 = 10_000;

/// Content that is in the repository now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored {
    pub(super) blake3: Hash,
    /// Whether it was not there before.
    pub(super) is_new: bool,
}

impl Objects {
    /// Stores a large file, unless the repository has it. In a local directory it lasts only after
    /// [`Self::make_last`].
    pub(super) async fn store_file(&self, source: Source) -> Result<Stored> {
        match &self.place {
            Place::Directory(root) => {
                let (objects, root) = (self.clone(), root.clone());
                self.blocking(move || objects.copy_in(&root, &source)).await
            }
            Place::Remote(_) if source.bytes <= PIECE_BYTES => {
                let bytes = self.blocking(move || source.read()).await?;
                self.store_bytes(Blob::File(blake3::hash(&bytes)), bytes)
                    .await
            }
            Place::Remote(store) => self.send(store, Arc::new(source)).await,
        }
    }

    /// Stores content that is in memory, unless the repository has it.
    pub(super) async fn store_bytes(&self, blob: Blob, bytes: Bytes) -> Result<Stored> {
        let name = blob.name();
        let is_new = self.size(&name).await? != Some(bytes.len() as u64);
        if is_new {
            self.put(&name, bytes).await?;
        }
        let blake3 = *blob.blake3();
        Ok(Stored { blake3, is_new })
    }

    /// Makes the entries of objects in their directories last, also of those that someone else is
    /// just creating; a store that is not a local directory has done so.
    pub(super) async fn make_last(&self, blobs: impl Iterator<Item = Blob>) -> Result<()> {
        let Place::Directory(root) = &self.place else {
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

    /// Copies a file into a local directory.
    fn copy_in(&self, root: &Path, source: &Source) -> Result<Stored> {
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
        let name = Blob::File(copied.blake3).name();
        let object = root.join(&name);
        let is_new = !fs::metadata(&object).is_ok_and(|there| there.len() == source.bytes);
        if is_new {
            let failed =
                |error| Error::from_io("write", self.full_name(&name), source.bytes, error);
            make_parent(&object).map_err(failed)?;
            new.keep_as(&object).map_err(failed)?;
        }
        Ok(Stored {
            blake3: copied.blake3,
            is_new,
        })
    }

    /// Sends a file in pieces, unless the repository has it.
    async fn send(&self, store: &Arc<dyn MultipartStore>, source: Arc<Source>) -> Result<Stored> {
        let reader = Arc::clone(&source);
        let blake3 = self.blocking(move || reader.hash()).await?;
        let name = Blob::File(blake3).name();
        if self.size(&name).await? == Some(source.bytes) {
            let is_new = false;
            return Ok(Stored { blake3, is_new });
        }
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
        let sent = upload.send(source, blake3).await;
        if sent.is_err() {
            // The error that stopped it is what matters; pieces that stay are not shown anywhere.
            drop(store.abort_multipart(&path, &upload.id).await);
        }
        sent.map(|()| Stored {
            blake3,
            is_new: true,
        })
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
    async fn send(&self, source: Arc<Source>, expected: Hash) -> Result<()> {
        let bytes = source.bytes;
        let pieces = pieces(self.objects.clone(), source, expected)
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
    source: Arc<Source>,
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

/// Pieces are of one size but for the last.
fn piece_bytes(bytes: u64) -> u64 {
    let least = bytes.div_ceil(MOST_PIECES).next_multiple_of(1 << 20);
    least.max(PIECE_BYTES)
}

type Piece = ((usize, Bytes), Option<Reader>);

fn read_piece(
    reader: Option<Reader>,
    source: &Source,
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
