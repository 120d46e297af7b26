//! A part where a backup keeps it: as files, in an archive of its own, or in slices of archives that were
//! cut by size.
//!
//! **Cost.** Files are read once each. An archive of one part is read once. For slices, each archive of
//! the disk is gone through once to learn which parts it has: only the headers of its members are read
//! where it is not compressed, all of it where it is. After that a part costs those archives that have
//! files of it: their members of this part where they are not compressed, else everything up to the last
//! of them. So from compressed archives that were cut by size, many parts cost many times the archive.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use mendb_model::part::{Checksums, Hash128};
use tokio::sync::OnceCell;

use super::archive::{Compression, Member, Walk, is_file_of_part, read_whole, walk};
use super::error::{ImportError, PartOf, Result};
use super::reader::{ObjectReader, Traffic, Transfer, on_thread};
use super::received::{
    CHECKSUMS, CHECKSUMS_MAX_BYTES, COUNT, COUNT_MAX_BYTES, Promise, ReceivedPart, Refusal,
    WriteFailure, Written, parse_rows,
};
use crate::concurrent::wait_for_all;
use crate::objects::Objects;

/// Files of one part that are read at once.
const FILES_AT_ONCE: usize = 4;

/// Where a part is.
#[derive(Debug, Clone)]
pub(super) enum Stored {
    Files(Arc<Files>),
    Archive(Archive),
    Slices(Arc<Slices>),
}

/// A directory with the files of a part.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) objects: Objects,
    pub(super) directory: String,
    /// Paths inside the part, with sizes.
    pub(super) files: Vec<(String, u64)>,
}

/// An archive.
#[derive(Debug, Clone)]
pub(super) struct Archive {
    pub(super) objects: Objects,
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) compression: Compression,
}

/// The archives of one table and disk that were cut by size.
#[derive(Debug)]
pub(super) struct Slices {
    archives: Vec<Archive>,
    index: OnceCell<HashMap<String, Sliced>>,
}

/// A part in slices.
#[derive(Debug, Default)]
struct Sliced {
    /// Archives that have files of it, by place, each with how many.
    archives: Vec<(usize, u64)>,
    identity: Identity,
}

/// What the files of a part say about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) hash: Option<Hash128>,
    pub(super) rows: Option<u64>,
}

impl Identity {
    fn is_complete(self) -> bool {
        self.hash.is_some() && self.rows.is_some()
    }

    /// Learns from a file.
    fn learn(&mut self, file: &str, bytes: &[u8]) -> Result<(), mendb_model::Malformed> {
        match file {
            CHECKSUMS => self.hash = Some(Checksums::parse(bytes)?.part_hash()),
            COUNT => self.rows = parse_rows(bytes),
            _ => {}
        }
        Ok(())
    }
}

/// What proving a part refused.
fn refused(of: &PartOf, refusal: Refusal, promise: Promise) -> ImportError {
    match refusal {
        Refusal::Directory(path, source) => ImportError::Write { path, source },
        Refusal::Damaged(detail) => of.damaged(detail),
        Refusal::Other(found) => ImportError::OtherPart {
            of: Box::new(of.clone()),
            promised: promise.hash,
            found,
        },
    }
}

/// Why a file was not written; `object` is what it was read from.
fn not_written(
    of: &PartOf,
    failure: WriteFailure,
    transfer: &Transfer,
    object: &str,
) -> ImportError {
    match failure {
        WriteFailure::Read(error) => transfer.explain(object, &error),
        WriteFailure::Write(path, source) => ImportError::Write { path, source },
        WriteFailure::Damaged(detail) => of.damaged(detail),
    }
}

impl Stored {
    /// What the files of a part say about it. Costs little for files, and up to a whole archive for
    /// archives.
    pub(super) async fn identify(&self, of: &PartOf) -> Result<Identity> {
        let traffic = Arc::<Traffic>::default();
        match self {
            Self::Files(files) => {
                let mut identity = Identity::default();
                for (file, most) in [(CHECKSUMS, CHECKSUMS_MAX_BYTES), (COUNT, COUNT_MAX_BYTES)] {
                    files.learn(file, most, &mut identity, of).await?;
                }
                Ok(identity)
            }
            Self::Archive(archive) => {
                let (archive, of) = (archive.clone(), of.clone());
                on_thread(&traffic, move |transfer| archive.identity(&of, transfer)).await
            }
            Self::Slices(slices) => {
                let index = slices.index(&traffic).await?;
                let sliced = index.get(&of.part);
                Ok(sliced
                    .ok_or_else(|| of.missing(slices.looked_through()))?
                    .identity)
            }
        }
    }

    /// The rows of a part, where telling costs no more than a small file.
    pub(super) async fn rows(&self, of: &PartOf) -> Result<Option<u64>> {
        let Self::Files(files) = self else {
            return Ok(None);
        };
        let mut identity = Identity::default();
        files
            .learn(COUNT, COUNT_MAX_BYTES, &mut identity, of)
            .await?;
        Ok(identity.rows)
    }

    /// Bytes of its files, where they are known without reading.
    pub(super) fn bytes(&self) -> Option<u64> {
        match self {
            Self::Files(files) => Some(files.files.iter().map(|(_, bytes)| bytes).sum()),
            _ => None,
        }
    }

    /// Writes the part into a directory, and proves that it is what was promised.
    pub(super) async fn fetch(
        &self,
        of: &PartOf,
        into: &Path,
        promise: Promise,
        traffic: &Arc<Traffic>,
    ) -> Result<Written> {
        let writer = match self {
            Self::Files(files) => files.fetch(of, into, traffic).await?,
            Self::Archive(archive) => {
                let writer = ReceivedPart::new(into);
                archive.fetch(of, writer, u64::MAX, traffic).await?
            }
            Self::Slices(slices) => {
                let index = slices.index(traffic).await?;
                let sliced = index.get(&of.part);
                let sliced = sliced.ok_or_else(|| of.missing(slices.looked_through()))?;
                let mut writer = ReceivedPart::new(into);
                for (place, members) in &sliced.archives {
                    let archive = &slices.archives[*place];
                    writer = archive.fetch(of, writer, *members, traffic).await?;
                }
                writer
            }
        };
        let owned = of.clone();
        on_thread(traffic, move |_| {
            writer
                .finish(promise)
                .map_err(|refusal| refused(&owned, refusal, promise))
        })
        .await
    }
}

impl Files {
    async fn learn(
        &self,
        file: &str,
        most_bytes: u64,
        identity: &mut Identity,
        of: &PartOf,
    ) -> Result<()> {
        let found = self.files.iter().find(|(name, _)| name == file);
        let Some((_, bytes)) = found else {
            return Err(of.damaged(format!("{file} is missing")));
        };
        if *bytes > most_bytes {
            return Err(of.damaged(format!("{file} has {bytes} bytes, which is too many")));
        }
        let object = format!("{}/{file}", self.directory);
        let learned = self.objects.get(&object, *bytes, |bytes| {
            let mut learned = Identity::default();
            let result = learned.learn(file, &bytes);
            result.map_err(|error| mendb_model::describe_error(&error))?;
            Ok(learned)
        });
        let learned = learned.await?;
        identity.hash = identity.hash.or(learned.hash);
        identity.rows = identity.rows.or(learned.rows);
        Ok(())
    }

    async fn fetch(
        &self,
        of: &PartOf,
        into: &Path,
        traffic: &Arc<Traffic>,
    ) -> Result<ReceivedPart> {
        let stray = self.files.iter().find(|(file, _)| !is_file_of_part(file));
        if let Some((file, _)) = stray {
            return Err(of.damaged(format!("{file} is no file that a part has")));
        }
        let writes = self.files.iter().map(|(file, bytes)| {
            let (file, bytes, of) = (file.clone(), *bytes, of.clone());
            let mut writer = ReceivedPart::new(into);
            let object = format!("{}/{file}", self.directory);
            let objects = self.objects.clone();
            async move {
                let _permit = objects.transfer().await;
                let objects = objects.clone();
                let work = move |transfer: &Arc<Transfer>| {
                    let mut reader = ObjectReader::new(objects, &object, bytes, transfer);
                    let object = reader.full_name();
                    writer
                        .write(&file, bytes, &mut reader)
                        .map_err(|failure| not_written(&of, failure, transfer, &object))?;
                    Ok(writer)
                };
                on_thread(traffic, work).await
            }
        });
        let mut all = ReceivedPart::new(into);
        wait_for_all(writes, FILES_AT_ONCE, |one| all.merge(one)).await?;
        Ok(all)
    }
}

impl Archive {
    fn reader(&self, transfer: &Arc<Transfer>) -> ObjectReader {
        ObjectReader::new(self.objects.clone(), &self.name, self.bytes, transfer)
    }

    /// A reader for who only looks at some members.
    fn skimmer(&self, transfer: &Arc<Transfer>) -> ObjectReader {
        let reader = self.reader(transfer);
        match self.compression {
            Compression::None => reader.skimming(),
            _ => reader,
        }
    }

    /// Finds out what the archive's part is.
    fn identity(&self, of: &PartOf, transfer: &Arc<Transfer>) -> Result<Identity> {
        let reader = self.skimmer(transfer);
        let object = reader.full_name();
        let mut identity = Identity::default();
        walk(reader, self.compression, transfer, |member, from| {
            if member.part == of.part {
                learn(&mut identity, member, from, &object, transfer)?;
            }
            Ok(if identity.is_complete() {
                Walk::Enough
            } else {
                Walk::On
            })
        })?;
        if identity.hash.is_none() {
            return Err(of.damaged(format!("{object} has no {CHECKSUMS} of it")));
        }
        Ok(identity)
    }

    /// Writes the files of a part that the archive has; it has so many at most.
    async fn fetch(
        &self,
        of: &PartOf,
        mut writer: ReceivedPart,
        members: u64,
        traffic: &Arc<Traffic>,
    ) -> Result<ReceivedPart> {
        let (archive, of) = (self.clone(), of.clone());
        let _permit = self.objects.transfer().await;
        let work = move |transfer: &Arc<Transfer>| {
            let reader = archive.reader(transfer);
            let object = reader.full_name();
            let mut seen = 0;
            walk(reader, archive.compression, transfer, |member, from| {
                if member.part != of.part {
                    return Ok(Walk::On);
                }
                writer
                    .write(&member.file, member.bytes, from)
                    .map_err(|failure| not_written(&of, failure, transfer, &object))?;
                seen += 1;
                Ok(if seen == members {
                    Walk::Enough
                } else {
                    Walk::On
                })
            })?;
            Ok(writer)
        };
        on_thread(traffic, work).await
    }
}

fn learn(
    identity: &mut Identity,
    member: &Member,
    from: &mut dyn std::io::Read,
    object: &str,
    transfer: &Transfer,
) -> Result<()> {
    let most_bytes = match member.file.as_str() {
        CHECKSUMS => CHECKSUMS_MAX_BYTES,
        COUNT => COUNT_MAX_BYTES,
        _ => return Ok(()),
    };
    let bytes = read_whole(member, from, most_bytes, object, transfer)?;
    identity
        .learn(&member.file, &bytes)
        .map_err(|error| ImportError::Archive {
            object: object.to_owned(),
            detail: format!(
                "{}/{}: {}",
                member.part,
                member.file,
                mendb_model::describe_error(&error)
            ),
        })
}

impl Slices {
    pub(super) fn new(archives: Vec<Archive>) -> Self {
        Self {
            archives,
            index: OnceCell::new(),
        }
    }

    fn looked_through(&self) -> String {
        let first = self.archives.first();
        let first = first.map_or_else(String::new, |a| a.objects.full_name(&a.name));
        format!(
            "none of {} archives has it ({first} …)",
            self.archives.len()
        )
    }

    /// Which archive has what, read once.
    async fn index(&self, traffic: &Arc<Traffic>) -> Result<&HashMap<String, Sliced>> {
        let read = || async {
            let mut index = HashMap::new();
            for place in 0..self.archives.len() {
                index = self.index_archive(place, index, traffic).await?;
            }
            Ok(index)
        };
        self.index.get_or_try_init(read).await
    }

    async fn index_archive(
        &self,
        place: usize,
        mut index: HashMap<String, Sliced>,
        traffic: &Arc<Traffic>,
    ) -> Result<HashMap<String, Sliced>> {
        let archive = self.archives[place].clone();
        let work = move |transfer: &Arc<Transfer>| {
            let reader = archive.skimmer(transfer);
            let object = reader.full_name();
            walk(reader, archive.compression, transfer, |member, from| {
                let sliced = index.entry(member.part.clone()).or_default();
                match sliced.archives.last_mut() {
                    Some((last, members)) if *last == place => *members += 1,
                    _ => sliced.archives.push((place, 1)),
                }
                learn(&mut sliced.identity, member, from, &object, transfer)?;
                Ok(Walk::On)
            })?;
            Ok(index)
        };
        on_thread(traffic, work).await
    }
}
