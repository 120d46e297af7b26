//! Change streams of tables: what they need of the change logs, and when they release it.
//!
//! A stream belongs to a table and so to all its indexes. The change logs of a table's shards keep what
//! its neediest stream needs.

use crate::catalogue::{Catalogue, PathState, TableEntry};
use crate::commit::{Inner, Transaction};
use crate::error::Result;
use crate::jobs::trim;
use crate::kernel::NOT_POISONED;

pub(crate) fn detach(inner: &Inner, stream: &str) -> Result<()> {
    let names = carriers(&inner.commit().catalogue, stream);
    change(inner, stream, |entry| {
        entry.streams.remove(stream);
        entry.versions = entry.versions.raised();
        true
    })?;
    trim(inner, &names)
}

/// Releases all that a stream needs, and marks it as lost: the change log of a table had grown to `bytes`.
pub(crate) fn lapse(inner: &Inner, stream: &str, bytes: u64) -> Result<()> {
    change(inner, stream, |entry| {
        if let Some(record) = entry.streams.get_mut(stream) {
            record.needed_after = u64::MAX;
            record.outgrew_bytes = Some(bytes);
        }
        true
    })?;
    trim(inner, &carriers(&inner.commit().catalogue, stream))
}

pub(crate) fn release(inner: &Inner, stream: &str, up_to: u64) -> Result<()> {
    change(inner, stream, |entry| {
        let record = entry.streams.get_mut(stream);
        record.is_some_and(|record| {
            let moves = record.needed_after < up_to;
            record.needed_after = record.needed_after.max(up_to);
            moves
        })
    })?;
    trim(inner, &carriers(&inner.commit().catalogue, stream))
}

/// Finishes the trims that a crash or an error interrupted, of tables that no stream will release any more.
/// The others are trimmed when one does.
pub(crate) fn trim_leftovers(inner: &Inner) -> Result<()> {
    let catalogue = inner.commit().catalogue;
    let tables = catalogue.tables();
    let without = tables.filter(|table| !table.keeps_changes());
    let without: Vec<String> = without.map(|table| table.name.clone()).collect();
    trim(inner, &without)
}

/// Changes every table that carries the stream, in one commit, if `edit` says that it changed any.
fn change(
    inner: &Inner,
    stream: &str,
    mut edit: impl FnMut(&mut TableEntry) -> bool,
) -> Result<()> {
    let mut transaction = Transaction::begin(inner);
    let view = transaction.view.clone();
    let mut changed = false;
    for entry in view.catalogue().tables() {
        if entry.streams.contains_key(stream) {
            let mut entry = TableEntry::clone(entry);
            if edit(&mut entry) {
                transaction.put_table(entry);
                changed = true;
            }
        }
    }
    if changed {
        transaction.commit()?;
    } else {
        drop(transaction);
    }
    inner.sync()
}

fn carriers(catalogue: &Catalogue, stream: &str) -> Vec<String> {
    catalogue
        .tables()
        .filter(|table| table.streams.contains_key(stream))
        .map(|table| table.name.clone())
        .collect()
}

/// Trims the change logs of tables to what their streams need. Those of tables that are being mended wait
/// until that is over: much of them may be rewritten then.
pub(crate) fn trim(inner: &Inner, tables: &[String]) -> Result<()> {
    let catalogue = inner.commit().catalogue;
    for name in tables {
        let Ok(entry) = catalogue.table(name) else {
            continue;
        };
        if matches!(entry.state, PathState::Mending { .. }) {
            continue;
        }
        for shard in entry.all_shards() {
            let _work = shard.work.lock().expect(NOT_POISONED);
            trim::trim(inner, shard)?;
        }
    }
    Ok(())
}
