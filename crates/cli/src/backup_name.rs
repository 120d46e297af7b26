//! The ways a user can name a backup: by id, by label, or `collection/id` where that is needed.

use mendb_repo::{Error, Repository, StoredManifest};
use tokio::runtime::Handle;

use crate::failure::Failure;

/// Finds the backup of a name.
///
/// # Errors
/// There is none, or there are several.
pub fn find(
    repository: &Repository,
    runtime: &Handle,
    name: &str,
) -> Result<StoredManifest, Failure> {
    if let Some((collection, backup)) = name.split_once('/') {
        return Ok(runtime.block_on(repository.find(collection, backup))?);
    }
    let mut found = Vec::new();
    for collection in runtime.block_on(repository.collections())? {
        match runtime.block_on(repository.find(&collection, name)) {
            Ok(stored) => found.push(stored),
            Err(Error::NoSuchBackup { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(one), false) => Err(Failure::input(format!(
            "{name} names backups of several collections"
        ))
        .hint(format!("say which: {}/{name}", one.manifest.collection))),
        (None, _) => Err(Failure::input(format!(
            "there is no backup {name} in {}",
            repository.url()
        ))
        .hint("mendb list shows the backups there are")),
    }
}
