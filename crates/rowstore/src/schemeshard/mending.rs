//! Tables that an operation mends while clients read them.
//!
//! # Consistency
//! From the commit that begins a mend to the one that ends it nobody else changes the tables: neither
//! their rows nor their schema nor their shards. What is staged lies in layers that readers see as
//! soon as the state of the tables says so, which is one commit for all of them.
//!
//! # Crash
//! Which tables a mend holds and whether it is published is in the catalogue: whoever opens the store
//! next goes on with the same call, or aborts. Every commit here is on disk when its call returns.

use std::collections::BTreeSet;
use std::sync::Arc;

use mendb_model::Malformed;

use crate::database::Inner;
use crate::datashard::layer::Layer;
use crate::error::{Error, Result};
use crate::schemeshard::{Access, Catalogue, Layers, PathState, TableEntry, streams};
use crate::snapshot::Snapshot;
use crate::transaction::Transaction;
use crate::view::{Commit, View};

/// How far a mend is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MendDescription {
    /// The tables that it holds, by name.
    pub tables: Vec<String>,
    /// The version of the commit that closed them to writers.
    pub begun_at: u64,
    /// The version from which on readers see the mended rows; `None` before.
    pub published_at: Option<u64>,
}

/// The tables that the operation mends, by name.
pub(crate) fn held<'a>(
    catalogue: &'a Catalogue,
    operation: &str,
) -> impl Iterator<Item = &'a Arc<TableEntry>> {
    catalogue.tables().filter(move |entry| {
        matches!(&entry.state, PathState::Mending { operation: ours, .. } if ours == operation)
    })
}

pub(crate) fn describe(catalogue: &Catalogue, operation: &str) -> Option<MendDescription> {
    let mut mend: Option<MendDescription> = None;
    for entry in held(catalogue, operation) {
        let PathState::Mending { begun_at, .. } = entry.state else {
            continue;
        };
        let mend = mend.get_or_insert(MendDescription {
            tables: Vec::new(),
            begun_at,
            published_at: entry.published_at(),
        });
        mend.tables.push(entry.name.clone());
    }
    mend
}

/// The table, if the operation can stage rows for it.
pub(crate) fn open_to<'a>(
    catalogue: &'a Catalogue,
    table: &str,
    operation: &str,
) -> Result<&'a Arc<TableEntry>> {
    let entry = catalogue.table(table)?;
    match &entry.state {
        PathState::Mending {
            operation: ours,
            published_at,
            ..
        } if ours == operation => match published_at {
            None => Ok(entry),
            Some(_) => Err(Error::MendPublished {
                operation: operation.to_owned(),
            }),
        },
        _ => Err(Error::NotMending {
            table: table.to_owned(),
            operation: operation.to_owned(),
        }),
    }
}

pub(crate) fn begin(inner: &Inner, operation: &str, tables: &[String]) -> Result<u64> {
    let mut transaction = Transaction::begin(inner);
    let wanted: BTreeSet<&String> = tables.iter().collect();
    if let Some(mend) = describe(transaction.catalogue(), operation) {
        if !wanted.into_iter().eq(&mend.tables) {
            return Err(Error::MendOfOthers {
                operation: operation.to_owned(),
                tables: mend.tables,
            });
        }
        drop(transaction);
        inner.sync()?;
        return Ok(mend.begun_at);
    }
    let begun_at = transaction.version;
    for name in wanted {
        let mut entry = TableEntry::clone(transaction.catalogue().table(name)?);
        entry.check(Access::Hold)?;
        entry.enter(PathState::Mending {
            operation: operation.to_owned(),
            begun_at,
            published_at: None,
        });
        transaction.put_table(entry);
    }
    transaction.commit()?;
    inner.sync()?;
    Ok(begun_at)
}

pub(crate) fn publish(inner: &Inner, operation: &str) -> Result<u64> {
    let mut transaction = Transaction::begin(inner);
    let view = transaction.view.clone();
    let mend = known(view.catalogue(), operation)?;
    if let Some(published_at) = mend.published_at {
        drop(transaction);
        inner.sync()?;
        return Ok(published_at);
    }
    let version = transaction.version;
    for entry in published(view.catalogue(), operation, version) {
        if entry.state == PathState::Ready {
            for shard in entry.all_shards() {
                transaction.remove_cursors(shard.id)?;
            }
        }
        transaction.put_table(entry);
    }
    transaction.commit()?;
    inner.sync()?;
    Ok(version)
}

/// The last commit, read as if the mend were published.
pub(crate) fn snapshot(inner: &Inner, operation: &str) -> Result<Snapshot> {
    let view = inner.view()?;
    if known(view.catalogue(), operation)?.published_at.is_some() {
        return Ok(Snapshot::new(view));
    }
    let mut catalogue = Catalogue::clone(view.catalogue());
    for entry in published(view.catalogue(), operation, view.version()) {
        catalogue.insert(entry);
    }
    Ok(Snapshot::new(Arc::new(View {
        files: view.files.clone(),
        reader: view.reader.clone(),
        commit: Commit {
            catalogue: Arc::new(catalogue),
            ..view.commit.clone()
        },
        store: view.store.clone(),
    })))
}

pub(crate) fn abort(inner: &Inner, operation: &str) -> Result<()> {
    let mut transaction = Transaction::begin(inner);
    let view = transaction.view.clone();
    let Some(mend) = describe(view.catalogue(), operation) else {
        drop(transaction);
        return inner.sync();
    };
    if mend.published_at.is_some() {
        return Err(Error::MendPublished {
            operation: operation.to_owned(),
        });
    }
    let layers = release(&mut transaction, &view, operation)?;
    end(inner, transaction, &layers, &mend.tables)
}

/// Ends a mend whose layers are settled, if they are.
pub(crate) fn finish(inner: &Inner, operation: &str) -> Result<()> {
    let mut transaction = Transaction::begin(inner);
    let view = transaction.view.clone();
    let Some(mend) = describe(view.catalogue(), operation) else {
        drop(transaction);
        return inner.sync();
    };
    for shard in held(view.catalogue(), operation).flat_map(|entry| entry.all_shards()) {
        if let Some(layer) = transaction.committed_stats(shard.id)?.layer {
            let source = Malformed {
                what: "layer",
                detail: format!(
                    "of what {operation} staged, {} is not settled",
                    layer.entries
                ),
            };
            return Err(Error::damaged(shard.label(), source));
        }
    }
    let layers = release(&mut transaction, &view, operation)?;
    end(inner, transaction, &layers, &mend.tables)
}

fn known(catalogue: &Catalogue, operation: &str) -> Result<MendDescription> {
    describe(catalogue, operation).ok_or_else(|| Error::NoMend {
        operation: operation.to_owned(),
    })
}

/// The tables of a mend as they are once it is published: those that the same operation restores are
/// open to clients then.
fn published(catalogue: &Catalogue, operation: &str, at: u64) -> Vec<TableEntry> {
    let after = |entry: &Arc<TableEntry>| match &entry.state {
        PathState::Mending {
            operation: ours,
            begun_at,
            ..
        } if ours == operation => {
            let mut after = TableEntry::clone(entry);
            after.state = PathState::Mending {
                operation: ours.clone(),
                begun_at: *begun_at,
                published_at: Some(at),
            };
            Some(after)
        }
        PathState::Restoring { operation: ours } if ours == operation => {
            let mut after = TableEntry::clone(entry);
            after.enter(PathState::Ready);
            Some(after)
        }
        _ => None,
    };
    catalogue.tables().filter_map(after).collect()
}

/// Adds to a commit that the tables are nobody's again; the layers they had.
fn release(transaction: &mut Transaction<'_>, view: &View, operation: &str) -> Result<Vec<Layers>> {
    let mut layers = Vec::new();
    for entry in held(view.catalogue(), operation) {
        for shard in entry.all_shards() {
            transaction.remove_cursors(shard.id)?;
            if transaction.committed_stats(shard.id)?.layer.is_some() {
                transaction.stats(shard)?.layer = None;
            }
        }
        for layer in entry.layers.values() {
            transaction.batch.doom_layer(layer.section());
        }
        layers.push(entry.layers.clone());
        let mut entry = TableEntry::clone(entry);
        entry.enter(PathState::Ready);
        transaction.put_table(entry);
    }
    Ok(layers)
}

/// Commits, and when that is on disk removes the layers, and what streams let go of meanwhile.
fn end(
    inner: &Inner,
    transaction: Transaction<'_>,
    layers: &[Layers],
    tables: &[String],
) -> Result<()> {
    transaction.commit()?;
    inner.sync()?;
    let layers = layers.iter().flat_map(Layers::values);
    inner.store.erase_layers(layers.map(Layer::section));
    streams::trim(inner, tables)
}
