//! Loads rows and changes into the shards of a table that is being restored.
//!
//! # Idempotence
//! Each (shard, operation, source) has a cursor: the last key that is in. It commits with the rows, so a
//! repeated or overlapping call continues where the last one ended.
//!
//! # Crash
//! Rows that lie behind the end of the base go to its file in bulk, outside the write lock; one small
//! commit then says where the blocks lie and moves the digest and the cursor. A crash between the two
//! leaves bytes behind the last block, and the next load writes over them.

use std::cmp::Ordering;
use std::sync::Arc;

use mendb_model::key::{KeyRange, to_hex};
use mendb_model::{Change, Digest, RowBlock, RowSource};

use crate::catalogue::{PathState, Shard};
use crate::commit::{Inner, Transaction};
use crate::error::{Error, Result};
use crate::jobs::split_or_pack;
use crate::kernel::{Direction, NOT_POISONED, ShardId};
use crate::shard::block_writer::{BlockWriter, Role};
use crate::shard::budget::Budget;
use crate::shard::cursor;
use crate::shard::overlay::Overlay;
use crate::shard::point::PointReader;
use crate::shard::shard_edits::{Purpose, ShardEditsWriter};
use crate::shard::view::View;

/// Rows that do not go to the base commit in batches of about this size.
pub(crate) const BATCH_BYTES: usize = 8 << 20;

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// All rows are in.
    Done {
        /// How many were not in before.
        rows: u64,
    },
    /// The shard was split or merged away, or its table dropped: resolve the shards again and send the
    /// rows to those that own them now.
    Gone,
}

/// One call, while it holds the shard.
struct Loading<'a> {
    inner: &'a Inner,
    /// The shard as it is: nobody else writes it.
    view: Arc<View>,
    shard: Arc<Shard>,
    operation: &'a str,
    source: RowSource,
}

pub(crate) fn load<B: AsRef<[u8]>>(
    inner: &Inner,
    shard: ShardId,
    operation: &str,
    source: RowSource,
    rows: &RowBlock<B>,
) -> Result<Applied> {
    with_shard(inner, shard, operation, source, rows, |loading, first| {
        if loading.fits_base(rows, first)? {
            loading.load_base(rows, first)
        } else {
            loading.write_over(rows, first, |row, _| Ok(Some(row.to_vec())))
        }
    })
}

pub(crate) fn apply<B: AsRef<[u8]>>(
    inner: &Inner,
    shard: ShardId,
    operation: &str,
    source: RowSource,
    changes: &RowBlock<B>,
) -> Result<Applied> {
    with_shard(
        inner,
        shard,
        operation,
        source,
        changes,
        |loading, first| {
            let entry = loading.view.table(&loading.shard.path.table)?;
            let layout = entry.layout_of(loading.shard.path.index.as_deref())?;
            let label = loading.shard.label();
            loading.write_over(changes, first, |change, before| {
                let damaged = |error| Error::damaged(format!("a change for {label}"), error);
                let change = Change::decode(change).map_err(damaged)?;
                change.apply(before, &layout.value_types).map_err(damaged)
            })
        },
    )
}

/// Takes the shard, finds the first row behind the cursor, checks the rows, runs `work` on them.
fn with_shard<B: AsRef<[u8]>>(
    inner: &Inner,
    id: ShardId,
    operation: &str,
    source: RowSource,
    rows: &RowBlock<B>,
    work: impl FnOnce(&Loading<'_>, usize) -> Result<Applied>,
) -> Result<Applied> {
    let Some(shard) = inner.commit().catalogue.shard(id).cloned() else {
        return Ok(Applied::Gone);
    };
    let guard = shard.work.lock().expect(NOT_POISONED);
    let view = inner.view()?;
    if view.catalogue().shard(id).is_none() {
        return Ok(Applied::Gone);
    }
    check_restoring(&view, &shard, operation)?;
    check_rows(&shard, rows)?;
    let first = first_behind(&view, id, operation, source, rows)?;
    if first == rows.len() {
        inner.acknowledge()?;
        return Ok(Applied::Done { rows: 0 });
    }
    let loading = Loading {
        inner,
        view,
        shard: shard.clone(),
        operation,
        source,
    };
    let applied = work(&loading, first)?;
    drop(loading);
    drop(guard);
    if let Applied::Done { .. } = applied {
        inner.acknowledge()?;
        split_or_pack::grown(inner, std::slice::from_ref(&shard));
    }
    Ok(applied)
}

/// The first row behind the cursor of the source.
pub(crate) fn first_behind<B: AsRef<[u8]>>(
    view: &View,
    shard: ShardId,
    operation: &str,
    source: RowSource,
    rows: &RowBlock<B>,
) -> Result<usize> {
    let Some(cursor) = view.cursor(shard, operation, source)? else {
        return Ok(0);
    };
    let at = rows.lower_bound(&cursor);
    let done = at < rows.len() && rows.key(at) == cursor;
    Ok(at + usize::from(done))
}

fn check_restoring(view: &View, shard: &Shard, operation: &str) -> Result<()> {
    let entry = view.table(&shard.path.table)?;
    match &entry.state {
        PathState::Restoring { operation: ours } if ours == operation => Ok(()),
        _ => Err(Error::NotRestoring {
            table: entry.name.clone(),
            operation: operation.to_owned(),
        }),
    }
}

/// Ascending keys, all in the shard: what the base and the cursor rely on.
pub(crate) fn check_rows<B: AsRef<[u8]>>(shard: &Shard, rows: &RowBlock<B>) -> Result<()> {
    let mut keys = rows.iter().map(|(key, _)| key);
    if !keys.by_ref().is_sorted_by(|a, b| a < b) {
        return Err(Error::Unordered { shard: shard.id });
    }
    let ends = rows
        .last_key()
        .into_iter()
        .chain((!rows.is_empty()).then(|| rows.key(0)));
    for key in ends {
        if shard.range.locate(key) != Ordering::Equal {
            return Err(Error::WrongShard {
                shard: shard.id,
                key: to_hex(key),
            });
        }
    }
    Ok(())
}

impl Loading<'_> {
    /// Whether the rows from `first` on all lie behind the base and no delta row lies among them.
    fn fits_base<B: AsRef<[u8]>>(&self, rows: &RowBlock<B>, first: usize) -> Result<bool> {
        let stats = self.view.stats(self.shard.id)?;
        if stats.covers(rows.key(first)) {
            return Ok(false);
        }
        let mut range = KeyRange {
            start: rows.key(first).to_vec(),
            end: None,
        };
        range.end = rows.last_key().map(|last| [last, &[0]].concat());
        let ascending = Direction::Ascending;
        let mut among = Overlay::new(&self.view, &self.shard, &stats, &range, ascending)?;
        Ok(among.next()?.is_none())
    }

    /// Appends the rows from `first` on to the base.
    fn load_base<B: AsRef<[u8]>>(&self, rows: &RowBlock<B>, first: usize) -> Result<Applied> {
        let shard = self.shard.id;
        let end = self.view.stats(shard)?.file_bytes;
        let budget = Budget::default();
        let mut writer = BlockWriter::new(self.inner.store.files(), &budget, shard, end);
        for row in first..rows.len() {
            writer.push(rows.key(row), rows.value(row))?;
        }
        let Some(blocks) = writer.finish()? else {
            return Ok(Applied::Done { rows: 0 });
        };
        let mut transaction = Transaction::begin(self.inner);
        if transaction.catalogue().shard(shard).is_none() {
            return Ok(Applied::Gone);
        }
        let (before, after) = (Digest::default(), blocks.digest());
        transaction.put_blocks(&self.shard, blocks, Role::Base, before, after)?;
        self.put_cursor(&mut transaction, rows.last_key().unwrap_or_default());
        transaction.commit()?;
        Ok(Applied::Done { rows: after.rows })
    }

    /// Writes the rows that `make` makes of the given values and the rows before.
    fn write_over<B: AsRef<[u8]>>(
        &self,
        values: &RowBlock<B>,
        first: usize,
        make: impl Fn(&[u8], Option<&[u8]>) -> Result<Option<Vec<u8>>>,
    ) -> Result<Applied> {
        let mut row = first;
        while row < values.len() {
            // Nobody else writes the shard while we hold it, so its rows can be read before the write
            // lock is taken.
            let view = match row == first {
                true => self.view.clone(),
                false => self.inner.view()?,
            };
            let stats = view.stats(self.shard.id)?;
            let mut reader = PointReader::new(view.clone(), self.shard.clone(), &stats);
            let purpose = Purpose::Write { is_logged: false };
            let budget = Budget::default();
            let mut writer = ShardEditsWriter::new(&view, &budget, &self.shard, purpose)?;
            let mut bytes = 0;
            while row < values.len() && bytes < BATCH_BYTES {
                let key = values.key(row);
                let before = reader.get(key)?;
                let after = make(values.value(row), before.as_deref())?;
                bytes += key.len() + ROW_OVERHEAD + after.as_ref().map_or(0, Vec::len);
                if before != after {
                    writer.push(key, before.as_deref(), after.as_deref())?;
                }
                row += 1;
            }
            let edits = writer.finish()?;
            let mut transaction = Transaction::begin(self.inner);
            if transaction.catalogue().shard(self.shard.id).is_none() {
                return Ok(Applied::Gone);
            }
            if let Some(edits) = edits {
                transaction.put_edits(edits)?;
            }
            self.put_cursor(&mut transaction, values.key(row - 1));
            transaction.commit()?;
        }
        let rows = (values.len() - first) as u64;
        Ok(Applied::Done { rows })
    }

    fn put_cursor(&self, transaction: &mut Transaction<'_>, key: &[u8]) {
        let cursor = cursor::key(self.shard.id, self.operation, self.source);
        transaction.put_meta(&cursor, key);
    }
}

/// What a row costs in a batch besides its bytes, about.
pub(crate) const ROW_OVERHEAD: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mendb_model::name::TablePath;
    use mendb_model::{Column, ColumnType, RowBlockBuilder, TableSchema, Value, key, row};

    use super::*;
    use crate::catalogue::versions::Versions;
    use crate::commit::open;
    use crate::jobs::restoring::{self, NewTable};
    use crate::jobs::rewrite;
    use crate::kernel::Options;
    use crate::shard::blocks::RangeBlocks;

    const SOURCE: RowSource = RowSource { step: 0, index: 0 };

    fn block(ids: std::ops::Range<i64>, value: i64) -> RowBlock {
        let mut block = RowBlockBuilder::new();
        for id in ids {
            let key = key::encode(&[ColumnType::Int64], [Value::Int(id).as_ref()]);
            block.push(
                &key,
                &row::encode(&[ColumnType::Int64], &[Value::Int(value)]),
            );
        }
        block.finish()
    }

    fn open_with_table(dir: &std::path::Path) -> Inner {
        let inner = open::open(dir, Options::default()).unwrap();
        let column = |name: &str| Column {
            name: name.to_owned(),
            column_type: ColumnType::Int64,
            not_null: false,
        };
        let table = NewTable {
            name: "t".to_owned(),
            schema: TableSchema {
                columns: vec![column("id"), column("value")],
                key: vec!["id".to_owned()],
                indexes: vec![],
            },
            versions: Versions::first(std::iter::empty()),
            splits: BTreeMap::new(),
        };
        restoring::create(&inner, "restore-1", vec![table]).unwrap();
        inner
    }

    fn shard(inner: &Inner) -> Arc<Shard> {
        let catalogue = inner.commit().catalogue;
        catalogue.shards(&TablePath::table("t")).unwrap()[0].clone()
    }

    fn rows(inner: &Inner) -> Vec<(Vec<u8>, Vec<u8>)> {
        let view = inner.view().unwrap();
        let blocks = RangeBlocks::new(view, &[shard(inner)], KeyRange::all());
        blocks.flat_map(|block| owned(&block.unwrap())).collect()
    }

    fn owned<B: AsRef<[u8]>>(block: &RowBlock<B>) -> Vec<(Vec<u8>, Vec<u8>)> {
        block
            .iter()
            .map(|(k, v)| (k.to_vec(), v.to_vec()))
            .collect()
    }

    #[test]
    fn a_crash_between_blocks_and_commit_is_not_seen_and_loading_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let inner = open_with_table(dir.path());
        load(
            &inner,
            shard(&inner).id,
            "restore-1",
            SOURCE,
            &block(0..100, 1),
        )
        .unwrap();
        // What a load does up to its commit.
        let id = shard(&inner).id;
        let end = inner.view().unwrap().stats(id).unwrap().file_bytes;
        let mut cut_off = inner.store.files().append(id, end).unwrap();
        for _ in 0..5_000 {
            cut_off.push(b"from the load that was cut off").unwrap();
        }
        cut_off.finish().unwrap();
        drop(inner);

        let inner = open_with_table(dir.path());
        assert_eq!(rows(&inner), owned(&block(0..100, 1)));
        let again = load(
            &inner,
            shard(&inner).id,
            "restore-1",
            SOURCE,
            &block(0..150, 1),
        )
        .unwrap();
        assert_eq!(again, Applied::Done { rows: 50 });
        assert_eq!(rows(&inner), owned(&block(0..150, 1)));
        let far = load(
            &inner,
            shard(&inner).id,
            "restore-1",
            SOURCE,
            &block(9_000..9_001, 1),
        );
        assert_eq!(far.unwrap(), Applied::Done { rows: 1 });
        assert_eq!(rows(&inner).len(), 151);
    }

    #[test]
    fn rows_that_differ_from_their_digest_are_an_error_and_not_rewritten() {
        let dir = tempfile::tempdir().unwrap();
        let inner = open_with_table(dir.path());
        load(
            &inner,
            shard(&inner).id,
            "restore-1",
            SOURCE,
            &block(0..100, 1),
        )
        .unwrap();
        let mut transaction = Transaction::begin(&inner);
        transaction.stats(&shard(&inner)).unwrap().digest.rows += 1;
        transaction.commit().unwrap();
        let before = shard(&inner).id;
        let middle = key::encode(&[ColumnType::Int64], [Value::Int(50).as_ref()]);
        let error = rewrite::split(&inner, &TablePath::table("t"), &middle).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert_eq!(shard(&inner).id, before);
        assert_eq!(rows(&inner).len(), 100);
    }

    #[test]
    fn damaged_rows_are_errors_that_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let inner = open_with_table(dir.path());
        let shard = shard(&inner);
        let many = block(0..3_000, 1);
        load(&inner, shard.id, "restore-1", SOURCE, &many).unwrap();
        let file = dir.path().join(format!("shards/{}", shard.id));
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let view = inner.view().unwrap();
        let read = RangeBlocks::new(view, &[shard], KeyRange::all()).next();
        let error = read.unwrap().unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "{} of the row store is damaged; restore it from a backup",
                file.display()
            )
        );
    }
}
