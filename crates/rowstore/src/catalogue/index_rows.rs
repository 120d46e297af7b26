//! Which rows of an index a change of its table removes and adds.
//!
//! The key of an index row ends with the key of the table row it belongs to, so different table rows
//! never meet in one index row, and the index itself need not be read.

use std::sync::Arc;

use mendb_model::{ValueRef, key_text};

use crate::catalogue::layout::{IndexLayout, IndexRow};
use crate::catalogue::{Shard, TableEntry, route};
use crate::error::{Error, Result};

/// What becomes of a row, of a table or of an index.
#[derive(Clone, Copy)]
pub(crate) struct RowEdit<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) before: Option<&'a [u8]>,
    pub(crate) after: Option<&'a [u8]>,
}

/// What becomes of a row of the index.
pub(crate) struct IndexEdit {
    pub(crate) before: Option<Vec<u8>>,
    pub(crate) after: Option<Vec<u8>>,
    /// As in [`crate::catalogue::layout::IndexRow`].
    pub(crate) unique: Option<usize>,
}

const BEFORE: u8 = 1;
const AFTER: u8 = 2;
const UNIQUE: u8 = 4;

impl IndexEdit {
    /// Appends it as bytes, to be sorted: what is there (1), the length of the unique part (4), that of the row
    /// before (4), the row before, the row after.
    pub(crate) fn encode_into(&self, bytes: &mut Vec<u8>) {
        let length = |of: usize| u32::try_from(of).expect("a key or row is below 4 GiB");
        let (before, after) = (self.before.as_deref(), self.after.as_deref());
        let flag = |is_there: bool, flag: u8| if is_there { flag } else { 0 };
        let flags = flag(before.is_some(), BEFORE)
            | flag(after.is_some(), AFTER)
            | flag(self.unique.is_some(), UNIQUE);
        let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
        bytes.push(flags);
        bytes.extend_from_slice(&length(self.unique.unwrap_or_default()).to_le_bytes());
        bytes.extend_from_slice(&length(before.len()).to_le_bytes());
        bytes.extend_from_slice(before);
        bytes.extend_from_slice(after);
    }
}

/// An [`IndexEdit`], read in place.
#[derive(Clone, Copy)]
pub(crate) struct IndexEditRef<'a> {
    pub(crate) before: Option<&'a [u8]>,
    pub(crate) after: Option<&'a [u8]>,
    pub(crate) unique: Option<usize>,
}

impl<'a> IndexEditRef<'a> {
    /// What [`IndexEdit::encode_into`] made.
    ///
    /// # Panics
    /// It made something else: what is sorted is proved by its checksum.
    pub(crate) fn decode(bytes: &'a [u8]) -> Self {
        let number = |at: usize| {
            let bytes = bytes[at..at + 4].try_into().expect("four bytes are four");
            u32::from_le_bytes(bytes) as usize
        };
        let is_there = |flag: u8| bytes[0] & flag != 0;
        let (before, after) = bytes[9..].split_at(number(5));
        Self {
            before: is_there(BEFORE).then_some(before),
            after: is_there(AFTER).then_some(after),
            unique: is_there(UNIQUE).then(|| number(1)),
        }
    }

    pub(crate) fn to_owned(self) -> IndexEdit {
        IndexEdit {
            before: self.before.map(<[u8]>::to_vec),
            after: self.after.map(<[u8]>::to_vec),
            unique: self.unique,
        }
    }
}

/// The index row of a row.
pub(crate) fn row_of(
    table: &TableEntry,
    index: &IndexLayout,
    key: &[u8],
    row: &[u8],
) -> Result<IndexRow> {
    let made = table
        .layout
        .read_indexed(key, row, |values| index.row(values));
    let made = made.map_err(|error| Error::damaged(route(&table.rows, key).label(), error))?;
    made.map_err(|bytes| too_long(table, index, bytes))
}

/// Hands over what becomes of the rows of each index, by its place in the schema, when a row changes.
pub(crate) fn edits(
    table: &TableEntry,
    row: RowEdit<'_>,
    take: &mut dyn FnMut(usize, Vec<u8>, IndexEdit) -> Result<()>,
) -> Result<()> {
    let layout = &table.layout;
    if layout.indexes.is_empty() {
        return Ok(());
    }
    let damaged = |error| Error::damaged(route(&table.rows, row.key).label(), error);
    let mut of_values = |before: Values<'_>, after: Values<'_>| {
        for (at, index) in layout.indexes.iter().enumerate() {
            edits_of_index(table, index, before, after, &mut |key, edit| {
                take(at, key, edit)
            })?;
        }
        Ok(())
    };
    match (row.before, row.after) {
        (None, None) => Ok(()),
        (Some(before), None) => layout
            .read_indexed(row.key, before, |before| of_values(Some(before), None))
            .map_err(damaged)?,
        (None, Some(after)) => layout
            .read_indexed(row.key, after, |after| of_values(None, Some(after)))
            .map_err(damaged)?,
        (Some(before), Some(after)) => {
            let read = layout.read_indexed(row.key, before, |before| {
                layout.read_indexed(row.key, after, |after| of_values(Some(before), Some(after)))
            });
            read.map_err(damaged)?.map_err(damaged)?
        }
    }
}

/// All columns of a row, if there is one.
type Values<'a> = Option<&'a [ValueRef<'a>]>;

fn edits_of_index(
    table: &TableEntry,
    index: &IndexLayout,
    before: Values<'_>,
    after: Values<'_>,
    take: &mut dyn FnMut(Vec<u8>, IndexEdit) -> Result<()>,
) -> Result<()> {
    if let (Some(before), Some(after)) = (before, after)
        && index.is_same_row(before, after)
    {
        return Ok(());
    }
    let row = |values: &[ValueRef<'_>]| {
        let row = index.row(values);
        row.map_err(|bytes| too_long(table, index, bytes))
    };
    let mut before = before.map(row).transpose()?;
    if let Some(new) = after.map(row).transpose()? {
        let there = before.take_if(|old| old.key == new.key);
        let edit = IndexEdit {
            before: there.map(|old| old.value),
            after: Some(new.value),
            unique: new.unique,
        };
        take(new.key, edit)?;
    }
    if let Some(old) = before {
        let edit = IndexEdit {
            before: Some(old.value),
            after: None,
            unique: old.unique,
        };
        take(old.key, edit)?;
    }
    Ok(())
}

fn too_long(table: &TableEntry, index: &IndexLayout, bytes: usize) -> Error {
    Error::KeyTooLong {
        path: format!("{}/{}", table.name, index.name),
        bytes,
    }
}

/// The error for two rows that would have the same in a unique index, by their keys in it; `unique` is how many
/// bytes of them that is.
pub(crate) fn taken(
    table: &TableEntry,
    index: &IndexLayout,
    shards: &[Arc<Shard>],
    keys: [&[u8]; 2],
    unique: usize,
) -> Result<Error> {
    let row = |key: &[u8]| {
        let row = index.table_key(&table.layout, key);
        row.map_err(|error| Error::damaged(route(shards, key).label(), error))
    };
    let types = &index.implementation.key_types[..index.indexed];
    Ok(Error::Unique {
        table: table.name.clone(),
        index: index.name.clone(),
        key: key_text::display(&keys[0][..unique], types),
        rows: Box::new([row(keys[0])?, row(keys[1])?]),
    })
}
