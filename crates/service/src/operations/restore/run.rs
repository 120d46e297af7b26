//! The steps of a restore.

use mendb_engines::{HiddenTable, RowSource};
use mendb_model::manifest::ShardBackup;
use mendb_model::name::{BackupId, TablePath};
use mendb_model::operation::{RestoreRequest, RestoreStrategy, StepKind};
use mendb_model::schema::TableSchema;
use mendb_model::{RowBlock, RowBlockBuilder};
use mendb_repo::Content;

use super::load::{BATCH_BYTES, Load};
use crate::attempt::{Attempt, Counts};
use crate::task_error::{TaskError, TaskResult};

/// A shard of a backup, and the table it goes to.
pub(super) struct ShardToRestore<'a> {
    pub request: &'a RestoreRequest,
    pub backup_id: &'a BackupId,
    pub source: &'a TablePath,
    pub target: &'a TablePath,
    pub shard: u32,
}

/// Finds every object of the chain, then creates the tables, locked.
pub(super) fn prepare(attempt: &Attempt<'_>, request: &RestoreRequest) -> TaskResult<()> {
    let mut last = None;
    for link in &request.chain {
        let manifest = attempt.manifest(&request.collection, link)?;
        attempt.wait(attempt.tools.repository.check_present(&manifest))?;
        attempt.check_stopped()?;
        last = Some(manifest);
    }
    let last = last.ok_or_else(|| TaskError::Proof("the chain is empty".to_owned()))?;
    let staged = |mapping: &mendb_model::operation::TableMapping| {
        let repository = &attempt.tools.repository;
        Ok(HiddenTable {
            name: mapping.target.clone(),
            backup: attempt.wait(repository.whole_table(&last, &mapping.source))?,
        })
    };
    let tables = request
        .tables
        .iter()
        .map(staged)
        .collect::<TaskResult<_>>()?;
    attempt
        .tools
        .engine
        .rows()?
        .create_hidden(attempt.operation(), tables)?;
    Ok(())
}

/// What the manifest says about a place.
pub(super) fn look_up(
    attempt: &Attempt<'_>,
    place: &ShardToRestore<'_>,
) -> TaskResult<(ShardBackup, TableSchema)> {
    let chain = &place.request.chain;
    let missing = || {
        TaskError::Proof(format!(
            "backup {} has no shard {} of {}",
            place.backup_id, place.shard, place.source
        ))
    };
    let link = chain
        .iter()
        .find(|link| link.backup_id == *place.backup_id)
        .ok_or_else(missing)?;
    let manifest = attempt.manifest(&place.request.collection, link)?;
    let shard = (attempt.tools.repository).shard(&manifest, place.source, place.shard);
    let shard = attempt.wait(shard)?.ok_or_else(missing)?;
    let table = manifest.table(&place.source.table).ok_or_else(missing)?;
    let schema = table
        .schema_of(place.source.index.as_deref())
        .ok_or_else(missing)?;
    Ok((shard, schema))
}

/// Brings one shard of a backup to the shards that own its keys now: its segments, or all that the chain up to
/// it holds of its keys.
pub(super) fn bring(
    attempt: &Attempt<'_>,
    place: &ShardToRestore<'_>,
    counts: &mut Counts,
) -> TaskResult<()> {
    match place.request.strategy {
        RestoreStrategy::Sequential => carry(attempt, place, counts),
        RestoreStrategy::Merged => merge(attempt, place, counts),
    }
}

/// Brings the rows that the chain holds at its end.
fn merge(attempt: &Attempt<'_>, place: &ShardToRestore<'_>, counts: &mut Counts) -> TaskResult<()> {
    let request = place.request;
    let (shard, _) = look_up(attempt, place)?;
    let manifests = request.chain.iter();
    let manifests = manifests.map(|link| attempt.manifest(&request.collection, link));
    let load = Load {
        chain: &manifests.collect::<TaskResult<Vec<_>>>()?,
        source: place.source,
        target: place.target,
        range: &shard.range,
    };
    let after = counts.last_key.clone();
    let mut is_first = true;
    load.run(attempt, after.as_deref(), &mut |more, last_key| {
        counts.rows += more.upserted;
        counts.bytes += more.fetched_bytes;
        if let Some(last_key) = last_key {
            counts.last_key = Some(last_key.to_vec());
            attempt.in_progress_after(&mut is_first, counts)?;
        }
        Ok(())
    })
}

/// Brings the segments of one shard.
fn carry(attempt: &Attempt<'_>, place: &ShardToRestore<'_>, counts: &mut Counts) -> TaskResult<()> {
    let (shard, schema) = look_up(attempt, place)?;
    let tools = attempt.tools;
    let content = match attempt.request.step_kind {
        StepKind::Load => Content::Rows,
        _ => Content::Changes,
    };
    let collection = &place.request.collection;
    let mut is_first = true;
    for segment in &shard.segments {
        if counts.last_key.as_deref() >= Some(segment.last_key.as_slice()) {
            continue;
        }
        attempt.check_stopped()?;
        let reader = attempt.wait(tools.repository.read_segment(
            collection,
            place.backup_id,
            segment,
            &schema,
            content,
        ))?;
        let mut rows = 0;
        let mut batch = RowBlockBuilder::new();
        for block in reader {
            let block = block?;
            rows += block.len() as u64;
            batch.extend(&block);
            if batch.size_bytes() >= BATCH_BYTES {
                deliver(attempt, place, content, &batch.finish().view())?;
            }
        }
        if !batch.is_empty() {
            deliver(attempt, place, content, &batch.finish().view())?;
        }
        if rows != segment.digest.rows {
            let detail = format!(
                "{} holds {rows} rows, its manifest says {}",
                segment.object, segment.digest.rows
            );
            return Err(TaskError::Proof(detail));
        }
        counts.rows += rows;
        counts.bytes += segment.bytes;
        counts.last_key = Some(segment.last_key.clone());
        attempt.in_progress_after(&mut is_first, counts)?;
    }
    Ok(())
}

fn deliver(
    attempt: &Attempt<'_>,
    place: &ShardToRestore<'_>,
    content: Content,
    batch: &RowBlock<&[u8]>,
) -> TaskResult<()> {
    attempt.check_stopped()?;
    let engine = attempt.tools.engine.rows()?;
    let source = RowSource {
        step: attempt.request.step,
        index: attempt.request.shard_idx,
    };
    match content {
        Content::Rows => engine.load(attempt.operation(), place.target, source, batch)?,
        Content::Changes => engine.apply(attempt.operation(), place.target, source, batch)?,
    }
    crate::env::crash_point();
    Ok(())
}
