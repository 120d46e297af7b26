//! Index rows that are sorted while the rows of their table are gone through, by a thread of their own.
//!
//! *Memory*: a piece of [`crate::kernel::Sorter`] for each index, and a few batches on their way to it.

use std::sync::mpsc::sync_channel;
use std::thread;

use crate::catalogue::TableEntry;
use crate::catalogue::index_rows::IndexEdit;
use crate::commit::Inner;
use crate::error::{Error, Result};
use crate::kernel::{Merged, Sorter};

/// So many edits go to the other thread at a time ...
const BATCH_EDITS: usize = 512;
/// ... and so many batches may wait for it.
const BATCHES_WAITING: usize = 8;

/// Takes what becomes of a row of an index, by the place of the index in the schema.
pub(crate) type TakeEdit<'a> = &'a mut dyn FnMut(usize, Vec<u8>, IndexEdit) -> Result<()>;

/// What `produce` returns, and the edits that it gave, of each index in the order of their keys.
pub(crate) fn sort_edits<T, E: From<Error>>(
    inner: &Inner,
    table: &TableEntry,
    produce: impl FnOnce(TakeEdit<'_>) -> std::result::Result<T, E>,
) -> std::result::Result<(T, Vec<Merged>), E> {
    let indexes = table.layout.indexes.len();
    if indexes == 0 {
        return Ok((produce(&mut |_, _, _| Ok(()))?, Vec::new()));
    }
    type Batch = Vec<(usize, Vec<u8>, Vec<u8>)>;
    let (sender, receiver) = sync_channel::<Batch>(BATCHES_WAITING);
    let sort = move || {
        let mut sorters: Vec<Sorter> = (0..indexes).map(|_| inner.store.sorter()).collect();
        for (index, key, edit) in receiver.into_iter().flatten() {
            sorters[index].push(&key, &edit)?;
        }
        sorters.into_iter().map(Sorter::finish).collect()
    };
    thread::scope(|scope| {
        let sorting = scope.spawn(sort);
        let mut batch = Batch::new();
        let produced = produce(&mut |index, key, edit| {
            batch.push((index, key, edit.encode()));
            if batch.len() == BATCH_EDITS {
                // When nobody takes them, sorting has failed, which is told below.
                let _ = sender.send(std::mem::take(&mut batch));
            }
            Ok(())
        });
        let _ = sender.send(batch);
        drop(sender);
        let sorted: Result<Vec<Merged>> = match sorting.join() {
            Ok(sorted) => sorted,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let sorted = sorted?;
        Ok((produced?, sorted))
    })
}
