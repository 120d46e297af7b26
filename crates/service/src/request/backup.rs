//! The order for a backup.

use mendb_engines::LiveStream;
use mendb_model::describe_error;
use mendb_model::manifest::Manifest;
use mendb_model::name::{BackupId, BackupKind, OperationId, check};
use mendb_model::operation::{BackupRequest, ChainLink, Request, TargetTable};
use mendb_repo::StoredManifest;

use super::{Failed, in_the_way};
use crate::env;
use crate::error::{Error, Result};
use crate::journal::collection::Collection;
use crate::service::Service;

/// A backup as a user orders it.
#[derive(Debug, Clone)]
pub struct BackupOrder {
    /// The collection.
    pub collection: String,
    /// All rows, or the changes since the newest backup.
    pub kind: BackupKind,
    /// A name for it, unique in the collection.
    pub label: Option<String>,
}

impl Service {
    /// Checks an order for a backup and makes it an operation, which [`Service::drive`] runs.
    ///
    /// # Errors
    /// [`Error::BackupFailed`]: an earlier backup of the collection failed; resume or cancel it. Else the
    /// collection or a table is missing or at work, the label is taken, or for an increment the
    /// chain cannot go on: no backup, a damaged one, a changed schema, a lost stream.
    pub fn request_backup(&self, order: &BackupOrder) -> Result<OperationId> {
        let _one_at_a_time = self.requests();
        let collection = self.collection(&order.collection)?;
        let failed = self.check_idle(&collection)?;
        let repository = &self.tools.repository;
        let header = self.runtime().block_on(repository.create_if_absent())?;
        let backups = self
            .runtime()
            .block_on(repository.list(&collection.collection))?;
        if let Some(label) = &order.label {
            check_label(label, &backups)?;
        }
        let newest = backups.last().map(|(id, _)| id);
        let backup_id = next_id(order.kind, newest)?;
        let mut request = BackupRequest {
            collection: collection.collection.clone(),
            stream: stream_of(&collection.collection, &backup_id),
            backup_id,
            label: order.label.clone(),
            tables: collection.tables.clone(),
            parent: None,
            since_version: None,
            old_streams: self.streams_of(&collection)?,
        };
        if order.kind == BackupKind::Incremental {
            self.follow(&mut request, newest)?;
        }
        match failed {
            Some(failed) => Err(Error::BackupFailed {
                collection: collection.collection,
                operation_id: failed,
            }),
            None => self.create(Request::Backup(request), header.repository_id, &[]),
        }
    }

    /// Refuses when an operation works on the collection or its tables. Returns a failed backup of the
    /// collection, which a new one can replace.
    pub(super) fn check_idle(&self, collection: &Collection) -> Result<Option<OperationId>> {
        let mut failed = None;
        for operation in self.journal.open_operations()? {
            let same = operation.request.collection() == collection.collection;
            let is_backup = operation.request.is_backup();
            match Failed::of(&operation).filter(|_| same) {
                Some(Failed::Abandoned) => continue,
                Some(Failed::Cancellable) => {
                    failed = Some(operation.operation_id);
                    continue;
                }
                None => {}
            }
            if same && is_backup {
                return Err(in_the_way(
                    &format!("collection {}", collection.collection),
                    &operation,
                ));
            }
            let touched = operation.request.target_tables();
            if let Some(table) = collection
                .tables
                .iter()
                .find(|table| touched.contains(&TargetTable::Rows(table)))
            {
                return Err(in_the_way(&format!("table {table}"), &operation));
            }
        }
        Ok(failed)
    }

    /// The streams that older chains of this collection keep on its tables.
    pub(super) fn streams_of(&self, collection: &Collection) -> Result<Vec<String>> {
        let prefix = format!("{}/", collection.collection);
        let mut streams = Vec::new();
        for table in &collection.tables {
            let live = self
                .tools
                .engine
                .rows()?
                .inspect(table)?
                .ok_or_else(|| missing_table(table, collection))?;
            streams.extend(
                live.streams
                    .into_iter()
                    .map(|stream| stream.name)
                    .filter(|s| s.starts_with(&prefix)),
            );
        }
        streams.sort();
        streams.dedup();
        Ok(streams)
    }

    /// Makes the request the increment after the newest backup, if it can be that.
    pub(super) fn follow(
        &self,
        request: &mut BackupRequest,
        newest: Option<&BackupId>,
    ) -> Result<()> {
        let newest = newest.ok_or_else(|| {
            let reason = format!(
                "collection {} has no backup to stand on",
                request.collection
            );
            take_full(request, &reason)
        })?;
        let repository = &self.tools.repository;
        let damaged = |error: mendb_repo::Error| -> Error {
            if error.is_retriable() {
                return error.into();
            }
            let cause = describe_error(&error);
            take_full(
                request,
                &format!("the chain of backup {newest} cannot be continued: {cause}"),
            )
        };
        let whole_chain = async {
            let chain = repository.chain(&request.collection, newest).await?;
            for stored in &chain {
                repository.check_present(&stored.manifest).await?;
            }
            Ok(chain)
        };
        let chain = self.runtime().block_on(whole_chain).map_err(damaged)?;
        let (Some(full), Some(parent)) = (chain.first(), chain.last()) else {
            return Err(take_full(
                request,
                &format!("the chain of backup {newest} is empty"),
            ));
        };
        let stream = stream_of_chain(request, &full.manifest);
        self.check_members(request, &parent.manifest, &stream)?;
        request.parent = Some(ChainLink {
            backup_id: parent.manifest.backup_id.clone(),
            manifest_blake3: parent.blake3.clone(),
        });
        request.since_version = Some(parent.manifest.snapshot_version);
        request.old_streams.retain(|old| *old != stream);
        request.stream = stream;
        Ok(())
    }

    /// Refuses when the tables are not those of the parent any more, or their changes are not known.
    fn check_members(
        &self,
        request: &BackupRequest,
        parent: &Manifest,
        stream_name: &str,
    ) -> Result<()> {
        let backed_up = || parent.tables.iter().map(|table| table.table.as_str());
        let other = request
            .tables
            .iter()
            .find(|table| !backed_up().any(|backed_up| backed_up == *table));
        if other.is_some() || parent.tables.len() != request.tables.len() {
            let members = backed_up().collect::<Vec<_>>().join(", ");
            return Err(take_full(
                request,
                &format!(
                    "backup {} holds the tables {members}, not those of the collection now",
                    parent.backup_id
                ),
            ));
        }
        for table in &parent.tables {
            let name = &table.table;
            let Some(live) = self.tools.engine.rows()?.inspect(name)? else {
                return Err(take_full(request, &format!("table {name} does not exist")));
            };
            if live.schema != table.schema {
                let reason = format!(
                    "the schema of table {name} has changed since backup {}",
                    parent.backup_id
                );
                return Err(take_full(request, &reason));
            }
            let continues = |stream: &LiveStream| {
                stream.name == stream_name && stream.continues(parent.snapshot_version)
            };
            if !live.streams.iter().any(continues) {
                let reason = format!(
                    "the changes of table {name} since backup {} are not known (the table was created, dropped or \
                     restored since, or this target is not as it was backed up then: set back, or a copy)",
                    parent.backup_id
                );
                return Err(take_full(request, &reason));
            }
        }
        Ok(())
    }
}

fn missing_table(table: &str, collection: &Collection) -> Error {
    Error::refused(
        format!(
            "table {table} of collection {} does not exist",
            collection.collection
        ),
        format!(
            "restore it: mendb restore {} --tables {table}",
            collection.collection
        ),
    )
}

/// Why an increment is refused, and what works instead.
fn take_full(request: &BackupRequest, reason: &str) -> Error {
    Error::refused(
        format!("cannot take an incremental backup: {reason}"),
        format!("take a full backup: mendb backup {}", request.collection),
    )
}

/// The change stream of the chain that begins with this full backup.
pub(crate) fn stream_of(collection: &str, full: &BackupId) -> String {
    format!("{collection}/{full}")
}

/// The change stream of a chain. The full backup that the chain began with, and its stream is named
/// after, may be one of those that were folded into the first that is there now.
fn stream_of_chain(request: &BackupRequest, first: &Manifest) -> String {
    let folded = first.compacted.iter();
    let folded = folded.flat_map(|compacted| &compacted.folded);
    let mut names = folded.map(|id| stream_of(&request.collection, id));
    names
        .find(|name| request.old_streams.contains(name))
        .unwrap_or_else(|| stream_of(&request.collection, &first.backup_id))
}

pub(super) fn check_label(
    label: &str,
    backups: &[(BackupId, mendb_repo::Result<StoredManifest>)],
) -> Result<()> {
    check(label)?;
    let choose = |reason: String| Err(Error::refused(reason, "choose another label"));
    if label.parse::<BackupId>().is_ok() {
        return choose(format!("{label} looks like a backup id"));
    }
    let taken = backups.iter().find(|(_, stored)| {
        stored
            .as_ref()
            .is_ok_and(|stored| stored.manifest.label.as_deref() == Some(label))
    });
    match taken {
        Some((id, _)) => choose(format!("label {label} is taken by backup {id}")),
        None => Ok(()),
    }
}

/// An id after all that exist: ids count seconds, and two backups may be asked for within one.
pub(super) fn next_id(kind: BackupKind, newest: Option<&BackupId>) -> Result<BackupId> {
    let now = i64::try_from(env::now_ms() / 1000).unwrap_or(i64::MAX);
    let after = newest.map_or(0, |newest| newest.unix_seconds() + 1);
    BackupId::new(now.max(after), kind)
        .ok_or_else(|| Error::refused("the clock is beyond the year 9999", "set the clock"))
}
