//! The rows of a batch, laid out before they are written.
//!
//! First each column adds its lengths to those of keys and rows, then each column is written into
//! all rows of a block: no column is looked at more than twice per batch, whatever its type.

use std::ops::Range;

use mendb_model::block::BlankBlock;
use mendb_model::{RowBlock, row};

use super::cells::Cells;

/// Rows that are written together, so that they stay close to the processor while one column after
/// the other is written into them.
const CHUNK_ROWS: usize = 512;

/// The columns of a batch and the lengths of the rows they make.
#[derive(Debug)]
pub(super) struct Grid<'a> {
    key: Vec<Cells<'a>>,
    slots: Vec<Cells<'a>>,
    heads: Heads,
    key_lengths: Vec<usize>,
    row_lengths: Vec<usize>,
}

impl<'a> Grid<'a> {
    /// The grid of columns that have this many rows.
    pub(super) fn new(key: Vec<Cells<'a>>, slots: Vec<Cells<'a>>, rows: usize) -> Self {
        let heads = Heads::of(&slots, rows);
        let mut key_lengths = vec![0; rows];
        key.iter()
            .for_each(|cells| cells.add_to_keys(&mut key_lengths));
        let mut row_lengths: Vec<_> = heads.slots.iter().map(|s| row::head_length(*s)).collect();
        slots
            .iter()
            .for_each(|cells| cells.add_to_rows(&mut row_lengths));
        Self {
            key,
            slots,
            heads,
            key_lengths,
            row_lengths,
        }
    }

    /// The rows as blocks that end after about `block_bytes`.
    pub(super) fn blocks(&self, block_bytes: usize) -> Vec<RowBlock> {
        let mut blocks = Vec::new();
        let (mut from, mut bytes) = (0, 0);
        for (row, length) in self.lengths(0..self.row_lengths.len()).enumerate() {
            bytes += length.0 + length.1;
            if bytes >= block_bytes {
                blocks.push(self.block(from..row + 1));
                (from, bytes) = (row + 1, 0);
            }
        }
        if from < self.row_lengths.len() {
            blocks.push(self.block(from..self.row_lengths.len()));
        }
        blocks
    }

    fn lengths(&self, rows: Range<usize>) -> impl ExactSizeIterator<Item = (usize, usize)> + Clone {
        let keys = self.key_lengths[rows.clone()].iter();
        keys.copied().zip(self.row_lengths[rows].iter().copied())
    }

    fn block(&self, rows: Range<usize>) -> RowBlock {
        let mut block = BlankBlock::new(self.lengths(rows.clone()));
        let out = block.data_mut();
        let mut ends = Vec::with_capacity(CHUNK_ROWS);
        let mut at = 0;
        for from in rows.clone().step_by(CHUNK_ROWS) {
            let chunk = from..rows.end.min(from + CHUNK_ROWS);
            ends.clear();
            for (key, row) in self.lengths(chunk.clone()) {
                ends.push(at);
                at += key + row;
            }
            for cells in &self.key {
                cells.write_to_keys(chunk.clone(), out, &mut ends);
            }
            self.heads.write(chunk.clone(), out, &mut ends);
            for cells in &self.slots {
                cells.write_to_rows(chunk.clone(), out, &mut ends);
            }
        }
        block.finish()
    }
}

/// Which slots of each row are not NULL.
#[derive(Debug)]
struct Heads {
    /// Bytes of a bitmap.
    width: usize,
    /// The bitmaps of all rows.
    bitmaps: Vec<u8>,
    /// How many slots a row has up to the last that is not NULL.
    slots: Vec<usize>,
}

impl Heads {
    fn of(columns: &[Cells<'_>], rows: usize) -> Self {
        let width = columns.len().div_ceil(8);
        let mut bitmap = vec![0; width];
        let mut slots = 0;
        let full = columns.iter().enumerate();
        for (slot, _) in full.filter(|(_, cells)| cells.are_all_present()) {
            bitmap[slot / 8] |= 1 << (slot % 8);
            slots = slot + 1;
        }
        let mut heads = Self {
            width,
            bitmaps: bitmap.repeat(rows),
            slots: vec![slots; rows],
        };
        let gaps = columns.iter().enumerate();
        for (slot, cells) in gaps.filter(|(_, cells)| !cells.are_all_present()) {
            for row in (0..rows).filter(|row| cells.is_present(*row)) {
                heads.bitmaps[row * width + slot / 8] |= 1 << (slot % 8);
                heads.slots[row] = heads.slots[row].max(slot + 1);
            }
        }
        heads
    }

    fn write(&self, rows: Range<usize>, out: &mut [u8], ends: &mut [usize]) {
        for (row, end) in rows.zip(ends) {
            let bitmap = &self.bitmaps[row * self.width..][..self.width];
            *end += row::write_head(&mut out[*end..], self.slots[row], bitmap);
        }
    }
}
