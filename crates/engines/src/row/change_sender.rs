//! Carries rows and changes to the shards that own their keys now.
//!
//! A block is cut at the borders of the shards, each piece is handed to its shard, and the shard
//! acknowledges by returning: rows and cursor are durable then. A shard that has split or merged in
//! the meantime answers that it is gone; the borders are looked up again and what is not yet
//! acknowledged is sent to whoever owns it. One block is in memory at a time.

use mendb_model::name::TablePath;
use mendb_model::{RowBlock, RowBlockBuilder};
use mendb_rowstore::{Applied, Database};

use crate::contract::rows::Source;
use crate::error::{EngineError, Remedy, Result};

/// How often the borders are looked up anew for one block before the store is said to be restless.
const MAX_RESOLVES: usize = 100;

/// What a block carries.
#[derive(Clone, Copy)]
pub(super) enum Payload {
    /// Whole rows.
    Rows,
    /// Changes of keys.
    Changes,
}

/// Sends the blocks of one source to one table.
pub(super) struct ChangeSender<'a> {
    database: &'a Database,
    operation: &'a str,
    path: &'a TablePath,
    source: mendb_rowstore::Source,
}

impl<'a> ChangeSender<'a> {
    pub(super) fn new(
        database: &'a Database,
        operation: &'a str,
        path: &'a TablePath,
        source: Source,
    ) -> Self {
        let source = mendb_rowstore::Source {
            step: source.step,
            index: source.index,
        };
        Self {
            database,
            operation,
            path,
            source,
        }
    }

    /// Sends a block and returns when every row of it is acknowledged.
    pub(super) fn send(&self, payload: Payload, block: &RowBlock<&[u8]>) -> Result<()> {
        let mut sent = 0;
        for _ in 0..MAX_RESOLVES {
            if sent == block.len() {
                return Ok(());
            }
            for shard in self.database.shards(self.path)? {
                if sent == block.len() || !shard.range.contains(block.key(sent)) {
                    continue;
                }
                let end = shard
                    .range
                    .end
                    .as_deref()
                    .map_or(block.len(), |end| block.lower_bound(end));
                let applied = if (sent, end) == (0, block.len()) {
                    self.hand_over(payload, shard.id, block)?
                } else {
                    self.hand_over(payload, shard.id, &slice(block, sent, end).view())?
                };
                match applied {
                    Applied::Done { .. } => sent = end,
                    Applied::Gone => break,
                }
            }
        }
        let message = format!(
            "the shards of {} moved {MAX_RESOLVES} times under one batch",
            self.path
        );
        if sent == block.len() {
            Ok(())
        } else {
            Err(EngineError::new(Remedy::Retry, message))
        }
    }

    fn hand_over(
        &self,
        payload: Payload,
        shard: mendb_rowstore::ShardId,
        block: &RowBlock<&[u8]>,
    ) -> Result<Applied> {
        Ok(match payload {
            Payload::Rows => self
                .database
                .load(shard, self.operation, self.source, block)?,
            Payload::Changes => self
                .database
                .apply(shard, self.operation, self.source, block)?,
        })
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
