//! Which tables an operation mends, and how far it is.

use std::sync::Arc;

use crate::catalogue::{Catalogue, PathState, TableEntry};
use crate::error::{Error, Result};

/// How far a mend is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MendDescription {
    /// The tables that it holds, by name.
    pub tables: Vec<String>,
    /// The version of the commit that closed them to writers.
    pub begun_at: u64,
    /// The version from which on readers see the mended rows; `None` before.
    pub published_at: Option<u64>,
}

/// The tables that the operation mends, by name.
pub(crate) fn held<'a>(
    catalogue: &'a Catalogue,
    operation: &str,
) -> impl Iterator<Item = &'a Arc<TableEntry>> {
    catalogue.tables().filter(move |entry| {
        matches!(&entry.state, PathState::Mending { operation: ours, .. } if ours == operation)
    })
}

pub(crate) fn describe(catalogue: &Catalogue, operation: &str) -> Option<MendDescription> {
    let mut mend: Option<MendDescription> = None;
    for entry in held(catalogue, operation) {
        let PathState::Mending { begun_at, .. } = entry.state else {
            continue;
        };
        let mend = mend.get_or_insert(MendDescription {
            tables: Vec::new(),
            begun_at,
            published_at: entry.published_at(),
        });
        mend.tables.push(entry.name.clone());
    }
    mend
}

/// The table, if the operation can stage rows for it.
pub(crate) fn open_to<'a>(
    catalogue: &'a Catalogue,
    table: &str,
    operation: &str,
) -> Result<&'a Arc<TableEntry>> {
    let entry = catalogue.table(table)?;
    match &entry.state {
        PathState::Mending {
            operation: ours,
            published_at,
            ..
        } if ours == operation => match published_at {
            None => Ok(entry),
            Some(_) => Err(Error::MendPublished {
                operation: operation.to_owned(),
            }),
        },
        _ => Err(Error::NotMending {
            table: table.to_owned(),
            operation: operation.to_owned(),
        }),
    }
}
