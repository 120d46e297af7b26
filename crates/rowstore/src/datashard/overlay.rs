//! What lies over the base: single rows and tombstones of the delta and, where readers read through
//! it, of the layer over that.

use std::cmp::Ordering;

use mendb_model::key::KeyRange;

use crate::datashard::Shard;
use crate::error::Result;
use crate::kernel::{Cursor, Direction, Entry, Section, Tree};
use crate::view::View;

/// One sorted run of entries, with the next one at hand.
struct Run {
    entries: Option<Cursor>,
    next: Option<Entry>,
}

impl Run {
    fn new(entries: Option<Cursor>) -> Result<Self> {
        let mut run = Self {
            entries,
            next: None,
        };
        run.take()?;
        Ok(run)
    }

    fn take(&mut self) -> Result<Option<Entry>> {
        let entry = self.entries.as_mut().and_then(Iterator::next);
        Ok(std::mem::replace(&mut self.next, entry.transpose()?))
    }
}

/// The entries over the base within a range, one a key.
pub(crate) struct Overlay {
    delta: Run,
    layer: Run,
    direction: Direction,
}

impl Overlay {
    pub(crate) fn new(
        view: &View,
        shard: &Shard,
        range: &KeyRange,
        direction: Direction,
    ) -> Result<Self> {
        let delta = Section::of_shard(Tree::Delta, shard.id);
        let delta = Cursor::new(&view.reader, &delta, range, direction);
        let layer = view.layer(shard);
        let layer = layer.map(|layer| layer.entries(view, range, direction));
        Ok(Self {
            delta: Run::new(Some(delta))?,
            layer: Run::new(layer)?,
            direction,
        })
    }

    /// The next key that has an entry, with its uppermost value.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        let order = match (&self.delta.next, &self.layer.next) {
            (_, None) => return self.delta.take(),
            (None, Some(_)) => Ordering::Greater,
            (Some((delta, _)), Some((layer, _))) => match self.direction {
                Direction::Ascending => delta.cmp(layer),
                Direction::Descending => layer.cmp(delta),
            },
        };
        if order.is_lt() {
            return self.delta.take();
        }
        if order.is_eq() {
            self.delta.take()?;
        }
        self.layer.take()
    }
}
