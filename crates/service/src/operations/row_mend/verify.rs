//! The proof of a mend, before readers see it.

use std::collections::HashMap;

use mendb_model::Digest;
use mendb_model::key::{KeyRange, to_hex};
use mendb_model::manifest::ShardBackup;
use mendb_model::name::TablePath;
use mendb_model::operation::{RowMendRequest, RowTableMend};

use super::{no_such_table, wanted_chain, wanted_manifest};
use crate::attempt::{Attempt, Counts};
use crate::task_error::{TaskError, TaskResult};

/// Compares what readers would see with the wanted backup. Of mended tables the digests are those that
/// are kept with each write, so that what was not touched is not read; of created ones every row is read.
/// Indexes that the backup does not have follow their table, and have nothing to be compared with.
pub(super) fn verify(
    attempt: &Attempt<'_>,
    request: &RowMendRequest,
    counts: &Counts,
) -> TaskResult<()> {
    let engine = attempt.tools.engine.rows()?;
    let wanted = wanted_manifest(attempt, request)?;
    for table in &request.tables {
        let backup = wanted
            .table(&table.table)
            .ok_or_else(|| no_such_table(&wanted, &table.table))?;
        let live = engine.inspect(&table.table)?;
        if let Some(range) = &table.range {
            part(
                attempt,
                request,
                &TablePath::table(&table.table),
                range,
                counts,
            )?;
            single(attempt, request, table)?;
        }
        for (path, _) in backup.sharded_tables() {
            let has_index = |name: &str| {
                let live = live.as_ref();
                live.is_some_and(|live| live.schema.index(name).is_some())
            };
            if path.index.as_deref().is_some_and(|name| !has_index(name)) {
                continue;
            }
            if !table.create && table.range.is_some() {
                continue;
            }
            let shards = attempt.tools.repository.shards(&wanted, &path);
            let shards = attempt.wait(shards)?;
            if !table.create {
                mended(attempt, &path, &shards)?;
                continue;
            }
            for shard in &shards {
                attempt.in_progress(counts)?;
                let found = engine.digest(&path, &shard.range)?;
                compare(&path, &shard.range.start, shard.digest, found)?;
            }
        }
    }
    Ok(())
}

/// Compares the rows of a range by reading those of both sides. Its index rows followed them.
fn part(
    attempt: &Attempt<'_>,
    request: &RowMendRequest,
    path: &TablePath,
    range: &KeyRange,
    counts: &Counts,
) -> TaskResult<()> {
    let chain = wanted_chain(attempt, request)?;
    let repository = &attempt.tools.repository;
    let mut rows = attempt.wait(repository.read_chain(&chain, path, range, None))?;
    let mut expected = Digest::default();
    while let Some(block) = attempt.wait(rows.next())? {
        attempt.in_progress(counts)?;
        for (key, row) in block.iter() {
            expected.add(key, row);
        }
    }
    let engine = attempt.tools.engine.rows()?;
    let found = engine.mended_digest(attempt.operation(), path, range)?;
    compare(path, &range.start, expected, found)
}

/// Compares the rows of the single keys that are mended with a range.
fn single(attempt: &Attempt<'_>, request: &RowMendRequest, table: &RowTableMend) -> TaskResult<()> {
    let Some(first) = table.also.first() else {
        return Ok(());
    };
    let path = TablePath::table(&table.table);
    let chain = wanted_chain(attempt, request)?;
    let repository = &attempt.tools.repository;
    let all = KeyRange::all();
    let lookup = repository.look_up_chain(&chain, &path, &all);
    let mut lookup = attempt.wait(lookup)?;
    let engine = attempt.tools.engine.rows()?;
    let (mut expected, mut found) = (Digest::default(), Digest::default());
    for one in &table.also {
        attempt.check_stopped()?;
        for row in attempt
            .wait(lookup.look_up(&[&one.start]))?
            .iter()
            .flatten()
        {
            expected.add(&one.start, row);
        }
        found.merge(engine.mended_digest(attempt.operation(), &path, one)?);
    }
    compare(&path, &first.start, expected, found)
}

/// Compares shard by shard as far as shards are those of the backup, and all of them together.
fn mended(attempt: &Attempt<'_>, path: &TablePath, wanted: &[ShardBackup]) -> TaskResult<()> {
    let shards = attempt
        .tools
        .engine
        .rows()?
        .mended_shards(attempt.operation(), path)?;
    let by_range: HashMap<_, _> = shards.iter().map(|it| (&it.range, it.digest)).collect();
    for shard in wanted {
        if let Some(found) = by_range.get(&shard.range) {
            compare(path, &shard.range.start, shard.digest, *found)?;
        }
    }
    let found: Digest = shards.iter().map(|shard| shard.digest).sum();
    let expected = wanted.iter().map(|shard| shard.digest).sum();
    compare(path, &[], expected, found)
}

fn compare(path: &TablePath, start: &[u8], expected: Digest, found: Digest) -> TaskResult<()> {
    if expected == found {
        return Ok(());
    }
    Err(TaskError::Proof(format!(
        "{path} would not be what the backup holds, in the keys from {}: {} rows with digest {found}, \
         expected {} rows with digest {expected}; readers have seen nothing of it: cancel the operation, \
         then check the target with mendb verify {}",
        to_hex(start),
        found.rows,
        expected.rows,
        path.table
    )))
}
