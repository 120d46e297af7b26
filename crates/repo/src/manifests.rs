//! Finding backups and following their chains.

use futures::StreamExt;
use mendb_model::BackupId;
use mendb_model::manifest::{Manifest, UNFOLDED_FORMAT_VERSION};
use mendb_model::name::BackupKind;

use crate::error::{Error, Result};
use crate::layout;
use crate::leaving::DELETED;
use crate::objects::REQUESTS_AT_ONCE;
use crate::repository::Repository;
use crate::shards::are_in_order;
use crate::stored_manifest::StoredManifest;

impl Repository {
    /// The backups of a collection, ascending by id, each with its manifest or what is wrong with it.
    /// What has no manifest is no backup.
    ///
    /// # Errors
    /// The collection cannot be listed.
    pub async fn list(&self, collection: &str) -> Result<Vec<(BackupId, Result<StoredManifest>)>> {
        let mut listed = self.read_manifests(collection).await?;
        listed.retain(|(_, manifest)| !matches!(manifest, Err(Error::NotFound { .. })));
        Ok(listed)
    }

    /// Backups of a collection that have objects but no manifest, ascending by id: someone is
    /// writing them, or they are leftovers for [`Self::discard`].
    ///
    /// # Errors
    /// The collection cannot be listed.
    pub async fn unfinished(&self, collection: &str) -> Result<Vec<BackupId>> {
        let mut listed = self.read_manifests(collection).await?;
        listed.retain(|(_, manifest)| matches!(manifest, Err(Error::NotFound { .. })));
        let mut unfinished = Vec::new();
        for (id, _) in listed {
            let there = self.objects.list(&layout::backup(collection, &id)?).await?;
            if there.iter().any(|listed| listed.name != layout::MANIFEST) {
                unfinished.push(id);
            }
        }
        Ok(unfinished)
    }

    /// The directories of a collection that are named like backups, ascending.
    pub(crate) async fn ids(&self, collection: &str) -> Result<Vec<BackupId>> {
        let directory = layout::collection(collection)?;
        let names = self.objects.directories(&directory).await?;
        let ids = names.iter().filter_map(|name| name.parse().ok());
        let mut ids: Vec<BackupId> = ids.collect();
        ids.sort();
        Ok(ids)
    }

    pub(crate) async fn read_manifests(
        &self,
        collection: &str,
    ) -> Result<Vec<(BackupId, Result<StoredManifest>)>> {
        let ids = self.ids(collection).await?;
        let reads = ids.into_iter().map(|id| {
            let repository = self.clone();
            let collection = collection.to_owned();
            async move {
                let manifest = repository.manifest(&collection, &id).await;
                (id, manifest)
            }
        });
        let reads = futures::stream::iter(reads).buffered(REQUESTS_AT_ONCE);
        Ok(reads.collect().await)
    }

    /// The manifest of a backup.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such backup; or it cannot be read, is damaged or of
    /// another format version.
    pub async fn manifest(&self, collection: &str, id: &BackupId) -> Result<StoredManifest> {
        let name = layout::manifest(collection, id)?;
        let known = |bytes: &[u8]| match bytes == DELETED {
            true => Some(None),
            false => self.remembered.get(&name, bytes).map(Some),
        };
        let read = self.document(
            (&name, UNFOLDED_FORMAT_VERSION),
            known,
            |bytes, manifest: Manifest| {
                if manifest.collection != collection || manifest.backup_id != *id {
                    return Err(format!(
                        "it is the manifest of backup {} of collection {}",
                        manifest.backup_id, manifest.collection
                    ));
                }
                let mut tables = manifest.stored_tables();
                if let Some((path, _)) = tables.find(|(_, data)| !are_in_order(data)) {
                    return Err(format!("the shards of {path} in it are no chain"));
                }
                drop(tables);
                Ok(Some(StoredManifest::new(manifest, bytes)))
            },
        );
        let Some(stored) = read.await? else {
            return Err(Error::NotFound {
                object: self.objects.full_name(&name),
            });
        };
        self.remembered.keep(&name, &stored);
        Ok(stored)
    }

    /// The newest backup of a collection, whether or not its manifest can be read.
    ///
    /// # Errors
    /// The collection cannot be listed, or the store does not say whether a manifest is there.
    pub async fn newest_id(&self, collection: &str) -> Result<Option<BackupId>> {
        for id in self.ids(collection).await?.into_iter().rev() {
            if self.has_manifest(collection, &id).await? {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// The id of the backup with this id or label. Nothing is read of one that is named by its id; a
    /// label is looked for in the manifests that can be read.
    ///
    /// # Errors
    /// [`Error::NoSuchBackup`], which lists those that are there; [`Error::AmbiguousLabel`]; or the
    /// store fails.
    pub async fn find_id(&self, collection: &str, label_or_id: &str) -> Result<BackupId> {
        if let Ok(id) = label_or_id.parse::<BackupId>()
            && self.has_manifest(collection, &id).await?
        {
            return Ok(id);
        }
        self.labelled(collection, label_or_id).await
    }

    /// The one backup with a label among those that can be read.
    async fn labelled(&self, collection: &str, label: &str) -> Result<BackupId> {
        let mut found = Vec::new();
        let mut there = Vec::new();
        let mut unknown = None;
        for (id, read) in self.list(collection).await? {
            match read {
                Ok(stored) if stored.manifest.label.as_deref() == Some(label) => found.push(id),
                Ok(stored) => there.push(title(&stored.manifest)),
                Err(error) if error.is_damage() => there.push(format!("{id} (unreadable)")),
                Err(error) => unknown = Some(error),
            }
        }
        match (found.pop(), found.is_empty(), unknown) {
            (Some(only), true, _) => Ok(only),
            (Some(last), false, _) => Err(Error::AmbiguousLabel {
                collection: collection.to_owned(),
                label: label.to_owned(),
                ids: found.into_iter().chain([last]).collect(),
            }),
            // It may have been the one that the store did not give.
            (None, _, Some(error)) => Err(error),
            (None, _, None) => Err(Error::NoSuchBackup {
                repository: self.url().to_owned(),
                collection: collection.to_owned(),
                wanted: label.to_owned(),
                there,
            }),
        }
    }

    /// Whether a backup exists, readable or not.
    pub async fn has_manifest(&self, collection: &str, id: &BackupId) -> Result<bool> {
        let name = layout::manifest(collection, id)?;
        let size = self.objects.size(&name).await?;
        if size != Some(DELETED.len() as u64) {
            return Ok(size.is_some());
        }
        let there = self.objects.see(&name).await?;
        Ok(there.is_some_and(|there| there.bytes != DELETED))
    }

    /// The chain that a backup ends: a full backup, then each increment up to it. Each parent is the
    /// very manifest that its child was written on, or one that [took its place](Self::compact).
    ///
    /// # Errors
    /// [`Error::BrokenChain`] names child and parent when the parent is missing or another one; or as
    /// [`Self::manifest`].
    pub async fn chain(&self, collection: &str, id: &BackupId) -> Result<Vec<StoredManifest>> {
        let mut chain = vec![self.manifest(collection, id).await?];
        while let Some(parent) = self.parent(&chain[chain.len() - 1].manifest).await? {
            chain.push(parent);
        }
        chain.reverse();
        Ok(chain)
    }

    /// The backup that a manifest stands on, as it was when that was written; `None` for a full one.
    pub(crate) async fn parent(&self, child: &Manifest) -> Result<Option<StoredManifest>> {
        let full_name = |id| -> Result<String> {
            Ok(self
                .objects
                .full_name(&layout::manifest(&child.collection, id)?))
        };
        let child_name = full_name(&child.backup_id)?;
        let Some(parent) = &child.parent else {
            return match child.kind() {
                BackupKind::Full => Ok(None),
                BackupKind::Incremental => Err(Error::Damaged {
                    object: child_name,
                    detail: "it is an increment without a parent".to_owned(),
                }),
            };
        };
        let broken = |detail: String| -> Result<Error> {
            Ok(Error::BrokenChain {
                child: child_name.clone(),
                parent: full_name(&parent.backup_id)?,
                detail,
            })
        };
        // Ids ascend along a chain, so that following one ends.
        if parent.backup_id >= child.backup_id {
            return Err(broken("is not older".to_owned())?);
        }
        match self.manifest(&child.collection, &parent.backup_id).await {
            Ok(stored) if stored.is_parent(parent) => Ok(Some(stored)),
            Ok(stored) => Err(broken(format!(
                "has the hash {} instead of {}",
                stored.blake3, parent.manifest_blake3
            ))?),
            Err(Error::NotFound { .. }) => Err(broken("does not exist".to_owned())?),
            Err(error) => Err(error),
        }
    }
}

/// A backup as a list of what there is shows it.
fn title(manifest: &Manifest) -> String {
    match &manifest.label {
        Some(label) => format!("{} ({label})", manifest.backup_id),
        None => manifest.backup_id.to_string(),
    }
}
