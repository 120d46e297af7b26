//! The rows of a table at the end of a chain, in key order.

use std::collections::VecDeque;
use std::sync::Arc;

use mendb_model::change::{Change, ChangeKind, ChangeRef};
use mendb_model::key::KeyRange;
use mendb_model::manifest::Manifest;
use mendb_model::name::TablePath;
use mendb_model::{ColumnType, Fold, Malformed, RowBlock, RowBlockBuilder, TableSchema};

use super::level::{Level, Levels, ReadCounts, ReadEstimate};
use super::stream::GroupStream;
use crate::arrow::Content;
use crate::error::Result;
use crate::repository::Repository;

/// A block ends after about this many bytes.
const BLOCK_BYTES: usize = 4 << 20;
/// What all levels together fetch ahead, shared out among them …
const AHEAD_BYTES: u64 = 64 << 20;
/// … where one request is not for more than this, which takes long enough that asking again costs little,
const MOST_REQUEST_BYTES: u64 = 4 << 20;
/// … nor for less than this: a chain of so many levels is better compacted.
const LEAST_REQUEST_BYTES: u64 = 256 << 10;
/// Requests of a level under way: while one is decoded, the next comes.
const REQUESTS_AT_ONCE: usize = 1;

/// Merges the levels of a chain: for each key the newest change over those before it.
///
/// Of a chain with a full backup it gives rows; of increments alone the folded changes, whose kinds are
/// what is left when they follow each other ([`Change::then`]), erases among them.
#[derive(Debug)]
pub struct ChainReader {
    schema: TableSchema,
    types: Vec<ColumnType>,
    content: Content,
    range: KeyRange,
    /// Oldest first.
    cursors: Vec<Cursor>,
    /// What one request is for at most.
    most_bytes: u64,
    block: RowBlockBuilder,
}

impl Repository {
    /// Reads what a chain of backups, oldest first, holds of a table between two keys, behind `after`
    /// where that is given: one that stopped goes on behind the last key it saw. Of rows nothing is fetched yet.
    ///
    /// The chain is a full backup with increments after it, or increments alone. The caller has seen
    /// that each stands on the one before.
    ///
    /// # Errors
    /// [`crate::Error::NoSuchTable`]: the last backup does not have the table. [`crate::Error::Damaged`]:
    /// a manifest says what cannot be. Or a list of shards cannot be read.
    ///
    /// # Panics
    /// The chain is empty, or a full backup is not its first.
    pub async fn read_chain(
        &self,
        chain: &[Arc<Manifest>],
        path: &TablePath,
        range: &KeyRange,
        after: Option<&[u8]>,
    ) -> Result<ChainReader> {
        let mut range = range.clone();
        if let Some(after) = after {
            // The least key behind it.
            range.start = range.start.max([after, &[0]].concat());
        }
        let levels = Levels::new(self, chain, path, &range).await?;
        let share = AHEAD_BYTES / (2 * levels.list.len().max(1) as u64);
        let most_bytes = share.clamp(LEAST_REQUEST_BYTES, MOST_REQUEST_BYTES);
        let cursors = levels.list.into_iter();
        Ok(ChainReader {
            types: levels.schema.value_types(),
            schema: levels.schema,
            content: levels.content,
            cursors: cursors
                .map(|level| Cursor::new(level, &range.start, most_bytes))
                .collect(),
            most_bytes,
            range,
            block: RowBlockBuilder::new(),
        })
    }
}

impl ChainReader {
    /// The schema of the table in the last backup of the chain, which that of the rows is.
    pub fn schema(&self) -> &TableSchema {
        &self.schema
    }

    /// Whether it gives rows or changes.
    pub fn content(&self) -> Content {
        self.content
    }

    /// What reading all of it takes, or took, going by the manifests alone.
    pub fn estimate(&self) -> ReadEstimate {
        let mut estimate = ReadEstimate::default();
        for Cursor { level, .. } in &self.cursors {
            let units: Vec<_> = (0..level.units.len()).collect();
            level.estimate(&units, None, self.most_bytes, &mut estimate);
        }
        estimate
    }

    /// What was read so far, for each backup that has the table, oldest first.
    pub fn counts(&self) -> impl Iterator<Item = &ReadCounts> {
        self.cursors.iter().map(|cursor| cursor.stream.counts())
    }

    /// The next rows or changes, a few MiB of them; `None` after the last. Dropping the future loses
    /// nothing. After an error the reader is of no more use.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] and [`crate::Error::Damaged`] name the segment; or the store fails.
    pub async fn next(&mut self) -> Result<Option<RowBlock>> {
        while self.block.size_bytes() < BLOCK_BYTES {
            let Some(lowest) = self.lowest() else {
                break;
            };
            if self.cursors[lowest].row().is_none() {
                self.cursors[lowest].open().await?;
                continue;
            }
            self.merge(lowest)?;
        }
        Ok((!self.block.is_empty()).then(|| self.block.finish()))
    }

    /// A level with the lowest key, if that is in the range. Of those with the same, one that has to be
    /// opened first, and then the newest.
    fn lowest(&self) -> Option<usize> {
        let mut lowest: Option<(&[u8], bool, usize)> = None;
        for (level, cursor) in self.cursors.iter().enumerate().rev() {
            let Some(key) = cursor.head() else {
                continue;
            };
            let place = (key, cursor.row().is_some());
            if lowest.is_none_or(|(key, opened, _)| place < (key, opened)) {
                lowest = Some((place.0, place.1, level));
            }
        }
        let (key, _, level) = lowest?;
        let ended = (self.range.end.as_deref()).is_some_and(|end| key >= end);
        (!ended).then_some(level)
    }

    /// Moves the lowest keys into the block: those of one level as long as no other has one of them, or
    /// one key that several have. `newest` is the newest level that has the lowest key.
    fn merge(&mut self, newest: usize) -> Result<()> {
        let others = self.cursors.iter().enumerate();
        let others = others.filter(|(level, _)| *level != newest);
        let heads = others.filter_map(|(_, cursor)| cursor.head());
        let limit = heads.chain(self.range.end.as_deref()).min();
        let cursor = &self.cursors[newest];
        let Some((block, row)) = cursor.place() else {
            return Ok(());
        };
        if limit.is_some_and(|limit| limit <= block.key(row)) {
            return self.fold(newest);
        }
        let end = limit.map_or(block.len(), |limit| block.lower_bound(limit));
        if self.content == cursor.level.content {
            self.block.extend_rows(block, row..end);
        } else {
            for row in row..end {
                push_alone(&mut self.block, block.key(row), block.value(row))
                    .map_err(|error| cursor.damaged(error))?;
            }
        }
        self.cursors[newest].go_to(end);
        Ok(())
    }

    /// Moves the key of a level, which older ones have too, into the block.
    fn fold(&mut self, newest: usize) -> Result<()> {
        let levels = &self.cursors[..=newest];
        let Some((key, _)) = levels[newest].row() else {
            return Ok(());
        };
        let key = key.to_vec();
        let mut fold = Fold::default();
        let mut base = None;
        for cursor in levels.iter().rev() {
            let Some((_, value)) = cursor.row().filter(|(other, _)| *other == key) else {
                continue;
            };
            if cursor.level.content == Content::Rows {
                base = Some(value);
            } else if !fold.is_settled() {
                let change = Change::decode(value);
                let folded = change.and_then(|change| fold.push_older(change, &self.types));
                folded.map_err(|error| cursor.damaged(error))?;
            }
        }
        match self.content {
            Content::Changes => {
                if let Some(change) = fold.change() {
                    self.block.push_with(&key, |out| change.encode_into(out));
                }
            }
            Content::Rows => {
                let row = fold.over(base, &self.types);
                if let Some(row) = row.map_err(|error| levels[newest].damaged(error))? {
                    self.block.push(&key, &row);
                }
            }
        }
        for cursor in &mut self.cursors[..=newest] {
            if let Some((block, row)) = cursor.place()
                && block.key(row) == key
            {
                cursor.go_to(row + 1);
            }
        }
        Ok(())
    }
}

/// The row that a change makes where there was none.
fn push_alone(block: &mut RowBlockBuilder, key: &[u8], value: &[u8]) -> Result<(), Malformed> {
    let change = ChangeRef::decode(value)?;
    if change.kind != ChangeKind::Erase {
        block.push(key, change.row);
    }
    Ok(())
}

/// A level and how far it was read.
#[derive(Debug)]
struct Cursor {
    level: Arc<Level>,
    stream: GroupStream,
    /// The unit that comes next in the stream.
    next: usize,
    /// Keys before this are passed over.
    start: Vec<u8>,
    /// What is left of the unit that is open; the first block is not used up.
    blocks: VecDeque<RowBlock>,
    row: usize,
}

impl Cursor {
    fn new(level: Arc<Level>, start: &[u8], most_bytes: u64) -> Self {
        let units: Vec<_> = (0..level.units.len()).collect();
        Self {
            stream: GroupStream::new(level.clone(), &units, None, most_bytes, REQUESTS_AT_ONCE),
            level,
            next: 0,
            start: start.to_vec(),
            blocks: VecDeque::new(),
            row: 0,
        }
    }

    /// Where it stands, unless a unit has to be opened for that.
    fn place(&self) -> Option<(&RowBlock, usize)> {
        Some((self.blocks.front()?, self.row))
    }

    /// The row it stands on, likewise.
    fn row(&self) -> Option<(&[u8], &[u8])> {
        let (block, row) = self.place()?;
        Some((block.key(row), block.value(row)))
    }

    /// The key it stands on, or the least that the next unit can have; `None` at the end.
    fn head(&self) -> Option<&[u8]> {
        match self.row() {
            Some((key, _)) => Some(key),
            None => {
                let unit = self.level.units.get(self.next)?;
                Some(self.level.first_key(*unit).max(&self.start))
            }
        }
    }

    /// Opens the next unit.
    async fn open(&mut self) -> Result<()> {
        let Some((_, decoded)) = self.stream.next().await? else {
            self.next = self.level.units.len();
            return Ok(());
        };
        self.next += 1;
        self.blocks = decoded.blocks.into();
        while let Some(block) = self.blocks.front() {
            self.row = block.lower_bound(&self.start);
            if self.row < block.len() {
                break;
            }
            self.blocks.pop_front();
        }
        Ok(())
    }

    /// Goes on to a row of the same block, or to the next block where that is its end.
    fn go_to(&mut self, row: usize) {
        self.row = row;
        if self.blocks.front().is_none_or(|block| row == block.len()) {
            self.blocks.pop_front();
            self.row = 0;
        }
    }

    /// What the row it stands on is, when it is none.
    fn damaged(&self, error: Malformed) -> crate::Error {
        let before = self.next.saturating_sub(1);
        let segment = self.level.units[before].segment;
        self.level.segments[segment].damaged(error)
    }
}
