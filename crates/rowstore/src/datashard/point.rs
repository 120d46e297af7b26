//! Single rows by key.

use mendb_model::Malformed;
use mendb_model::key::KeyRange;

use crate::datashard::pack::{self, Block};
use crate::datashard::stats::ShardStats;
use crate::datashard::{ROW, Shard, ShardId, TOMBSTONE};
use crate::error::{Error, Result};
use crate::kernel::{BlockPlace, Cursor, Direction, Section, Tree};
use crate::view::View;

/// Reads rows of one shard, remembering the last base block: keys that come in order cost one block
/// load a block.
#[derive(Default)]
pub(crate) struct PointReader {
    found: Option<Found>,
}

/// The base block that was found for a key: whatever lies between the two would be in it.
struct Found {
    sought: Vec<u8>,
    block: Block,
}

impl Found {
    /// Whether a row of `key` could only be in the block.
    fn spans(&self, key: &[u8]) -> bool {
        let first = self.block.iter().next().map_or(key, |(first, _)| first);
        let from = first.min(&self.sought);
        from <= key && self.block.last_key().is_some_and(|last| key <= last)
    }
}

impl PointReader {
    /// The row of `key` as readers of the view see it; `stats` are those of the view.
    pub(crate) fn get(
        &mut self,
        view: &View,
        shard: &Shard,
        stats: &ShardStats,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>> {
        if let Some(layer) = view.layer(shard)
            && let Some(value) = layer.get(view, key)?
        {
            return decode_over(shard, &value).map(|row| row.map(<[u8]>::to_vec));
        }
        self.beneath(view, shard, stats, key)
    }

    /// The row of `key` beneath any layer.
    pub(crate) fn beneath(
        &mut self,
        view: &View,
        shard: &Shard,
        stats: &ShardStats,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>> {
        if stats.delta_bytes > 0 {
            let delta = Section::of_shard(Tree::Delta, shard.id);
            if let Some(value) = view.reader.get(&delta, key)? {
                return decode_over(shard, &value).map(|row| row.map(<[u8]>::to_vec));
            }
        }
        if !stats.covers(key) {
            return Ok(None);
        }
        if !self.found.as_ref().is_some_and(|found| found.spans(key)) {
            self.found = load_block(view, shard, key)?.map(|block| Found {
                sought: key.to_vec(),
                block,
            });
        }
        Ok(self.found.as_ref().and_then(|Found { block, .. }| {
            let at = block.lower_bound(key);
            (at < block.len() && block.key(at) == key).then(|| block.value(at).to_vec())
        }))
    }
}

/// The row in a value that lies over the base; `None` for a tombstone.
pub(crate) fn decode_over<'a>(shard: &Shard, value: &'a [u8]) -> Result<Option<&'a [u8]>> {
    match value.split_first() {
        Some((&ROW, row)) => Ok(Some(row)),
        Some((&TOMBSTONE, [])) => Ok(None),
        _ => Err(Error::damaged(
            shard.label(),
            Malformed {
                what: "delta row",
                detail: "neither a row nor a tombstone".to_owned(),
            },
        )),
    }
}

/// A block of the base of a shard, from the record of its place under its last key.
pub(crate) fn read_block(view: &View, shard: ShardId, last: &[u8], place: &[u8]) -> Result<Block> {
    let damaged = |error| Error::damaged(format!("the base of shard {shard}"), error);
    let place = BlockPlace::decode(place).map_err(damaged)?;
    let block = view.files.read(shard, place)?;
    let block = pack::decode(block).map_err(damaged)?;
    if block.last_key() == Some(last) {
        return Ok(block);
    }
    Err(damaged(Malformed {
        what: "row block",
        detail: "it does not end at its key".to_owned(),
    }))
}

fn load_block(view: &View, shard: &Shard, key: &[u8]) -> Result<Option<Block>> {
    let range = KeyRange {
        start: key.to_vec(),
        end: None,
    };
    let blocks = Section::of_shard(Tree::Blocks, shard.id);
    match Cursor::new(&view.reader, &blocks, &range, Direction::Ascending).next() {
        Some(entry) => {
            let (last, place) = entry?;
            read_block(view, shard.id, &last, &place).map(Some)
        }
        None => Ok(None),
    }
}
