//! A cut: the commit at which a change stream and a snapshot meet, and the locks around it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::catalogue::StreamRecord;
use crate::catalogue::{Access, PathState, TableEntry};
use crate::commit::{Inner, Transaction};
use crate::error::{Error, Result};
use crate::shard::view::View;

/// What a cut does to the change stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamCut {
    /// Begins it, or begins it anew: for a snapshot that stands on nothing.
    Attach,
    /// Goes on with it: for the changes since the cut before.
    Rotate,
}

pub(crate) fn cut(
    inner: &Inner,
    operation: &str,
    tables: &[String],
    stream: &str,
    how: StreamCut,
) -> Result<Arc<View>> {
    let mut transaction = Transaction::begin(inner);
    let version = transaction.version;
    for name in tables.iter().collect::<BTreeSet<_>>() {
        let mut entry = held(&transaction, operation, name)?;
        match (entry.streams.get_mut(stream), how) {
            (Some(record), _) if record.lasts() => record.attached_at = version,
            (_, StreamCut::Attach) => {
                let record = StreamRecord::attached(version);
                entry.streams.insert(stream.to_owned(), record);
            }
            (_, StreamCut::Rotate) => {
                return Err(Error::StreamMissing {
                    table: name.clone(),
                    stream: stream.to_owned(),
                });
            }
        }
        entry.versions = entry.versions.raised();
        transaction.put_table(entry);
    }
    let view = transaction.commit_then(Inner::view)?;
    inner.sync()?;
    Ok(view)
}

/// The table as held by the operation: for a backup, or for a mend that readers do not see yet.
fn held(transaction: &Transaction<'_>, operation: &str, name: &str) -> Result<TableEntry> {
    let mut entry = TableEntry::clone(transaction.catalogue().table(name)?);
    let ours = PathState::Backup {
        operation: operation.to_owned(),
    };
    let mended_by_us = matches!(
        &entry.state,
        PathState::Mending { operation: mending, published_at: None, .. } if mending == operation
    );
    if entry.state != ours && !mended_by_us {
        entry.check(Access::Hold)?;
        entry.state = ours;
    }
    Ok(entry)
}

pub(crate) fn unlock(inner: &Inner, operation: &str) -> Result<()> {
    let mut transaction = Transaction::begin(inner);
    let ours = PathState::Backup {
        operation: operation.to_owned(),
    };
    let view = transaction.view.clone();
    let mut held = view
        .catalogue()
        .tables()
        .filter(|t| t.state == ours)
        .peekable();
    if held.peek().is_none() {
        drop(transaction);
        return inner.sync();
    }
    for entry in held {
        let mut entry = TableEntry::clone(entry);
        entry.state = PathState::Ready;
        transaction.put_table(entry);
    }
    transaction.commit()?;
    inner.sync()
}
