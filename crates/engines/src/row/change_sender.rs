//! Carries rows and changes to the shards that own their keys now.
//!
//! A block is cut at the borders of the shards, each piece is handed to its shard, and the shard
//! acknowledges by returning: rows and cursor are durable then. A shard that has split or merged in
//! the meantime answers that it is gone; the borders are looked up again and what is not yet
//! acknowledged is sent to the shards that own it. One block is in memory at a time.

use mendb_model::name::TablePath;
use mendb_model::{RowBlock, RowBlockBuilder, RowSource};
use mendb_rowstore::{Applied, Database, ShardId};

use crate::error::{EngineError, Remedy, Result};

/// How often the borders are looked up anew for one block before the store is said to be restless.
const MAX_RESOLVES: usize = 100;

/// What became of a piece of a block.
pub(super) enum Delivered {
    /// The shard has it.
    Done,
    /// There is no such shard any more.
    Gone,
}

impl From<Applied> for Delivered {
    fn from(applied: Applied) -> Self {
        match applied {
            Applied::Done { .. } => Self::Done,
            Applied::Gone => Self::Gone,
        }
    }
}

/// Sends the blocks of one source to one table.
pub(super) struct ChangeSender<'a> {
    database: &'a Database,
    path: &'a TablePath,
    source: RowSource,
}

impl<'a> ChangeSender<'a> {
    pub(super) fn new(database: &'a Database, path: &'a TablePath, source: RowSource) -> Self {
        Self {
            database,
            path,
            source,
        }
    }

    /// Hands the pieces of a block over, and returns when every row of it is acknowledged.
    pub(super) fn send(
        &self,
        block: &RowBlock<&[u8]>,
        mut hand_over: impl FnMut(ShardId, RowSource, &RowBlock<&[u8]>) -> Result<Delivered>,
    ) -> Result<()> {
        let mut sent = 0;
        let mut moved = 0;
        while sent < block.len() {
            let shard = self.database.shard_of(self.path, block.key(sent))?;
            let end = shard.range.end.as_deref();
            let end = end.map_or(block.len(), |end| block.lower_bound(end));
            let delivered = if (sent, end) == (0, block.len()) {
                hand_over(shard.id, self.source, block)?
            } else {
                hand_over(shard.id, self.source, &slice(block, sent, end).view())?
            };
            match delivered {
                Delivered::Done => sent = end,
                Delivered::Gone => moved += 1,
            }
            if moved == MAX_RESOLVES {
                let message = format!(
                    "the shards of {} moved {MAX_RESOLVES} times under one batch",
                    self.path
                );
                return Err(EngineError::new(Remedy::Retry, message));
            }
        }
        Ok(())
    }
}

/// The rows of a block from one place to another.
fn slice(block: &RowBlock<&[u8]>, from: usize, to: usize) -> RowBlock {
    let mut builder = RowBlockBuilder::new();
    for row in from..to {
        builder.push(block.key(row), block.value(row));
    }
    builder.finish()
}
