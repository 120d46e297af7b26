//! The embedded row store as an engine.
//!
//! *Crash*: snapshots live in this process only; all else is durable in the row store when a
//! method returns. *Retry*: every method is idempotent, see [`Engine`].

mod change_sender;
mod live;
mod look;

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mendb_model::digest::Digest;
use mendb_model::key::KeyRange;
use mendb_model::manifest::{IndexBackup, ShardBackup, ShardedData, TableBackup};
use mendb_model::name::TablePath;
use mendb_model::{RowBlock, Version};
use mendb_rowstore::{
    Database, IndexVersions, NewTable, PathState, Snapshot, Staged, StreamCut, Versions,
};

use crate::contract::changes::{ChangesLost, HeldBack};
use crate::contract::live_rows::{BlockSink, ConflictSink, LiveRows, LiveShard, LiveTable};
use crate::contract::rows::{
    FreezeRequest, Frozen, HiddenTable, RebuildRequest, RowSource, RowStore, StagedCounts,
};
use crate::contract::{Data, Engine, Hold, Lock, LockKind};
use crate::error::{EngineError, Remedy, Result};

pub use look::RowLook;

use change_sender::{ChangeSender, Delivered};
use live::{LiveSnapshot, commit};

/// The row store, with the snapshots of the backups that run in this process.
pub struct RowEngine {
    database: Database,
    snapshots: Mutex<HashMap<String, Snapshot>>,
}

impl RowEngine {
    /// An engine on an open row store.
    pub fn new(database: Database) -> Self {
        Self {
            database,
            snapshots: Mutex::default(),
        }
    }

    fn snapshots(&self) -> MutexGuard<'_, HashMap<String, Snapshot>> {
        self.snapshots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> Result<LiveSnapshot> {
        Ok(LiveSnapshot(self.database.snapshot()?))
    }

    fn frozen(&self, operation: &str) -> Result<Snapshot> {
        self.snapshots()
            .get(operation)
            .cloned()
            .ok_or_else(|| EngineError::snapshot_lost(operation))
    }
}

impl Engine for RowEngine {
    fn data(&self) -> Data<'_> {
        Data::Rows(self)
    }

    fn identify(&self, new_id: &str) -> Result<String> {
        Ok(self.database.identify(new_id)?)
    }

    fn locks(&self) -> Result<Vec<Lock>> {
        Ok(locks(self.database.locks()))
    }

    fn holds(&self) -> Result<Vec<Hold>> {
        Ok(self.locks()?.into_iter().map(Hold::from).collect())
    }

    fn drop_kept(&self, _operation: &str) -> Result<()> {
        // The state before a mend is a backup.
        Ok(())
    }

    fn is_frozen(&self, operation: &str) -> Result<bool> {
        Ok(self.snapshots().contains_key(operation))
    }

    fn thaw(&self, operation: &str) -> Result<()> {
        self.snapshots().remove(operation);
        Ok(self.database.unlock(operation)?)
    }

    fn make_live(&self, operation: &str) -> Result<()> {
        self.database.finish_restore(operation)?;
        let settled = self.settle_mend(operation, &mut |_| ControlFlow::Continue(()))?;
        debug_assert!(settled.is_continue(), "nothing stops it");
        Ok(())
    }

    fn drop_staged(&self, operation: &str) -> Result<()> {
        self.database.abort_restore(operation)?;
        Ok(self.database.abort_mend(operation)?)
    }
}

impl LiveRows for RowEngine {
    fn snapshot(&self) -> Result<Box<dyn LiveRows + '_>> {
        Ok(Box::new(self.live()?))
    }

    fn inspect(&self, table: &str) -> Result<Option<LiveTable>> {
        self.live()?.inspect(table)
    }

    fn version(&self) -> Result<Version> {
        Ok(self.database.version().into())
    }

    fn shards(&self, path: &TablePath, range: &KeyRange) -> Result<Vec<LiveShard>> {
        self.live()?.shards(path, range)
    }

    fn scan(
        &self,
        path: &TablePath,
        range: &KeyRange,
        after: Option<&[u8]>,
        sink: BlockSink<'_>,
    ) -> Result<()> {
        self.live()?.scan(path, range, after, sink)
    }

    fn rows_of(&self, path: &TablePath, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        self.live()?.rows_of(path, keys)
    }

    fn conflicts(
        &self,
        table: &str,
        wanted: &RowBlock<&[u8]>,
        found: ConflictSink<'_>,
    ) -> Result<()> {
        self.live()?.conflicts(table, wanted, found)
    }

    fn changes_since(
        &self,
        path: &TablePath,
        range: &KeyRange,
        since_version: Version,
        sink: BlockSink<'_>,
    ) -> Result<()> {
        self.live()?.changes_since(path, range, since_version, sink)
    }

    fn bytes_changed_since(&self, path: &TablePath, since_version: Version) -> Result<u64> {
        self.live()?.bytes_changed_since(path, since_version)
    }

    fn digest(&self, path: &TablePath, range: &KeyRange) -> Result<Digest> {
        self.live()?.digest(path, range)
    }

    fn held_back(&self, table: &str) -> Result<Vec<HeldBack>> {
        self.live()?.held_back(table)
    }
}

impl RowStore for RowEngine {
    fn keeps_digests(&self) -> bool {
        true
    }

    fn keeps_native(&self) -> bool {
        false
    }

    fn freeze(&self, request: &FreezeRequest<'_>) -> Result<Frozen> {
        if let Some(since) = request.since_version {
            for table in request.tables {
                let live = self.inspect(table)?;
                let lost = |live: LiveTable| {
                    live.changes_lost(request.stream, since, self.database.version().into())
                };
                // One that is missing is told by the cut.
                if let Some(lost) = live.and_then(lost) {
                    return Err(changes_lost(table, &lost));
                }
            }
        }
        let how = if request.since_version.is_some() {
            StreamCut::Rotate
        } else {
            StreamCut::Attach
        };
        let snapshot = self
            .database
            .cut(request.operation, request.tables, request.stream, how)?;
        let tables = request
            .tables
            .iter()
            .map(|table| describe(&snapshot, table))
            .collect::<Result<_>>()?;
        let frozen = Frozen {
            version: snapshot.version().into(),
            tables,
            transactions: None,
            commits: None,
        };
        self.snapshots()
            .insert(request.operation.to_owned(), snapshot);
        Ok(frozen)
    }

    fn estimate_bytes(&self, operation: &str, path: &TablePath, range: &KeyRange) -> Result<u64> {
        Ok(self.frozen(operation)?.bytes_of(path, range)?)
    }

    fn estimate_change_bytes(
        &self,
        operation: &str,
        path: &TablePath,
        range: &KeyRange,
        since_version: Version,
    ) -> Result<u64> {
        let frozen = self.frozen(operation)?;
        Ok(frozen.bytes_of_changes(path, range, commit(since_version)?)?)
    }

    fn read_rows(
        &self,
        operation: &str,
        path: &TablePath,
        range: &KeyRange,
        after: Option<&[u8]>,
        sink: BlockSink<'_>,
    ) -> Result<()> {
        for block in self.frozen(operation)?.blocks(path, range, after)? {
            if sink(&block?.view()).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn read_changes(
        &self,
        operation: &str,
        path: &TablePath,
        range: &KeyRange,
        since_version: Version,
        after: Option<&[u8]>,
        sink: BlockSink<'_>,
    ) -> Result<()> {
        for block in self
            .frozen(operation)?
            .changes(path, range, commit(since_version)?, after)?
        {
            if sink(&block?.view()).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn release_stream(&self, stream: &str, up_to: Version) -> Result<()> {
        Ok(self.database.release_stream(stream, commit(up_to)?)?)
    }

    fn detach_stream(&self, stream: &str) -> Result<()> {
        Ok(self.database.detach_stream(stream)?)
    }

    fn create_hidden(&self, operation: &str, tables: Vec<HiddenTable>) -> Result<()> {
        let tables = tables.into_iter().map(new_table);
        let tables = tables.collect::<Result<_>>()?;
        Ok(self.database.create_restoring(operation, tables)?)
    }

    fn load(
        &self,
        operation: &str,
        path: &TablePath,
        source: RowSource,
        rows: &RowBlock<&[u8]>,
    ) -> Result<()> {
        let sender = ChangeSender::new(&self.database, path, source);
        sender.send(rows, |shard, source, rows| {
            Ok(self.database.load(shard, operation, source, rows)?.into())
        })
    }

    fn apply(
        &self,
        operation: &str,
        path: &TablePath,
        source: RowSource,
        changes: &RowBlock<&[u8]>,
    ) -> Result<()> {
        let sender = ChangeSender::new(&self.database, path, source);
        sender.send(changes, |shard, source, changes| {
            Ok(self
                .database
                .apply(shard, operation, source, changes)?
                .into())
        })
    }

    fn begin_mend(&self, operation: &str, tables: &[String]) -> Result<()> {
        self.database.begin_mend(operation, tables)?;
        Ok(())
    }

    fn stage_mend(
        &self,
        operation: &str,
        table: &str,
        source: RowSource,
        changes: &RowBlock<&[u8]>,
    ) -> Result<StagedCounts> {
        let path = TablePath::table(table);
        let mut counts = StagedCounts::default();
        let sender = ChangeSender::new(&self.database, &path, source);
        sender.send(changes, |shard, source, changes| {
            match self
                .database
                .stage_mend(shard, operation, source, changes)?
            {
                Staged::Gone => Ok(Delivered::Gone),
                Staged::Done(rows) => {
                    counts += rows;
                    Ok(Delivered::Done)
                }
            }
        })?;
        Ok(counts)
    }

    fn rebuild_mend(
        &self,
        request: &RebuildRequest<'_>,
        rows: &RowBlock<&[u8]>,
        is_last: bool,
    ) -> Result<StagedCounts> {
        let RebuildRequest {
            operation,
            path,
            range,
            ended_streams,
        } = *request;
        let shard = self.database.shard_of(path, &range.start)?;
        if shard.range != *range {
            let message =
                format!("the shards of {path} are not those that the mend was begun with");
            return Err(EngineError::new(Remedy::Request, message));
        }
        let database = &self.database;
        match database.rebuild_mend(shard.id, operation, ended_streams, rows, is_last)? {
            Staged::Done(rows) => Ok(rows),
            Staged::Gone => {
                let message = format!("a shard of {path} moved while its table is being mended");
                Err(EngineError::new(Remedy::Retry, message))
            }
        }
    }

    fn mended_shards(&self, operation: &str, path: &TablePath) -> Result<Vec<LiveShard>> {
        LiveSnapshot(self.database.mend_snapshot(operation)?).shards(path, &KeyRange::all())
    }

    fn mended_digest(&self, operation: &str, path: &TablePath, range: &KeyRange) -> Result<Digest> {
        let snapshot = self.database.mend_snapshot(operation)?;
        Ok(snapshot.read_digest(path, range)?)
    }

    fn settle_mend(
        &self,
        operation: &str,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        Ok(self.database.settle_mend(operation, progress)?)
    }

    fn is_published(&self, operation: &str) -> Result<bool> {
        let mend = self.database.describe_mend(operation);
        Ok(mend.is_some_and(|mend| mend.published_at.is_some()))
    }

    fn publish_mend(&self, operation: &str) -> Result<()> {
        // One that is over was published.
        if self.database.describe_mend(operation).is_some() {
            self.database.publish_mend(operation)?;
        }
        Ok(())
    }
}

/// The locks that the states of tables are.
fn locks(states: Vec<(String, PathState)>) -> Vec<Lock> {
    let lock = |(table, state)| {
        let (operation, kind) = match state {
            PathState::Ready => return None,
            PathState::Backup { operation } => (operation, LockKind::Backup),
            PathState::Restoring { operation } => (operation, LockKind::Restore),
            PathState::Mending { operation, .. } => (operation, LockKind::Mend),
        };
        Some(Lock {
            table,
            operation,
            kind,
        })
    };
    states.into_iter().filter_map(lock).collect()
}

/// Why an increment of this table cannot be taken.
fn changes_lost(table: &str, lost: &ChangesLost) -> EngineError {
    EngineError::new(
        Remedy::Request,
        format!(
            "the changes of table {table} since the last backup are not known: {lost}; take a full backup"
        ),
    )
}

fn describe(snapshot: &Snapshot, table: &str) -> Result<TableBackup> {
    let description = snapshot.describe(table)?;
    let sharded = |path: &TablePath, schema_version| -> Result<ShardedData> {
        let shards = snapshot.shards(path)?.into_iter();
        let shards = shards.map(|shard| ShardBackup {
            range: shard.range,
            digest: shard.digest,
            segments: Vec::new(),
        });
        Ok(ShardedData::here(schema_version, shards.collect()))
    };
    let versions = description.versions;
    let rows = sharded(&TablePath::table(table), versions.table)?;
    let index = |name: &String| -> Result<IndexBackup> {
        let of_index = versions.indexes.get(name).ok_or_else(|| {
            EngineError::new(
                Remedy::Repair,
                format!("table {table} has no versions of its index {name}"),
            )
        })?;
        Ok(IndexBackup {
            index: name.clone(),
            schema_version: of_index.entity,
            rows: sharded(&TablePath::index(table, name), of_index.implementation)?,
        })
    };
    let indexes = description
        .schema
        .indexes
        .iter()
        .map(|i| index(&i.name))
        .collect::<Result<_>>()?;
    Ok(TableBackup {
        table: table.to_owned(),
        schema: description.schema,
        rows,
        indexes,
        native: None,
        changes_by: None,
        untold: None,
        unfolded: None,
        only: None,
    })
}

fn new_table(staged: HiddenTable) -> Result<NewTable> {
    let splits = |data: &ShardedData| -> Result<Vec<Vec<u8>>> {
        let shards = data.shards_here().ok_or_else(|| {
            let message = format!("the shards of table {} were not read", staged.name);
            EngineError::new(Remedy::Repair, message)
        })?;
        let ends = shards.iter().filter_map(|shard| shard.range.end.clone());
        Ok(ends.collect())
    };
    let backup = &staged.backup;
    let mut all_splits = BTreeMap::from([(None, splits(&backup.rows)?)]);
    let mut indexes = BTreeMap::new();
    for index in &backup.indexes {
        all_splits.insert(Some(index.index.clone()), splits(&index.rows)?);
        let versions = IndexVersions {
            entity: index.schema_version,
            implementation: index.rows.schema_version,
        };
        indexes.insert(index.index.clone(), versions);
    }
    Ok(NewTable {
        versions: Versions {
            table: backup.rows.schema_version,
            indexes,
        },
        name: staged.name,
        schema: staged.backup.schema,
        splits: all_splits,
    })
}
