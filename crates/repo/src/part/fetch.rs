//! Bringing files of parts back.

use std::fs;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use blake3::{Hash, Hasher};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use mendb_model::part::PartFile;

use super::PIECE_BYTES;
use super::disk::{self, CopyFailure, NewFile};
use super::ranges::{FetchPlan, Stretch, Wanted};
use crate::concurrent::wait_for_all;
use crate::error::{Error, Result};
use crate::objects::{Objects, REREADS, StoreKind};
use crate::repository::Repository;

/// Pieces of one file that are fetched at once.
const PIECES_AT_ONCE: usize = 2;

/// What it took to bring files back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Bytes of the files. More came where small files lie apart in a bundle.
    pub bytes: u64,
    /// Requests to the store, those that were repeated counted once.
    pub requests: u64,
}

impl std::ops::AddAssign for Fetched {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.requests += other.requests;
    }
}

impl Repository {
    /// Brings files into new files at the paths given, whose directories exist. Their sizes and BLAKE3
    /// were checked when this returns, but nothing was synced to disk.
    ///
    /// Small files that lie together are fetched together, large ones in pieces; what arrives damaged is
    /// fetched again. Up to [`crate::RepositoryOptions::transfers`] at once over all that use the
    /// repository.
    ///
    /// When it fails, files that are not complete are removed, and complete ones stay. After a crash, or
    /// when the future is dropped, files may be incomplete: discard the directory.
    ///
    /// # Errors
    /// [`Error::NotFound`] or [`Error::Damaged`] name the object; [`Error::File`] when a file cannot be
    /// written or is there already; or the store fails. The first one ends it.
    pub async fn fetch_part_files(&self, files: &[(&PartFile, PathBuf)]) -> Result<Fetched> {
        let FetchPlan {
            empty,
            large,
            stretches,
        } = FetchPlan::new(files)?;
        let mut fetched = Fetched::default();
        for wanted in empty {
            NewFile::create(wanted.to.clone())
                .map_err(|error| Error::file("write", &wanted.to, error))?
                .keep();
        }
        let jobs = (large.into_iter().map(Job::Large)).chain(stretches.into_iter().map(Job::Small));
        let transfers = jobs.map(|job| {
            let objects = self.objects.clone();
            async move {
                let _permit = objects.transfer().await;
                let blob = match &job {
                    Job::Large(file) => file.blob,
                    Job::Small(stretch) => stretch.bundle,
                };
                let fetched = match job {
                    Job::Large(file) => objects.fetch_file(file).await,
                    Job::Small(stretch) => objects.fetch_stretch(stretch).await,
                };
                objects.note_if_damaged(&blob, &fetched).await;
                fetched
            }
        });
        let at_once = self.options().transfers_at_once();
        wait_for_all(transfers, at_once, |done| fetched += done).await?;
        Ok(fetched)
    }
}

enum Job {
    Large(Wanted),
    Small(Stretch),
}

impl Objects {
    async fn fetch_file(&self, file: Wanted) -> Result<Fetched> {
        let content = LargeContent {
            name: file.blob.name(),
            bytes: file.bytes,
            blake3: file.blake3,
        };
        let requests = self.read_large(&content, Some(file.to)).await?;
        Ok(Fetched {
            bytes: file.bytes,
            requests,
        })
    }

    async fn fetch_stretch(&self, stretch: Stretch) -> Result<Fetched> {
        let Stretch {
            bundle,
            range,
            files,
        } = stretch;
        let name = bundle.name();
        let read = self.get_stretch(&name, range.clone(), |bytes| {
            let wrong = files.iter().find(|file| {
                let content = file.of(&bytes, range.start);
                blake3::hash(content) != file.blake3
            });
            match wrong {
                Some(file) => Err(format!(
                    "file {} in it, at byte {}, does not have its BLAKE3",
                    file.name, file.offset
                )),
                None => Ok(bytes),
            }
        });
        let bytes = read.await?;
        self.blocking(move || {
            let mut fetched = Fetched {
                bytes: 0,
                requests: 1,
            };
            for file in files {
                write_new(&file.to, file.of(&bytes, range.start))
                    .map_err(|error| Error::file("write", &file.to, error))?;
                fetched.bytes += file.bytes;
            }
            Ok(fetched)
        })
        .await
    }

    /// Reads the content of a large file, into a new file or only to see that it is right. Returns how
    /// many requests it took.
    pub(super) async fn read_large(
        &self,
        content: &LargeContent,
        to: Option<PathBuf>,
    ) -> Result<u64> {
        let mut reread = 0;
        loop {
            let read = match &self.place {
                StoreKind::Directory(root) => {
                    let (objects, root) = (self.clone(), root.clone());
                    let (content, to) = (content.clone(), to.clone());
                    self.blocking(move || objects.copy_out(&root, &content, to))
                        .await
                }
                StoreKind::Remote(_) => self.receive(content, to.clone()).await,
            };
            match read {
                Err(Error::Damaged { .. }) if reread < REREADS => reread += 1,
                other => return other,
            }
        }
    }

    /// Copies an object out of a local directory.
    fn copy_out(&self, root: &Path, content: &LargeContent, to: Option<PathBuf>) -> Result<u64> {
        let read_error = |error| {
            let object = self.full_name(&content.name);
            Error::from_io("read", object, content.bytes, error)
        };
        let mut from = fs::File::open(root.join(&content.name)).map_err(read_error)?;
        let mut output = Output::create(to)?;
        let copied = disk::copy(&mut from, &mut output, self.downloads());
        let copied = copied.map_err(|failure| match failure {
            CopyFailure::Read(error) => read_error(error),
            CopyFailure::Write(error) => output.failed(error),
        })?;
        content
            .check(copied.bytes, copied.blake3)
            .map_err(|detail| self.damaged(&content.name, detail))?;
        output.keep();
        Ok(1)
    }

    /// Fetches an object in pieces.
    async fn receive(&self, content: &LargeContent, to: Option<PathBuf>) -> Result<u64> {
        let mut pieces = stream::iter(content.pieces())
            .map(|range| self.get_range(&content.name, range))
            .buffered(PIECES_AT_ONCE);
        let mut requests = 0;
        let mut output = self.blocking(|| Output::create(to)).await?;
        let mut hasher = Hasher::new();
        while let Some(piece) = pieces.try_next().await? {
            requests += 1;
            let work = move || {
                hasher.update(&piece);
                match output.write_all(&piece) {
                    Ok(()) => Ok((hasher, output)),
                    Err(error) => Err(output.failed(error)),
                }
            };
            (hasher, output) = self.blocking(work).await?;
        }
        content
            .check(hasher.count(), hasher.finalize())
            .map_err(|detail| self.damaged(&content.name, detail))?;
        output.keep();
        Ok(requests)
    }
}

/// What an object that is a large file must hold.
#[derive(Debug, Clone)]
pub(super) struct LargeContent {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) blake3: Hash,
}

impl LargeContent {
    fn pieces(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        let bytes = self.bytes;
        let starts = (0..bytes).step_by(usize::try_from(PIECE_BYTES).expect("it is small"));
        starts.map(move |start| start..bytes.min(start + PIECE_BYTES))
    }

    pub(super) fn check(&self, bytes: u64, blake3: Hash) -> Result<(), String> {
        if bytes != self.bytes {
            return Err(format!("{bytes} bytes instead of {}", self.bytes));
        }
        if blake3 != self.blake3 {
            return Err(format!("its BLAKE3 is {blake3}"));
        }
        Ok(())
    }
}

impl Wanted {
    /// Its content in what was read of its bundle from `start` on.
    fn of<'a>(&self, bytes: &'a Bytes, start: u64) -> &'a [u8] {
        let place = |at: u64| usize::try_from(at - start).expect("a stretch is in memory");
        &bytes[place(self.offset)..place(self.offset + self.bytes)]
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut new = NewFile::create(path.to_owned())?;
    new.file.write_all(bytes)?;
    new.keep();
    Ok(())
}

/// Where what is read goes: into a new file, or nowhere.
#[derive(Debug)]
struct Output(Option<(NewFile, PathBuf)>);

impl Output {
    fn create(to: Option<PathBuf>) -> Result<Self> {
        let Some(path) = to else {
            return Ok(Self(None));
        };
        match NewFile::create(path.clone()) {
            Ok(new) => Ok(Self(Some((new, path)))),
            Err(error) => Err(Error::file("write", &path, error)),
        }
    }

    fn failed(&self, error: io::Error) -> Error {
        let path = self.0.as_ref().map(|(_, path)| path.as_path());
        Error::file("write", path.expect("nowhere takes everything"), error)
    }

    fn keep(self) {
        if let Some((new, _)) = self.0 {
            new.keep();
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Some((new, _)) => new.file.write(bytes),
            None => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
