//! The ways a user can name a backup: by id, by label, or `collection/id` where that is needed.
//!
//! Backups whose manifests are damaged do not keep others from being found, and are found by their ids.

use mendb_model::BackupId;
use mendb_repo::{Error, Repository, StoredManifest};
use tokio::runtime::Handle;

use crate::failure::Failure;

/// Finds the backup of a name and reads its manifest.
///
/// # Errors
/// There is none, there are several, or its manifest cannot be read.
pub fn find(
    repository: &Repository,
    runtime: &Handle,
    name: &str,
) -> Result<StoredManifest, Failure> {
    let (collection, id) =
        search(repository, runtime, name)?.ok_or_else(|| unknown(repository, name))?;
    Ok(runtime.block_on(repository.manifest(&collection, &id))?)
}

/// The collection and the id of the backup of a name, if there is one.
///
/// # Errors
/// There are several, or the repository cannot be read.
pub fn search(
    repository: &Repository,
    runtime: &Handle,
    name: &str,
) -> Result<Option<(String, BackupId)>, Failure> {
    if let Some((collection, backup)) = name.split_once('/') {
        let id = runtime.block_on(repository.find_id(collection, backup));
        return match id {
            Ok(id) => Ok(Some((collection.to_owned(), id))),
            Err(Error::NoSuchBackup { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        };
    }
    let mut found = Vec::new();
    for collection in runtime.block_on(repository.collections())? {
        match runtime.block_on(repository.find_id(&collection, name)) {
            Ok(id) => found.push((collection, id)),
            Err(Error::NoSuchBackup { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    one_of(found, name)
}

/// The collection and the id of the unfinished backup of a name: one that has objects but no manifest.
///
/// # Errors
/// There are several, or the repository cannot be read.
pub fn search_unfinished(
    repository: &Repository,
    runtime: &Handle,
    name: &str,
) -> Result<Option<(String, BackupId)>, Failure> {
    let (collections, id) = match name.split_once('/') {
        Some((collection, id)) => (vec![collection.to_owned()], id),
        None => (runtime.block_on(repository.collections())?, name),
    };
    let Ok(id) = id.parse::<BackupId>() else {
        return Ok(None);
    };
    let mut found = Vec::new();
    for collection in collections {
        let unfinished = runtime.block_on(repository.unfinished(&collection))?;
        if unfinished.contains(&id) {
            found.push((collection, id.clone()));
        }
    }
    one_of(found, name)
}

/// That there is no backup of a name.
pub fn unknown(repository: &Repository, name: &str) -> Failure {
    Failure::input(format!("there is no backup {name} in {}", repository.url()))
        .hint("mendb list shows the backups there are")
        .absent()
}

/// What someone may have meant who named a backup that is not among those of a collection, each with its
/// label.
pub fn meant(collection: &str, wanted: &str, there: &[String]) -> String {
    let wanted = wanted.to_lowercase();
    let is_like = |title: &&String| {
        let title = title.to_lowercase();
        let (id, label) = title.split_once(' ').unwrap_or((&title, ""));
        let label = label.trim_start_matches('(').trim_end_matches(')');
        let is_like =
            |name: &str| !name.is_empty() && (name.contains(&wanted) || wanted.contains(name));
        is_like(id) || is_like(label)
    };
    let like: Vec<&str> = there.iter().filter(is_like).map(String::as_str).collect();
    let list = match there {
        [] => {
            "mendb list shows the backups of all collections; --repository names another repository"
                .to_owned()
        }
        _ => format!("mendb list {collection} shows its backups; name one by its id or its label"),
    };
    match like.as_slice() {
        [] => list,
        like => format!("did you mean {}? {list}", like.join(" or ")),
    }
}

fn one_of(
    mut found: Vec<(String, BackupId)>,
    name: &str,
) -> Result<Option<(String, BackupId)>, Failure> {
    match found.as_slice() {
        [] | [_] => Ok(found.pop()),
        [(collection, id), ..] => Err(Failure::input(format!(
            "{name} names backups of several collections"
        ))
        .hint(format!("say which: {collection}/{id}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_mistyped_name_may_have_meant_is_told() {
        let there = [
            "20261121085356Z_full (monday)".to_owned(),
            "20261122085356Z_incremental".to_owned(),
        ];
        let hint = meant("shop", "Monday", &there);
        assert!(
            hint.starts_with("did you mean 20261121085356Z_full (monday)? "),
            "{hint}"
        );
        let hint = meant("shop", "20261122", &there);
        assert!(hint.contains("20261122085356Z_incremental"), "{hint}");
        let hint = meant("shop", "sunday", &there);
        assert!(hint.starts_with("mendb list shop shows"), "{hint}");
        assert!(meant("shop", "sunday", &[]).contains("--repository"));
    }
}
