//! Ends a published mend: packs shards of which much was mended, then opens the tables to writers.
//!
//! The publish made what was staged visible and part of the change logs, so this changes nothing that readers see.
//! Shards are packed side by side. A shard that cannot be packed, for example on a full disk, does not keep its table
//! closed: it stays as it is, and a later write tries again. A shard that is found damaged does.
//!
//! *Crash*: the next call goes on with the shards that are not packed.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use crate::catalogue::{Access, Shard, mends};
use crate::commit::Inner;
use crate::error::{Error, Result};
use crate::jobs::{mending, split_or_pack};
use crate::kernel::NOT_POISONED;

pub(crate) fn settle(
    inner: &Inner,
    operation: &str,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<ControlFlow<()>> {
    let catalogue = inner.commit().catalogue;
    let mut shards: Vec<Arc<Shard>> = Vec::new();
    for entry in mends::held(&catalogue, operation) {
        if entry.published_at().is_none() {
            return Err(Error::MendUnpublished {
                operation: operation.to_owned(),
            });
        }
        shards.extend(entry.all_shards().cloned());
    }
    drop(catalogue);
    if pack(inner, &shards, progress)?.is_break() {
        return Ok(ControlFlow::Break(()));
    }
    mending::finish(inner, operation)?;
    Ok(ControlFlow::Continue(()))
}

/// Packs those shards that have grown too large, some at the same time. Those under way when one fails or
/// `progress` breaks off are packed to their end.
fn pack(
    inner: &Inner,
    shards: &[Arc<Shard>],
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<ControlFlow<()>> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let left = Mutex::new(shards.iter());
    let (packed, outcomes) = mpsc::channel();
    let work = |packed: mpsc::Sender<_>| {
        let next = || left.lock().expect(NOT_POISONED).next();
        while let Some(shard) = next() {
            // The other side listens for as long as anyone sends.
            let _ = packed.send(pack_shard(inner, shard));
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads.min(shards.len()) {
            let packed = packed.clone();
            scope.spawn(|| work(packed));
        }
        drop(packed);
        let mut outcome = Ok(ControlFlow::Continue(()));
        for packed in outcomes {
            let flow = packed.map(|rows| match rows {
                Some(rows) => progress(rows),
                None => ControlFlow::Continue(()),
            });
            if !matches!(flow, Ok(ControlFlow::Continue(()))) {
                *left.lock().expect(NOT_POISONED) = [].iter();
                outcome = outcome.and(flow);
            }
        }
        outcome
    })
}

/// Packs a shard if it has grown too large: how many rows it has then.
fn pack_shard(inner: &Inner, shard: &Arc<Shard>) -> Result<Option<u64>> {
    match split_or_pack::one(inner, shard, Access::Settle) {
        Err(error) if !matches!(error, Error::Damaged { .. }) => {
            tracing::warn!(shard = shard.label(), %error, "leave a mended shard unpacked");
            Ok(None)
        }
        packed => packed,
    }
}

#[cfg(test)]
mod tests {
    use mendb_model::key::KeyRange;
    use mendb_model::name::TablePath;
    use mendb_model::{Change, Column, ColumnType, RowBlockBuilder, TableSchema, Value, key, row};

    use super::*;
    use crate::RowSource;
    use crate::Staged;
    use crate::StagedCounts;
    use crate::commit::{Transaction, open};
    use crate::jobs::{stage, tables};
    use crate::kernel::{Batch, BlockRecord, Options, Section};
    use crate::snapshot::Snapshot;

    fn with_published_row(dir: &std::path::Path) -> (Inner, Arc<Shard>) {
        with_published_rows(dir, 1)
    }

    /// A store with an empty table and some staged rows, published.
    fn with_published_rows(dir: &std::path::Path, rows: i64) -> (Inner, Arc<Shard>) {
        let inner = open::open(dir, Options::default()).unwrap();
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
        mending::begin(&inner, "mend-1", &["t".to_owned()]).unwrap();
        let shard = inner
            .commit()
            .catalogue
            .shards(&TablePath::table("t"))
            .unwrap()[0]
            .clone();
        let mut changes = RowBlockBuilder::new();
        let row = row::encode(&[ColumnType::Int64], &[Value::Int(7)]);
        let bytes = (row_key(1).len() + row.len()) as u64;
        for id in 1..=rows {
            changes.push(&row_key(id), &Change::reset(row.clone(), 1).encode());
        }
        let source = RowSource { step: 0, index: 0 };
        let staged = stage::stage(&inner, shard.id, "mend-1", source, &changes.finish());
        let expected = StagedCounts {
            upserted: rows as u64,
            bytes: bytes * rows as u64,
            ..StagedCounts::default()
        };
        assert_eq!(staged.unwrap(), Staged::Done(expected));
        let unpublished = settle_all(&inner).unwrap_err();
        assert!(matches!(unpublished, Error::MendUnpublished { .. }));
        mending::publish(&inner, "mend-1").unwrap();
        (inner, shard)
    }

    fn row_key(id: i64) -> Vec<u8> {
        key::encode(&[ColumnType::Int64], [Value::Int(id).as_ref()])
    }

    fn settle_all(inner: &Inner) -> Result<ControlFlow<()>> {
        settle(inner, "mend-1", &mut |_| ControlFlow::Continue(()))
    }

    #[test]
    fn a_mend_is_over_when_it_is_settled_and_settling_again_does_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (inner, _) = with_published_row(dir.path());
        for _ in 0..2 {
            assert!(settle_all(&inner).unwrap().is_continue());
            assert!(mends::describe(&inner.commit().catalogue, "mend-1").is_none());
        }
    }

    #[test]
    fn a_mend_ends_though_its_shards_cannot_be_packed_unless_they_are_damaged() {
        for is_damaged in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (mut inner, shard) = with_published_rows(dir.path(), 10_000);
            inner.options.compact_bytes = 0;
            if is_damaged {
                let mut transaction = Transaction::begin(&inner);
                transaction.stats(&shard).unwrap().digest.rows += 1;
                transaction.commit().unwrap();
            } else {
                // In the place of the file of the next shard.
                std::fs::create_dir(dir.path().join("shards/2")).unwrap();
            }
            let settled = settle_all(&inner);
            let left = mends::describe(&inner.commit().catalogue, "mend-1");
            assert_eq!(settled.is_err(), is_damaged, "{settled:?}");
            assert_eq!(left.is_some(), is_damaged);
        }
    }

    #[test]
    fn a_damaged_run_is_an_error_that_names_the_shard() {
        let dir = tempfile::tempdir().unwrap();
        let (inner, shard) = with_published_row(dir.path());
        let mut block = RowBlockBuilder::new();
        block.push(&row_key(1), b"no row");
        let record = BlockRecord::Here(block.finish().into_bytes());
        let mut batch = Batch::default();
        batch.insert(&Section::run(shard.id, 0), &row_key(1), record.encode());
        inner.store.commit(batch).unwrap();
        Transaction::begin(&inner).commit().unwrap();
        let snapshot = Snapshot::new(inner.view().unwrap());
        let read = snapshot.read_digest(&TablePath::table("t"), &KeyRange::all());
        assert_eq!(
            read.unwrap_err().to_string(),
            "shard 1 of t is damaged; restore it from a backup"
        );
    }
}
