//! Which live rows hold a value that a unique index allows once.
//!
//! *Memory*: the index rows of the rows that are asked for, and one of those that are found.

use std::ops::ControlFlow;
use std::sync::Arc;

use mendb_model::RowBlock;
use mendb_model::key::KeyRange;
use mendb_model::key_text;

use crate::catalogue::layout::IndexLayout;
use crate::catalogue::{self, Shard, TableEntry, index_rows, route};
use crate::error::{Error, Result};
use crate::kernel::Direction;
use crate::shard::point::PointReader;
use crate::shard::rows::RowCursor;
use crate::shard::view::View;

/// A live row that keeps another from being there too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder<'a> {
    /// The unique index.
    pub index: &'a str,
    /// What both have in its columns, as people write it.
    pub value: &'a str,
    /// The key of the row that would be there too.
    pub wanted: &'a [u8],
    /// The key of the live row.
    pub key: &'a [u8],
}

/// Takes holders as they are found; it stops the search by breaking.
pub type HolderSink<'a> = &'a mut dyn FnMut(Holder<'_>) -> ControlFlow<()>;

/// Finds the holders of other keys for some wanted rows of a table.
pub(crate) fn find<B: AsRef<[u8]>>(
    view: &Arc<View>,
    table: &TableEntry,
    rows: &RowBlock<B>,
    found: HolderSink<'_>,
) -> Result<()> {
    let unique = table.layout.indexes.iter().filter(|index| index.unique);
    for index in unique {
        let shards = table.shards(Some(&index.name))?;
        let mut wanted = Vec::with_capacity(rows.len());
        for (key, row) in rows.iter() {
            let row = index_rows::row_of(table, index, key, row)?;
            wanted.extend(row.unique.map(|indexed| (row.key, indexed, key)));
        }
        wanted.sort_unstable();
        let mut own = OwnRows::new(view, shards);
        for (index_key, indexed, wanted) in &wanted {
            // Of rows that are there now most have the value themselves, and that is found fast.
            if own.has(index_key)? {
                continue;
            }
            let prefix = &index_key[..*indexed];
            let mut stopped = false;
            each_that_begins(view, shards, prefix, |there| {
                let holder = table_key(table, index, shards, there)?;
                if holder == *wanted {
                    return Ok(ControlFlow::Continue(()));
                }
                let types = &index.implementation.key_types[..index.indexed];
                let flow = found(Holder {
                    index: &index.name,
                    value: &key_text::display(prefix, types),
                    wanted,
                    key: &holder,
                });
                stopped |= flow.is_break();
                Ok(flow)
            })?;
            if stopped {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Looks up index rows of keys that ascend.
struct OwnRows<'a> {
    view: &'a Arc<View>,
    shards: &'a [Arc<Shard>],
    reading: Option<(&'a Arc<Shard>, PointReader)>,
}

impl<'a> OwnRows<'a> {
    fn new(view: &'a Arc<View>, shards: &'a [Arc<Shard>]) -> Self {
        Self {
            view,
            shards,
            reading: None,
        }
    }

    fn has(&mut self, key: &[u8]) -> Result<bool> {
        let (_, reader) = match &mut self.reading {
            Some(reading) if reading.0.range.contains(key) => reading,
            _ => {
                let shard = route(self.shards, key);
                let stats = self.view.stats(shard.id)?;
                let reader = PointReader::new(self.view.clone(), shard.clone(), &stats);
                (self.reading).insert((shard, reader))
            }
        };
        Ok(reader.get(key)?.is_some())
    }
}

/// The key of the row of the table that an index row is of.
fn table_key(
    table: &TableEntry,
    index: &IndexLayout,
    shards: &[Arc<Shard>],
    key: &[u8],
) -> Result<Vec<u8>> {
    let made = index.table_key(&table.layout, key);
    made.map_err(|error| Error::damaged(route(shards, key).label(), error))
}

/// Hands over the keys that begin with a prefix, in key order, until there is an error or a break.
pub(crate) fn each_that_begins(
    view: &Arc<View>,
    shards: &[Arc<Shard>],
    prefix: &[u8],
    mut take: impl FnMut(&[u8]) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let range = KeyRange::prefix(prefix);
    for shard in catalogue::within(shards, &range) {
        let mut there = RowCursor::new(view.clone(), shard.clone(), &range, Direction::Ascending)?;
        while there.advance()? {
            if take(there.key())?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}
