//! The moment a backup begins to exist.

use std::collections::HashMap;

use mendb_model::manifest::{Manifest, Segment};

use crate::error::{Error, Result};
use crate::layout;
use crate::manifests::StoredManifest;
use crate::objects::Created;
use crate::repository::Repository;
use crate::seal;

impl Repository {
    /// Makes a backup exist, by writing its manifest after all else is found in place.
    ///
    /// Of two operations that write the same backup the first wins. An attempt of the operation that
    /// wrote it before gets that manifest back, which may name other segments than the one given:
    /// what the repository holds counts, and [`Self::sweep`] removes the rest.
    ///
    /// After a crash, calling it again gives the same answer.
    ///
    /// # Errors
    /// [`Error::Taken`] when another operation was first, [`Error::Incomplete`] when an object is
    /// missing, [`Error::BrokenChain`] when the parent is not what the manifest says; or the store
    /// fails.
    pub async fn put_manifest(&self, manifest: &Manifest) -> Result<StoredManifest> {
        let name = layout::manifest(&manifest.collection, &manifest.backup_id)?;
        if self
            .has_manifest(&manifest.collection, &manifest.backup_id)
            .await?
        {
            return self.own_manifest(manifest, &name).await;
        }
        self.parent(manifest).await?;
        self.check_present(manifest).await?;
        let bytes = seal::seal(manifest);
        let stored = StoredManifest::new(manifest.clone(), &bytes);
        match self.objects.create(&name, bytes.into()).await? {
            Created::Yes => Ok(stored),
            Created::AlreadyThere => self.own_manifest(manifest, &name).await,
        }
    }

    async fn own_manifest(&self, manifest: &Manifest, name: &str) -> Result<StoredManifest> {
        let there = self
            .manifest(&manifest.collection, &manifest.backup_id)
            .await?;
        if there.manifest.operation_id == manifest.operation_id {
            Ok(there)
        } else {
            Err(Error::Taken {
                object: self.objects.full_name(name),
                operation_id: there.manifest.operation_id,
            })
        }
    }

    /// Checks that every object of a backup is there with its size. What is in them is checked when
    /// they are read.
    ///
    /// # Errors
    /// [`Error::Incomplete`] names the first that is not and counts the others.
    pub async fn check_present(&self, manifest: &Manifest) -> Result<()> {
        let directory = layout::backup(&manifest.collection, &manifest.backup_id)?;
        let there: HashMap<_, _> = self.objects.list(&directory).await?.into_iter().collect();
        let mut wrong = manifest.segments().filter_map(|segment| {
            let problem = problem_of(segment, there.get(&segment.object).copied())?;
            Some((&segment.object, problem))
        });
        match wrong.next() {
            None => Ok(()),
            Some((object, problem)) => Err(Error::Incomplete {
                object: self.objects.full_name(&format!("{directory}/{object}")),
                problem,
                others: wrong.count(),
            }),
        }
    }
}

fn problem_of(segment: &Segment, there: Option<u64>) -> Option<String> {
    match there {
        None => Some("does not exist".to_owned()),
        Some(bytes) if bytes == segment.bytes => None,
        Some(bytes) => Some(format!("has {bytes} bytes instead of {}", segment.bytes)),
    }
}
