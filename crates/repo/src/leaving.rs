//! Backups that leave while others may come to stand on them.
//!
//! | who removes a parent | who seals an increment on it |
//! |---|---|
//! | names it in `leaving` of the lease | puts `parent.json`, its claim, into the directory of the increment |
//! | looks for manifests and claims that stand on it, and gives up where there are any | looks whether the parent is there and not leaving, and gives up where it is |
//! | makes sure of its lease | |
//! | puts [`DELETED`] in the place of the manifest | creates the manifest of the increment |
//!
//! Each writes before it looks, so that at least one sees the other: no increment is sealed on a backup that
//! goes. `leaving` is only cleared by its writer, or, after that one died, by a process that ended what it
//! had begun, or has seen an increment that was sealed before the other could have gone on.
//!
//! **In the place of a manifest** stands [`DELETED`] while the objects of a backup are removed: a backup that
//! is sealed in this moment, by a process that was stopped, finds it there. Of a backup that was never sealed, or was
//! withdrawn, it stays for the time of grace, and goes with the garbage: who was stopped so long looks for its objects once
//! more ([`Repository::put_manifest`]).

use std::ops::ControlFlow;

use std::collections::BTreeMap;

use bytes::Bytes;
use mendb_model::BackupId;
use mendb_model::manifest::{Manifest, UNFOLDED_FORMAT_VERSION};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::layout;
use crate::lease::{Lease, Leaving};
use crate::objects::Created;
use crate::replace::Seen;
use crate::repository::Repository;
use crate::seal::{self, Unreadable};
use crate::stored_manifest::StoredManifest;

/// The format of claims that this version writes and reads.
const FORMAT_VERSION: u32 = 1;

/// What stands in the place of the manifest of a backup that is being removed, or was withdrawn.
pub(crate) const DELETED: &[u8] = b"{ \"deleted\": true }\n";

/// What a backup that is being sealed stands on.
#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    format_version: u32,
    parent: BackupId,
}

/// What keeps a backup from being removed.
enum InTheWay {
    /// Increments that stand on it.
    Sealed(Vec<BackupId>),
    /// One that is about to.
    Claimed(BackupId),
}

impl Repository {
    /// Claims the parent of a backup that is about to be sealed.
    ///
    /// # Errors
    /// [`Error::Leaving`] when the parent is being removed; or the store fails.
    pub(crate) async fn claim_parent(&self, manifest: &Manifest) -> Result<()> {
        let Some(parent) = &manifest.parent else {
            return Ok(());
        };
        let (collection, id) = (&manifest.collection, &manifest.backup_id);
        let claim = Claim {
            format_version: FORMAT_VERSION,
            parent: parent.backup_id.clone(),
        };
        let name = layout::claim(collection, id)?;
        self.objects.put(&name, seal::seal(&claim).into()).await?;
        let leaving = self.leaving().await?;
        let leaves = |leaving: &Leaving| {
            leaving.collection == *collection && leaving.backup_id == parent.backup_id
        };
        match leaving.iter().any(leaves) {
            false => Ok(()),
            true => Err(Error::Leaving {
                child: self.objects.full_name(&layout::manifest(collection, id)?),
                parent: parent.backup_id.clone(),
            }),
        }
    }

    /// Takes back the claim of a backup that was sealed, or will not be. One that stays keeps the parent
    /// until what is left of the backup is removed.
    pub(crate) async fn drop_claim(&self, manifest: &Manifest) {
        if manifest.parent.is_none() {
            return;
        }
        let drop_claim = async {
            let name = layout::claim(&manifest.collection, &manifest.backup_id)?;
            self.objects.delete(&name).await
        };
        if let Err(error) = drop_claim.await {
            tracing::debug!(%error, backup = %manifest.backup_id, "the claim of a backup stays");
        }
    }

    /// Removes backups of a collection, each but no files of parts, in the order given: first those that
    /// stand on others. `removed` is told of each that has gone, and says whether to go on; what is left then
    /// stays.
    ///
    /// # Errors
    /// [`Error::StoodOn`] or [`Error::Claimed`] when another backup stands on one, or is about to: nothing
    /// is removed. [`Error::LeaseLost`]; or the store fails.
    pub async fn remove_backups(
        &self,
        lease: &Lease,
        collection: &str,
        ids: &[BackupId],
        removed: &mut (dyn FnMut(&BackupId) -> ControlFlow<()> + Send),
    ) -> Result<()> {
        let before = lease.leaving().await;
        let ours = ids.iter().map(|id| Leaving {
            collection: collection.to_owned(),
            backup_id: id.clone(),
        });
        lease
            .set_leaving(before.iter().cloned().chain(ours).collect())
            .await?;
        for id in ids {
            let Some(in_the_way) = self.in_the_way(collection, id, ids).await? else {
                continue;
            };
            lease.set_leaving(before).await?;
            let (repository, collection) = (self.url().to_owned(), collection.to_owned());
            let backup = id.clone();
            return Err(match in_the_way {
                InTheWay::Sealed(by) => Error::StoodOn {
                    repository,
                    collection,
                    backup,
                    by,
                },
                InTheWay::Claimed(by) => Error::Claimed {
                    repository,
                    collection,
                    backup,
                    by,
                },
            });
        }
        for id in ids {
            self.remove_backup(lease, collection, id).await?;
            if removed(id).is_break() {
                break;
            }
        }
        lease.set_leaving(before).await
    }

    /// Has backups stay that a process which died was about to remove, as far as they are whole. What has gone in part
    /// goes wholly.
    ///
    /// # Errors
    /// As [`Self::lease`].
    pub async fn keep_backups(&self, collection: &str, ids: &[BackupId]) -> Result<()> {
        // Nobody has begun to remove one of them.
        let is_ours = |leaving: &Leaving| {
            leaving.collection == collection && ids.contains(&leaving.backup_id)
        };
        if !self.leaving().await?.iter().any(is_ours) {
            return Ok(());
        }
        let lease = self.lease_unfinished("lets backups stay").await?;
        let kept = self.keep_under(&lease, is_ours).await;
        lease.release().await;
        kept
    }

    async fn keep_under(&self, lease: &Lease, is_ours: impl Fn(&Leaving) -> bool) -> Result<()> {
        let mut left = Vec::new();
        for leaving in lease.leaving().await {
            let Leaving {
                collection,
                backup_id,
            } = &leaving;
            let is_whole = is_ours(&leaving) && self.has_manifest(collection, backup_id).await?;
            if is_whole {
                self.renew_manifest(lease, collection, backup_id).await?;
            } else {
                left.push(leaving);
            }
        }
        lease.set_leaving(left).await?;
        self.finish_leaving(lease).await
    }

    /// Ends what a process that died has begun to remove.
    pub(crate) async fn finish_leaving(&self, lease: &Lease) -> Result<()> {
        let left = lease.leaving().await;
        if left.is_empty() {
            return Ok(());
        }
        let mut collections: BTreeMap<&str, Vec<BackupId>> = BTreeMap::new();
        for leaving in &left {
            let ids = collections.entry(&leaving.collection).or_default();
            ids.push(leaving.backup_id.clone());
        }
        let mut stay = Vec::new();
        for (collection, mut ids) in collections {
            // What stands on others is newer.
            ids.sort();
            ids.reverse();
            let mut claimed = false;
            let mut stood_on = false;
            for id in &ids {
                match self.in_the_way(collection, id, &ids).await? {
                    None => {}
                    Some(InTheWay::Claimed(_)) => claimed = true,
                    Some(InTheWay::Sealed(_)) => stood_on = true,
                }
            }
            if claimed {
                stay.extend(ids.into_iter().map(|backup_id| Leaving {
                    collection: collection.to_owned(),
                    backup_id,
                }));
            } else if !stood_on {
                for id in &ids {
                    tracing::warn!(backup = %id, collection, "ends a removal that was cut off");
                    self.remove_backup(lease, collection, id).await?;
                }
            }
        }
        lease.set_leaving(stay).await
    }

    /// What stands on a backup, or is about to, beside those that go with it.
    async fn in_the_way(
        &self,
        collection: &str,
        root: &BackupId,
        going: &[BackupId],
    ) -> Result<Option<InTheWay>> {
        let mut sealed = Vec::new();
        let mut claimed = None;
        for (id, read) in self.read_manifests(collection).await? {
            if id <= *root || going.contains(&id) {
                continue;
            }
            match read {
                Ok(stored) => {
                    let parent = stored.manifest.parent.as_ref();
                    if parent.is_some_and(|parent| parent.backup_id == *root) {
                        sealed.push(id);
                    }
                }
                Err(Error::NotFound { .. }) => {
                    // What was withdrawn is not sealed any more, whatever it claimed.
                    if self.mark_of_ended(collection, &id).await?.is_some() {
                        continue;
                    }
                    if self.claimed_by(collection, &id).await?.as_ref() == Some(root) {
                        claimed = Some(id);
                    } else if self.was_sealed_on(collection, &id, root).await? {
                        sealed.push(id);
                    }
                }
                // What it stands on is unknown: the user who removes backups has been asked.
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error),
            }
        }
        if !sealed.is_empty() {
            return Ok(Some(InTheWay::Sealed(sealed)));
        }
        Ok(claimed.map(InTheWay::Claimed))
    }

    /// Whether a backup that had no manifest has one by now that stands on another: between the two looks its
    /// claim was taken back, because it was sealed.
    async fn was_sealed_on(
        &self,
        collection: &str,
        id: &BackupId,
        root: &BackupId,
    ) -> Result<bool> {
        match self.manifest(collection, id).await {
            Ok(stored) => {
                let parent = stored.manifest.parent;
                Ok(parent.is_some_and(|parent| parent.backup_id == *root))
            }
            Err(error) if error.is_damage() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The backup that an unfinished one claims to stand on. A claim that cannot be read is of nobody who
    /// got further: it is written before anything is looked at.
    async fn claimed_by(&self, collection: &str, id: &BackupId) -> Result<Option<BackupId>> {
        let name = layout::claim(collection, id)?;
        let Some(seen) = self.objects.see(&name).await? else {
            return Ok(None);
        };
        match seal::open::<Claim>(&seen.bytes, FORMAT_VERSION) {
            Ok(claim) => Ok(Some(claim.parent)),
            Err(Unreadable::Damaged(_)) => Ok(None),
            Err(why) => Err(self.unreadable(&name, why, FORMAT_VERSION)),
        }
    }

    /// When [`DELETED`] was put in the place of the manifest of a backup, by the clock of the store; `None` where
    /// something else is there, or nothing.
    pub(crate) async fn mark_of_ended(
        &self,
        collection: &str,
        id: &BackupId,
    ) -> Result<Option<i64>> {
        let name = layout::manifest(collection, id)?;
        if self.objects.size(&name).await? != Some(DELETED.len() as u64) {
            return Ok(None);
        }
        let seen = self.objects.see(&name).await?;
        let mark = seen.filter(|seen| seen.bytes == DELETED);
        Ok(mark.map(|mark| mark.written_s))
    }

    /// What is in the place of a manifest.
    pub(crate) async fn see_manifest(
        &self,
        collection: &str,
        id: &BackupId,
    ) -> Result<Option<Seen>> {
        let name = layout::manifest(collection, id)?;
        self.objects.see(&name).await
    }

    /// Puts [`DELETED`] in the place of what was seen where a manifest is, so that nobody can seal the backup any more.
    /// `false` where something else is there by now.
    pub(crate) async fn end_seen(
        &self,
        collection: &str,
        id: &BackupId,
        seen: Option<&Seen>,
    ) -> Result<bool> {
        let name = layout::manifest(collection, id)?;
        let deleted = Bytes::from_static(DELETED);
        Ok(match seen {
            None => self.objects.create(&name, deleted).await? == Created::Yes,
            Some(seen) if seen.bytes == DELETED => true,
            Some(seen) => self.objects.replace(&name, seen, deleted).await?.is_some(),
        })
    }

    /// Puts [`DELETED`] where no manifest is, so that nobody can seal the backup any more.
    ///
    /// # Errors
    /// [`Error::Complete`] when there is one; or the store fails.
    pub(crate) async fn end_absent_manifest(&self, collection: &str, id: &BackupId) -> Result<()> {
        loop {
            let seen = self.see_manifest(collection, id).await?;
            if seen.as_ref().is_some_and(|seen| seen.bytes != DELETED) {
                let name = layout::manifest(collection, id)?;
                return Err(Error::Complete {
                    object: self.objects.full_name(&name),
                });
            }
            if self.end_seen(collection, id, seen.as_ref()).await? {
                return Ok(());
            }
        }
    }

    /// Puts [`DELETED`] in the place of the manifest of an operation, or where one would be. That of another stays, and so
    /// does one too damaged to tell whose it is.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) async fn end_manifest_of(
        &self,
        collection: &str,
        id: &BackupId,
        operation_id: &str,
    ) -> Result<()> {
        loop {
            let seen = self.see_manifest(collection, id).await?;
            if let Some(seen) = &seen {
                let is_ours = seal::open::<Manifest>(&seen.bytes, UNFOLDED_FORMAT_VERSION)
                    .is_ok_and(|manifest| manifest.operation_id == operation_id);
                if !is_ours {
                    return Ok(());
                }
            }
            if self.end_seen(collection, id, seen.as_ref()).await? {
                return Ok(());
            }
        }
    }

    /// Makes sure that no process which was taken for dead while it had the lease puts a folded manifest in the place of
    /// that of a backup any more, or a mark: its last request may come when it wakes. The manifest gets another text that
    /// says the same, and stands for the one before.
    ///
    /// # Errors
    /// As [`Self::lease`].
    pub async fn keep_late_writers_out(&self, collection: &str, id: &BackupId) -> Result<()> {
        let lease = match self.lease("gives up what it had begun").await {
            Ok(lease) => lease,
            // Nobody replaces anything there.
            Err(Error::NoConditions { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let kept = self.renew_manifest(&lease, collection, id).await;
        lease.release().await;
        kept
    }

    /// As [`Self::keep_late_writers_out`], under a lease that is held.
    async fn renew_manifest(&self, lease: &Lease, collection: &str, id: &BackupId) -> Result<()> {
        if !lease.has_silent_before().await {
            return Ok(());
        }
        let name = layout::manifest(collection, id)?;
        while let Some(seen) = self.objects.see(&name).await? {
            // One that is damaged is what nobody replaces who has read it.
            let Ok(mut manifest) = seal::open::<Manifest>(&seen.bytes, UNFOLDED_FORMAT_VERSION)
            else {
                return Ok(());
            };
            let before = StoredManifest::hash(&seen.bytes);
            let compacted = manifest.compacted.get_or_insert_default();
            compacted.stands_for.push(before);
            let bytes = seal::seal(&manifest).into();
            if self.objects.replace(&name, &seen, bytes).await?.is_some() {
                return Ok(());
            }
        }
        Ok(())
    }
}
