//! What one backup of a chain holds of a table.

use std::cmp::Ordering;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use mendb_model::key::KeyRange;
use mendb_model::manifest::Manifest;
use mendb_model::name::{BackupKind, TablePath};
use mendb_model::{BackupId, TableSchema};

use super::gallop::gallop;
use crate::arrow::Content;
use crate::error::{Error, Result};
use crate::layout;
use crate::objects::REQUESTS_AT_ONCE;
use crate::repository::Repository;
use crate::segment::groups::{GroupRequest, GroupedSegment, requests};

/// What was read of one backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadCounts {
    /// The backup.
    pub backup_id: BackupId,
    /// Requests to the repository, repeated ones counted once.
    pub requests: u64,
    /// Bytes they were for.
    pub bytes: u64,
    /// Row groups that were decoded.
    pub groups: u64,
    /// Rows or changes in them.
    pub rows: u64,
}

impl ReadCounts {
    /// Counts a request.
    pub(super) fn count(&mut self, request: &GroupRequest) {
        self.requests += 1;
        self.bytes += request.range.end - request.range.start;
    }
}

/// What reading would take, going by the manifests alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadEstimate {
    /// Requests to the repository.
    pub requests: u64,
    /// Bytes they are for.
    pub bytes: u64,
    /// Row groups that would be decoded.
    pub groups: u64,
    /// Rows or changes in them.
    pub rows: u64,
}

impl ReadCounts {
    /// Counts what was read of the same backup in another go.
    pub(super) fn add(&mut self, more: &Self) {
        self.requests += more.requests;
        self.bytes += more.bytes;
        self.groups += more.groups;
        self.rows += more.rows;
    }
}

/// The rows or changes of a table in one backup, in key order.
#[derive(Debug)]
pub(super) struct Level {
    backup_id: BackupId,
    pub(super) content: Content,
    pub(super) segments: Vec<GroupedSegment>,
    /// What is read at a time, in key order.
    pub(super) units: Vec<Unit>,
}

/// A row group, or a segment that has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) segment: usize,
    pub(super) group: usize,
}

/// The levels of a chain, oldest first, and the schema of the last.
#[derive(Debug)]
pub(super) struct Levels {
    pub(super) list: Vec<Arc<Level>>,
    pub(super) schema: TableSchema,
    /// Rows when the first level is a full backup, else changes.
    pub(super) content: Content,
}

impl Levels {
    /// What the backups of a chain, oldest first, hold of a table between two keys. Nothing is read but the
    /// lists of their shards, of several backups at once.
    /// A backup that does not know the table adds nothing.
    ///
    /// # Errors
    /// [`Error::NoSuchTable`]: the last backup does not have the table. [`Error::Damaged`]: a manifest
    /// says what cannot be. Or a list cannot be read.
    ///
    /// # Panics
    /// The chain is empty, or a full backup is not its first.
    pub(super) async fn new(
        repository: &Repository,
        chain: &[Arc<Manifest>],
        path: &TablePath,
        range: &KeyRange,
    ) -> Result<Self> {
        let last = chain.last().expect("a chain is of at least one backup");
        let increments_only = chain[1..]
            .iter()
            .all(|manifest| manifest.kind() != BackupKind::Full);
        assert!(
            increments_only,
            "only the first backup of a chain is a full one"
        );
        let schema = schema_of(last, path).ok_or_else(|| Error::NoSuchTable {
            backup: last.backup_id.clone(),
            table: path.to_string(),
        })?;
        let levels = chain.iter();
        let levels = levels.map(|manifest| Level::new(repository, manifest, path, range, &schema));
        let levels: Vec<_> = levels.collect();
        let levels = stream::iter(levels).buffered(REQUESTS_AT_ONCE);
        let levels: Vec<_> = levels.try_collect().await?;
        Ok(Self {
            list: levels.into_iter().flatten().collect(),
            content: content_of(&chain[0]),
            schema,
        })
    }
}

fn schema_of(manifest: &Manifest, path: &TablePath) -> Option<TableSchema> {
    manifest.sharded_table(path)?;
    manifest.schema_of(path)
}

fn content_of(manifest: &Manifest) -> Content {
    match manifest.kind() {
        BackupKind::Full => Content::Rows,
        BackupKind::Incremental => Content::Changes,
    }
}

impl Level {
    /// `None` when the backup does not have the table.
    async fn new(
        repository: &Repository,
        manifest: &Manifest,
        path: &TablePath,
        range: &KeyRange,
        newest: &TableSchema,
    ) -> Result<Option<Arc<Self>>> {
        let Some(schema) = schema_of(manifest, path) else {
            return Ok(None);
        };
        let (collection, id) = (&manifest.collection, &manifest.backup_id);
        let directory = layout::backup(collection, id)?;
        let damaged = |detail: String| -> Result<Error> {
            Ok((repository.objects).damaged(&layout::manifest(collection, id)?, detail))
        };
        if !grows_into(&schema, newest) {
            let detail = format!("its columns of {path} are not those of a later backup");
            return Err(damaged(detail)?);
        }
        let schema = Arc::new(schema);
        let mut level = Self {
            backup_id: id.clone(),
            content: content_of(manifest),
            segments: Vec::new(),
            units: Vec::new(),
        };
        let mut last_key: Option<&[u8]> = None;
        let shards = repository.shards_within(manifest, path, range).await?;
        for segment in shards.iter().flat_map(|shard| &shard.segments) {
            let first = segment.first_key.as_slice();
            if last_key >= Some(first) || first > segment.last_key.as_slice() {
                return Err(damaged(format!("{} is not in key order", segment.object))?);
            }
            last_key = Some(&segment.last_key);
            if range.locate(first) == Ordering::Greater || *segment.last_key < *range.start {
                continue;
            }
            let number = level.segments.len();
            level.segments.push(GroupedSegment::new(
                repository.objects.clone(),
                &directory,
                segment.clone(),
                Arc::clone(&schema),
                level.content,
            )?);
            let groups = 0..level.segments[number].len();
            level.units.extend(groups.map(|group| Unit {
                segment: number,
                group,
            }));
        }
        level.keep(range);
        Ok(Some(Arc::new(level)))
    }

    /// Forgets the units that hold no key of a range.
    fn keep(&mut self, range: &KeyRange) {
        if range.is_empty() {
            self.units.clear();
            return;
        }
        let begin = match self.units_begun(&range.start, 0).checked_sub(1) {
            Some(unit) if self.reaches(self.units[unit], &range.start) => unit,
            Some(unit) => unit + 1,
            None => 0,
        };
        let end = match &range.end {
            None => self.units.len(),
            Some(end) => {
                let units = &self.units;
                units.partition_point(|unit| self.first_key(*unit) < end.as_slice())
            }
        };
        self.units.truncate(end);
        self.units.drain(..begin.min(end));
    }

    /// The first key of a unit.
    pub(super) fn first_key(&self, unit: Unit) -> &[u8] {
        self.segments[unit.segment].first_key(unit.group)
    }

    /// Whether a key of a unit can be `key`, going by what comes after the unit.
    pub(super) fn reaches(&self, unit: Unit, key: &[u8]) -> bool {
        let segment = &self.segments[unit.segment];
        if unit.group + 1 < segment.len() {
            key < segment.first_key(unit.group + 1)
        } else {
            key <= segment.segment().last_key.as_slice()
        }
    }

    /// How many units begin at or before a key, which are at least `least`. Only the last can hold it.
    fn units_begun(&self, key: &[u8], least: usize) -> usize {
        let begins_before = |unit: usize| self.first_key(self.units[unit]) <= key;
        gallop(least, self.units.len(), begins_before)
    }

    /// The number of the unit that can hold a key. `begun` is 0 at first, and keys ascend.
    pub(super) fn unit_with(&self, key: &[u8], begun: &mut usize) -> Option<usize> {
        *begun = self.units_begun(key, *begun);
        let number = begun.checked_sub(1)?;
        self.reaches(self.units[number], key).then_some(number)
    }

    /// Counts what reading units takes, which are given as for [`Self::requests`].
    pub(super) fn estimate(
        &self,
        units: &[usize],
        opened: Option<usize>,
        most_bytes: u64,
        estimate: &mut ReadEstimate,
    ) {
        for (_, request) in self.requests(units, opened, most_bytes) {
            estimate.requests += 1;
            estimate.bytes += request.range.end - request.range.start;
        }
        estimate.groups += units.len() as u64;
        let units = units.iter().map(|unit| self.units[*unit]);
        let rows = units.map(|unit| self.segments[unit.segment].rows(unit.group));
        estimate.rows += rows.sum::<u64>();
    }

    /// The requests for units, given by ascending numbers, in their order, each with its segment.
    /// `opened` is the segment whose footer is known.
    pub(super) fn requests(
        &self,
        units: &[usize],
        mut opened: Option<usize>,
        most_bytes: u64,
    ) -> Vec<(usize, GroupRequest)> {
        let mut planned = Vec::new();
        let of_segment = |unit: &usize| self.units[*unit].segment;
        for neighbours in units.chunk_by(|a, b| of_segment(a) == of_segment(b)) {
            let segment = of_segment(&neighbours[0]);
            let groups = neighbours.iter().map(|unit| self.units[*unit].group);
            let groups: Vec<_> = groups.collect();
            let footer = opened.replace(segment) != Some(segment);
            let needed = requests(
                self.segments[segment].segment(),
                &groups,
                footer,
                most_bytes,
            );
            planned.extend(needed.into_iter().map(|request| (segment, request)));
        }
        planned
    }

    /// Counts of which nothing was counted yet.
    pub(super) fn counts(&self) -> ReadCounts {
        ReadCounts {
            backup_id: self.backup_id.clone(),
            requests: 0,
            bytes: 0,
            groups: 0,
            rows: 0,
        }
    }
}

/// Whether a table of the one schema became one of the other by adding columns at its end.
fn grows_into(old: &TableSchema, new: &TableSchema) -> bool {
    old.key_types() == new.key_types() && new.value_types().starts_with(&old.value_types())
}
