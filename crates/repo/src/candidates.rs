//! What may be removed soon, or was lately.
//!
//! ```text
//! garbage/<epoch>-<n>.json.zst   names of objects that no backup needed when this was written
//! garbage/<epoch>-<n>.swept      those that no backup needed later either were removed
//! ```
//!
//! **What this is for.** A removal cannot be made conditional on every store, and a process may be stopped
//! before one and wake up long after it. So an object is named here before it may be removed, by the epoch of
//! the [lease](crate::Lease) under which that was decided; a process that is about to seal a backup looks here after
//! its part lists are in place, and relies on nothing that is named. And it is removed only when a look at
//! all lists, which began after it was named, does not find it. Of the two at least one sees the other.
//!
//! **Generations.** What is named stays named for [`REMEMBERED_S`], also when it was removed, or kept because
//! a backup needed it after all: until then its name is not used for anything new. Who needs the content
//! stores it under the generation that is the newest epoch that names it, which nobody can have had in mind
//! to remove before.
//!
//! Names do not change once written, so that they are read once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError};

use blake3::Hash;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::known_candidates::{Epochs, Known};
use crate::layout;
use crate::part::{Blob, BlobKind};
use crate::repository::Repository;
use crate::seal::{self, Unreadable};

/// The format that this version writes and reads.
const FORMAT_VERSION: u32 = 1;

/// A process may be stopped for so long before it removes what it had decided to remove.
pub(crate) const REMEMBERED_S: i64 = 30 * 24 * 60 * 60;

/// Names in one object: some megabytes.
pub(crate) const MOST_NAMES: usize = 1 << 16;

const NAMES_END: &str = ".json.zst";
const SWEPT_END: &str = ".swept";
/// Hex digits compress to half their size and no further.
const ZSTD_LEVEL: i32 = 1;
/// What a damaged or forged object may unpack to.
const MOST_TEXT_BYTES: u64 = 64 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    format_version: u32,
    epoch: u64,
    /// The last parts of the names of objects.
    files: Vec<String>,
    bundles: Vec<String>,
}

/// Names that were written together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its object, without what tells names from what says that they were swept.
    name: String,
    /// When it was written, in seconds since 1970, by the clock of the store; `None` where only what says
    /// that it was swept is left.
    pub(crate) written_s: Option<i64>,
    /// When it was swept, likewise.
    pub(crate) swept_s: Option<i64>,
}

/// What no backup relies on, as of when it was read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Candidates {
    /// For each content that is named, the newest epoch that names it.
    epochs: Epochs,
    /// Objects that are not what they are named after.
    damaged: HashSet<Blob>,
}

impl Candidates {
    pub(crate) fn is_empty(&self) -> bool {
        self.epochs.is_empty() && self.damaged.is_empty()
    }

    /// Whether an object was found damaged: what it should hold is written again in its place.
    pub(crate) fn is_damaged(&self, blob: &Blob) -> bool {
        self.damaged.contains(blob)
    }

    /// The generation in which content is stored that is not there.
    pub(crate) fn generation(&self, kind: BlobKind, blake3: &Hash) -> u64 {
        self.epochs.get(&(kind, *blake3)).copied().unwrap_or(0)
    }

    /// The object in which content is stored that is not there.
    pub(crate) fn place(&self, kind: BlobKind, blake3: Hash) -> Blob {
        Blob::new(kind, blake3).of_generation(self.generation(kind, &blake3))
    }

    /// Whether a backup may rely on an object that is there.
    pub(crate) fn trust(&self, blob: &Blob) -> bool {
        blob.generation() >= self.generation(blob.kind(), &blob.blake3())
            && !self.damaged.contains(blob)
    }
}

impl Repository {
    /// The names that are there, oldest first.
    pub(crate) async fn garbage_records(&self) -> Result<Vec<Record>> {
        let mut records: BTreeMap<String, Record> = BTreeMap::new();
        for listed in self.objects.list(layout::GARBAGE).await? {
            let of = |end| listed.name.strip_suffix(end);
            let Some(name) = of(NAMES_END).or_else(|| of(SWEPT_END)) else {
                continue;
            };
            let record = records.entry(name.to_owned()).or_insert_with(|| Record {
                name: name.to_owned(),
                written_s: None,
                swept_s: None,
            });
            match of(NAMES_END) {
                Some(_) => record.written_s = Some(listed.written_s),
                None => record.swept_s = Some(listed.written_s),
            }
        }
        Ok(records.into_values().collect())
    }

    /// The newest epoch that has named anything.
    pub(crate) async fn newest_epoch(&self) -> Result<u64> {
        let records = self.garbage_records().await?;
        let epochs = records.iter().filter_map(|record| {
            let (epoch, _) = record.name.split_once('-')?;
            epoch.parse().ok()
        });
        Ok(epochs.max().unwrap_or(0))
    }

    /// The objects that are named there, with the epoch that names them.
    pub(crate) async fn named_by(&self, record: &Record) -> Result<(u64, Vec<Blob>)> {
        let name = format!("{}/{}{NAMES_END}", layout::GARBAGE, record.name);
        let read = self.objects.get(&name, 0, |bytes| match unpack(&bytes) {
            Ok(document) => Ok(Ok(document)),
            Err(Unreadable::Damaged(detail)) => Err(detail),
            Err(unknown) => Ok(Err(unknown)),
        });
        let document = (read.await?).map_err(|why| self.unreadable(&name, why, FORMAT_VERSION))?;
        let parse = |kind, names: &[String]| -> Result<Vec<Blob>> {
            let blobs = names.iter().map(|file_name| {
                let blob = Blob::from_file_name(kind, file_name);
                blob.ok_or_else(|| {
                    self.objects
                        .damaged(&name, format!("it names {file_name:?}"))
                })
            });
            blobs.collect()
        };
        let mut blobs = parse(BlobKind::File, &document.files)?;
        blobs.extend(parse(BlobKind::Bundle, &document.bundles)?);
        Ok((document.epoch, blobs))
    }

    /// Names objects. From when this returns on no backup is sealed that relies on them.
    pub(crate) async fn name_garbage(&self, epoch: u64, n: usize, blobs: &[Blob]) -> Result<()> {
        let of = |kind| {
            let blobs = blobs.iter().filter(move |blob| blob.kind() == kind);
            blobs.map(Blob::file_name).collect()
        };
        let document = Document {
            format_version: FORMAT_VERSION,
            epoch,
            files: of(BlobKind::File),
            bundles: of(BlobKind::Bundle),
        };
        let name = format!("{}/{epoch:012}-{n:06}{NAMES_END}", layout::GARBAGE);
        self.objects.put(&name, pack(&document)).await
    }

    /// Notes that what was named and not needed has been removed.
    pub(crate) async fn note_swept(&self, record: &Record) -> Result<()> {
        let name = format!("{}/{}{SWEPT_END}", layout::GARBAGE, record.name);
        self.objects
            .put(&name, Bytes::from_static(b"swept\n"))
            .await
    }

    /// Forgets names.
    pub(crate) async fn forget_named(&self, record: &Record) -> Result<()> {
        for end in [NAMES_END, SWEPT_END] {
            let name = format!("{}/{}{end}", layout::GARBAGE, record.name);
            self.objects.delete(&name).await?;
        }
        Ok(())
    }

    /// What no backup may rely on, as of now.
    ///
    /// # Errors
    /// What is there cannot be read: then nothing can be relied on.
    pub(crate) async fn candidates(&self) -> Result<Arc<Candidates>> {
        let epochs = self.epochs().await?;
        let damaged = self.objects.damaged_blobs().await?;
        Ok(Arc::new(Candidates { epochs, damaged }))
    }

    /// The newest epoch that names each content. Records that were read before are not read again.
    async fn epochs(&self) -> Result<Epochs> {
        let mut unread = self.garbage_records().await?;
        unread.retain(|record| record.written_s.is_some());
        {
            let mut read = self
                .candidates
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let (known, epochs) = &mut *read;
            let there: HashSet<&String> = unread.iter().map(|record| &record.name).collect();
            if !known.keys().all(|name| there.contains(name)) {
                known.retain(|name, _| there.contains(name));
                *epochs = merged(known);
            }
            unread.retain(|record| !known.contains_key(&record.name));
            if unread.is_empty() {
                return Ok(Arc::clone(epochs));
            }
        }
        let mut new = Vec::with_capacity(unread.len());
        for record in unread {
            let named = self.named_by(&record).await?;
            new.push((record.name, named));
        }
        let mut read = self
            .candidates
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (known, epochs) = &mut *read;
        known.extend(new);
        *epochs = merged(known);
        Ok(Arc::clone(epochs))
    }
}

fn merged(known: &Known) -> Epochs {
    let mut epochs = HashMap::new();
    for (epoch, blobs) in known.values() {
        for blob in blobs {
            let newest: &mut u64 = epochs.entry((blob.kind(), blob.blake3())).or_default();
            *newest = (*epoch).max(*newest);
        }
    }
    Arc::new(epochs)
}

fn pack(document: &Document) -> Bytes {
    let text = seal::seal(document);
    let packed = zstd::encode_all(text.as_slice(), ZSTD_LEVEL);
    packed.expect("memory takes what is written").into()
}

fn unpack(bytes: &[u8]) -> Result<Document, Unreadable> {
    use std::io::Read;
    let damaged = |error: std::io::Error| Unreadable::Damaged(error.to_string());
    let text = zstd::Decoder::new(bytes).map_err(damaged)?;
    let mut unpacked = Vec::new();
    (text.take(MOST_TEXT_BYTES).read_to_end(&mut unpacked)).map_err(damaged)?;
    seal::open(&unpacked, FORMAT_VERSION)
}
