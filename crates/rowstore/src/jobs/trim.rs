//! Drops the changes of a change log that no stream needs.

use std::sync::Arc;

use mendb_model::key::KeyRange;

use crate::catalogue::{Shard, streams};
use crate::commit::{Inner, Transaction};
use crate::error::Result;
use crate::kernel::{Cursor, Direction, Section, Tree};
use crate::shard::log::split_key;
use crate::shard::view::View;

/// So many bytes of records are removed at a time.
const TRIM_BYTES: u64 = 4 << 20;

/// Removes the records of a shard that no stream needs, if that is worth it. The caller holds the `work` of
/// the shard; others go on writing it, except for a moment.
///
/// *Crash*: what is removed is counted out in the same commit; the next trim goes on.
pub(crate) fn trim(inner: &Inner, shard: &Arc<Shard>) -> Result<()> {
    let view = inner.view()?;
    if view.catalogue().shard(shard.id).is_none() {
        return Ok(());
    }
    let floor = streams::floor(view.table(&shard.path.table)?, view.version());
    let stats = view.stats(shard.id)?;
    if stats.all_log_bytes() <= inner.options.trim_bytes || stats.log_floor >= floor {
        return Ok(());
    }
    if stats.log_bytes > 0 {
        trim_single(inner, shard, &view, floor)?;
    }
    let mut transaction = Transaction::begin(inner);
    if transaction.catalogue().shard(shard.id).is_none() {
        return Ok(());
    }
    // No reader can tell the difference, so this is no version of its own.
    transaction.version = transaction.view.version();
    let stats = transaction.stats(shard)?;
    stats.log_floor = floor;
    let mut removed = Vec::new();
    for run in &mut stats.runs {
        if run.version <= floor && run.is_logged {
            run.is_logged = false;
            if run.is_of_records {
                removed.push(Section::run(shard.id, run.number));
            }
        }
    }
    stats.runs.retain(|run| run.is_logged || !run.is_of_records);
    for run in &removed {
        transaction.batch.doom_run(run);
    }
    transaction.commit()?;
    inner.store.erase_runs(removed.iter());
    Ok(())
}

/// Removes the single records of a shard up to a version.
fn trim_single(inner: &Inner, shard: &Arc<Shard>, view: &Arc<View>, floor: u64) -> Result<()> {
    let log = Section::of_shard(Tree::Log, shard.id);
    let all = KeyRange::all();
    let mut records = Cursor::new(&view.reader, &log, &all, Direction::Ascending);
    let mut is_done = false;
    while !is_done {
        let mut removed = Vec::new();
        let mut bytes = 0;
        while bytes < TRIM_BYTES && !is_done {
            match records.next().transpose()? {
                Some((record, change)) => {
                    if split_key(shard, &record)?.1 <= floor {
                        bytes += (record.len() + change.len()) as u64;
                        removed.push((record, change));
                    }
                }
                None => is_done = true,
            }
        }
        let mut transaction = Transaction::begin(inner);
        if transaction.catalogue().shard(shard.id).is_none() {
            return Ok(());
        }
        // No reader can tell the difference, so this is no version of its own.
        transaction.version = transaction.view.version();
        let stats = transaction.stats(shard)?;
        stats.log_bytes = stats.log_bytes.saturating_sub(bytes);
        for (record, change) in &removed {
            stats.log.remove(record, change);
        }
        for (record, _) in removed {
            transaction.batch.remove(&log, &record);
        }
        transaction.commit()?;
    }
    Ok(())
}
