//! The row store as of one commit, for those who only look.

use mendb_model::key::KeyRange;
use mendb_model::name::TablePath;
use mendb_model::{Digest, RowBlock, Version};
use mendb_rowstore::{PathState, Snapshot};

use crate::contract::LockKind;
use crate::contract::changes::{Born, HeldBack, LiveStream};
use crate::contract::live_rows::{
    BlockSink, Conflict, ConflictSink, LiveRows, LiveShard, LiveTable,
};
use crate::error::{EngineError, Remedy, Result};

/// A commit.
pub(super) struct LiveSnapshot(pub(super) Snapshot);

impl LiveRows for LiveSnapshot {
    fn inspect(&self, table: &str) -> Result<Option<LiveTable>> {
        let description = match self.0.head(table) {
            Ok(head) => head,
            Err(mendb_rowstore::Error::TableMissing(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let streams = description.streams.into_iter();
        Ok(Some(LiveTable {
            schema: description.schema,
            streams: streams
                .map(|stream| LiveStream {
                    name: stream.name,
                    since_version: stream.needed_after.into(),
                    cut_version: stream.attached_at.into(),
                    outgrew_bytes: stream.outgrew_bytes,
                })
                .collect(),
            keeps_changes: true,
            born: description.born.map(|born| Born {
                version: born.version.into(),
                restored_by: born.restored_by,
            }),
            locked: match description.state {
                PathState::Ready => None,
                PathState::Backup { .. } => Some(LockKind::Backup),
                PathState::Restoring { .. } => Some(LockKind::Restore),
                PathState::Mending { .. } => Some(LockKind::Mend),
            },
        }))
    }

    fn snapshot(&self) -> Result<Box<dyn LiveRows + '_>> {
        Ok(Box::new(Self(self.0.clone())))
    }

    fn version(&self) -> Result<Version> {
        Ok(self.0.version().into())
    }

    fn shards(&self, path: &TablePath, range: &KeyRange) -> Result<Vec<LiveShard>> {
        let shards = self.0.shards_within(path, range)?.into_iter();
        let shards = shards.map(|shard| LiveShard {
            range: shard.range,
            digest: shard.digest,
            bytes: shard.bytes,
        });
        Ok(shards.collect())
    }

    fn scan(
        &self,
        path: &TablePath,
        range: &KeyRange,
        after: Option<&[u8]>,
        sink: BlockSink<'_>,
    ) -> Result<()> {
        for block in self.0.blocks(path, range, after)? {
            if sink(&block?.view()).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn rows_of(&self, path: &TablePath, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        let rows = self.0.rows_of(path, keys)?;
        Ok(rows.collect::<mendb_rowstore::Result<_>>()?)
    }

    fn conflicts(
        &self,
        table: &str,
        wanted: &RowBlock<&[u8]>,
        found: ConflictSink<'_>,
    ) -> Result<()> {
        self.0.holders(table, wanted, &mut |holder| {
            found(Conflict {
                rule: holder.index,
                value: holder.value,
                wanted: holder.wanted,
                holder: holder.key,
            })
        })?;
        Ok(())
    }

    fn changes_since(
        &self,
        path: &TablePath,
        range: &KeyRange,
        since_version: Version,
        sink: BlockSink<'_>,
    ) -> Result<()> {
        for block in self.0.changes(path, range, commit(since_version)?, None)? {
            if sink(&block?.view()).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn bytes_changed_since(&self, path: &TablePath, since_version: Version) -> Result<u64> {
        let all = KeyRange::all();
        Ok(self
            .0
            .bytes_of_changes(path, &all, commit(since_version)?)?)
    }

    fn digest(&self, path: &TablePath, range: &KeyRange) -> Result<Digest> {
        Ok(self.0.read_digest(path, range)?)
    }

    fn held_back(&self, table: &str) -> Result<Vec<HeldBack>> {
        let held = self.0.held_back(table)?.into_iter();
        let held = held.map(|held| HeldBack {
            stream: held.stream,
            changes: Some(held.changes),
            bytes: held.bytes,
        });
        Ok(held.collect())
    }
}

/// The number of the commit that a version is.
///
/// # Errors
/// It is none of this store, which counts its commits.
pub(super) fn commit(version: Version) -> Result<u64> {
    version.as_number().ok_or_else(|| {
        let message = format!("version {version} is of another database, not of a row store");
        EngineError::new(Remedy::Request, message)
    })
}
