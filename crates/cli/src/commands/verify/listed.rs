//! Backups as they were listed, and what became of them since: others remove and fold backups while they are read.

use mendb_model::{BackupId, describe_error};
use mendb_repo::{Error, Repository, StoredManifest};
use tokio::runtime::Handle;

use crate::failure::Failure;

/// A backup with its manifest or what is wrong with that.
pub type Listed = (BackupId, mendb_repo::Result<StoredManifest>);

/// A backup with its manifest, or why there is none.
pub type Readable = (BackupId, Result<StoredManifest, Unread>);

/// Why a backup has no manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unread {
    /// It is damaged.
    Damaged(String),
    /// It was missing when the backup was listed.
    Missing(String),
    /// Somebody has removed the backup since it was listed.
    Removed,
}

/// Makes damage something to tell of; that a manifest cannot be fetched stays an error.
pub fn damage_apart((id, stored): Listed) -> Result<Readable, Failure> {
    match stored {
        Ok(stored) => Ok((id, Ok(stored))),
        Err(error @ Error::NotFound { .. }) => {
            Ok((id, Err(Unread::Missing(describe_error(&error)))))
        }
        Err(error) if error.is_damage() => Ok((id, Err(Unread::Damaged(describe_error(&error))))),
        Err(error) => Err(error.into()),
    }
}

/// The chain that a backup ends, as far as it can be followed, oldest first.
pub fn chain(
    repository: &Repository,
    runtime: &Handle,
    collection: &str,
    id: BackupId,
) -> Vec<Listed> {
    let mut chain = Vec::new();
    let mut next = Some(id);
    while let Some(id) = next {
        let stored = runtime.block_on(repository.manifest(collection, &id));
        let parent = stored
            .as_ref()
            .ok()
            .and_then(|stored| stored.manifest.parent.as_ref());
        // Ids ascend along a chain, so that following one ends.
        next = parent
            .map(|parent| parent.backup_id.clone())
            .filter(|parent| *parent < id);
        chain.push((id, stored));
    }
    chain.reverse();
    chain
}

/// The places of the chain that a backup ends, as far as it is among these, oldest first.
pub fn chain_of(last: usize, among: &[Readable]) -> Vec<usize> {
    let stored_at = |at: usize| among[at].1.as_ref().ok();
    let mut chain = vec![last];
    let mut next = stored_at(last);
    while let Some(stored) = next
        && let Some(parent) = &stored.manifest.parent
        // Ids ascend along a chain, so that following one ends.
        && parent.backup_id < stored.manifest.backup_id
        && let Some(at) = (0..among.len())
            .find(|at| stored_at(*at).is_some_and(|stored| stored.is_parent(parent)))
    {
        chain.push(at);
        next = stored_at(at);
    }
    chain.reverse();
    chain
}

/// Looks whether backups are what they were when they were listed, and takes over what is otherwise. Returns whether
/// something is.
///
/// # Errors
/// The repository does not say.
pub fn look_again(
    repository: &Repository,
    runtime: &Handle,
    collection: &str,
    backups: &mut [Readable],
    places: &[usize],
) -> Result<bool, Failure> {
    let mut is_otherwise = false;
    for at in places {
        let (id, before) = &mut backups[*at];
        if matches!(before, Err(Unread::Missing(_) | Unread::Removed)) {
            continue;
        }
        let now = match runtime.block_on(repository.manifest(collection, id)) {
            Ok(stored) => Ok(stored),
            Err(Error::NotFound { .. }) => Err(Unread::Removed),
            Err(error) if error.is_damage() => Err(Unread::Damaged(describe_error(&error))),
            Err(error) => return Err(error.into()),
        };
        let is_same = match (&*before, &now) {
            (Ok(before), Ok(now)) => before.blake3 == now.blake3,
            (Err(before), Err(now)) => before == now,
            _ => false,
        };
        if !is_same {
            *before = now;
            is_otherwise = true;
        }
    }
    Ok(is_otherwise)
}
