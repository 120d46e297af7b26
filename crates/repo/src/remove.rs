//! Removes backups and their leftovers.
//!
//! A backup ends with its manifest, which goes first and for good before anything else does: there is
//! never a manifest whose objects were removed. All of this can be repeated after a crash. A process that removes
//! backups holds the [lease](crate::Lease) of the repository; one that takes back its own objects needs none.

use std::collections::HashSet;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use mendb_model::BackupId;
use mendb_model::manifest::{Manifest, ShardBackup};

use crate::directory;
use crate::error::{Error, Result};
use crate::layout;
use crate::lease::Lease;
use crate::objects::StoreKind;
use crate::repository::Repository;

impl Repository {
    /// Removes a backup: see [`Self::delete_backups`].
    ///
    /// # Errors
    /// As [`Self::delete_backups`].
    pub async fn delete_backup(&self, collection: &str, id: &BackupId) -> Result<()> {
        self.delete_backups(collection, std::slice::from_ref(id))
            .await
    }

    /// Removes backups, those first that stand on others, without reading their manifests, which may be
    /// damaged. Each no longer exists from its first moment on; when this is cut off, calling it again, or
    /// [`Self::discard`], removes the rest. A backup that is not there is removed.
    ///
    /// Increments whose manifests are damaged may become unusable: it is for the caller to look for them
    /// before. Files of parts go last, with all others that no backup needs ([`Self::collect_garbage`]).
    ///
    /// # Errors
    /// [`Error::StoodOn`] and [`Error::Claimed`] when another backup stands on one of them, or is about to:
    /// nothing is removed. As [`Self::lease`]; [`Error::FilesStay`] when the backups are gone but another
    /// cannot be read, so that it cannot be told which files are needed; or the store fails.
    pub async fn delete_backups(&self, collection: &str, ids: &[BackupId]) -> Result<()> {
        let lease = self.lease("deletes backups").await?;
        let deleted = self.delete_under(&lease, collection, ids).await;
        lease.release().await;
        deleted
    }

    async fn delete_under(&self, lease: &Lease, collection: &str, ids: &[BackupId]) -> Result<()> {
        let mut go_on = |_: &BackupId| ControlFlow::Continue(());
        self.remove_backups(lease, collection, ids, &mut go_on)
            .await?;
        let collected = self.collect_garbage_under(lease, &mut |_| {}).await;
        match (collected, ids.last()) {
            (Err(error), Some(id)) => Err(Error::FilesStay {
                backup: id.clone(),
                source: Box::new(error),
            }),
            (Ok(collected), _) => {
                tracing::debug!(?collected, "removed files that no backup needs");
                Ok(())
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Removes a backup, but no files of parts. Its manifest is read before it is made sure that the lease is held: so
    /// who was stopped after that replaces none that another process has written since.
    pub(crate) async fn remove_backup(
        &self,
        lease: &Lease,
        collection: &str,
        id: &BackupId,
    ) -> Result<()> {
        self.remember_id(collection, id).await?;
        loop {
            let seen = self.see_manifest(collection, id).await?;
            lease.renew().await?;
            if self.end_seen(collection, id, seen.as_ref()).await? {
                break;
            }
        }
        self.remove_ended(collection, id).await
    }

    /// Removes what there is of a backup that has no manifest any more, and releases what keeps others from
    /// giving it one.
    pub(crate) async fn remove_ended(&self, collection: &str, id: &BackupId) -> Result<()> {
        let directory = layout::backup(collection, id)?;
        self.remove_below(&directory, |_| true).await?;
        let manifest = layout::manifest(collection, id)?;
        self.objects.delete_document(&manifest).await?;
        self.tidy(collection, &directory, |_| true).await
    }

    /// Removes every object of a finished backup that its manifest does not name, no matter which process wrote it.
    pub(crate) async fn remove_unnamed(&self, manifest: &Manifest) -> Result<()> {
        let directory = layout::backup(&manifest.collection, &manifest.backup_id)?;
        let named = self.named_objects(manifest).await?;
        let unnamed = |object: &String| !named.contains(object);
        self.remove_below(&directory, unnamed).await?;
        Ok(())
    }

    /// Removes what one writer left of a finished backup that the manifest does not name: attempts
    /// that were repeated leave it. Returns how many objects. The manifest in the repository decides,
    /// not the one given, which only says where to look. What others write stays.
    ///
    /// # Errors
    /// There is no manifest, or the store fails.
    pub async fn sweep(&self, manifest: &Manifest, writer: &str) -> Result<u64> {
        let (collection, id) = (&manifest.collection, &manifest.backup_id);
        let stored = self.manifest(collection, id).await?.manifest;
        let named = self.named_objects(&stored).await?;
        let directory = layout::backup(collection, id)?;
        self.remove_below(&directory, |object| {
            // Of what has a manifest no claim is needed any more.
            object == layout::CLAIM
                || layout::is_written_by(object, writer) && !named.contains(object)
        })
        .await
    }

    /// The objects beside a manifest that it or its lists name.
    async fn named_objects(&self, manifest: &Manifest) -> Result<HashSet<String>> {
        let documents = manifest.documents();
        let mut named: HashSet<_> = documents.map(|document| document.object.clone()).collect();
        let segments = |shard: &ShardBackup| {
            let segments = shard.segments.iter();
            named.extend(segments.map(|segment| segment.object.clone()));
        };
        self.for_all_shards(manifest, segments).await?;
        Ok(named)
    }

    /// Takes back what an operation wrote: the manifest, if it is this operation's, and then every
    /// object of its writer. Files of parts stay for [`Self::collect_garbage`]. A backup that another operation made in the same place stays whole, and
    /// so does what another is still writing. What was withdrawn is withdrawn: a mark stays in the place of the manifest,
    /// as that of [`Self::discard`], so that a process which was stopped before it put it cannot put it any more.
    ///
    /// A manifest too damaged to tell whose it is stays, for [`Self::delete_backup`] to remove.
    ///
    /// # Errors
    /// The store fails.
    pub async fn withdraw(
        &self,
        collection: &str,
        id: &BackupId,
        operation_id: &str,
        writer: &str,
    ) -> Result<()> {
        self.remember_id(collection, id).await?;
        self.end_manifest_of(collection, id, operation_id).await?;
        self.withdraw_objects(collection, id, writer).await
    }

    /// Takes back the objects that a writer wrote for a backup which another seals, or does not.
    ///
    /// # Errors
    /// The store fails.
    pub async fn withdraw_objects(
        &self,
        collection: &str,
        id: &BackupId,
        writer: &str,
    ) -> Result<()> {
        let directory = layout::backup(collection, id)?;
        self.remove_below(&directory, |object| {
            object == layout::CLAIM || layout::is_written_by(object, writer)
        })
        .await?;
        let writer = writer.to_owned();
        // Whose half-written manifest it is cannot be told. A write that loses one is repeated.
        self.tidy(collection, &directory, move |object| {
            object == layout::MANIFEST || layout::is_written_by(object, &writer)
        })
        .await
    }

    /// Removes the leftovers of a backup that never got a manifest. Who is writing it all the same is
    /// refused when it ends, for as long as content waits before it is removed as garbage: a mark stays for
    /// that, and goes with [`Self::collect_garbage`], as files of parts do.
    ///
    /// # Errors
    /// [`Error::Complete`] when there is a manifest, even a damaged one; [`Error::StoodOn`] when another backup
    /// stands on it, so that its manifest was lost; as [`Self::lease`]; or the store fails.
    pub async fn discard(&self, collection: &str, id: &BackupId) -> Result<()> {
        let lease = self.lease("removes what is left of a backup").await?;
        let discarded = self.discard_under(&lease, collection, id).await;
        lease.release().await;
        discarded
    }

    /// As [`Self::discard`], under a lease that is held.
    ///
    /// # Errors
    /// As [`Self::discard`].
    pub async fn discard_under(
        &self,
        lease: &Lease,
        collection: &str,
        id: &BackupId,
    ) -> Result<()> {
        if self.has_manifest(collection, id).await? {
            return Err(Error::Complete {
                object: self.objects.full_name(&layout::manifest(collection, id)?),
            });
        }
        self.check_nothing_stands_on(collection, id).await?;
        self.remember_id(collection, id).await?;
        lease.renew().await?;
        self.end_absent_manifest(collection, id).await?;
        let directory = layout::backup(collection, id)?;
        self.remove_below(&directory, |_| true).await?;
        self.tidy(collection, &directory, |_| true).await
    }

    /// Removes the objects below a directory that `unwanted` accepts by their name relative to it.
    /// The manifest is never among them.
    async fn remove_below(
        &self,
        directory: &str,
        unwanted: impl Fn(&String) -> bool,
    ) -> Result<u64> {
        let there = self.objects.list(directory).await?;
        let unwanted: Vec<_> = there
            .into_iter()
            .map(|listed| listed.name)
            .filter(|object| object != layout::MANIFEST && unwanted(object))
            .map(|object| format!("{directory}/{object}"))
            .collect();
        let count = unwanted.len() as u64;
        self.objects.delete_all(unwanted).await?;
        Ok(count)
    }

    /// Removes what only a local directory has: unfinished writes that `unwanted` accepts by the last
    /// part of their object's name, and empty directories.
    async fn tidy(
        &self,
        collection: &str,
        directory: &str,
        unwanted: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<()> {
        self.in_directory("tidy", directory, move |path| {
            directory::tidy(path, &unwanted)
        })
        .await?;
        let collection = layout::collection(collection)?;
        self.in_directory("tidy", &collection, directory::remove_if_empty)
            .await
    }

    /// Runs `work` on a directory of a local repository; does nothing for another.
    pub(crate) async fn in_directory(
        &self,
        action: &'static str,
        name: &str,
        work: impl FnOnce(&Path) -> io::Result<()> + Send + 'static,
    ) -> Result<()> {
        let StoreKind::Directory(root) = &self.objects.place else {
            return Ok(());
        };
        let path: PathBuf = root.join(name);
        let object = self.objects.full_name(name);
        let work = move || {
            work(&path).map_err(|error| Error::Store {
                object,
                action,
                retriable: false,
                source: error.into(),
            })
        };
        self.objects.blocking(work).await
    }
}
