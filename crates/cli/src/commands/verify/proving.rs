//! The proof of one backup after another, beside others who remove and fold backups.
//!
//! A backup is damaged when what it lacks or holds wrongly was so while it was there: its manifest and those of its
//! chain are looked at again after damage was found. A backup that is gone by then was removed, which is no damage; one
//! that was folded meanwhile is read again as it is now.

use mendb_model::BackupId;
use mendb_model::name::BackupKind;
use mendb_repo::{Repository, StoredManifest};
use mendb_service::Service;
use mendb_service::proof::BackupProof;
use tokio::runtime::Handle;

use super::listed::{Readable, Unread, chain_of, look_again};
use super::parts::Prover;
use crate::context::Context;
use crate::failure::{Failure, FailureKind};
use crate::progress::Progress;

/// A backup is read again so often when it became another one meanwhile. Each time somebody has ended a fold of its
/// chain.
const MOST_READINGS: u32 = 5;

/// Proves the backups of a collection.
pub struct Proving<'a> {
    pub context: &'a Context,
    pub repository: &'a Repository,
    pub runtime: &'a Handle,
    pub collection: &'a str,
    /// For backups of rows.
    pub service: Option<&'a Service>,
    /// For backups of parts.
    pub prover: Prover<'a>,
    pub progress: &'a Progress,
    /// Whether chains whose changes do not say what they replaced are folded.
    pub folds: bool,
    /// Bytes that were read.
    pub done: u64,
}

impl Proving<'_> {
    /// Proves one of some backups; `whole` are the places of those that were found whole. Returns `None` of one that was
    /// removed since it was listed.
    ///
    /// # Errors
    /// The repository does not answer, the client has gone, or the backup became another one too often.
    pub fn prove(
        &mut self,
        backups: &mut [Readable],
        at: usize,
        whole: &[usize],
    ) -> Result<Option<BackupProof>, Failure> {
        for _ in 0..MOST_READINGS {
            let proved = self.prove_as_listed(backups, at, whole);
            self.context.check_heard()?;
            if proved.as_ref().is_ok_and(|proof| proof.damage.is_empty()) {
                return proved.map(Some);
            }
            let chain = chain_of(at, backups);
            if !look_again(
                self.repository,
                self.runtime,
                self.collection,
                backups,
                &chain,
            )? {
                return proved.map(Some);
            }
            if matches!(backups[at].1, Err(Unread::Removed)) {
                return Ok(None);
            }
        }
        Err(Failure::new(
            FailureKind::Retry,
            format!(
                "backup {} became another one each time it was read",
                backups[at].0
            ),
        )
        .hint("try again when nobody compacts its collection"))
    }

    fn prove_as_listed(
        &mut self,
        backups: &[Readable],
        at: usize,
        whole: &[usize],
    ) -> Result<BackupProof, Failure> {
        let (id, stored) = &backups[at];
        let stored = match stored {
            Ok(stored) => stored,
            Err(Unread::Damaged(why) | Unread::Missing(why)) => {
                return Ok(unreadable(id.clone(), why.clone()));
            }
            Err(Unread::Removed) => {
                return Ok(unreadable(id.clone(), "it was removed".to_owned()));
            }
        };
        let shown = id.to_string();
        let (context, progress, done) = (self.context, self.progress, &mut self.done);
        let mut tell = |bytes| {
            *done += bytes;
            progress.update(*done, &shown);
            context.while_heard()
        };
        let ended = || Failure::new(FailureKind::BrokenPipe, "the proof was ended");
        let mut proof = match (&stored.manifest.part_store, self.service) {
            (Some(store), _) => self.prover.prove(&stored.manifest, store, &mut tell)?,
            (None, Some(service)) => {
                let chain = chain_of(at, backups).into_iter();
                let chain: Vec<&StoredManifest> =
                    chain.filter_map(|at| backups[at].1.as_ref().ok()).collect();
                let parent = chain.iter().rev().nth(1).copied();
                let proof = service.prove_backup(stored, parent, &mut tell)?;
                let mut proof = proof.ok_or_else(ended)?;
                let is_whole = chain.first().is_some_and(|first| is_full(first));
                if self.folds
                    && proof.unproved.is_some()
                    && is_whole
                    && service
                        .prove_by_folding(&mut proof, &chain, &mut tell)?
                        .is_break()
                {
                    return Err(ended());
                }
                proof
            }
            (None, None) => {
                return Err(Failure::new(
                    FailureKind::Retry,
                    format!("backup {id} became one of rows while it was read"),
                ));
            }
        };
        let whole = whole.iter().filter_map(|at| backups[*at].1.as_ref().ok());
        proof.damage.extend(broken_parent(stored, whole));
        Ok(proof)
    }
}

fn is_full(stored: &StoredManifest) -> bool {
    stored.manifest.kind() == BackupKind::Full
}

/// What there is to say of a backup whose manifest is damaged.
fn unreadable(backup_id: BackupId, damage: String) -> BackupProof {
    BackupProof {
        damage: vec![damage],
        ..BackupProof::new(backup_id)
    }
}

/// Why a backup that was read well cannot be restored all the same: the one it stands on is not whole.
fn broken_parent<'a>(
    child: &StoredManifest,
    mut whole: impl Iterator<Item = &'a StoredManifest>,
) -> Option<String> {
    let parent = child.manifest.parent.as_ref()?;
    if whole.any(|stored| stored.is_parent(parent)) {
        return None;
    }
    Some(format!(
        "it stands on {}, which is damaged, missing or another one",
        parent.backup_id
    ))
}
