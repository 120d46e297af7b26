//! The layer of a mend over a shard: the wanted row, or that there is none, of each key that differs
//! from what lies beneath.
//!
//! It lies over the delta, with values like the delta's. Whether readers read
//! through it is a matter of the table's state, so the layers of all tables of a mend become visible
//! in one commit. Once they are, their values are brought into the delta, or the shard is rewritten
//! with them; readers see the same before and after. Then the layer goes as a whole.
//!
//! # Crash
//! A layer belongs to a table in the state that made it, and is keyed by the version at which that
//! began. The commit that ends the mend makes it garbage, so that it is never taken for that of a later
//! mend.

use mendb_model::key::KeyRange;

use crate::datashard::stats::ShardStats;
use crate::datashard::{ShardId, over_value};
use crate::error::Result;
use crate::index::RowEdit;
use crate::kernel::{Batch, Cursor, Direction, Section};
use crate::view::View;

/// Where a row to be staged goes; by default into a layer that has no entry for it.
#[derive(Default)]
pub(crate) struct Place {
    /// The entry that the layer has for the key.
    pub(crate) entry: Option<Vec<u8>>,
    /// Whether the row beneath is the wanted one, so that the layer is to have none.
    pub(crate) as_beneath: bool,
}

/// The layer over one shard.
#[derive(Clone)]
pub(crate) struct Layer {
    section: Section,
}

impl Layer {
    /// The layer of a mend that began at a version.
    pub(crate) fn new(shard: ShardId, begun_at: u64) -> Self {
        Self {
            section: Section::layer(shard, begun_at),
        }
    }

    /// Where its entries lie.
    pub(crate) fn section(&self) -> &Section {
        &self.section
    }

    /// What the layer says of `key`: as in the delta.
    pub(crate) fn get(&self, view: &View, key: &[u8]) -> Result<Option<Vec<u8>>> {
        view.reader.get(&self.section, key)
    }

    /// Its entries of a range.
    pub(crate) fn entries(&self, view: &View, range: &KeyRange, direction: Direction) -> Cursor {
        Cursor::new(&view.reader, &self.section, range, direction)
    }

    /// Adds to `batch` what is to become of a row, `before` being what readers of the layer see so far,
    /// and keeps the stats in step.
    pub(crate) fn stage_row(
        &self,
        batch: &mut Batch,
        stats: &mut ShardStats,
        row: RowEdit<'_>,
        place: &Place,
    ) {
        let stats = stats.layer_mut();
        if let Some(before) = row.before {
            stats.digest.remove(row.key, before);
        }
        if let Some(after) = row.after {
            stats.digest.add(row.key, after);
        }
        if let Some(entry) = &place.entry {
            stats.entries.remove(row.key, entry);
        }
        if place.as_beneath {
            batch.remove(&self.section, row.key);
            return;
        }
        let value = over_value(row.after);
        stats.entries.add(row.key, &value);
        if !stats.reaches(row.key) {
            stats.last_key = Some(row.key.to_vec());
        }
        stats.bytes += (row.key.len() + value.len()) as u64;
        batch.insert(&self.section, row.key, value);
    }
}
