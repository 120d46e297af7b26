//! Builds shards anew from the chain of the wanted backup, beside the live ones.
//!
//! *Crash*: rows are durable before the attempt reports them, and the store passes over rows that it is handed again.
//! *Memory*: two batches of rows, and what the reader of the chain keeps.

use mendb_engines::RebuildRequest;
use mendb_model::key::KeyRange;
use mendb_model::name::TablePath;
use mendb_model::operation::{MendedRows, RowMendRequest};
use mendb_model::{RowBlock, RowBlockBuilder};

use super::digests::live_digest;
use super::{Fetched, Progress, wanted_chain};
use crate::attempt::Attempt;
use crate::operations::restore::load::next_batch;
use crate::task_error::TaskResult;

/// Rebuilds the shard of a table, or of an index, that has the keys of a range.
pub(super) fn stage(
    attempt: &Attempt<'_>,
    request: &RowMendRequest,
    (path, range): (&TablePath, &KeyRange),
    progress: &mut Progress<'_, '_>,
) -> TaskResult<()> {
    let engine = attempt.tools.engine.rows()?;
    let after = progress.last_key();
    // Index rows follow from those of their table, which are counted.
    let counts_rows = path.index.is_none();
    if after.is_none() && counts_rows {
        // All of them are compared.
        let (live, _) = live_digest(engine, path, range)?;
        progress.looked_at(MendedRows {
            read: live.rows,
            ..MendedRows::default()
        });
    }
    let rebuild = RebuildRequest {
        operation: attempt.operation(),
        path,
        range,
        ended_streams: &request.before.old_streams,
    };
    let chain = wanted_chain(attempt, request)?;
    let repository = &attempt.tools.repository;
    let reader = repository.read_chain(&chain, path, range, after.as_deref());
    let mut reader = attempt.wait(reader)?;
    let mut fetched = Fetched::default();
    let mut next = next_batch(attempt, &mut reader)?;
    loop {
        attempt.check_stopped()?;
        let rows = next.take();
        if rows.is_some() {
            next = next_batch(attempt, &mut reader)?;
        }
        let is_last = next.is_none();
        let rows = rows.unwrap_or_else(no_rows);
        let staged = engine.rebuild_mend(&rebuild, &rows.view(), is_last)?;
        crate::env::crash_point();
        let mut done = fetched.since(reader.counts());
        if counts_rows {
            done += MendedRows {
                upserted: staged.upserted,
                erased: staged.erased,
                kept: staged.kept,
                written_bytes: staged.bytes,
                ..MendedRows::default()
            };
        }
        match rows.last_key() {
            Some(last_key) if !is_last => progress.staged(done, last_key)?,
            _ => progress.looked_at(done),
        }
        if is_last {
            return Ok(());
        }
    }
}

fn no_rows() -> RowBlock {
    RowBlockBuilder::new().finish()
}
