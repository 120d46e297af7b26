//! The steps of a backup.

use std::ops::ControlFlow;
use std::sync::Arc;

use mendb_engines::FreezeRequest;
use mendb_model::manifest::{
    FORMAT_VERSION, Manifest, Parent, Segment, TableBackup, UNFOLDED_FORMAT_VERSION,
};
use mendb_model::name::TablePath;
use mendb_model::operation::{BackupRequest, TaskOutput, TaskSpec};
use mendb_model::{Digest, RowBlock, TableSchema, Version, describe_error};
use mendb_repo::{Content, SegmentTarget};

use super::found;
use crate::attempt::{Attempt, Counts};
use crate::front::whose::{Whose, whose};
use crate::operations::kind::no_such_step;
use crate::task_error::{TaskError, TaskResult};

/// Locks, attaches or rotates, takes the snapshot, and drafts the manifest.
pub(crate) fn cut(
    attempt: &Attempt<'_>,
    request: &BackupRequest,
    counts: &mut Counts,
) -> TaskResult<()> {
    let mut frozen = attempt.tools.engine.rows()?.freeze(&FreezeRequest {
        operation: attempt.operation(),
        tables: &request.tables,
        stream: &request.stream,
        keeps_changes: request.keeps_changes,
        since_version: request.since_version,
    })?;
    if let Some(link) = &request.parent {
        let parent = attempt.manifest(&request.collection, link)?;
        for table in &mut frozen.tables {
            let before = parent.table(&table.table);
            if before.is_none_or(|before| before.schema != table.schema) {
                return Err(TaskError::Proof(format!(
                    "the schema of table {} has changed since backup {}; take a full backup",
                    table.table, link.backup_id
                )));
            }
            if let Some(found) = &request.found {
                found::begin(attempt, (&parent, found), table)?;
            }
        }
    }
    let mut draft = drafted(attempt, request, frozen.version, frozen.tables);
    if let TaskOutput::Draft(manifest) = &mut draft {
        manifest.commits = frozen.commits;
        if frozen.transactions.is_some() {
            manifest.transactions = frozen.transactions;
            manifest.format_version = UNFOLDED_FORMAT_VERSION;
        }
    }
    counts.output = draft;
    Ok(())
}

/// The draft of a manifest of tables as they were at a version.
pub(crate) fn drafted(
    attempt: &Attempt<'_>,
    request: &BackupRequest,
    version: Version,
    tables: Vec<TableBackup>,
) -> TaskOutput {
    let parent = request.parent.as_ref().map(|link| Parent {
        backup_id: link.backup_id.clone(),
        manifest_blake3: link.manifest_blake3.clone(),
    });
    TaskOutput::Draft(Box::new(Manifest {
        format_version: FORMAT_VERSION,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        collection: request.collection.clone(),
        backup_id: request.backup_id.clone(),
        label: request.label.clone(),
        operation_id: attempt.operation().to_owned(),
        target: attempt.tools.target.clone(),
        parent,
        snapshot_version: version,
        tables,
        part_store: None,
        transactions: None,
        commits: None,
        compacted: None,
    }))
}

/// Writes the rows or changes of one shard into segments.
pub(crate) fn copy(
    attempt: &Attempt<'_>,
    request: &BackupRequest,
    counts: &mut Counts,
) -> TaskResult<()> {
    copy_blocks(attempt, request, counts, None)
}

/// As [`copy`], of what is made of each block.
pub(crate) fn copy_as(
    attempt: &Attempt<'_>,
    request: &BackupRequest,
    counts: &mut Counts,
    make: MakeBlock<'_>,
) -> TaskResult<()> {
    copy_blocks(attempt, request, counts, Some(make))
}

/// Makes another block of one, with the same keys.
type MakeBlock<'a> = &'a mut dyn FnMut(&RowBlock<&[u8]>) -> TaskResult<RowBlock>;

fn copy_blocks(
    attempt: &Attempt<'_>,
    request: &BackupRequest,
    counts: &mut Counts,
    mut make: Option<MakeBlock<'_>>,
) -> TaskResult<()> {
    let TaskSpec::Copy {
        path,
        shard,
        range,
        digest: expected,
    } = &attempt.request.spec
    else {
        return Err(no_such_step(&attempt.request.request));
    };
    let (shard, expected) = (*shard, *expected);
    let engine = &attempt.tools.engine;
    let content = if request.since_version.is_some() {
        Content::Changes
    } else {
        Content::Rows
    };
    let mut copy = Copy {
        attempt,
        segments: match &attempt.request.output {
            TaskOutput::Segments(segments) => segments.clone(),
            _ => Vec::new(),
        },
        known: counts.segments_before,
        counts,
        rows: 0,
        bytes: 0,
    };
    let target = SegmentTarget {
        collection: request.collection.clone(),
        backup_id: request.backup_id.clone(),
        path: path.clone(),
        shard,
        writer: attempt.writer().to_owned(),
        attempt: attempt.request.attempt,
        first_segment: u32::try_from(copy.segments.len()).unwrap_or(u32::MAX),
    };
    let schema = schema_of(attempt, path)?;
    let mut writer = attempt
        .tools
        .repository
        .segment_writer(target, &schema, content)?;
    let after = copy.counts.last_key.clone();
    let mut outcome = Ok(());
    let mut sink = |block: &RowBlock<&[u8]>| {
        let pushed = match &mut make {
            None => attempt.wait(writer.push(block)),
            Some(make) => make(block).and_then(|made| attempt.wait(writer.push(&made))),
        };
        let pushed = pushed.and_then(|finished| copy.pushed(block, finished));
        match pushed {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                outcome = Err(error);
                ControlFlow::Break(())
            }
        }
    };
    match request.since_version {
        None => engine.rows()?.read_rows(
            attempt.operation(),
            path,
            range,
            after.as_deref(),
            &mut sink,
        )?,
        Some(since) => {
            engine.rows()?.read_changes(
                attempt.operation(),
                path,
                range,
                since,
                after.as_deref(),
                &mut sink,
            )?;
        }
    }
    outcome?;
    let last = attempt.wait(writer.finish())?;
    copy.finish(last);
    let written: Digest = copy.segments.iter().map(|segment| segment.digest).sum();
    match expected {
        Some(expected) if written != expected => Err(TaskError::Proof(format!(
            "the rows read from shard {shard} of {path} are not those it holds: digest {written} instead of \
             {expected}; check the target: mendb verify {}",
            path.table
        ))),
        _ => Ok(()),
    }
}

/// The segments of a shard so far. Only finished ones count as progress.
struct Copy<'a, 'b> {
    attempt: &'a Attempt<'b>,
    segments: Vec<Segment>,
    /// How many of them were known when the attempt began.
    known: usize,
    counts: &'a mut Counts,
    rows: u64,
    bytes: u64,
}

impl Copy<'_, '_> {
    fn pushed(&mut self, block: &RowBlock<&[u8]>, finished: Vec<Segment>) -> TaskResult<()> {
        self.rows += block.len() as u64;
        self.bytes += block.as_bytes().len() as u64;
        if finished.is_empty() {
            return self.attempt.check_stopped();
        }
        let before = self.segments.len();
        self.take(finished);
        self.name_from(before);
        self.attempt.in_progress(self.counts)
    }

    fn finish(&mut self, last: Vec<Segment>) {
        self.take(last);
        // All of the attempt: a report may have been lost.
        self.name_from(self.known);
        self.counts.bytes += self.bytes;
    }

    /// Has the next report name the segments from one on.
    fn name_from(&mut self, first: usize) {
        self.counts.output = TaskOutput::Segments(self.segments[first..].to_vec());
        self.counts.segments_before = first;
    }

    fn take(&mut self, finished: Vec<Segment>) {
        let rows: u64 = finished.iter().map(|segment| segment.digest.rows).sum();
        let row_bytes = self.bytes.checked_div(self.rows).unwrap_or(0);
        let bytes = (row_bytes * rows).min(self.bytes);
        self.rows -= rows.min(self.rows);
        self.bytes -= bytes;
        self.counts.rows += rows;
        self.counts.bytes += bytes;
        if let Some(segment) = finished.last() {
            self.counts.last_key = Some(segment.last_key.clone());
        }
        self.segments.extend(finished);
    }
}

fn schema_of(attempt: &Attempt<'_>, path: &TablePath) -> TaskResult<TableSchema> {
    let live = attempt.tools.engine.rows()?.inspect(&path.table)?;
    let schema = live.map(|live| live.schema);
    let schema = match (&path.index, schema) {
        (None, schema) => schema,
        (Some(name), Some(schema)) => schema.index(name).map(|index| schema.implementation(index)),
        (Some(_), None) => None,
    };
    schema.ok_or_else(|| TaskError::Proof(format!("table {path} is gone, although it was locked")))
}

/// Proves that an increment has every change since its parent, once and as it was made, from the objects as
/// they are stored; where changes do not say what they replaced, by folding the chain that it ends. One that
/// is sealed already was proved then.
fn prove(attempt: &Attempt<'_>, request: &BackupRequest) -> TaskResult<()> {
    let Some(link) = &request.parent else {
        return Ok(());
    };
    let (increment, repository) = (attempt.draft()?, &attempt.tools.repository);
    let (collection, id) = (&increment.collection, &increment.backup_id);
    if attempt.wait(repository.has_manifest(collection, id))? {
        return Ok(());
    }
    let parent = attempt.manifest(collection, link)?;
    let found = attempt.wait(async {
        let proof = repository.prove_increment(&parent, increment).await?;
        if !proof.is_unknown || !proof.wrong.is_empty() {
            return Ok(proof.wrong);
        }
        // Changes from before an older store was raised do not say what they replaced.
        let chain = repository.chain(collection, &link.backup_id).await?;
        let chain = chain.into_iter().map(|stored| stored.manifest);
        let chain: Vec<_> = chain.chain([increment.clone()]).map(Arc::new).collect();
        repository.prove_by_folding(&chain).await
    });
    let wrong = match found {
        Ok(wrong) => match wrong.as_slice() {
            [] => return Ok(()),
            [wrong] => wrong.to_string(),
            [wrong, others @ ..] => {
                let others = others.len();
                format!("{wrong}; so it is in {others} more ranges of keys")
            }
        },
        Err(TaskError::Repository(error)) if error.is_damage() => describe_error(&error),
        Err(error) => return Err(error),
    };
    Err(TaskError::Proof(format!(
        "the increment was not sealed, as what it holds does not lead from backup {} to the rows there were: {wrong}. \
         Cancel this operation; then take a full backup, and check the target with mendb verify",
        link.backup_id
    )))
}

/// Puts the manifest: from here on the backup exists. What an increment stands on is to be the newest backup,
/// unless it `stands_anywhere`, as the state before a mend that let writers go on.
pub(crate) fn seal(
    attempt: &Attempt<'_>,
    request: &BackupRequest,
    stands_anywhere: bool,
) -> TaskResult<()> {
    let manifest = attempt.draft()?;
    let repository = &attempt.tools.repository;
    if let Some(parent) = request.parent.as_ref().filter(|_| !stands_anywhere) {
        let backups = attempt.wait(repository.list(&request.collection))?;
        let later = backups
            .iter()
            .filter(|(id, _)| *id > parent.backup_id && *id != request.backup_id);
        let knows = |id| Ok(attempt.journal.knows(id)?);
        let mut is_newest = backups.iter().any(|(id, _)| *id == parent.backup_id);
        for (_, stored) in later {
            is_newest &= match stored {
                // Those of other targets are of other chains.
                Ok(stored) => whose(attempt.tools, &knows, &stored.manifest)? != Whose::Ours,
                Err(_) => false,
            };
        }
        if !is_newest {
            return Err(TaskError::Proof(format!(
                "backup {} is no longer the newest of this target in collection {}, so this increment cannot follow it; take another",
                parent.backup_id, request.collection
            )));
        }
    }
    prove(attempt, request)?;
    attempt.wait_to_the_end(repository.put_manifest(manifest, attempt.writer()))?;
    crate::env::crash_point();
    // The backup exists, whether or not what lost attempts have left can be removed.
    if let Err(error) = attempt.wait_to_the_end(repository.sweep(manifest, attempt.writer())) {
        tracing::warn!(backup = %manifest.backup_id, %error, "leftovers of the backup stay");
    }
    Ok(())
}

/// Releases what the next increment does not need, and unlocks.
pub(crate) fn release(attempt: &Attempt<'_>, request: &BackupRequest) -> TaskResult<()> {
    let engine = &attempt.tools.engine;
    engine
        .rows()?
        .release_stream(&request.stream, attempt.draft()?.snapshot_version)?;
    crate::env::crash_point();
    for stream in &request.old_streams {
        engine.rows()?.detach_stream(stream)?;
        crate::env::crash_point();
    }
    engine.thaw(attempt.operation())?;
    Ok(())
}

/// Removes whatever the backup has left: first on the target, whose tables others wait for, then in
/// the repository, also a manifest that nobody could rely on yet.
pub(crate) fn rollback(attempt: &Attempt<'_>, request: &BackupRequest) -> TaskResult<()> {
    let (engine, repository) = (&attempt.tools.engine, &attempt.tools.repository);
    // Where nothing is written, none was attached.
    if request.since_version.is_none() && engine.rows()?.takes_no_writes().is_none() {
        engine.rows()?.detach_stream(&request.stream)?;
        crate::env::crash_point();
    }
    engine.thaw(attempt.operation())?;
    crate::env::crash_point();
    let (collection, id) = (&request.collection, &request.backup_id);
    attempt.wait(repository.withdraw(collection, id, attempt.operation(), attempt.writer()))
}
