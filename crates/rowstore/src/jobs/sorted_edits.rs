//! Sorts index rows while the rows of their table are read.
//!
//! *Memory*: that of one [`crate::kernel::Sorter`] for all indexes together, where they are few; with many
//! indexes or threads the least of [`MOST_SORTERS`], or of one for each index.

use std::sync::{Arc, Mutex};
use std::thread;

use crate::catalogue::index_rows::IndexEdit;
use crate::catalogue::{Shard, TableEntry};
use crate::commit::Inner;
use crate::error::{Error, Result};
use crate::kernel::{Merged, NOT_POISONED, Sorted, Sorter};

/// Threads that sort at the same time have no more sorters than this together, unless one thread alone has: each
/// takes memory, and machines with many processors are not always large.
const MOST_SORTERS: usize = 16;

/// Takes what becomes of a row of an index, by the place of the index in the schema.
pub(crate) type TakeEdit<'a> = &'a mut dyn FnMut(usize, Vec<u8>, IndexEdit) -> Result<()>;

/// What `produce` returns, and the edits that it gave, of each index in the order of their keys.
pub(crate) fn sort_edits<T, E: From<Error>>(
    inner: &Inner,
    table: &TableEntry,
    produce: impl FnOnce(TakeEdit<'_>) -> std::result::Result<T, E>,
) -> std::result::Result<(T, Vec<Merged>), E> {
    let sorters = inner.store.sorters(table.layout.indexes.len());
    let (produced, sorted) = into_sorters(sorters, produce)?;
    let merged = sorted.into_iter().map(|sorted| Merged::new(vec![sorted]));
    let merged: Result<_> = merged.collect();
    Ok((produced, merged?))
}

/// The edits that `produce` gives for each shard of the table, some at the same time, of each index in the order
/// of their keys. No two are of one key, unless they are of one shard.
pub(crate) fn sort_edits_of_shards(
    inner: &Inner,
    table: &TableEntry,
    shards: &[&Arc<Shard>],
    produce: &(dyn Fn(&Arc<Shard>, TakeEdit<'_>) -> Result<()> + Sync),
) -> Result<Vec<Merged>> {
    let indexes = table.layout.indexes.len();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let most = (MOST_SORTERS / indexes.max(1)).max(1);
    let threads = threads.min(most).min(shards.len()).max(1);
    let mut sorters = inner.store.sorters(indexes * threads);
    let left = Mutex::new(shards.iter());
    let work = |sorters: Vec<Sorter>| -> Result<Vec<Sorted>> {
        let ((), sorted) = into_sorters(sorters, |take| {
            let next = || left.lock().expect(NOT_POISONED).next();
            while let Some(shard) = next() {
                produce(shard, take)?;
            }
            Ok::<_, Error>(())
        })?;
        Ok(sorted)
    };
    let work = &work;
    let sorted: Result<Vec<Vec<Sorted>>> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads)
            .map(|_| {
                let sorters = sorters.split_off(sorters.len() - indexes);
                scope.spawn(move || work(sorters))
            })
            .collect();
        let mut sorted = vec![work(sorters)?];
        for other in others {
            sorted.push(match other.join() {
                Ok(sorted) => sorted?,
                Err(panic) => std::panic::resume_unwind(panic),
            });
        }
        Ok(sorted)
    });
    let mut of_index: Vec<Vec<Sorted>> = (0..indexes).map(|_| Vec::new()).collect();
    for sorted in sorted? {
        for (of_index, sorted) in of_index.iter_mut().zip(sorted) {
            of_index.push(sorted);
        }
    }
    of_index.into_iter().map(Merged::new).collect()
}

fn into_sorters<T, E: From<Error>>(
    mut sorters: Vec<Sorter>,
    produce: impl FnOnce(TakeEdit<'_>) -> std::result::Result<T, E>,
) -> std::result::Result<(T, Vec<Sorted>), E> {
    let mut bytes = Vec::new();
    let produced = produce(&mut |index, key, edit| {
        bytes.clear();
        edit.encode_into(&mut bytes);
        sorters[index].push(&key, &bytes)
    })?;
    let sorted: Result<Vec<Sorted>> = sorters.into_iter().map(Sorter::sort).collect();
    Ok((produced, sorted?))
}
