//! Reading one commit.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use mendb_model::key::KeyRange;
use mendb_model::name::TablePath;
use mendb_model::{Digest, RowBlock, TableSchema, Value};

use crate::catalogue::layout::Layout;
use crate::catalogue::streams::{self, StreamDescription};
use crate::catalogue::versions::Versions;
use crate::catalogue::{self, Born, PathState, Shard, route};
use crate::error::{Error, Result};
use crate::jobs::lapse::{self, HeldBack};
use crate::kernel::{Direction, ShardId};
use crate::shard::blocks::RangeBlocks;
use crate::shard::holders::{self, HolderSink};
use crate::shard::log::FoldedChanges;
use crate::shard::pack::BlockBytes;
use crate::shard::point::PointReader;
use crate::shard::rows::RowCursor;
use crate::shard::view::View;
use crate::table::Table;

/// The whole store as of one commit. Cheap to clone.
///
/// It goes on reading what it saw while shards are written, split, merged or dropped; what they held
/// is kept on disk until the last snapshot and iterator that could read it is dropped.
#[derive(Clone)]
pub struct Snapshot {
    view: Arc<View>,
}

/// A shard at a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSnapshot {
    /// The shard.
    pub id: ShardId,
    /// Its keys.
    pub range: KeyRange,
    /// The digest of its rows, kept with every write.
    pub digest: Digest,
    /// The bytes of its rows, about.
    pub bytes: u64,
}

/// The shards of a table or of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardedDescription {
    /// In key order, covering all keys.
    pub shards: Vec<ShardSnapshot>,
}

impl ShardedDescription {
    /// The digest of all rows.
    pub fn digest(&self) -> Digest {
        self.shards.iter().map(|shard| shard.digest).sum()
    }

    /// The bytes of all rows, about.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.bytes).sum()
    }
}

/// A table at a snapshot without its data: what costs the same however many shards it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableHead {
    /// Its schema.
    pub schema: TableSchema,
    /// Its schema versions.
    pub versions: Versions,
    /// Who holds it.
    pub state: PathState,
    /// Its change streams.
    pub streams: Vec<StreamDescription>,
    /// How it came to be; `None` for tables of stores from before that was kept.
    pub born: Option<Born>,
}

/// A table at a snapshot: schema, versions and data that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDescription {
    /// Its name.
    pub name: String,
    /// Its schema.
    pub schema: TableSchema,
    /// Its schema versions.
    pub versions: Versions,
    /// Who holds it.
    pub state: PathState,
    /// Its rows.
    pub rows: ShardedDescription,
    /// Its indexes by name.
    pub indexes: BTreeMap<String, ShardedDescription>,
    /// Its change streams.
    pub streams: Vec<StreamDescription>,
    /// How it came to be; `None` for tables of stores from before that was kept.
    pub born: Option<Born>,
}

impl Snapshot {
    pub(crate) fn new(view: Arc<View>) -> Self {
        Self { view }
    }

    /// The last commit of the store in `dir`, which another process may have open, and write to: neither
    /// waits for the other. `None` where there is no store.
    ///
    /// As long as it is held, what is written meanwhile stays in the engine's log, and no file of a shard is
    /// removed. A process that dies holds nothing.
    ///
    /// # Errors
    /// The store is damaged, or [`Error::Format`] when another version wrote it.
    pub fn open(dir: &Path) -> Result<Option<Self>> {
        let view = View::look(dir)?;
        Ok(view.map(|view| Self::new(Arc::new(view))))
    }

    /// The version of the commit.
    pub fn version(&self) -> u64 {
        self.view.version()
    }

    /// The id of the store; `None` of one that was given none ([`crate::Database::identify`]).
    pub fn id(&self) -> Option<&str> {
        self.view.commit.id.as_deref()
    }

    /// The tables that an operation holds.
    pub fn locks(&self) -> Vec<(String, PathState)> {
        self.view.commit.locks()
    }

    /// What the change logs of a table keep for each of its streams; reads the logs.
    ///
    /// # Errors
    /// The table is missing, or the store failed.
    pub fn held_back(&self, table: &str) -> Result<Vec<HeldBack>> {
        lapse::held_back(&self.view, table)
    }

    /// The names of all tables, those being restored too.
    pub fn tables(&self) -> Vec<String> {
        let tables = self.view.catalogue().tables();
        tables.map(|table| table.name.clone()).collect()
    }

    /// A table.
    ///
    /// # Errors
    /// The table is missing.
    pub fn describe(&self, table: &str) -> Result<TableDescription> {
        let entry = self.view.table(table)?;
        let head = self.head(table)?;
        let sharded = |shards: &[Arc<Shard>]| -> Result<ShardedDescription> {
            Ok(ShardedDescription {
                shards: self.describe_shards(shards)?,
            })
        };
        Ok(TableDescription {
            name: entry.name.clone(),
            schema: head.schema,
            versions: head.versions,
            state: head.state,
            rows: sharded(&entry.rows)?,
            indexes: entry
                .indexes
                .iter()
                .map(|(name, shards)| Ok((name.clone(), sharded(shards)?)))
                .collect::<Result<_>>()?,
            streams: head.streams,
            born: head.born,
        })
    }

    /// A table without its shards.
    ///
    /// # Errors
    /// The table is missing.
    pub fn head(&self, table: &str) -> Result<TableHead> {
        let entry = self.view.table(table)?;
        Ok(TableHead {
            schema: entry.layout.schema.clone(),
            versions: entry.versions.clone(),
            state: entry.state.clone(),
            streams: streams::describe(entry),
            born: entry.born.clone(),
        })
    }

    /// The view of a table that a client can read this snapshot with.
    ///
    /// # Errors
    /// The table is missing.
    pub fn open_table(&self, name: &str) -> Result<Table> {
        Ok(Table::of(self.view.table(name)?))
    }

    /// The row of a key: all columns in the order of the schema.
    ///
    /// # Errors
    /// The table is missing, being restored or was opened at another schema version; the key is not one.
    pub fn get(&self, table: &Table, key: &[Value]) -> Result<Option<Vec<Value>>> {
        let entry = self.view.table(table.name())?;
        table.check_current(entry)?;
        let key = table.key(key)?;
        let shard = route(&entry.rows, &key);
        let stats = self.view.stats(shard.id)?;
        let row = PointReader::new(self.view.clone(), shard.clone(), &stats).get(&key)?;
        row.map(|row| entry.layout.decode(&key, &row))
            .transpose()
            .map_err(|error| Error::damaged(shard.label(), error))
    }

    /// The rows of a key range, in either order: all columns in the order of the schema.
    ///
    /// # Errors
    /// The table is missing, being restored or was opened at another schema version.
    pub fn scan(
        &self,
        table: &Table,
        range: KeyRange,
        direction: Direction,
    ) -> Result<impl Iterator<Item = Result<Vec<Value>>> + Send + use<>> {
        let entry = self.view.table(table.name())?;
        table.check_current(entry)?;
        Ok(self.rows(&entry.rows, range, direction, entry.layout.clone()))
    }

    /// The rows of an index in a range of its keys: the indexed columns, the other key columns of the
    /// table, the covered columns ([`TableSchema::implementation`]).
    ///
    /// # Errors
    /// The table or index is missing; otherwise as [`Self::scan`].
    pub fn scan_index(
        &self,
        table: &Table,
        index: &str,
        range: KeyRange,
        direction: Direction,
    ) -> Result<impl Iterator<Item = Result<Vec<Value>>> + Send + use<>> {
        let entry = self.view.table(table.name())?;
        table.check_current(entry)?;
        let shards = entry.shards(Some(index))?;
        let layout = entry.layout_of(Some(index))?.clone();
        Ok(self.rows(shards, range, direction, layout))
    }

    fn rows(
        &self,
        shards: &[Arc<Shard>],
        range: KeyRange,
        direction: Direction,
        layout: Arc<Layout>,
    ) -> Rows {
        let shards = catalogue::within(shards, &range).iter().cloned();
        let mut shards: VecDeque<_> = shards.collect();
        if direction == Direction::Descending {
            shards.make_contiguous().reverse();
        }
        Rows {
            view: self.view.clone(),
            shards,
            range,
            direction,
            cursor: None,
            layout,
        }
    }

    /// The shards of a table or of an index, in key order.
    ///
    /// # Errors
    /// The table or index is missing.
    pub fn shards(&self, path: &TablePath) -> Result<Vec<ShardSnapshot>> {
        self.describe_shards(self.view.shards(path)?)
    }

    /// As [`Self::shards`], those that have keys of a range; the others are not looked at.
    ///
    /// # Errors
    /// The table or index is missing.
    pub fn shards_within(&self, path: &TablePath, range: &KeyRange) -> Result<Vec<ShardSnapshot>> {
        self.describe_shards(catalogue::within(self.view.shards(path)?, range))
    }

    /// The bytes of the rows of the shards that have keys of a range, about.
    ///
    /// # Errors
    /// The table or index is missing.
    pub fn bytes_of(&self, path: &TablePath, range: &KeyRange) -> Result<u64> {
        let shards = catalogue::within(self.view.shards(path)?, range);
        let bytes = |shard: &Arc<Shard>| Ok(self.view.stats(shard.id)?.bytes());
        shards.iter().map(bytes).sum()
    }

    /// The most bytes that the changes after a version may be, of the shards that have keys of a range; 0 where there
    /// are none.
    ///
    /// # Errors
    /// The table or index is missing.
    pub fn bytes_of_changes(
        &self,
        path: &TablePath,
        range: &KeyRange,
        after_version: u64,
    ) -> Result<u64> {
        let shards = catalogue::within(self.view.shards(path)?, range);
        let bytes = |shard: &Arc<Shard>| {
            let stats = self.view.stats(shard.id)?;
            Ok(stats.log_bytes_after(after_version))
        };
        shards.iter().map(bytes).sum()
    }

    fn describe_shards(&self, shards: &[Arc<Shard>]) -> Result<Vec<ShardSnapshot>> {
        let describe = |shard: &Arc<Shard>| {
            let stats = self.view.stats(shard.id)?;
            Ok(ShardSnapshot {
                id: shard.id,
                range: shard.range.clone(),
                digest: stats.digest_seen(self.view.sees_staged(shard)),
                bytes: stats.bytes(),
            })
        };
        shards.iter().map(describe).collect()
    }

    /// The rows of a table or of an index within `range` and behind the key `after`, in key order, as
    /// packed blocks of encoded rows; for copying and proving, without a client's checks. Blocks that were
    /// not written to since they were packed come as they lie in the store. Ends after the first error.
    ///
    /// # Errors
    /// The table or index is missing.
    pub fn blocks(
        &self,
        path: &TablePath,
        range: &KeyRange,
        after: Option<&[u8]>,
    ) -> Result<impl Iterator<Item = Result<RowBlock<BlockBytes>>> + Send + use<>> {
        let mut range = range.clone();
        if let Some(after) = after {
            // The least key behind `after` is the one with a zero byte more.
            let next = [after, &[0]].concat();
            range.start = range.start.max(next);
        }
        let shards = self.view.shards(path)?;
        Ok(RangeBlocks::new(self.view.clone(), shards, range))
    }

    /// The digest of a range, found by reading its rows: what proves the one that is kept with every
    /// write.
    ///
    /// # Errors
    /// The table or index is missing; the store failed or is damaged.
    pub fn read_digest(&self, path: &TablePath, range: &KeyRange) -> Result<Digest> {
        let mut digest = Digest::default();
        for block in self.blocks(path, range, None)? {
            for (key, row) in block?.iter() {
                digest.add(key, row);
            }
        }
        Ok(digest)
    }

    /// The encoded row of each of these encoded keys of a table or of an index, without a client's
    /// checks; `None` where there is none. Keys that ascend are cheapest: each block that holds some of
    /// them is then read once. One block and one row are in memory at a time.
    ///
    /// # Errors
    /// The table or index is missing.
    pub fn rows_of<K: AsRef<[u8]>, I: IntoIterator<Item = K>>(
        &self,
        path: &TablePath,
        keys: I,
    ) -> Result<impl Iterator<Item = Result<Option<Vec<u8>>>> + use<K, I>> {
        let shards = self.view.shards(path)?.to_vec();
        let view = self.view.clone();
        let mut reading: Option<(Arc<Shard>, PointReader)> = None;
        Ok(keys.into_iter().map(move |key| {
            let key = key.as_ref();
            let (_, reader) = match &mut reading {
                Some(reading) if reading.0.range.contains(key) => reading,
                _ => {
                    let shard = route(&shards, key).clone();
                    let stats = view.stats(shard.id)?;
                    let reader = PointReader::new(view.clone(), shard.clone(), &stats);
                    reading.insert((shard, reader))
                }
            };
            reader.get(key)
        }))
    }

    /// Hands over the rows of this snapshot that keep some rows from being there too: rows of other keys
    /// that have the same in the columns of a unique index. The rows are encoded, with their keys. It is
    /// for those who stage rows, which nobody checks: [`crate::Database::stage_mend`].
    ///
    /// # Errors
    /// The table is missing, a row is none of it, or the store failed or is damaged.
    pub fn holders(
        &self,
        table: &str,
        rows: &RowBlock<impl AsRef<[u8]>>,
        found: HolderSink<'_>,
    ) -> Result<()> {
        holders::find(&self.view, self.view.table(table)?, rows, found)
    }

    /// What happened to the keys of `range` behind `after_key` in the commits after `after_version` up
    /// to this snapshot: one folded, encoded [`mendb_model::Change`] per key, in key order. Each is a reset or an
    /// erase, and says what row there was before. Complete only if a change stream has needed all changes after
    /// `after_version`. Ends after the first error.
    ///
    /// # Errors
    /// The table or index is missing.
    pub fn changes(
        &self,
        path: &TablePath,
        range: &KeyRange,
        after_version: u64,
        after_key: Option<&[u8]>,
    ) -> Result<impl Iterator<Item = Result<RowBlock<BlockBytes>>> + Send + use<>> {
        let entry = self.view.table(&path.table)?;
        let shards = entry.shards(path.index.as_deref())?;
        let types = entry.layout_of(path.index.as_deref())?.value_types.clone();
        Ok(FoldedChanges::new(
            self.view.clone(),
            shards,
            range.clone(),
            after_version,
            after_key,
            types,
        ))
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}

/// Decoded rows of several shards; ends after the first error.
struct Rows {
    view: Arc<View>,
    shards: VecDeque<Arc<Shard>>,
    range: KeyRange,
    direction: Direction,
    cursor: Option<(Arc<Shard>, RowCursor)>,
    layout: Arc<Layout>,
}

impl Rows {
    fn pull(&mut self) -> Result<Option<Vec<Value>>> {
        loop {
            if let Some((shard, cursor)) = &mut self.cursor
                && cursor.advance()?
            {
                let values = self.layout.decode(cursor.key(), cursor.value());
                return match values {
                    Ok(values) => Ok(Some(values)),
                    Err(error) => Err(Error::damaged(shard.label(), error)),
                };
            }
            self.cursor = None;
            let Some(shard) = self.shards.pop_front() else {
                return Ok(None);
            };
            let cursor = RowCursor::new(
                self.view.clone(),
                shard.clone(),
                &self.range,
                self.direction,
            )?;
            self.cursor = Some((shard, cursor));
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Vec<Value>>;

    fn next(&mut self) -> Option<Self::Item> {
        let pulled = self.pull();
        if pulled.is_err() {
            self.shards.clear();
            self.cursor = None;
        }
        pulled.transpose()
    }
}
