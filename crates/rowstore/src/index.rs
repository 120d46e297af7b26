//! Which rows of an index go and come with rows of its table.
//!
//! The key of an index row ends with the key of the table row it belongs to, so different table rows
//! never meet in one index row, and the index itself need not be read.

use crate::error::{Error, Result};
use crate::schemeshard::layout::{IndexLayout, IndexRow};
use crate::schemeshard::{TableEntry, route};

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
    /// As in [`crate::schemeshard::layout::IndexRow`].
    pub(crate) unique: Option<usize>,
}

const BEFORE: u8 = 1;
const AFTER: u8 = 2;
const UNIQUE: u8 = 4;

impl IndexEdit {
    /// As bytes, to be sorted: what is there (1), the length of the unique part (4), that of the row before
    /// (4), the row before, the row after.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let length = |of: usize| u32::try_from(of).expect("a key or row is below 4 GiB");
        let (before, after) = (self.before.as_deref(), self.after.as_deref());
        let flag = |is_there: bool, flag: u8| if is_there { flag } else { 0 };
        let flags = flag(before.is_some(), BEFORE)
            | flag(after.is_some(), AFTER)
            | flag(self.unique.is_some(), UNIQUE);
        let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
        let mut bytes = Vec::with_capacity(9 + before.len() + after.len());
        bytes.push(flags);
        bytes.extend_from_slice(&length(self.unique.unwrap_or_default()).to_le_bytes());
        bytes.extend_from_slice(&length(before.len()).to_le_bytes());
        bytes.extend_from_slice(before);
        bytes.extend_from_slice(after);
        bytes
    }

    /// What [`Self::encode`] made.
    ///
    /// # Panics
    /// It made something else: what is sorted is proved by its checksum.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let number = |at: usize| {
            let bytes = bytes[at..at + 4].try_into().expect("four bytes are four");
            u32::from_le_bytes(bytes) as usize
        };
        let is_there = |flag: u8| bytes[0] & flag != 0;
        let (before, after) = bytes[9..].split_at(number(5));
        Self {
            before: is_there(BEFORE).then(|| before.to_vec()),
            after: is_there(AFTER).then(|| after.to_vec()),
            unique: is_there(UNIQUE).then(|| number(1)),
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
    let made = table.layout.read(key, row, |values| index.row(values));
    let made = made.map_err(|error| Error::damaged(route(&table.rows, key).label(), error))?;
    made.map_err(|bytes| Error::KeyTooLong {
        path: format!("{}/{}", table.name, index.name),
        bytes,
    })
}

/// The index rows of different rows before and after, in the order of their keys.
pub(crate) fn edits<'a>(
    table: &TableEntry,
    index: &IndexLayout,
    rows: impl Iterator<Item = RowEdit<'a>>,
) -> Result<Vec<(Vec<u8>, IndexEdit)>> {
    let index_row = |key: &[u8], row: &[u8]| row_of(table, index, key, row);
    let mut edits = Vec::new();
    for row in rows.filter(|row| row.before != row.after) {
        let index_row = |value: Option<&[u8]>| value.map(|value| index_row(row.key, value));
        let before = index_row(row.before).transpose()?;
        let after = index_row(row.after).transpose()?;
        let stays = matches!((&before, &after), (Some(old), Some(new)) if old.key == new.key);
        let mut before = before.map(|old| (old.key, old.value, old.unique));
        if let Some(new) = after {
            let edit = IndexEdit {
                before: before.take_if(|_| stays).map(|(_, value, _)| value),
                after: Some(new.value),
                unique: new.unique,
            };
            edits.push((new.key, edit));
        }
        if let Some((key, value, unique)) = before {
            let edit = IndexEdit {
                before: Some(value),
                after: None,
                unique,
            };
            edits.push((key, edit));
        }
    }
    edits.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    Ok(edits)
}
