//! Reads what a chain of backups holds of a key range as one, and loads it into empty shards.
//!
//! *Crash*: a batch is durable before the attempt reports it, and the next attempt continues behind its last key.
//! *Memory*: a batch, and what the reader of the chain keeps.

use std::sync::Arc;

use mendb_engines::RowSource;
use mendb_model::key::KeyRange;
use mendb_model::manifest::Manifest;
use mendb_model::name::TablePath;
use mendb_model::operation::MendedRows;
use mendb_model::{RowBlock, RowBlockBuilder};
use mendb_repo::ChainReader;

use super::fetched::Fetched;
use crate::attempt::Attempt;
use crate::task_error::TaskResult;

/// Rows are handed over in batches of about this size: large enough that making each durable costs
/// little beside writing it, small enough that a few workers stay far below the memory of a small machine.
pub(crate) const BATCH_BYTES: usize = 8 << 20;

/// Where rows come from and where they go.
pub(crate) struct Load<'a> {
    /// The full backup and the increments after it.
    pub chain: &'a [Arc<Manifest>],
    /// The sharded table in the backups.
    pub source: &'a TablePath,
    /// The sharded table on the target.
    pub target: &'a TablePath,
    pub range: &'a KeyRange,
}

/// Is told of each batch that is durable, and of its last key; and at the end, without a key, of what
/// else was read.
type Loaded<'a> = &'a mut dyn FnMut(MendedRows, Option<&[u8]>) -> TaskResult<()>;

impl Load<'_> {
    /// Loads all rows behind `after`.
    pub(crate) fn run(
        &self,
        attempt: &Attempt<'_>,
        after: Option<&[u8]>,
        loaded: Loaded<'_>,
    ) -> TaskResult<()> {
        let repository = &attempt.tools.repository;
        let reader = repository.read_chain(self.chain, self.source, self.range, after);
        let mut reader = attempt.wait(reader)?;
        let mut fetched = Fetched::default();
        let source = RowSource {
            step: attempt.request.step,
            index: attempt.request.shard_idx,
        };
        while let Some(rows) = next_batch(attempt, &mut reader)? {
            attempt.check_stopped()?;
            let engine = attempt.tools.engine.rows()?;
            engine.load(attempt.operation(), self.target, source, &rows.view())?;
            crate::env::crash_point();
            let more = MendedRows {
                upserted: rows.len() as u64,
                ..fetched.since(reader.counts())
            };
            loaded(more, rows.last_key())?;
        }
        loaded(fetched.since(reader.counts()), None)
    }
}

/// The next rows of a chain, about [`BATCH_BYTES`] of them; `None` after the last.
pub(crate) fn next_batch(
    attempt: &Attempt<'_>,
    reader: &mut ChainReader,
) -> TaskResult<Option<RowBlock>> {
    let mut batch = RowBlockBuilder::new();
    while batch.size_bytes() < BATCH_BYTES
        && let Some(block) = attempt.wait(reader.next())?
    {
        batch.extend(&block);
    }
    Ok((!batch.is_empty()).then(|| batch.finish()))
}
