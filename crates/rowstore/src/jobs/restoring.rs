//! Tables that an operation restores while clients are kept out.

use std::collections::BTreeMap;

use mendb_model::TableSchema;

use crate::catalogue::versions::Versions;
use crate::catalogue::{self, PathState, TableEntry};
use crate::commit::{Inner, Transaction};
use crate::error::{Error, Result};
use crate::jobs::tables::build;
use crate::shard::view::View;

/// A table to be rebuilt as it was captured.
#[derive(Debug, Clone)]
pub struct NewTable {
    /// Its name.
    pub name: String,
    /// Its schema.
    pub schema: TableSchema,
    /// The versions that it, its indexes and their implementation tables get and keep: clients that
    /// opened the captured table can go on with what they hold.
    pub versions: Versions,
    /// Encoded keys to cut the shards at: of the table under `None`, of an index under its name.
    pub splits: BTreeMap<Option<String>, Vec<Vec<u8>>>,
}

pub(crate) fn create(inner: &Inner, operation: &str, tables: Vec<NewTable>) -> Result<()> {
    let mut transaction = Transaction::begin(inner);
    let ours = PathState::Restoring {
        operation: operation.to_owned(),
    };
    let mut created = false;
    for table in tables {
        if transaction.catalogue().contains(&table.name) {
            if transaction.catalogue().table(&table.name)?.state == ours {
                continue;
            }
            return Err(Error::TableExists(table.name));
        }
        let indexes = &table.schema.indexes;
        let fits = indexes.len() == table.versions.indexes.len()
            && indexes
                .iter()
                .all(|index| table.versions.indexes.contains_key(&index.name));
        if !fits {
            return Err(Error::VersionsMismatch { table: table.name });
        }
        let entry = build(
            &mut transaction,
            &table.name,
            table.schema,
            table.versions,
            table.splits,
            ours.clone(),
        )?;
        transaction.put_table(entry);
        created = true;
    }
    if created {
        transaction.commit()?;
    } else {
        drop(transaction);
    }
    inner.sync()
}

pub(crate) fn finish(inner: &Inner, operation: &str) -> Result<()> {
    let mut transaction = Transaction::begin(inner);
    let view = transaction.view.clone();
    let held = held(&view, operation);
    if held.is_empty() {
        drop(transaction);
        return inner.sync();
    }
    for mut entry in held {
        for shard in entry.all_shards() {
            transaction.remove_cursors(shard.id)?;
        }
        entry.state = PathState::Ready;
        transaction.put_table(entry);
    }
    transaction.commit()?;
    inner.sync()
}

pub(crate) fn abort(inner: &Inner, operation: &str) -> Result<()> {
    let mut transaction = Transaction::begin(inner);
    let view = transaction.view.clone();
    let held = held(&view, operation);
    if held.is_empty() {
        drop(transaction);
        return inner.sync();
    }
    for entry in &held {
        transaction.remove_table(entry)?;
    }
    transaction.commit()?;
    inner.sync()?;
    for entry in &held {
        catalogue::retire(&inner.store, entry.all_shards());
    }
    Ok(())
}

fn held(view: &View, operation: &str) -> Vec<TableEntry> {
    let ours = PathState::Restoring {
        operation: operation.to_owned(),
    };
    let tables = view.catalogue().tables();
    tables
        .filter(|table| table.state == ours)
        .map(|table| TableEntry::clone(table))
        .collect()
}
