//! Whether the repository has the files that parts need.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use futures::{StreamExt, TryStreamExt, stream};
use mendb_model::part::PartFile;

use super::needed::problem_of;
use super::{Blob, NeededFiles};
use crate::error::{Error, Result};
use crate::objects::{Objects, REQUESTS_AT_ONCE, StoreKind};
use crate::repository::Repository;

/// Up to this many objects of one directory are asked for one by one; a listing of it may be long.
const MOST_ASKED_FOR: usize = 16;

impl Repository {
    /// Checks that the objects which hold these files are there with their sizes. What is in them is
    /// checked when they are read. Objects are asked for one by one or listed, by how many there are;
    /// memory is that of their hashes and of one directory's listing.
    ///
    /// # Errors
    /// [`Error::Incomplete`] names the first that is not and counts the others; or the store fails.
    pub async fn check_files_present<'a>(
        &self,
        files: impl IntoIterator<Item = &'a PartFile>,
    ) -> Result<()> {
        let mut needed = NeededFiles::default();
        for file in files {
            needed.add(file)?;
        }
        self.check_needed(&needed).await
    }

    /// Checks that objects are there with their sizes.
    ///
    /// # Errors
    /// As [`Self::check_files_present`].
    pub(crate) async fn check_needed(&self, needed: &NeededFiles) -> Result<()> {
        let wrong = self.wrong_of(needed).await?;
        let others = wrong.len().saturating_sub(1);
        match wrong.into_iter().next() {
            None => Ok(()),
            Some((blob, problem)) => Err(Error::Incomplete {
                object: self.objects.full_name(&blob.name()),
                problem,
                others,
            }),
        }
    }

    /// Objects that are not there, or not with their sizes, and what is wrong with them, in the order of
    /// their names.
    pub(super) async fn wrong_of(&self, needed: &NeededFiles) -> Result<Vec<(Blob, String)>> {
        let mut directories: BTreeMap<String, Vec<(Blob, u64)>> = BTreeMap::new();
        for (blob, bytes) in needed.iter() {
            directories
                .entry(blob.directory())
                .or_default()
                .push((blob, bytes));
        }
        if let StoreKind::Directory(root) = &self.objects.place {
            let sizes = self
                .objects
                .sizes_below(root, directories.values().flatten());
            return self.objects.wrong_of_sizes(sizes.await?).await;
        }
        let checks = directories.into_iter().map(|(directory, mut blobs)| {
            blobs.sort();
            let objects = self.objects.clone();
            async move { objects.wrong_in(&directory, &blobs).await }
        });
        let mut wrong = Vec::new();
        let mut checks = stream::iter(checks).buffered(REQUESTS_AT_ONCE);
        while let Some(found) = checks.try_next().await? {
            wrong.extend(found);
        }
        Ok(wrong)
    }
}

/// The size of a file; `None` of one that is not there.
type Size = std::io::Result<Option<u64>>;

impl Objects {
    /// The sizes of objects that are files of this machine, asked for in one go: a question costs less than a listing.
    async fn sizes_below<'a>(
        &self,
        root: &Path,
        blobs: impl Iterator<Item = &'a (Blob, u64)>,
    ) -> Result<Vec<(Blob, u64, Size)>> {
        let mut wanted = Vec::new();
        for (blob, bytes) in blobs {
            wanted.push((*blob, *bytes, root.join(blob.name())));
        }
        let ask = move || {
            let sized = wanted.into_iter().map(|(blob, bytes, path)| {
                let size = match fs::metadata(path) {
                    Ok(found) => Ok(found.is_file().then_some(found.len())),
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(error),
                };
                (blob, bytes, size)
            });
            Ok(sized.collect())
        };
        self.blocking(ask).await
    }

    /// Of these objects those that are not as they should be. Where the system gave no answer, the store is asked, and
    /// says why.
    async fn wrong_of_sizes(&self, sizes: Vec<(Blob, u64, Size)>) -> Result<Vec<(Blob, String)>> {
        let mut wrong = Vec::new();
        for (blob, bytes, size) in sizes {
            let there = match size {
                Ok(there) => there,
                Err(_) => self.size(&blob.name()).await?,
            };
            wrong.extend(problem_of(blob, bytes, there).map(|problem| (blob, problem)));
        }
        wrong.sort_by_key(|(blob, _)| *blob);
        Ok(wrong)
    }

    /// What is wrong with objects of one directory.
    async fn wrong_in(
        &self,
        directory: &str,
        blobs: &[(Blob, u64)],
    ) -> Result<Vec<(Blob, String)>> {
        let mut wrong = Vec::new();
        if blobs.len() <= MOST_ASKED_FOR {
            for (blob, bytes) in blobs {
                let there = self.size(&blob.name()).await?;
                wrong.extend(problem_of(*blob, *bytes, there).map(|problem| (*blob, problem)));
            }
            return Ok(wrong);
        }
        let listed = self.list(directory).await?.into_iter();
        let there: HashMap<String, u64> =
            listed.map(|listed| (listed.name, listed.bytes)).collect();
        for (blob, bytes) in blobs {
            let there = there.get(&blob.file_name()).copied();
            wrong.extend(problem_of(*blob, *bytes, there).map(|problem| (*blob, problem)));
        }
        Ok(wrong)
    }
}
