//! Tables that an operation mends while clients read them.
//!
//! # Consistency
//! From the commit that begins a mend to the one that ends it, the mend alone changes the tables: their rows, their
//! schemas and their shards. What is staged lies in runs that readers do not see. One commit makes the runs of all
//! tables visible, and so part of the change logs.
//!
//! # Crash
//! The catalogue says which tables a mend holds and whether it is published. The next process repeats the same call, or
//! aborts the mend. Every commit here is on disk when its call returns.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::catalogue::mends::{MendDescription, describe, held};
use crate::catalogue::{self, Access, Catalogue, PathState, TableEntry};
use crate::commit::{Inner, Transaction};
use crate::error::{Error, Result};
use crate::jobs::erase::{erase_runs, erase_successors};
use crate::jobs::{derive, streams};
use crate::shard::rebuilt::{self, Rebuilt};
use crate::shard::removed_runs::RemovedRuns;
use crate::shard::view::{Commit, View};

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
        entry.state = PathState::Mending {
            operation: operation.to_owned(),
            begun_at,
            published_at: None,
        };
        transaction.put_table(entry);
    }
    transaction.commit()?;
    inner.sync()?;
    Ok(begun_at)
}

pub(crate) fn publish(inner: &Inner, operation: &str) -> Result<u64> {
    let mut transaction = loop {
        derive::derive(inner, operation)?;
        let transaction = Transaction::begin(inner);
        // More may have been staged since.
        if !lacks_index_rows(&transaction.view, operation)? {
            break transaction;
        }
    };
    let view = transaction.view.clone();
    let mend = known(view.catalogue(), operation)?;
    if let Some(published_at) = mend.published_at {
        drop(transaction);
        inner.sync()?;
        return Ok(published_at);
    }
    let version = transaction.version;
    let mut replaced = Vec::new();
    for mut entry in published(view.catalogue(), operation, version) {
        if entry.state == PathState::Ready {
            for shard in entry.all_shards() {
                transaction.remove_cursors(shard.id)?;
            }
        }
        for shard in entry.all_shards() {
            transaction.publish_staged(shard, entry.keeps_changes())?;
        }
        let rebuilt = rebuilt::of_table(&view, &entry)?;
        for Rebuilt { live, successor } in &rebuilt {
            transaction.publish_successor(successor, live.id, entry.keeps_changes())?;
        }
        rebuilt::put(&mut entry, &rebuilt);
        replaced.extend(rebuilt.into_iter().map(|rebuilt| rebuilt.live));
        transaction.put_table(entry);
    }
    transaction.commit()?;
    inner.sync()?;
    catalogue::retire(&inner.store, replaced.iter());
    Ok(version)
}

fn lacks_index_rows(view: &View, operation: &str) -> Result<bool> {
    for entry in held(view.catalogue(), operation) {
        if derive::is_expected(view, entry)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The last commit, read as if the mend were published.
pub(crate) fn view(inner: &Inner, operation: &str) -> Result<Arc<View>> {
    let staged = inner.staged_views.clone();
    let view = loop {
        derive::derive(inner, operation)?;
        let view = inner.view()?;
        // More may have been staged since.
        if !lacks_index_rows(&view, operation)? {
            break view;
        }
    };
    if known(view.catalogue(), operation)?.published_at.is_some() {
        return Ok(view);
    }
    let mut catalogue = Catalogue::clone(view.catalogue());
    for mut entry in published(view.catalogue(), operation, view.version()) {
        let rebuilt = rebuilt::of_table(&view, &entry)?;
        rebuilt::put(&mut entry, &rebuilt);
        catalogue.insert(entry);
    }
    Ok(Arc::new(View {
        files: view.files.clone(),
        reader: view.reader.clone(),
        commit: Commit {
            catalogue: Arc::new(catalogue),
            ..view.commit.clone()
        },
        store: view.store.clone(),
        _staged: Some(staged),
    }))
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
    let mut removed = Vec::new();
    let mut successors = Vec::new();
    for entry in held(view.catalogue(), operation) {
        for shard in entry.all_shards() {
            removed.extend(transaction.remove_staged(shard)?);
            successors.extend(transaction.remove_successor(shard)?);
        }
        derive::forget(&mut transaction, entry);
    }
    end(inner, transaction, &removed, operation)?;
    erase_successors(inner, &successors);
    Ok(())
}

/// Ends a mend that is published.
pub(crate) fn finish(inner: &Inner, operation: &str) -> Result<()> {
    let transaction = Transaction::begin(inner);
    if describe(transaction.catalogue(), operation).is_none() {
        drop(transaction);
        return inner.sync();
    }
    end(inner, transaction, &[], operation)
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
            after.state = PathState::Ready;
            Some(after)
        }
        _ => None,
    };
    catalogue.tables().filter_map(after).collect()
}

/// Commits that the tables are nobody's again. When that is on disk, erases runs that were removed, and trims
/// what streams released meanwhile.
fn end(
    inner: &Inner,
    mut transaction: Transaction<'_>,
    removed: &[RemovedRuns],
    operation: &str,
) -> Result<()> {
    let view = transaction.view.clone();
    let mut tables = Vec::new();
    for entry in held(view.catalogue(), operation) {
        for shard in entry.all_shards() {
            transaction.remove_cursors(shard.id)?;
        }
        tables.push(entry.name.clone());
        let mut entry = TableEntry::clone(entry);
        entry.state = PathState::Ready;
        transaction.put_table(entry);
    }
    transaction.commit()?;
    inner.sync()?;
    erase_runs(inner, removed)?;
    streams::trim(inner, &tables)
}
