//! The index rows that follow from what a mend has staged of a table.
//!
//! A mend stages rows one shard at a time, and their index rows lie anywhere. So this job makes them all at once, when
//! a caller asks for the table as it will be: it compares what is staged with what is beneath, sorts the index rows,
//! and writes one run to each shard of an index.
//!
//! *Crash*: a record in the `meta` tree, `'i'` and the name of the table, says that they are still to be made. It
//! commits with the rows and goes with the commit that has the index rows.

use std::sync::Arc;

use mendb_model::key::KeyRange;

use crate::catalogue::index_rows::{self, RowEdit};
use crate::catalogue::{Shard, TableEntry, mends};
use crate::commit::{Inner, Transaction};
use crate::error::Result;
use crate::jobs::erase::{self, erase_runs};
use crate::jobs::sorted_edits::{TakeEdit, sort_edits_of_shards};
use crate::kernel::{NOT_POISONED, Section, Tree};
use crate::shard::budget::Budget;
use crate::shard::entry::decode_over;
use crate::shard::index_edits;
use crate::shard::overlay::Overlay;
use crate::shard::point::PointReader;
use crate::shard::rebuilt;
use crate::shard::shard_edits::Purpose;
use crate::shard::view::View;

const TAG: u8 = b'i';

fn mark(table: &str) -> Vec<u8> {
    [&[TAG], table.as_bytes()].concat()
}

/// Adds to a commit that stages rows of a table that its index rows are to be made.
pub(crate) fn expect(transaction: &mut Transaction<'_>, entry: &TableEntry) {
    if !entry.indexes.is_empty() {
        transaction.put_meta(&mark(&entry.name), &[]);
    }
}

/// Adds to a commit that no index rows are to be made.
pub(crate) fn forget(transaction: &mut Transaction<'_>, entry: &TableEntry) {
    let meta = Section::whole(Tree::Meta);
    transaction.batch.remove(&meta, &mark(&entry.name));
}

/// Whether index rows are to be made.
pub(crate) fn is_expected(view: &View, entry: &TableEntry) -> Result<bool> {
    let meta = Section::whole(Tree::Meta);
    let mark = view.reader.get(&meta, &mark(&entry.name))?;
    Ok(mark.is_some())
}

/// Makes the index rows of all tables of a mend that lack them.
pub(crate) fn derive(inner: &Inner, operation: &str) -> Result<()> {
    let view = inner.view()?;
    for entry in mends::held(view.catalogue(), operation) {
        if is_expected(&view, entry)? {
            derive_table(inner, operation, entry)?;
        }
    }
    Ok(())
}

fn derive_table(inner: &Inner, operation: &str, entry: &Arc<TableEntry>) -> Result<()> {
    // Nobody stages meanwhile, and nobody else does this.
    let work = entry
        .all_shards()
        .map(|shard| shard.work.lock().expect(NOT_POISONED));
    let _work: Vec<_> = work.collect();
    let view = inner.view()?;
    let is_current = |view: &View| {
        let now = mends::open_to(view.catalogue(), &entry.name, operation);
        now.is_ok_and(|now| now.state == entry.state)
    };
    if !is_current(&view) || !is_expected(&view, entry)? {
        return Ok(());
    }
    give_up(inner, entry)?;
    let made = make(inner, entry, is_current);
    made.inspect_err(|_| erase::cut_off(inner, entry.indexes.values().flatten()))
}

/// Makes the index rows of a table, if what it is made for is still current then. The caller holds the `work` of
/// all shards.
fn make(inner: &Inner, entry: &TableEntry, is_current: impl Fn(&View) -> bool) -> Result<()> {
    let view = inner.view()?;
    let mut staged = Vec::new();
    for shard in &entry.rows {
        let stats = view.stats(shard.id)?;
        if stats.staged.is_some() || stats.successor.is_some() {
            staged.push(shard);
        }
    }
    let rebuilt = rebuilt::indexes(&view, entry)?;
    if rebuilt.iter().all(|is_rebuilt| *is_rebuilt) {
        staged.clear();
    }
    let edits = sort_edits_of_shards(inner, entry, &staged, &|shard, take| {
        edits(
            &view,
            entry,
            shard,
            &mut |index, key, edit| match rebuilt[index] {
                true => Ok(()),
                false => take(index, key, edit),
            },
        )
    })?;
    let budget = Budget::default();
    let mut written = Vec::new();
    for (index, edits) in entry.layout.indexes.iter().zip(edits) {
        let shards = entry.shards(Some(&index.name))?;
        written.extend(index_edits::write(
            &view,
            &budget,
            shards,
            edits,
            Purpose::Stage,
            None,
        )?);
    }
    let mut transaction = Transaction::begin(inner);
    if !is_current(&transaction.view) {
        return Ok(());
    }
    // No reader can tell the difference, so this is no version of its own.
    transaction.version = transaction.view.version();
    for edits in written {
        transaction.put_edits(edits)?;
    }
    forget(&mut transaction, entry);
    transaction.commit()?;
    inner.acknowledge()
}

/// Removes the index rows of a table that were made before more of its rows were staged.
fn give_up(inner: &Inner, entry: &TableEntry) -> Result<()> {
    let mut transaction = Transaction::begin(inner);
    transaction.version = transaction.view.version();
    let mut removed = Vec::new();
    for shard in entry.indexes.values().flatten() {
        removed.extend(transaction.remove_staged(shard)?);
    }
    if removed.is_empty() {
        return Ok(());
    }
    transaction.commit()?;
    inner.sync()?;
    erase_runs(inner, &removed)
}

/// Hands over what becomes of the rows of the indexes with those of a shard.
fn edits(
    view: &Arc<View>,
    entry: &TableEntry,
    shard: &Arc<Shard>,
    take: TakeEdit<'_>,
) -> Result<()> {
    let stats = view.stats(shard.id)?;
    let mut staged = match &stats.successor {
        None => Overlay::staged(view, shard, &stats, &KeyRange::all())?,
        Some(successor) => {
            let successor = successor.shard(shard);
            let stats = view.stats(successor.id)?;
            Overlay::staged(view, &successor, &stats, &KeyRange::all())?
        }
    };
    let mut beneath = PointReader::seeing(view.clone(), shard.clone(), &stats, false);
    let (mut key, mut value) = (Vec::new(), Vec::new());
    while staged.next_into(&mut key, &mut value)? {
        let edit = RowEdit {
            key: &key,
            before: beneath.look_up(&key)?,
            after: decode_over(shard, &value)?,
        };
        index_rows::edits(entry, edit, take)?;
    }
    Ok(())
}
