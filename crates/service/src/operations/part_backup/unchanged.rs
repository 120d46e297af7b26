//! Tables whose parts all are in an earlier backup: the backup neither freezes nor reads them.

use std::collections::BTreeSet;

use mendb_model::name::BackupId;
use mendb_model::operation::PartBackupRequest;
use mendb_model::part::{
    Hash128, Inventory, ObjectRef, Part, PartRecord, PartStoreBackup, PartTable, TableName,
};
use mendb_repo::Error as RepoError;

use crate::attempt::Attempt;
use crate::task_error::{TaskError, TaskResult};

/// What an earlier backup has of a table that is still what it was then.
pub(super) struct Unchanged {
    /// What is live.
    pub inventory: Inventory,
    /// That backup.
    pub backup_id: BackupId,
    /// Its part lists: where they are, and what they say.
    pub lists: Vec<(ObjectRef, Vec<PartRecord>)>,
}

/// Looks whether a table is just what the backup that the request names has of it, and whether the
/// repository still has all of that. A part is the same by its name, its content and its disk, in the same
/// incarnation of the table. *Hazard*: texts that no checksum covers are taken to be the same then; where
/// numbers of blocks began again, they may be of another part with the same content.
pub(super) fn unchanged(
    attempt: &Attempt<'_>,
    request: &PartBackupRequest,
    table: &TableName,
) -> TaskResult<Option<Unchanged>> {
    let Some(link) = &request.known else {
        return Ok(None);
    };
    let manifest = attempt.manifest(&request.collection, link)?;
    let store = attempt
        .tools
        .own_store(&manifest, request.of_shard.as_deref());
    let before = store.as_deref().and_then(|store| whole(store, table));
    let Some(before) = before.filter(|_| request.partitions.is_none()) else {
        return Ok(None);
    };
    let Some(current_parts) = &before.current_parts else {
        return Ok(None);
    };
    let repository = &attempt.tools.repository;
    let (collection, backup_id) = (&request.collection, &link.backup_id);
    let then: Inventory =
        attempt.wait(repository.document_at(collection, backup_id, current_parts))?;
    let inventory = attempt.tools.engine.parts()?.inventory(table)?;
    let is_same = then.incarnation == inventory.incarnation
        && inventory.patches.is_empty()
        && identities(&inventory.parts) == identities(&then.parts);
    if !is_same {
        return Ok(None);
    }
    let mut lists = Vec::with_capacity(before.lists.len());
    for list in &before.lists {
        let records: Vec<PartRecord> =
            attempt.wait(repository.document_at(collection, backup_id, &list.at))?;
        lists.push((list.at.clone(), records));
    }
    let records = || lists.iter().flat_map(|(_, records)| records);
    let listed = records().map(|record| &record.part);
    if lists.is_empty() || identities(listed) != identities(&inventory.parts) {
        return Ok(None);
    }
    let files = records().flat_map(|record| &record.files);
    match attempt.wait(repository.check_files_present(files)) {
        Ok(()) => Ok(Some(Unchanged {
            inventory,
            backup_id: backup_id.clone(),
            lists,
        })),
        // What was lost is taken up anew.
        Err(TaskError::Repository(RepoError::Incomplete { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The table in a backup, if that was to have all of its partitions.
fn whole<'a>(store: &'a PartStoreBackup, table: &TableName) -> Option<&'a PartTable> {
    let table = store.table(table)?;
    table.partitions.is_none().then_some(table)
}

fn identities<'a>(
    parts: impl IntoIterator<Item = &'a Part>,
) -> BTreeSet<(&'a str, Hash128, &'a str)> {
    let parts = parts.into_iter();
    parts
        .map(|part| (part.name.as_str(), part.hash, part.disk.as_str()))
        .collect()
}
