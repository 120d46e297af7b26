//! The order for a backup of a part store.

use mendb_model::name::{BackupKind, OperationId, check};
use mendb_model::operation::{ChainLink, PartBackupRequest, Request};

use super::backup::{check_label, next_id};
use super::{Failed, in_the_way};
use crate::error::{Error, Result};
use crate::service::Service;

/// A backup of a part store as a user orders it.
#[derive(Debug, Clone, Default)]
pub struct PartBackupOrder {
    /// The collection.
    pub collection: String,
    /// Comma-separated patterns of `database.table`. Without: those of the collection's newest backup,
    /// else all tables of the database that has the collection's name.
    pub tables: Option<String>,
    /// Comma-separated patterns of partitions, by id or value; all without.
    pub partitions: Option<String>,
    /// A name for it, unique in the collection.
    pub label: Option<String>,
    /// Leave credentials in definitions out: what has some is not created by a restore.
    pub without_secrets: bool,
}

impl Service {
    /// Checks an order for a backup of a part store and makes it an operation, which
    /// [`Service::drive`] runs.
    ///
    /// # Errors
    /// [`Error::BackupFailed`]: an earlier backup of the collection failed; resume or cancel it. Else no
    /// table matches, a table is at work or on a disk that cannot be backed up, the label is taken, or
    /// server or repository cannot be reached.
    pub fn request_part_backup(&self, order: &PartBackupOrder) -> Result<OperationId> {
        let _one_at_a_time = self.requests();
        check(&order.collection)?;
        let collection = &order.collection;
        let repository = &self.tools.repository;
        let header = self.runtime().block_on(repository.create_if_absent())?;
        let backups = self.runtime().block_on(repository.list(collection))?;
        if let Some(label) = &order.label {
            check_label(label, &backups)?;
        }
        let readable = || {
            backups
                .iter()
                .rev()
                .filter_map(|(_, stored)| stored.as_ref().ok())
        };
        let known = readable().find(|stored| stored.manifest.part_store.is_some());
        let patterns = match (&order.tables, known) {
            (Some(patterns), _) => patterns.clone(),
            (None, Some(stored)) => {
                let store = stored.manifest.part_store.as_ref();
                store
                    .map(|store| store.patterns.clone())
                    .unwrap_or_default()
            }
            (None, None) => format!("{collection}.*"),
        };
        let catalogue = self.tools.engine.parts()?.catalogue(&patterns)?;
        if catalogue.tables.is_empty() {
            return Err(Error::refused(
                format!("no table of the server matches {patterns}"),
                "name tables as database.table: --tables 'analytics.*'",
            ));
        }
        let tables: Vec<_> = catalogue
            .tables
            .into_iter()
            .map(|table| table.name)
            .collect();
        let mut failed = None;
        for operation in self.journal.open_operations()? {
            let same = operation.request.collection() == collection;
            match Failed::of(&operation).filter(|_| same) {
                Some(Failed::Abandoned) => continue,
                Some(Failed::Cancellable) => {
                    failed = Some(operation.operation_id);
                    continue;
                }
                None => {}
            }
            let touched = operation.request.target_tables();
            if let Some(table) = tables
                .iter()
                .find(|table| touched.contains(&table.to_string()))
                && self.holds_tables(&operation)?
            {
                return Err(in_the_way(&format!("table {table}"), &operation));
            }
            if same && operation.request.is_backup() {
                return Err(in_the_way(&format!("collection {collection}"), &operation));
            }
        }
        if let Some(operation_id) = failed {
            return Err(Error::BackupFailed {
                collection: collection.clone(),
                operation_id,
            });
        }
        let request = PartBackupRequest {
            collection: collection.clone(),
            backup_id: next_id(BackupKind::Full, backups.last().map(|(id, _)| id))?,
            label: order.label.clone(),
            patterns,
            tables,
            partitions: order.partitions.clone(),
            known: known.map(|stored| ChainLink {
                backup_id: stored.manifest.backup_id.clone(),
                manifest_blake3: stored.blake3.clone(),
            }),
            without_secrets: order.without_secrets,
        };
        self.create(Request::PartBackup(request), header.repository_id, &[])
    }
}
