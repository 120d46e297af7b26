//! Index rows that are sorted while the rows of their table are gone through.
//!
//! *Memory*: that of one [`crate::kernel::Sorter`] for all indexes together, where they are few.

use crate::catalogue::TableEntry;
use crate::catalogue::index_rows::IndexEdit;
use crate::commit::Inner;
use crate::error::{Error, Result};
use crate::kernel::{Merged, Sorter};

/// Takes what becomes of a row of an index, by the place of the index in the schema.
pub(crate) type TakeEdit<'a> = &'a mut dyn FnMut(usize, Vec<u8>, IndexEdit) -> Result<()>;

/// What `produce` returns, and the edits that it gave, of each index in the order of their keys.
pub(crate) fn sort_edits<T, E: From<Error>>(
    inner: &Inner,
    table: &TableEntry,
    produce: impl FnOnce(TakeEdit<'_>) -> std::result::Result<T, E>,
) -> std::result::Result<(T, Vec<Merged>), E> {
    let mut sorters = inner.store.sorters(table.layout.indexes.len());
    let mut bytes = Vec::new();
    let produced = produce(&mut |index, key, edit| {
        bytes.clear();
        edit.encode_into(&mut bytes);
        sorters[index].push(&key, &bytes)
    })?;
    let sorted: Result<Vec<Merged>> = sorters.into_iter().map(Sorter::finish).collect();
    Ok((produced, sorted?))
}
