//! The moment a backup begins to exist.

use std::collections::HashMap;

use mendb_model::manifest::{Manifest, ShardBackup};
use mendb_model::part::PartRecord;

use crate::error::{Error, Result};
use crate::layout;
use crate::objects::Created;
use crate::part::NeededFiles;
use crate::repository::Repository;
use crate::seal;
use crate::stored_manifest::StoredManifest;

/// Files that are looked for at a time: so many are found by listings, which is cheaper the more there
/// are, and take some 64 MiB.
const MOST_LOOKED_FOR: usize = 1 << 20;

impl Repository {
    /// Makes a backup exist, by writing its manifest after all else is found in place.
    ///
    /// Of two operations that write the same backup the first wins. An attempt of the operation that
    /// wrote it before gets that manifest back, which may name other segments than the one given:
    /// what the repository holds counts, and [`Self::sweep`] removes the rest.
    ///
    /// The shards of its tables are told in it, or in lists that are written here: the manifest that is stored
    /// and returned names these. `writer` is a name for who writes what nobody had before, as in
    /// [`crate::SegmentTarget`].
    ///
    /// Content that its lists rely on and that may be removed as garbage is copied first, and new lists take
    /// the place of those: the manifest that is written and returned names these.
    ///
    /// After a crash, calling it again gives the same answer.
    ///
    /// # Errors
    /// [`Error::Taken`] when another operation was first, [`Error::Incomplete`] when an object is
    /// missing, [`Error::BrokenChain`] when the parent is not what the manifest says, [`Error::Leaving`]
    /// when it is being removed, [`Error::Deleted`] when what there was of the backup was removed; or the
    /// store fails.
    pub async fn put_manifest(&self, manifest: &Manifest, writer: &str) -> Result<StoredManifest> {
        let name = layout::manifest(&manifest.collection, &manifest.backup_id)?;
        if self
            .has_manifest(&manifest.collection, &manifest.backup_id)
            .await?
        {
            return self.own_manifest(manifest, &name).await;
        }
        let put = match self.claim_parent(manifest).await {
            Ok(()) => self.put_claimed(manifest, writer, &name).await,
            Err(error) => Err(error),
        };
        // What failed for a moment is asked again, and claims again.
        self.drop_claim(manifest).await;
        put
    }

    /// Writes the manifest of a backup whose parent stays.
    async fn put_claimed(
        &self,
        draft: &Manifest,
        writer: &str,
        name: &str,
    ) -> Result<StoredManifest> {
        self.parent(draft).await?;
        let mut manifest = self.listed(draft, writer).await?;
        // Its lists are in place. What is not named as garbage from here on is never removed while they are.
        while let Some(renewed) = self.renewed(&manifest).await? {
            manifest = renewed;
        }
        let manifest = &manifest;
        self.check_present(manifest).await?;
        let bytes = seal::seal(manifest);
        let stored = StoredManifest::new(manifest.clone(), &bytes);
        match self.objects.create(name, bytes.into()).await? {
            Created::Yes => {
                self.check_still_present(manifest, name).await?;
                Ok(stored)
            }
            Created::AlreadyThere => self.own_manifest(manifest, name).await,
        }
    }

    /// Takes a manifest back whose objects were removed, as leftovers, before it was written.
    async fn check_still_present(&self, manifest: &Manifest, name: &str) -> Result<()> {
        match self.check_own_present(manifest).await {
            Err(Error::Incomplete { .. }) => {
                let (collection, id) = (&manifest.collection, &manifest.backup_id);
                self.end_manifest_of(collection, id, &manifest.operation_id)
                    .await?;
                Err(Error::Deleted {
                    object: self.objects.full_name(name),
                })
            }
            // It exists, and whether it lacks something is found out when it is read.
            Err(error) => {
                tracing::debug!(%error, "cannot look for the objects of a backup once more");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn own_manifest(&self, manifest: &Manifest, name: &str) -> Result<StoredManifest> {
        let there = self
            .manifest(&manifest.collection, &manifest.backup_id)
            .await;
        let there = there.map_err(|error| match error {
            Error::NotFound { object } => Error::Deleted { object },
            other => other,
        })?;
        if there.manifest.operation_id == manifest.operation_id {
            Ok(there)
        } else {
            Err(Error::Taken {
                object: self.objects.full_name(name),
                operation_id: there.manifest.operation_id,
            })
        }
    }

    /// Checks that every object of a backup is there with its size, files of parts included. Documents
    /// are read for that; what is in others is checked when they are read.
    ///
    /// # Errors
    /// [`Error::Incomplete`] names the first that is not and counts the others; [`Error::Damaged`] when
    /// a document is not what the manifest says; or the store fails.
    pub async fn check_present(&self, manifest: &Manifest) -> Result<()> {
        self.check_own_present(manifest).await?;
        self.check_parts_present(manifest).await
    }

    /// Checks that the objects in the directory of a backup are there.
    async fn check_own_present(&self, manifest: &Manifest) -> Result<()> {
        let directory = layout::backup(&manifest.collection, &manifest.backup_id)?;
        let there = self.objects.list(&directory).await?.into_iter();
        let there: HashMap<_, _> = there.map(|listed| (listed.name, listed.bytes)).collect();
        let mut first = None;
        let mut wrong = 0;
        let mut look_for = |object: &str, bytes: u64| {
            if let Some(problem) = problem_of(bytes, there.get(object).copied()) {
                first.get_or_insert_with(|| (object.to_owned(), problem));
                wrong += 1;
            }
        };
        for document in manifest.documents() {
            look_for(&document.object, document.bytes);
        }
        let segments = |shard: &ShardBackup| {
            for segment in &shard.segments {
                look_for(&segment.object, segment.bytes);
            }
        };
        match self.for_all_shards(manifest, segments).await {
            // The list is missing, and was counted.
            Err(Error::NotFound { .. }) if first.is_some() => {}
            looked => looked?,
        }
        match first {
            None => Ok(()),
            Some((object, problem)) => Err(Error::Incomplete {
                object: self.objects.full_name(&format!("{directory}/{object}")),
                problem,
                others: wrong - 1,
            }),
        }
    }

    /// Checks that the files of a backup's parts are there.
    async fn check_parts_present(&self, manifest: &Manifest) -> Result<()> {
        let (collection, id) = (&manifest.collection, &manifest.backup_id);
        let tables = manifest.part_store.iter().flat_map(|store| &store.tables);
        let mut needed = NeededFiles::default();
        for list in tables.flat_map(|table| &table.lists) {
            let records: Vec<PartRecord> = self.document_at(collection, id, &list.at).await?;
            for file in records.iter().flat_map(|record| &record.files) {
                needed.add(file)?;
            }
            if needed.len() >= MOST_LOOKED_FOR {
                self.check_needed(&std::mem::take(&mut needed)).await?;
            }
        }
        self.check_needed(&needed).await
    }
}

fn problem_of(bytes: u64, there: Option<u64>) -> Option<String> {
    match there {
        None => Some("does not exist".to_owned()),
        Some(there) if there == bytes => None,
        Some(there) => Some(format!("has {there} bytes instead of {bytes}")),
    }
}
