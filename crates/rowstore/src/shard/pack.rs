//! Packs rows into blocks of the size that a base has.

use mendb_model::{Malformed, RowBlock, RowBlockBuilder};

/// A block is finished at this size: large enough that a scan costs little per row, small enough that
/// reading one row does not cost much.
pub(crate) const BLOCK_BYTES: usize = 16 << 10;

/// Bytes of a [`RowBlock`] that a [`crate::Snapshot`] yields.
#[derive(Debug, Clone)]
pub struct BlockBytes(Vec<u8>);

impl AsRef<[u8]> for BlockBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A block of the base, or one made from its rows.
pub(crate) type Block = RowBlock<BlockBytes>;

/// Checks a block that came from the engine.
pub(crate) fn decode(bytes: Vec<u8>) -> Result<Block, Malformed> {
    RowBlock::from_bytes(BlockBytes(bytes))
}

/// Collects rows and says when a block is full.
#[derive(Default)]
pub(crate) struct Packer {
    builder: RowBlockBuilder,
}

impl Packer {
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) {
        self.builder.push(key, value);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.builder.is_empty()
    }

    /// Whether the block has its size.
    pub(crate) fn is_full(&self) -> bool {
        self.builder.size_bytes() >= BLOCK_BYTES
    }

    /// Finishes the block, if there are rows.
    pub(crate) fn finish(&mut self) -> Option<Block> {
        if self.builder.is_empty() {
            return None;
        }
        let bytes = self.builder.finish().into_bytes();
        Some(decode(bytes).expect("a block that was just built is one"))
    }
}
