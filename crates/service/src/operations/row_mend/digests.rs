//! Keys that differ, found by reading the ranges whose digests do.

use std::ops::ControlFlow;

use mendb_engines::RowStore;
use mendb_model::key::KeyRange;
use mendb_model::name::TablePath;
use mendb_model::operation::{MendedRows, RowMendRequest};
use mendb_model::{Change, Digest, RowBlock, RowBlockBuilder};
use mendb_repo::ChainReader;

use super::{Fetched, Progress, Put, wanted_chain, wanted_manifest};
use crate::attempt::Attempt;
use crate::diff::Pulled;
use crate::task_error::TaskResult;

/// Differences are staged in blocks of about this many bytes.
const BLOCK_BYTES: usize = 4 << 20;

/// Stages what differs between the live rows of a range and those of the wanted backup. Where the range is
/// that of a shard of the backup, nothing is read of the backup if the digests agree.
pub(super) fn stage(
    attempt: &Attempt<'_>,
    request: &RowMendRequest,
    (path, range): (&TablePath, &KeyRange),
    put: Put<'_>,
    progress: &mut Progress<'_, '_>,
) -> TaskResult<()> {
    let engine = attempt.tools.engine.rows()?;
    let after = progress.last_key();
    if after.is_none()
        && let Some(expected) = expected(attempt, request, path, range)?
    {
        let (live, read) = live_digest(attempt.tools.engine.rows()?, path, range)?;
        progress.looked_at(MendedRows {
            read,
            ..MendedRows::default()
        });
        if live == expected {
            return Ok(());
        }
    }
    let chain = wanted_chain(attempt, request)?;
    let repository = &attempt.tools.repository;
    let wanted = repository.read_chain(&chain, path, range, after.as_deref());
    let wanted = attempt.wait(wanted)?;
    let mut differences = Differences {
        attempt,
        wanted: Pulled::new(wanted, |wanted| attempt.wait(wanted.next())),
        changes: RowBlockBuilder::new(),
        last_key: Vec::new(),
        done: MendedRows::default(),
        fetched: Fetched::default(),
        put,
        progress,
    };
    let mut outcome = Ok(());
    engine.scan(
        path,
        range,
        after.as_deref(),
        &mut |live| match differences.compare(live) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                outcome = Err(error);
                ControlFlow::Break(())
            }
        },
    )?;
    outcome?;
    differences.finish()
}

/// The digest of a range in the wanted backup; `None` where it is only part of a shard.
pub(super) fn expected(
    attempt: &Attempt<'_>,
    request: &RowMendRequest,
    path: &TablePath,
    range: &KeyRange,
) -> TaskResult<Option<Digest>> {
    let manifest = wanted_manifest(attempt, request)?;
    let repository = &attempt.tools.repository;
    let shards = attempt.wait(repository.shards_within(&manifest, path, range))?;
    let shard = shards.iter().find(|shard| shard.range == *range);
    Ok(shard.map(|shard| shard.digest))
}

/// The digest of live rows, and how many were read for it: none where a shard has just this range.
pub(crate) fn live_digest(
    engine: &dyn RowStore,
    path: &TablePath,
    range: &KeyRange,
) -> mendb_engines::Result<(Digest, u64)> {
    let shards = engine.shards(path, range)?;
    if let Some(shard) = shards.iter().find(|shard| shard.range == *range) {
        return Ok((shard.digest, 0));
    }
    let digest = engine.digest(path, range)?;
    Ok((digest, digest.rows))
}

/// Walks live and wanted rows of a range side by side.
struct Differences<'a, 'b, 'c, 'd> {
    attempt: &'a Attempt<'b>,
    wanted: Pulled<'a, ChainReader>,
    changes: RowBlockBuilder,
    /// Of the changes.
    last_key: Vec<u8>,
    /// What was done since the last report.
    done: MendedRows,
    fetched: Fetched,
    put: Put<'a>,
    progress: &'a mut Progress<'c, 'd>,
}

impl Differences<'_, '_, '_, '_> {
    /// Compares the next live rows.
    fn compare(&mut self, live: &RowBlock<&[u8]>) -> TaskResult<()> {
        self.attempt.in_progress(self.progress.counts)?;
        for (key, row) in live.iter() {
            self.done.read += 1;
            self.bring(Some(key))?;
            let change = match self.wanted.next_at(key)? {
                Some(wanted) if wanted == row => {
                    self.done.kept += 1;
                    continue;
                }
                Some(wanted) => Change::reset(wanted.to_vec(), 0),
                None => Change::erase(0),
            };
            self.add(key, &change)?;
        }
        Ok(())
    }

    /// Adds the wanted rows before a live one, or all that are left.
    fn bring(&mut self, before: Option<&[u8]>) -> TaskResult<()> {
        while let Some((key, row)) = self.wanted.next_before(before)? {
            let (key, change) = (key.to_vec(), Change::reset(row.to_vec(), 0));
            self.add(&key, &change)?;
        }
        Ok(())
    }

    fn add(&mut self, key: &[u8], change: &Change) -> TaskResult<()> {
        self.changes.push_with(key, |out| change.encode_into(out));
        self.last_key = key.to_vec();
        if self.changes.size_bytes() >= BLOCK_BYTES {
            self.stage()?;
        }
        Ok(())
    }

    fn stage(&mut self) -> TaskResult<()> {
        if self.changes.is_empty() {
            return Ok(());
        }
        let staged = (self.put)(&self.changes.finish().view())?;
        let mut done = std::mem::take(&mut self.done);
        done += MendedRows {
            upserted: staged.upserted,
            erased: staged.erased,
            kept: staged.kept,
            written_bytes: staged.bytes,
            ..self.fetched.since(self.wanted.source().counts())
        };
        self.progress.staged(done, &self.last_key)
    }

    /// Adds the wanted rows behind the last live one, and stages what is left.
    fn finish(mut self) -> TaskResult<()> {
        self.bring(None)?;
        self.stage()?;
        let mut rest = self.done;
        rest += self.fetched.since(self.wanted.source().counts());
        self.progress.looked_at(rest);
        Ok(())
    }
}
