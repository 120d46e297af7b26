//! The steps of a backup of a part store.

use std::collections::HashMap;
use std::sync::Arc;

use mendb_engines::{FreezeTable, RefusedTable};
use mendb_model::describe_error;
use mendb_model::manifest::{FORMAT_VERSION, Manifest};
use mendb_model::operation::{PartAt, PartBackupRequest, TaskOutput};
use mendb_model::part::{
    Exclusion, MissingTable, ObjectRef, PartList, PartRecord, PartStoreBackup, PartTable,
    PartitionPatterns, Selection, TableDefinition, TableName,
};
use mendb_repo::{DocumentKind, DocumentName, FileOnDisk, KnownFiles};
use serde::Serialize;

use super::exact;
use super::known::KnownFilesCache;
use super::unchanged::{Unchanged, unchanged};
use crate::attempt::{Attempt, Counts};
use crate::task_error::{TaskError, TaskResult};

/// Freezes the tables that have changed since the last backup, and drafts the manifest with what was live.
pub(super) fn cut(
    attempt: &Attempt<'_>,
    request: &PartBackupRequest,
    counts: &mut Counts,
) -> TaskResult<()> {
    let engine = attempt.tools.engine.parts()?;
    let server = engine.server()?;
    let mut catalogue = engine.catalogue(&Selection {
        tables: request.patterns.clone(),
        exclude: Exclusion::default(),
    })?;
    // What was created since the request is in the next backup.
    let is_asked_for = |name: &TableName| request.tables.contains(name);
    catalogue.tables.retain(|table| is_asked_for(&table.name));
    catalogue.refused.retain(|table| is_asked_for(&table.name));
    let mut store = PartStoreBackup {
        patterns: request.patterns.clone(),
        exclude: request.exclude.clone(),
        unmatched: request.unmatched.clone(),
        databases: catalogue.databases,
        exact: request.exact,
        ..PartStoreBackup::new(server.version, Some(server.run))
    };
    for MissingTable { name, reason } in catalogue.refused {
        store.lack(name, reason);
    }
    let is_there = |name: &TableName| {
        let mut found = catalogue.tables.iter().map(|table| &table.name);
        let mut missing = store.missing.iter().map(|table| &table.name);
        found.any(|found| found == name) || missing.any(|missing| missing == name)
    };
    let dropped = request.tables.iter().filter(|name| !is_there(name));
    store.dropped = dropped.cloned().collect();
    if request.exact {
        exact::wait_for_inserts(attempt, &catalogue.tables)?;
    }
    let mut freezes = Vec::new();
    let mut taken_over = HashMap::new();
    let mut refused = HashMap::new();
    let with_data = |table: &&TableDefinition| table.has_parts() || table.has_files();
    for table in catalogue.tables.iter().filter(with_data) {
        match ready(attempt, request, table) {
            Ok(Ready::TakenOver(taken)) => {
                taken_over.insert(table.name.clone(), taken);
            }
            Ok(Ready::ToFreeze(freeze)) => freezes.push(freeze),
            Err(TaskError::Engine(error)) if error.is_of_what_was_asked() => {
                refused.insert(table.name.clone(), error);
            }
            Err(error) => return Err(error),
        }
    }
    let mut frozen = engine.freeze_each(attempt.operation(), &freezes)?;
    crate::env::crash_point();
    for RefusedTable { name, error } in frozen.refused {
        refused.insert(name, error);
    }
    for definition in catalogue.tables {
        if let Some(taken) = taken_over.remove(&definition.name) {
            store.tables.push(*taken);
            continue;
        }
        if let Some(error) = refused.remove(&definition.name) {
            // One that was dropped meanwhile cannot be frozen, and nobody lacks it.
            match engine.table(&definition.name)? {
                None => store.dropped.push(definition.name),
                Some(_) => store.lack(definition.name, error.to_string()),
            }
            continue;
        }
        let mut frozen_tables = frozen.tables.iter();
        let at = frozen_tables.position(|table| table.name == definition.name);
        let Some(found) = at.map(|at| frozen.tables.swap_remove(at)) else {
            store.tables.push(PartTable {
                definition,
                current_parts: None,
                partitions: None,
                mutations: Vec::new(),
                lists: Vec::new(),
            });
            continue;
        };
        attempt.check_stopped()?;
        let name = document(attempt, &definition.name, DocumentKind::CurrentParts);
        store.tables.push(PartTable {
            current_parts: Some(put(attempt, request, &name, &found.current_parts)?),
            partitions: (freezes.iter())
                .find(|freeze| freeze.name == definition.name)
                .and_then(|freeze| freeze.partitions.clone()),
            mutations: found.current_parts.mutations,
            lists: Vec::new(),
            definition,
        });
    }
    check_holds_something(&store)?;
    if request.without_secrets {
        store.drop_secrets();
    }
    tell_what_is_not_whole(&store);
    counts.output = TaskOutput::Draft(Box::new(Manifest {
        format_version: FORMAT_VERSION,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        collection: request.collection.clone(),
        backup_id: request.backup_id.clone(),
        label: request.label.clone(),
        operation_id: attempt.operation().to_owned(),
        target: attempt.tools.target.clone(),
        parent: None,
        snapshot_version: server.now_ms.into(),
        tables: Vec::new(),
        compacted: None,
        transactions: None,
        commits: None,
        part_store: Some(store),
    }));
    Ok(())
}

/// What is to be done with a table that has parts.
enum Ready {
    /// Nothing: the repository has all of it.
    TakenOver(Box<PartTable>),
    /// To freeze it.
    ToFreeze(FreezeTable),
}

fn ready(
    attempt: &Attempt<'_>,
    request: &PartBackupRequest,
    table: &TableDefinition,
) -> TaskResult<Ready> {
    if let Some(unchanged) = unchanged(attempt, request, &table.name)? {
        let taken = take_over(attempt, request, table.clone(), unchanged)?;
        return Ok(Ready::TakenOver(Box::new(taken)));
    }
    let partitions = match &request.partitions {
        Some(patterns) => {
            let patterns = PartitionPatterns::new(patterns);
            let mut partitions = attempt.tools.engine.parts()?.partitions(&table.name)?;
            partitions.retain(|partition| patterns.name(partition));
            Some(
                partitions
                    .into_iter()
                    .map(|partition| partition.id)
                    .collect(),
            )
        }
        None => None,
    };
    Ok(Ready::ToFreeze(FreezeTable {
        name: table.name.clone(),
        partitions,
    }))
}

/// Refuses a backup that would hold no data because of all that was asked for nothing could be had.
fn check_holds_something(store: &PartStoreBackup) -> TaskResult<()> {
    let mut tables = store.tables.iter();
    if store.missing.is_empty() || tables.any(|table| table.definition.has_parts()) {
        return Ok(());
    }
    let reasons: Vec<String> = (store.missing.iter())
        .map(|table| format!("{}: {}", table.name, table.reason))
        .collect();
    Err(TaskError::Proof(format!(
        "no table with data could be backed up: {}",
        reasons.join("; ")
    )))
}

/// Names what a restore could not create.
fn tell_what_is_not_whole(store: &PartStoreBackup) {
    let tables = store.tables.iter().map(|table| &table.definition);
    for table in tables.filter(|table| table.statement().is_none()) {
        tracing::warn!(
            table = %table.name,
            "is backed up without the credentials in its definition: a restore will not create it; to keep them, let \
             mendb read the server's metadata files or allow display_secrets_in_show_and_select"
        );
    }
}

/// A table of which the repository has all: its parts are listed again, so that the backup is complete
/// by itself.
fn take_over(
    attempt: &Attempt<'_>,
    request: &PartBackupRequest,
    definition: TableDefinition,
    unchanged: Unchanged,
) -> TaskResult<PartTable> {
    let Unchanged {
        inventory,
        backup_id,
        lists,
    } = unchanged;
    let name = document(attempt, &definition.name, DocumentKind::CurrentParts);
    let current_parts = put(attempt, request, &name, &inventory)?;
    let repository = &attempt.tools.repository;
    let named = (0u32..).zip(&lists).map(|(chunk, (at, _))| {
        let kind = DocumentKind::Parts { chunk };
        (at, document(attempt, &definition.name, kind))
    });
    let named: Vec<_> = named.collect();
    let backups = (&backup_id, &request.backup_id);
    let copied = attempt.wait(repository.copy_documents(&request.collection, backups, &named))?;
    let listed = copied.into_iter().zip(&lists);
    let listed = listed.map(|(copied, (_, records))| PartList::of(copied, records, 0));
    Ok(PartTable {
        definition,
        current_parts: Some(current_parts),
        partitions: None,
        mutations: inventory.mutations,
        lists: listed.collect(),
    })
}

fn put<T: Serialize + Sync>(
    attempt: &Attempt<'_>,
    request: &PartBackupRequest,
    name: &DocumentName,
    value: &T,
) -> TaskResult<ObjectRef> {
    let repository = &attempt.tools.repository;
    attempt.wait(repository.put_document(&request.collection, &request.backup_id, name, value))
}

fn document(attempt: &Attempt<'_>, table: &TableName, kind: DocumentKind) -> DocumentName {
    DocumentName {
        table: table.clone(),
        kind,
        writer: attempt.writer().to_owned(),
        attempt: attempt.request.attempt,
    }
}

/// Writes frozen parts of one table: their files, as far as the repository lacks them, and the list
/// that names them. A table of which a part cannot be read is one that the backup lacks.
pub(super) fn copy(
    attempt: &Attempt<'_>,
    request: &PartBackupRequest,
    table: &TableName,
    chunk: u32,
    parts: &[PartAt],
    counts: &mut Counts,
) -> TaskResult<()> {
    let reason = match copied(attempt, request, table, chunk, parts, counts) {
        Err(TaskError::Engine(error)) if error.is_of_what_was_asked() => error.to_string(),
        Err(TaskError::Repository(error)) if error.is_of_local_file() => describe_error(&error),
        copied => return copied,
    };
    *counts = Counts {
        output: TaskOutput::Lacks(reason),
        ..Counts::default()
    };
    Ok(())
}

fn copied(
    attempt: &Attempt<'_>,
    request: &PartBackupRequest,
    table: &TableName,
    chunk: u32,
    parts: &[PartAt],
    counts: &mut Counts,
) -> TaskResult<()> {
    let engine = attempt.tools.engine.parts()?;
    let repository = &attempt.tools.repository;
    let frozen = engine.frozen(attempt.operation(), table)?;
    let mut writer = repository.part_writer(known_files(attempt, request, table)?);
    for at in parts {
        let found = (frozen.iter())
            .find(|part| part.name == at.name && part.disk == at.disk)
            .ok_or_else(|| {
                TaskError::Proof(format!(
                    "part {} of table {table} is gone from its freeze",
                    at.name
                ))
            })?;
        let content = engine.read_part(&found.directory, &found.name, &found.disk)?;
        let files = content.files.into_iter().map(|file| FileOnDisk {
            name: file.name,
            bytes: file.bytes,
            checksum: file.checksum,
        });
        counts.rows += content.part.rows;
        counts.bytes += content.part.bytes;
        attempt.wait(writer.add(content.part, &found.directory, files.collect()))?;
        attempt.check_stopped()?;
    }
    let (records, uploaded) = attempt.wait(writer.finish())?;
    crate::env::crash_point();
    let name = document(attempt, table, DocumentKind::Parts { chunk });
    let at = put(attempt, request, &name, &records)?;
    counts.output = TaskOutput::Parts(PartList::of(at, &records, uploaded.bytes));
    Ok(())
}

/// What the repository has of a table by the backup that the request names.
fn known_files(
    attempt: &Attempt<'_>,
    request: &PartBackupRequest,
    table: &TableName,
) -> TaskResult<Arc<KnownFiles>> {
    let Some(link) = &request.known else {
        return Ok(Arc::default());
    };
    let key = (attempt.request.operation_id.clone(), table.clone());
    attempt
        .tools
        .kept
        .of::<KnownFilesCache>()
        .get_or_read(key, || {
            let manifest = attempt.manifest(&request.collection, link)?;
            let store = attempt
                .tools
                .own_store(&manifest, request.of_shard.as_deref());
            let Some(before) = store.as_deref().and_then(|store| store.table(table)) else {
                return Ok(KnownFiles::default());
            };
            let mut known = Vec::new();
            for list in &before.lists {
                let records: Vec<PartRecord> =
                    attempt.wait(attempt.tools.repository.document_at(
                        &request.collection,
                        &link.backup_id,
                        &list.at,
                    ))?;
                known.extend(records);
            }
            attempt.wait(attempt.tools.repository.known_files(known))
        })
}

/// Puts the manifest: from here on the backup exists.
pub(super) fn seal(attempt: &Attempt<'_>) -> TaskResult<()> {
    let manifest = attempt.draft()?;
    if let Some(store) = &manifest.part_store {
        check_holds_something(store)?;
    }
    let repository = &attempt.tools.repository;
    attempt.wait_to_the_end(repository.put_manifest(manifest, attempt.writer()))?;
    crate::env::crash_point();
    // The backup exists, whether or not what lost attempts have left can be removed.
    if let Err(error) = attempt.wait_to_the_end(repository.sweep(manifest, attempt.writer())) {
        tracing::warn!(backup = %manifest.backup_id, %error, "leftovers of the backup stay");
    }
    Ok(())
}

/// Drops the freeze, then what was written, also a manifest that nobody could rely on yet.
pub(super) fn rollback(attempt: &Attempt<'_>, request: &PartBackupRequest) -> TaskResult<()> {
    attempt.tools.engine.thaw(attempt.operation())?;
    crate::env::crash_point();
    let repository = &attempt.tools.repository;
    let (collection, id) = (&request.collection, &request.backup_id);
    let writer = attempt.writer();
    // Who has all shards made seals what they come to.
    match request.of_shard {
        Some(_) => attempt.wait(repository.withdraw_objects(collection, id, writer)),
        None => attempt.wait(repository.withdraw(collection, id, attempt.operation(), writer)),
    }
}
