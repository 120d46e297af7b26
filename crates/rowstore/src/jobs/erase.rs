//! Erases runs that a commit took out of their shards, and runs that no commit put into one.

use std::sync::Arc;

use crate::catalogue::Shard;
use crate::commit::{Inner, Transaction};
use crate::error::Result;
use crate::kernel::ShardId;
use crate::shard::removed_runs::RemovedRuns;

/// Erases runs, when it is on disk that they are taken out: what comes next is written over them.
pub(crate) fn erase_runs(inner: &Inner, removed: &[RemovedRuns]) -> Result<()> {
    inner
        .store
        .erase_runs(removed.iter().flat_map(RemovedRuns::runs));
    // A writer that has the shard writes behind them, and their readers go on; then their bytes stay until the shard is
    // packed.
    if Arc::strong_count(&inner.staged_views) > 1 {
        return Ok(());
    }
    let free = removed.iter().filter_map(|removed| {
        let work = removed.shard.work.try_lock().ok()?;
        Some((removed, work))
    });
    let free: Vec<_> = free.collect();
    let mut transaction = Transaction::begin(inner);
    // No reader can tell the difference, so this is no version of its own.
    transaction.version = transaction.view.version();
    let mut is_less = false;
    for (removed, _) in &free {
        if transaction.catalogue().shard(removed.shard.id).is_none() {
            continue;
        }
        let stats = transaction.stats(&removed.shard)?;
        // If more was staged before they were erased, it may have counted them in, and be shorter.
        if stats.file_bytes == removed.file_bytes && removed.file_bytes_before < stats.file_bytes {
            stats.file_bytes = removed.file_bytes_before;
            is_less = true;
        }
    }
    if !is_less {
        return Ok(());
    }
    transaction.commit()?;
    // What comes next cuts the files off there. After a power loss, no shard may have more than its file.
    inner.sync()
}

/// Erases successors of shards that will not take their place, when it is on disk that nothing names them. Those
/// that somebody reads are left to the next open.
pub(crate) fn erase_successors(inner: &Inner, successors: &[ShardId]) {
    inner.store.erase_shards(successors.iter().copied());
    if Arc::strong_count(&inner.staged_views) == 1 {
        for successor in successors {
            inner.store.files().remove(*successor);
        }
    }
}

/// Gives back what lies in the files of shards and is in no commit, because one was refused or has failed. The
/// caller holds their `work`. After a failure the next writer of the files does it.
pub(crate) fn cut_off<'a>(inner: &Inner, shards: impl Iterator<Item = &'a Arc<Shard>>) {
    let cut = inner.view().and_then(|view| {
        for shard in shards {
            let end = view.stats(shard.id)?.file_bytes;
            inner.store.files().cut_off(shard.id, end)?;
        }
        Ok(())
    });
    if let Err(error) = cut {
        tracing::warn!(%error, "leave the files of shards longer than they should be");
    }
}

#[cfg(test)]
mod tests {
    use mendb_model::key::KeyRange;
    use mendb_model::name::TablePath;
    use mendb_model::{
        Change, Column, ColumnType, RowBlock, RowBlockBuilder, TableSchema, Value, key, row,
    };

    use super::*;
    use crate::commit::open;
    use crate::jobs::{mending, stage, tables};
    use crate::kernel::Options;
    use crate::snapshot::Snapshot;
    use crate::{RowSource, Staged};

    fn changes(ids: std::ops::Range<i64>, value: i64) -> RowBlock {
        let mut changes = RowBlockBuilder::new();
        for id in ids {
            let key = key::encode(&[ColumnType::Int64], [Value::Int(id).as_ref()]);
            let row = row::encode(&[ColumnType::Int64], &[Value::Int(value)]);
            changes.push(&key, &Change::reset(row, 1).encode());
        }
        changes.finish()
    }

    #[test]
    fn a_shard_takes_more_when_what_was_staged_is_erased_after_more_was() {
        let dir = tempfile::tempdir().unwrap();
        let inner = open::open(dir.path(), Options::default()).unwrap();
        let column = |name: &str| Column {
            name: name.to_owned(),
            column_type: ColumnType::Int64,
            not_null: false,
        };
        let schema = TableSchema {
            columns: vec![column("id"), column("value")],
            key: vec!["id".to_owned()],
            indexes: vec![],
        };
        tables::create(&inner, "t", schema, vec![]).unwrap();
        let path = TablePath::table("t");
        let shard = inner.commit().catalogue.shards(&path).unwrap()[0].clone();
        let tables = ["t".to_owned()];
        let stage = |index, changes: &RowBlock| {
            let source = RowSource { step: 0, index };
            let staged = stage::stage(&inner, shard.id, "mend-1", source, changes);
            assert!(matches!(staged.unwrap(), Staged::Done(_)));
        };
        mending::begin(&inner, "mend-1", &tables).unwrap();
        stage(0, &changes(0..9_000, 1));
        // One gives up what is staged; before it is erased, another has begun.
        let mut transaction = Transaction::begin(&inner);
        let removed = transaction.remove_staged(&shard).unwrap().unwrap();
        transaction.commit().unwrap();
        stage(1, &changes(0..10, 2));
        erase_runs(&inner, &[removed]).unwrap();
        stage(2, &changes(0..5_000, 3));
        mending::abort(&inner, "mend-1").unwrap();

        mending::begin(&inner, "mend-1", &tables).unwrap();
        stage(3, &changes(0..9_000, 4));
        mending::publish(&inner, "mend-1").unwrap();
        let snapshot = Snapshot::new(inner.view().unwrap());
        let read = snapshot.read_digest(&path, &KeyRange::all()).unwrap();
        assert_eq!(read, snapshot.shards(&path).unwrap()[0].digest);
        assert_eq!(read.rows, 9_000);
    }
}
