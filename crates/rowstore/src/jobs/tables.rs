//! Creating, dropping and altering tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use mendb_model::key::KeyRange;
use mendb_model::name::{self, TablePath};
use mendb_model::{Column, TableSchema};

use crate::catalogue::layout::Layout;
use crate::catalogue::versions::Versions;
use crate::catalogue::{self, Access, Born, PathState, Shard, TableEntry};
use crate::commit::{Inner, Transaction};
use crate::error::{Error, Result};
use crate::shard::stats::ShardStats;

pub(crate) fn create(
    inner: &Inner,
    name: &str,
    schema: TableSchema,
    split_at: Vec<Vec<u8>>,
) -> Result<()> {
    let mut transaction = Transaction::begin(inner);
    if transaction.catalogue().contains(name) {
        return Err(Error::TableExists(name.to_owned()));
    }
    let versions = Versions::first(schema.indexes.iter().map(|index| index.name.as_str()));
    let splits = BTreeMap::from([(None, split_at)]);
    let entry = build(
        &mut transaction,
        name,
        schema,
        versions,
        splits,
        PathState::Ready,
    )?;
    transaction.put_table(entry);
    transaction.commit()?;
    inner.sync()
}

/// A new table with empty shards, cut at the encoded keys of `splits`: those of the table under `None`,
/// those of an index under its name.
pub(crate) fn build(
    transaction: &mut Transaction<'_>,
    name: &str,
    schema: TableSchema,
    versions: Versions,
    mut splits: BTreeMap<Option<String>, Vec<Vec<u8>>>,
    state: PathState,
) -> Result<TableEntry> {
    name::check(name)?;
    schema.validate().map_err(|source| Error::Schema {
        table: name.to_owned(),
        source,
    })?;
    let mut shards = |path: TablePath| -> Vec<Arc<Shard>> {
        let points = splits.remove(&path.index).unwrap_or_default();
        let shard = |range| {
            let id = transaction.allocate_shard();
            transaction.put_stats(id, ShardStats::default());
            Arc::new(Shard::new(id, path.clone(), range))
        };
        KeyRange::split_at(points).into_iter().map(shard).collect()
    };
    let rows = shards(TablePath::table(name));
    let indexes = schema
        .indexes
        .iter()
        .map(|index| {
            let path = TablePath::index(name, &index.name);
            (index.name.clone(), shards(path))
        })
        .collect();
    if let Some((Some(index), _)) = splits.into_iter().next() {
        return Err(Error::IndexMissing {
            table: name.to_owned(),
            index,
        });
    }
    let born = Born {
        version: transaction.version,
        restored_by: match &state {
            PathState::Restoring { operation } => Some(operation.clone()),
            _ => None,
        },
    };
    Ok(TableEntry {
        name: name.to_owned(),
        layout: Arc::new(Layout::new(schema)),
        versions,
        state,
        streams: BTreeMap::new(),
        born: Some(born),
        rows,
        indexes,
    })
}

pub(crate) fn drop(inner: &Inner, name: &str) -> Result<()> {
    let mut transaction = Transaction::begin(inner);
    let entry = transaction.catalogue().table(name)?.clone();
    entry.check(Access::Hold)?;
    transaction.remove_table(&entry)?;
    transaction.commit()?;
    inner.sync()?;
    catalogue::retire(&inner.store, entry.all_shards());
    Ok(())
}

pub(crate) fn add_column(inner: &Inner, table: &str, column: Column) -> Result<()> {
    let mut transaction = Transaction::begin(inner);
    let mut entry = TableEntry::clone(transaction.catalogue().table(table)?);
    entry.check(Access::Hold)?;
    if column.not_null {
        return Err(Error::AddedNotNull {
            table: table.to_owned(),
            column: column.name,
        });
    }
    let mut schema = entry.layout.schema.clone();
    schema.columns.push(column);
    schema.validate().map_err(|source| Error::Schema {
        table: table.to_owned(),
        source,
    })?;
    entry.layout = Arc::new(Layout::new(schema));
    entry.versions = entry.versions.raised();
    transaction.put_table(entry);
    transaction.commit()?;
    inner.sync()
}
