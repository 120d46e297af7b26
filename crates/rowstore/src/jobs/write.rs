//! A client's batch becomes a commit: rows, index rows and change records.
//!
//! The batch is folded to one change per key first, reading each row that is there once. Index rows
//! follow from the rows before and after. Unique indexes are checked against what the batch leaves
//! behind, so rows may exchange their values within a batch.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use mendb_model::{Change, ChangeKind, Malformed};

use crate::batch::{MAX_ROW_BYTES, Operation, WriteBatch};
use crate::catalogue::index_rows::{self, IndexEdit, RowEdit};
use crate::catalogue::layout::IndexLayout;
use crate::catalogue::{Access, Shard, TableEntry, route};
use crate::commit::{Inner, Transaction};
use crate::error::{Error, Result};
use crate::jobs::{lapse, split_or_pack};
use crate::kernel::ShardId;
use crate::shard::holders::each_that_begins;
use crate::shard::log;
use crate::shard::point::PointReader;
use crate::shard::view::View;

/// A row or index row that the batch touches.
struct Touched {
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
    /// What happened, folded; only for tables with streams.
    change: Option<Change>,
}

/// A table that the batch touches.
struct TouchedTable {
    entry: Arc<TableEntry>,
    rows: BTreeMap<Vec<u8>, Touched>,
    /// The readers of the shards.
    readers: HashMap<ShardId, PointReader>,
}

pub(crate) fn write(inner: &Inner, batch: WriteBatch) -> Result<u64> {
    let mut transaction = Transaction::begin(inner);
    let tables = fold(&transaction, batch)?;
    let mut grown = Vec::new();
    for table in tables.values() {
        stage_table(&mut transaction, table, &mut grown)?;
    }
    if grown.is_empty() {
        let version = transaction.view.version();
        drop(transaction);
        inner.acknowledge()?;
        return Ok(version);
    }
    let logged_bytes = transaction.logged_bytes;
    let version = transaction.version;
    transaction.commit()?;
    inner.acknowledge()?;
    split_or_pack::grown(inner, &grown);
    lapse::after_logging(inner, logged_bytes);
    Ok(version)
}

/// Brings the operations of each key together, in their order.
fn fold(
    transaction: &Transaction<'_>,
    batch: WriteBatch,
) -> Result<BTreeMap<String, TouchedTable>> {
    let mut tables: BTreeMap<String, TouchedTable> = BTreeMap::new();
    for operation in batch.operations {
        let name = operation.table.name();
        if !tables.contains_key(name) {
            let entry = transaction.catalogue().table(name)?.clone();
            entry.check(Access::Write)?;
            let touched = TouchedTable {
                entry,
                rows: BTreeMap::new(),
                readers: HashMap::new(),
            };
            tables.insert(name.to_owned(), touched);
        }
        let Some(table) = tables.get_mut(name) else {
            unreachable!("the table was just entered");
        };
        operation.table.check_current(&table.entry)?;
        fold_operation(transaction, table, operation)?;
    }
    Ok(tables)
}

fn fold_operation(
    transaction: &Transaction<'_>,
    table: &mut TouchedTable,
    operation: Operation,
) -> Result<()> {
    let Operation {
        key,
        change: mut next,
        ..
    } = operation;
    next.version = transaction.version;
    let layout = &table.entry.layout;
    let shard = route(&table.entry.rows, &key);
    let damaged = |error: Malformed| Error::damaged(shard.label(), error);
    if !table.rows.contains_key(&key) {
        let reader = match table.readers.entry(shard.id) {
            Entry::Occupied(readers) => readers.into_mut(),
            Entry::Vacant(none) => {
                let stats = transaction.committed_stats(shard.id)?;
                let view = transaction.view.clone();
                none.insert(PointReader::new(view, shard.clone(), &stats))
            }
        };
        let before = reader.get(&key)?;
        let touched = Touched {
            after: before.clone(),
            before,
            change: None,
        };
        table.rows.insert(key.clone(), touched);
    }
    let Some(row) = table.rows.get_mut(&key) else {
        unreachable!("the row was just entered");
    };
    let after = next
        .apply(row.after.as_deref(), &layout.value_types)
        .map_err(damaged)?;
    if let Some(after) = &after {
        let is_new = next.kind == ChangeKind::Upsert && row.after.is_none();
        check_row(&table.entry, shard, &key, after, is_new)?;
    }
    row.after = after;
    if table.entry.keeps_changes() {
        row.change = Some(match row.change.take() {
            Some(change) => change.then(next, &layout.value_types).map_err(damaged)?,
            None => next,
        });
    }
    Ok(())
}

/// Refuses a row that is too long, or that an upsert made anew without a column it needs.
pub(crate) fn check_row(
    table: &TableEntry,
    shard: &Shard,
    key: &[u8],
    row: &[u8],
    is_new: bool,
) -> Result<()> {
    if is_new {
        let missing = table.layout.read(key, row, |values| {
            let column = table.layout.schema.missing(values.iter().copied());
            column.map(|column| column.name.clone())
        });
        if let Some(column) = missing.map_err(|error| Error::damaged(shard.label(), error))? {
            return Err(Error::NotNull {
                table: table.name.clone(),
                column,
            });
        }
    }
    if row.len() > MAX_ROW_BYTES {
        return Err(Error::RowTooLong {
            table: table.name.clone(),
            bytes: row.len(),
        });
    }
    Ok(())
}

/// Stages the rows of a table and of its indexes; adds the shards written to.
fn stage_table(
    transaction: &mut Transaction<'_>,
    table: &TouchedTable,
    grown: &mut Vec<Arc<Shard>>,
) -> Result<()> {
    stage_rows(transaction, &table.entry.rows, &table.rows, grown)?;
    let indexes = &table.entry.layout.indexes;
    let mut edits: Vec<BTreeMap<Vec<u8>, IndexEdit>> =
        indexes.iter().map(|_| BTreeMap::new()).collect();
    for (key, row) in &table.rows {
        let edit = RowEdit {
            key,
            before: row.before.as_deref(),
            after: row.after.as_deref(),
        };
        index_rows::edits(&table.entry, edit, &mut |index, key, edit| {
            edits[index].insert(key, edit);
            Ok(())
        })?;
    }
    for (index, rows) in indexes.iter().zip(edits) {
        let shards = table.entry.shards(Some(&index.name))?;
        if index.unique {
            check_unique(&transaction.view, &table.entry, index, shards, &rows)?;
        }
        let logged = table.entry.keeps_changes();
        let version = transaction.version;
        let touched = |row: IndexEdit| Touched {
            change: logged.then(|| log::change_to(row.after.as_deref(), version)),
            before: row.before,
            after: row.after,
        };
        let rows = rows
            .into_iter()
            .map(|(key, row)| (key, touched(row)))
            .collect();
        stage_rows(transaction, shards, &rows, grown)?;
    }
    Ok(())
}

fn stage_rows(
    transaction: &mut Transaction<'_>,
    shards: &[Arc<Shard>],
    rows: &BTreeMap<Vec<u8>, Touched>,
    grown: &mut Vec<Arc<Shard>>,
) -> Result<()> {
    for (key, row) in rows {
        if row.before == row.after {
            continue;
        }
        let shard = route(shards, key);
        if grown.last().is_none_or(|last| last.id != shard.id) {
            grown.push(shard.clone());
        }
        transaction.put_row(shard, key, row.before.as_deref(), row.after.as_deref())?;
        if let Some(change) = &row.change {
            transaction.put_change(shard, key, change, row.before.as_deref())?;
        }
    }
    Ok(())
}

/// Refuses the batch when a row that it adds to a unique index shares its indexed columns with another
/// row that is there after the batch.
fn check_unique(
    view: &Arc<View>,
    table: &TableEntry,
    index: &IndexLayout,
    shards: &[Arc<Shard>],
    rows: &BTreeMap<Vec<u8>, IndexEdit>,
) -> Result<()> {
    let taken = |indexed: usize, added: &[u8], other: &[u8]| {
        index_rows::taken(table, index, shards, [added, other], indexed)
    };
    let mut added_before: Option<&[u8]> = None;
    for (key, row) in rows {
        let Some(indexed) = row.unique.filter(|_| row.after.is_some()) else {
            continue;
        };
        let prefix = &key[..indexed];
        // Rows of the batch that share a prefix are neighbours.
        if let Some(before) = added_before
            && before.starts_with(prefix)
        {
            return Err(taken(indexed, key, before)?);
        }
        added_before = Some(key);
        if row.before.is_some() {
            continue;
        }
        each_that_begins(view, shards, prefix, |there| {
            let stays = rows.get(there).is_none_or(|row| row.after.is_some());
            if stays && there != key.as_slice() {
                return Err(taken(indexed, key, there)?);
            }
            Ok(ControlFlow::Continue(()))
        })?;
    }
    Ok(())
}
