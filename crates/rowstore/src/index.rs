//! Which rows of an index go and come with rows of its table.
//!
//! The key of an index row ends with the key of the table row it belongs to, so different table rows
//! never meet in one index row, and the index itself need not be read.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::schemeshard::layout::IndexLayout;
use crate::schemeshard::{TableEntry, route};

/// What becomes of a row, of a table or of an index.
#[derive(Clone, Copy)]
pub(crate) struct RowEdit<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) before: Option<&'a [u8]>,
    pub(crate) after: Option<&'a [u8]>,
}

/// What becomes of a row of the index.
#[derive(Default)]
pub(crate) struct IndexEdit {
    pub(crate) before: Option<Vec<u8>>,
    pub(crate) after: Option<Vec<u8>>,
    /// As in [`crate::schemeshard::layout::IndexRow`], of the row after.
    pub(crate) unique: Option<usize>,
}

impl IndexEdit {
    /// The same as of the row of `key`.
    pub(crate) fn of_row<'a>(&'a self, key: &'a [u8]) -> RowEdit<'a> {
        RowEdit {
            key,
            before: self.before.as_deref(),
            after: self.after.as_deref(),
        }
    }
}

/// The index rows of the rows before and after, by their keys.
pub(crate) fn edits<'a>(
    table: &TableEntry,
    index: &IndexLayout,
    rows: impl Iterator<Item = RowEdit<'a>>,
) -> Result<BTreeMap<Vec<u8>, IndexEdit>> {
    let mut edits: BTreeMap<Vec<u8>, IndexEdit> = BTreeMap::new();
    let index_row = |key: &[u8], row: &[u8]| {
        let label = || route(&table.rows, key).label();
        let values = table.layout.decode(key, row);
        let values = values.map_err(|error| Error::damaged(label(), error))?;
        index.row(&values).map_err(|bytes| Error::KeyTooLong {
            path: format!("{}/{}", table.name, index.name),
            bytes,
        })
    };
    for row in rows.filter(|row| row.before != row.after) {
        if let Some(before) = row.before {
            let old = index_row(row.key, before)?;
            edits.entry(old.key).or_default().before = Some(old.value);
        }
        if let Some(after) = row.after {
            let new = index_row(row.key, after)?;
            let edit = edits.entry(new.key).or_default();
            edit.after = Some(new.value);
            edit.unique = new.unique;
        }
    }
    Ok(edits)
}
