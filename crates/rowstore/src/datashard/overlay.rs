//! What lies over the base: single rows and tombstones of the delta and, where readers read through
//! it, of the layer over that.

use std::cmp::Ordering;

use fjall::{Iter, Readable, Slice};
use mendb_model::key::KeyRange;

use crate::datashard::Shard;
use crate::datashard::rows::{Direction, bounds};
use crate::error::Result;
use crate::view::View;

/// One sorted run of entries, with the next one at hand.
struct Run {
    entries: Option<Iter>,
    next: Option<(Slice, Slice)>,
}

impl Run {
    fn new(view: &View, entries: Option<Iter>, direction: Direction) -> Result<Self> {
        let mut run = Self {
            entries,
            next: None,
        };
        run.take(view, direction)?;
        Ok(run)
    }

    fn take(&mut self, view: &View, direction: Direction) -> Result<Option<(Slice, Slice)>> {
        let entry = self.entries.as_mut().and_then(|entries| match direction {
            Direction::Ascending => entries.next(),
            Direction::Descending => entries.next_back(),
        });
        let entry = entry.map(fjall::Guard::into_inner).transpose();
        let entry = entry.map_err(|error| view.store.fault(error))?;
        Ok(std::mem::replace(&mut self.next, entry))
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
        let delta = shard.files.delta().filter(|_| !range.is_empty());
        let delta = delta.map(|delta| view.snapshot.range::<&[u8], _>(delta, bounds(range)));
        let layer = view.layer(shard).and_then(|l| l.entries(view, range));
        Ok(Self {
            delta: Run::new(view, delta, direction)?,
            layer: Run::new(view, layer, direction)?,
            direction,
        })
    }

    /// The next key that has an entry, with its uppermost value.
    pub(crate) fn next(&mut self, view: &View) -> Result<Option<(Slice, Slice)>> {
        let order = match (&self.delta.next, &self.layer.next) {
            (_, None) => return self.delta.take(view, self.direction),
            (None, Some(_)) => Ordering::Greater,
            (Some((delta, _)), Some((layer, _))) => match self.direction {
                Direction::Ascending => delta.cmp(layer),
                Direction::Descending => layer.cmp(delta),
            },
        };
        if order.is_lt() {
            return self.delta.take(view, self.direction);
        }
        if order.is_eq() {
            self.delta.take(view, self.direction)?;
        }
        self.layer.take(view, self.direction)
    }
}
