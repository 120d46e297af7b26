//! Ends change streams that keep too much.
//!
//! A change log keeps what the neediest stream of its table needs. When a log outgrows [`crate::Options::log_bytes`],
//! that stream lapses: the log drops its changes, and a later reader of the stream is told so. The other streams go on.
//!
//! *Cost*: logs are looked at each time a sixteenth of the limit was written, and when a store is opened
//! that is large enough.
//! *Crash*: a stream has lapsed or not. What a crash kept from being trimmed is trimmed at the next release of a stream.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use mendb_model::key::KeyRange;

use crate::catalogue::PathState;
use crate::commit::Inner;
use crate::error::Result;
use crate::jobs::streams;
use crate::shard::log::Records;
use crate::shard::view::View;

/// A log may outgrow the limit by such a share of it before that is noticed.
const LOOKS_A_LIMIT: u64 = 16;

/// What the change logs of a table keep for one stream alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldBack {
    /// The stream.
    pub stream: String,
    /// Changes of rows that it needs; those of indexes are not counted.
    pub changes: u64,
    /// Bytes of all changes that it needs, those of indexes included.
    pub bytes: u64,
}

/// What each stream of a table holds back, by reading the change logs.
pub(crate) fn held_back(view: &Arc<View>, table: &str) -> Result<Vec<HeldBack>> {
    let entry = view.table(table)?;
    let mut held: Vec<(HeldBack, u64)> = Vec::new();
    for (name, record) in &entry.streams {
        let nothing = HeldBack {
            stream: name.clone(),
            changes: 0,
            bytes: 0,
        };
        held.push((nothing, record.needed_after));
    }
    if held.is_empty() {
        return Ok(Vec::new());
    }
    for shard in entry.all_shards() {
        let is_of_rows = shard.path.index.is_none();
        let mut records = Records::new(view, shard.clone(), KeyRange::all(), 0)?;
        while let Some(record) = records.next()? {
            let bytes = (record.record.len() + record.change.len()) as u64;
            for (held, needed_after) in &mut held {
                if record.version > *needed_after {
                    held.changes += u64::from(is_of_rows);
                    held.bytes += bytes;
                }
            }
        }
    }
    Ok(held.into_iter().map(|(held, _)| held).collect())
}

/// Counts what was logged, and looks at the logs when it is time. A write that is committed does not fail
/// because of it.
pub(crate) fn after_logging(inner: &Inner, bytes: u64) {
    let before = inner.logged_bytes.fetch_add(bytes, Ordering::Relaxed);
    if before.saturating_add(bytes) < inner.options.log_bytes / LOOKS_A_LIMIT {
        return;
    }
    inner.logged_bytes.store(0, Ordering::Relaxed);
    if let Err(error) = enforce(inner) {
        tracing::warn!(%error, "leave change logs longer than they should be");
    }
}

/// Has streams lapse until no change log is larger than it may be.
pub(crate) fn enforce(inner: &Inner) -> Result<()> {
    let catalogue = inner.commit().catalogue;
    let tables = catalogue.tables();
    let with_streams = tables.filter(|entry| entry.keeps_changes());
    let names: Vec<String> = with_streams.map(|entry| entry.name.clone()).collect();
    drop(catalogue);
    for name in names {
        while let Some((stream, bytes)) = outgrown(inner, &name)? {
            tracing::warn!(
                table = name,
                stream,
                bytes,
                limit = inner.options.log_bytes,
                "the change log has outgrown its limit: its neediest stream lapses"
            );
            streams::lapse(inner, &stream, bytes)?;
        }
    }
    Ok(())
}

/// The neediest stream of a table whose change log is too large, and how large that is.
fn outgrown(inner: &Inner, table: &str) -> Result<Option<(String, u64)>> {
    let view = inner.view()?;
    let Ok(entry) = view.table(table) else {
        return Ok(None);
    };
    // Nothing of it is trimmed before the mend is over.
    if matches!(entry.state, PathState::Mending { .. }) {
        return Ok(None);
    }
    let mut bytes = 0;
    for shard in entry.all_shards() {
        bytes += view.stats(shard.id)?.all_log_bytes();
    }
    let lasting = entry.streams.iter().filter(|(_, record)| record.lasts());
    let neediest = lasting.min_by_key(|(_, record)| record.needed_after);
    let outgrown = neediest.filter(|_| bytes > inner.options.log_bytes);
    Ok(outgrown.map(|(stream, _)| (stream.clone(), bytes)))
}
