//! Increments of targets that keep no changes: what changed is found in the snapshot, and what it took the place of in
//! the chain of the parent.
//!
//! ```text
//! touched      a change stream tells which keys were written: they are looked up in the chain, and no other is read
//! count        rows of the shard, and those that may have been written since: none and none gone is no change
//! look up      the rows that may have been written are looked up in the chain; those that are as they were drop out
//! compare      where rows are gone, much was written, or versions tell nothing: all rows beside those of the chain
//! ```
//!
//! A shard has the keys that it had in the parent, so that what was counted and looked up gives its digest: that of the
//! parent, with what changed counted in and out. Of compared shards the digest is that of the rows as they were read.
//! *Crash*: a shard is begun anew; what it had written is swept.

use std::ops::ControlFlow;
use std::sync::Arc;

use mendb_engines::{RowCounts, RowVersions};
use mendb_model::change::ChangeRef;
use mendb_model::key::KeyRange;
use mendb_model::manifest::{
    ChangeMethod, Manifest, Segment, ShardBackup, ShardedData, TableBackup,
};
use mendb_model::name::TablePath;
use mendb_model::operation::{BackupRequest, FoundBy, TaskOutput, TaskSpec};
use mendb_model::{ChangeKind, Digest, Replaced, RowBlock, RowBlockBuilder};
use mendb_repo::{ChainReader, Content, SegmentTarget, SegmentWriter};

use crate::attempt::{Attempt, Counts};
use crate::diff::Pulled;
use crate::operations::kind::no_such_step;
use crate::task_error::{TaskError, TaskResult};

/// Changes of a shard that are looked up are held up to about so many bytes; where there are more, all rows of the shard
/// are compared, which costs no more then.
const MOST_LOOKED_UP_BYTES: usize = 8 << 20;
/// Changes go to segments in blocks of about this many bytes.
const BLOCK_BYTES: usize = 1 << 20;

/// Drafts a table: the shards of the parent as they were there, or new ones where it has more than doubled.
pub(super) fn begin(
    attempt: &Attempt<'_>,
    (parent, found): (&Manifest, &FoundBy),
    table: &mut TableBackup,
) -> TaskResult<()> {
    let engine = attempt.tools.engine.rows()?;
    let Some(before) = parent.table(&table.table) else {
        return Err(no_such_table(parent, &table.table));
    };
    if let Some(what) = engine.difference(before)? {
        return Err(TaskError::Proof(format!(
            "table {} was altered since backup {}: {what}; take a full backup",
            table.table, parent.backup_id
        )));
    }
    let path = TablePath::table(&table.table);
    let shards = attempt.wait(attempt.tools.repository.shards(parent, &path))?;
    let anew = table.rows.shards_here().map_or(0, <[ShardBackup]>::len);
    let all_rows = |reason: &str| ChangeMethod::AllRows {
        reason: reason.to_owned(),
    };
    if found.compare_rows {
        table.changes_by = Some(all_rows("that was asked for"));
    }
    if anew > 2 * shards.len() {
        table.changes_by = Some(all_rows(
            "it has more than doubled since it was cut into ranges of keys, and is cut anew",
        ));
        return Ok(());
    }
    let shards = shards.into_iter().map(|shard| ShardBackup {
        segments: Vec::new(),
        ..shard
    });
    table.rows = ShardedData::here(table.rows.schema_version, shards.collect());
    Ok(())
}

/// Writes what changed in a shard.
pub(super) fn copy(
    attempt: &Attempt<'_>,
    request: &BackupRequest,
    found: &FoundBy,
    counts: &mut Counts,
) -> TaskResult<()> {
    let TaskSpec::Copy {
        path,
        shard: place,
        range,
        ..
    } = &attempt.request.spec
    else {
        return Err(no_such_step(&attempt.request.request));
    };
    // Nothing of an attempt before counts.
    *counts = Counts::default();
    let versions = versions(attempt)?;
    let (method, version) = versions.found_by(attempt.operation(), path)?;
    let chain = found.chain.iter();
    let chain = chain.map(|link| attempt.manifest(&request.collection, link));
    let chain: Vec<Arc<Manifest>> = chain.collect::<TaskResult<_>>()?;
    let parent = chain.last();
    let parent = parent.ok_or_else(|| TaskError::Proof("the chain is empty".to_owned()))?;
    // That of the snapshot is the same.
    let schema = parent.table(&path.table).map(|table| &table.schema);
    let schema = schema.ok_or_else(|| no_such_table(parent, &path.table))?;
    let shard = Shard {
        attempt,
        chain: &chain,
        path,
        range,
        before: digest_in(attempt, parent, path, range)?,
        version,
        versions,
    };
    let target = SegmentTarget {
        collection: request.collection.clone(),
        backup_id: request.backup_id.clone(),
        path: path.clone(),
        shard: *place,
        writer: attempt.writer().to_owned(),
        attempt: attempt.request.attempt,
        first_segment: 0,
    };
    let repository = &attempt.tools.repository;
    let writer = repository.segment_writer(target, schema, Content::Changes)?;
    let mut changes = Changes {
        attempt,
        version,
        writer,
        segments: Vec::new(),
        block: RowBlockBuilder::new(),
        counts,
    };
    let digest = match found.compare_rows {
        true => shard.find(None, &mut changes)?,
        false => shard.find(Some(&method), &mut changes)?,
    };
    let segments = changes.finish()?;
    counts.output = TaskOutput::Found { segments, digest };
    Ok(())
}

pub(super) fn versions<'a>(attempt: &Attempt<'a>) -> TaskResult<&'a dyn RowVersions> {
    attempt.tools.engine.rows()?.row_versions().ok_or_else(|| {
        TaskError::Proof("the increment was ordered for another kind of target".to_owned())
    })
}

/// The digest of a shard in a backup; `None` where that has none of just these keys.
fn digest_in(
    attempt: &Attempt<'_>,
    parent: &Manifest,
    path: &TablePath,
    range: &KeyRange,
) -> TaskResult<Option<Digest>> {
    let repository = &attempt.tools.repository;
    let shards = attempt.wait(repository.shards_within(parent, path, range))?;
    let shard = shards.iter().find(|shard| shard.range == *range);
    Ok(shard.map(|shard| shard.digest))
}

/// A shard whose changes are looked for.
struct Shard<'a, 'b> {
    attempt: &'a Attempt<'b>,
    /// Up to the parent, oldest first.
    chain: &'a [Arc<Manifest>],
    path: &'a TablePath,
    range: &'a KeyRange,
    /// Its digest in the parent.
    before: Option<Digest>,
    /// Of the snapshot.
    version: u64,
    versions: &'a dyn RowVersions,
}

impl Shard<'_, '_> {
    /// Puts its changes, and tells the digest of its rows. Without a method all rows are compared.
    fn find(
        &self,
        method: Option<&ChangeMethod>,
        changes: &mut Changes<'_, '_>,
    ) -> TaskResult<Digest> {
        let Some(before) = self.before else {
            return self.compare(changes);
        };
        if method == Some(&ChangeMethod::Stream) {
            return self.look_up_touched(before, changes);
        }
        if method != Some(&ChangeMethod::RowVersions) {
            let mut digest = Digest::default();
            self.read(&mut |block| {
                for (key, row) in block.iter() {
                    digest.add(key, row);
                }
                self.attempt.in_progress(changes.counts)
            })?;
            return match digest == before {
                true => Ok(digest),
                false => self.compare(changes),
            };
        }
        let counted = self
            .versions
            .count(self.attempt.operation(), self.path, self.range)?;
        let Some(counted) = counted else {
            return self.compare(changes);
        };
        if counted.written == 0 && counted.rows == before.rows {
            return Ok(before);
        }
        self.attempt.in_progress(changes.counts)?;
        match self.look_up(before, counted)? {
            Some((found, digest)) => {
                changes.put_all(&found)?;
                Ok(digest)
            }
            None => self.compare(changes),
        }
    }

    /// Looks the rows up that may have been written. `None` where rows are gone, or there is too much.
    fn look_up(
        &self,
        before: Digest,
        counted: RowCounts,
    ) -> TaskResult<Option<(RowBlock, Digest)>> {
        let (attempt, repository) = (self.attempt, &self.attempt.tools.repository);
        if before.rows > counted.rows {
            return Ok(None);
        }
        let lookup = repository.look_up_chain(self.chain, self.path, self.range);
        let mut lookup = attempt.wait(lookup)?;
        let (mut digest, mut found) = (before, RowBlockBuilder::new());
        let version = self.version;
        let mut outcome = Ok(());
        let mut look = |block: &RowBlock<&[u8]>| -> TaskResult<bool> {
            attempt.check_stopped()?;
            let keys: Vec<&[u8]> = block.iter().map(|(key, _)| key).collect();
            let rows = attempt.wait(lookup.look_up(&keys))?;
            for ((key, row), was) in block.iter().zip(rows) {
                let was = was.as_deref();
                if was == Some(row) {
                    continue;
                }
                if let Some(was) = was {
                    digest.remove(key, was);
                }
                digest.add(key, row);
                push(&mut found, version, key, was, Some(row));
            }
            Ok(found.size_bytes() <= MOST_LOOKED_UP_BYTES)
        };
        let mut is_all = true;
        let (versions, operation) = (self.versions, attempt.operation());
        versions.read_written(operation, self.path, self.range, &mut |block| {
            match look(block) {
                Ok(true) => return ControlFlow::Continue(()),
                Ok(false) => is_all = false,
                Err(error) => outcome = Err(error),
            }
            ControlFlow::Break(())
        })?;
        outcome?;
        // Were rows gone, there would be more of them in the parent than are left.
        Ok((is_all && digest.rows == counted.rows).then(|| (found.finish(), digest)))
    }

    /// Looks the keys up that a change stream tells of.
    fn look_up_touched(&self, before: Digest, changes: &mut Changes<'_, '_>) -> TaskResult<Digest> {
        let (attempt, repository) = (self.attempt, &self.attempt.tools.repository);
        let lookup = repository.look_up_chain(self.chain, self.path, self.range);
        let mut lookup = attempt.wait(lookup)?;
        let mut digest = before;
        let mut look = |block: &RowBlock<&[u8]>| -> TaskResult<()> {
            attempt.check_stopped()?;
            let keys: Vec<&[u8]> = block.iter().map(|(key, _)| key).collect();
            let rows = attempt.wait(lookup.look_up(&keys))?;
            for ((key, change), was) in block.iter().zip(rows) {
                let change = ChangeRef::decode(change).map_err(|error| {
                    TaskError::Proof(format!("{} was not read as it is: {error}", self.path))
                })?;
                let row = (change.kind != ChangeKind::Erase).then_some(change.row);
                if was.as_deref() == row {
                    continue;
                }
                if let Some(was) = &was {
                    digest.remove(key, was);
                }
                if let Some(row) = row {
                    digest.add(key, row);
                }
                changes.put(key, was.as_deref(), row)?;
            }
            Ok(())
        };
        let mut outcome = Ok(());
        let (versions, operation) = (self.versions, attempt.operation());
        versions.read_touched(operation, self.path, self.range, &mut |block| {
            match look(block) {
                Ok(()) => return ControlFlow::Continue(()),
                Err(error) => outcome = Err(error),
            }
            ControlFlow::Break(())
        })?;
        outcome?;
        Ok(digest)
    }

    /// Walks all rows beside those of the chain.
    fn compare(&self, changes: &mut Changes<'_, '_>) -> TaskResult<Digest> {
        let (attempt, repository) = (self.attempt, &self.attempt.tools.repository);
        let was = repository.read_chain(self.chain, self.path, self.range, None);
        let was: ChainReader = attempt.wait(was)?;
        let mut was = Pulled::new(was, |was| attempt.wait(was.next()));
        let mut digest = Digest::default();
        self.read(&mut |block| {
            for (key, row) in block.iter() {
                digest.add(key, row);
                while let Some((gone, was)) = was.next_before(Some(key))? {
                    changes.put(gone, Some(was), None)?;
                }
                match was.next_at(key)? {
                    Some(was) if was == row => {}
                    was => changes.put(key, was, Some(row))?,
                }
            }
            attempt.check_stopped()
        })?;
        while let Some((gone, was)) = was.next_before(None)? {
            changes.put(gone, Some(was), None)?;
        }
        Ok(digest)
    }

    /// Reads its rows in the snapshot.
    fn read(&self, each: &mut dyn FnMut(&RowBlock<&[u8]>) -> TaskResult<()>) -> TaskResult<()> {
        let mut outcome = Ok(());
        let rows = self.attempt.tools.engine.rows()?;
        let operation = self.attempt.operation();
        rows.read_rows(
            operation,
            self.path,
            self.range,
            None,
            &mut |block| match each(block) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    outcome = Err(error);
                    ControlFlow::Break(())
                }
            },
        )?;
        outcome
    }
}

/// Appends a change of a key from one row to another, or none.
fn push(
    block: &mut RowBlockBuilder,
    version: u64,
    key: &[u8],
    was: Option<&[u8]>,
    row: Option<&[u8]>,
) {
    let change = ChangeRef {
        version,
        kind: match row {
            Some(_) => ChangeKind::Reset,
            None => ChangeKind::Erase,
        },
        replaced: Replaced::of(key, was),
        bitmap: &[],
        row: row.unwrap_or_default(),
    };
    block.push_with(key, |out| change.encode_into(out));
}

/// The changes of a shard on their way into segments.
struct Changes<'a, 'b> {
    attempt: &'a Attempt<'b>,
    /// Of the snapshot.
    version: u64,
    writer: SegmentWriter,
    segments: Vec<Segment>,
    block: RowBlockBuilder,
    counts: &'a mut Counts,
}

impl Changes<'_, '_> {
    fn put(&mut self, key: &[u8], was: Option<&[u8]>, row: Option<&[u8]>) -> TaskResult<()> {
        push(&mut self.block, self.version, key, was, row);
        match self.block.size_bytes() < BLOCK_BYTES {
            true => Ok(()),
            false => self.flush(),
        }
    }

    fn flush(&mut self) -> TaskResult<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = self.block.finish();
        self.put_all(&block)?;
        self.attempt.in_progress(self.counts)
    }

    fn put_all(&mut self, block: &RowBlock) -> TaskResult<()> {
        self.counts.rows += block.len() as u64;
        self.counts.bytes += block.as_bytes().len() as u64;
        let stored = self.attempt.wait(self.writer.push(block))?;
        self.segments.extend(stored);
        Ok(())
    }

    /// Stores what is left, and gives all segments.
    fn finish(mut self) -> TaskResult<Vec<Segment>> {
        self.flush()?;
        let last = self.attempt.wait(self.writer.finish())?;
        self.segments.extend(last);
        Ok(self.segments)
    }
}

pub(super) fn no_such_table(manifest: &Manifest, table: &str) -> TaskError {
    TaskError::Proof(format!(
        "backup {} has no table {table}",
        manifest.backup_id
    ))
}
