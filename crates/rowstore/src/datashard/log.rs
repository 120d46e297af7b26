//! The change log of a shard.
//!
//! Key: the key of the row, then the version as 8 bytes big-endian. Row keys of one table are
//! prefix-free, so that the records of a key lie together in the order of their versions, and those of
//! different keys in key order. Value: an encoded [`Change`] that carries all it needs.

use std::collections::VecDeque;
use std::sync::Arc;

use mendb_model::key::KeyRange;
use mendb_model::{Change, ColumnType, Digest, Malformed};

use crate::database::Inner;
use crate::datashard::Shard;
use crate::datashard::pack::{Block, Packer};
use crate::datashard::point::decode_over;
use crate::error::{Error, Result};
use crate::kernel::{Cursor, Direction, Entry, Section, Tree};
use crate::schemeshard::{self, streams};
use crate::transaction::Transaction;
use crate::view::View;

const VERSION_BYTES: usize = 8;

/// The key of a record.
pub(crate) fn record_key(key: &[u8], version: u64) -> Vec<u8> {
    [key, &version.to_be_bytes()].concat()
}

/// The change that makes `after` the row, whatever it was.
pub(crate) fn change_to(after: Option<&[u8]>, version: u64) -> Change {
    match after {
        Some(row) => Change::reset(row.to_vec(), version),
        None => Change::erase(version),
    }
}

/// The record that an entry of a layer becomes: its key, and the change.
pub(crate) fn record_of_entry(
    shard: &Shard,
    key: &[u8],
    value: &[u8],
    version: u64,
) -> Result<Entry> {
    let change = change_to(decode_over(shard, value)?, version);
    Ok((record_key(key, version), change.encode()))
}

fn split_key<'a>(shard: &Shard, record: &'a [u8]) -> Result<(&'a [u8], u64)> {
    match record.split_last_chunk::<VERSION_BYTES>() {
        Some((key, version)) => Ok((key, u64::from_be_bytes(*version))),
        None => Err(Error::damaged(
            log_label(shard),
            Malformed {
                what: "record key",
                detail: "shorter than a version".to_owned(),
            },
        )),
    }
}

/// One record of the log.
pub(crate) struct Record {
    /// The key of the record.
    pub(crate) record: Vec<u8>,
    pub(crate) key: Vec<u8>,
    pub(crate) version: u64,
    pub(crate) change: Vec<u8>,
}

/// Records of one shard, in the order of their keys. That none is gone is proved at the end of those of
/// all its keys.
pub(crate) struct Records {
    shard: Arc<Shard>,
    range: KeyRange,
    entries: Option<Cursor>,
    read: Digest,
    /// The digest that is kept of the log, if all of it is read.
    kept: Option<Digest>,
}

impl Records {
    /// The records of the keys of `range`, of any version.
    pub(crate) fn new(view: &View, shard: Arc<Shard>, range: KeyRange) -> Result<Self> {
        // A range may end inside what is a key and its version here, so its end is checked per key.
        let from = KeyRange {
            start: range.start.clone(),
            end: None,
        };
        let log = Section::of_shard(Tree::Log, shard.id);
        let entries = Cursor::new(&view.reader, &log, &from, Direction::Ascending);
        let is_whole = range.intersect(&shard.range) == shard.range;
        let kept = is_whole.then(|| view.stats(shard.id)).transpose()?;
        Ok(Self {
            entries: Some(entries),
            shard,
            range,
            read: Digest::default(),
            kept: kept.map(|stats| stats.log),
        })
    }

    pub(crate) fn next(&mut self) -> Result<Option<Record>> {
        let Some(entries) = &mut self.entries else {
            return Ok(None);
        };
        for entry in entries {
            let (record, change) = entry?;
            let (key, version) = split_key(&self.shard, &record)?;
            match self.range.locate(key) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Greater => break,
                std::cmp::Ordering::Equal => {
                    self.read.add(&record, &change);
                    return Ok(Some(Record {
                        key: key.to_vec(),
                        version,
                        change,
                        record,
                    }));
                }
            }
        }
        self.entries = None;
        match self.kept {
            Some(kept) if kept != self.read => Err(Error::damaged(
                log_label(&self.shard),
                Malformed {
                    what: "change log",
                    detail: format!("its digest is {}, recorded is {kept}", self.read),
                },
            )),
            _ => Ok(None),
        }
    }
}

/// What the change log of a shard is to hold for some range: its records above a version, and what a
/// published layer over the shard changes, as changes of the version at which that became visible. In the
/// order of their keys.
pub(crate) struct VisibleRecords {
    records: Records,
    above: u64,
    record: Option<Entry>,
    staged: Option<Cursor>,
    staged_at: u64,
    change: Option<Entry>,
    done: bool,
}

impl VisibleRecords {
    pub(crate) fn new(
        view: &Arc<View>,
        shard: &Arc<Shard>,
        range: KeyRange,
        above: u64,
    ) -> Result<Self> {
        let stats = view.stats(shard.id)?;
        let layer = view.layer(shard).filter(|_| stats.layer.is_some());
        let staged = layer.map(|layer| layer.entries(view, &range, Direction::Ascending));
        let published_at = view.table(&shard.path.table)?.published_at();
        let mut records = Self {
            records: Records::new(view, shard.clone(), range)?,
            above,
            record: None,
            staged,
            staged_at: published_at.unwrap_or_default(),
            change: None,
            done: false,
        };
        records.pull_record()?;
        records.pull_change()?;
        Ok(records)
    }

    fn pull_record(&mut self) -> Result<()> {
        self.record = None;
        while let Some(next) = self.records.next()? {
            if next.version > self.above {
                self.record = Some((next.record, next.change));
                break;
            }
        }
        Ok(())
    }

    fn pull_change(&mut self) -> Result<()> {
        self.change = None;
        let staged = self.staged.as_mut().and_then(Iterator::next);
        if let Some(entry) = staged {
            let (key, value) = entry?;
            let shard = &self.records.shard;
            self.change = Some(record_of_entry(shard, &key, &value, self.staged_at)?);
        }
        Ok(())
    }

    fn pull(&mut self) -> Result<Option<Entry>> {
        let record_is_next = match (&self.record, &self.change) {
            (Some((record, _)), Some((change, _))) => record < change,
            (record, _) => record.is_some(),
        };
        if record_is_next {
            let next = self.record.take();
            self.pull_record()?;
            Ok(next)
        } else {
            let next = self.change.take();
            self.pull_change()?;
            Ok(next)
        }
    }
}

impl Iterator for VisibleRecords {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let pulled = self.pull();
        self.done = !matches!(pulled, Ok(Some(_)));
        pulled.transpose()
    }
}

/// The records of one key with a version above `after`, as they lie in the log.
pub(crate) fn records_of_key(
    view: &View,
    shard: &Shard,
    key: &[u8],
    after: u64,
) -> Result<Vec<Entry>> {
    let Some(first) = after.checked_add(1) else {
        return Ok(Vec::new());
    };
    let mut end = record_key(key, u64::MAX);
    end.push(0);
    let range = KeyRange {
        start: record_key(key, first),
        end: Some(end),
    };
    let log = Section::of_shard(Tree::Log, shard.id);
    Cursor::new(&view.reader, &log, &range, Direction::Ascending).collect()
}

/// One folded change per key, packed in blocks, over adjacent shards; ends after the first error.
pub(crate) struct FoldedChanges {
    view: Arc<View>,
    shards: VecDeque<Arc<Shard>>,
    range: KeyRange,
    after_version: u64,
    after_key: Option<Vec<u8>>,
    types: Vec<ColumnType>,
    records: Option<(Arc<Shard>, Records)>,
    /// The key being folded.
    open: Option<(Vec<u8>, Change)>,
    packer: Packer,
    done: bool,
}

impl FoldedChanges {
    pub(crate) fn new(
        view: Arc<View>,
        shards: &[Arc<Shard>],
        range: KeyRange,
        after_version: u64,
        after_key: Option<&[u8]>,
        types: Vec<ColumnType>,
    ) -> Self {
        let shards = schemeshard::within(shards, &range);
        let shards = shards.iter().cloned().collect();
        Self {
            view,
            shards,
            range,
            after_version,
            after_key: after_key.map(<[u8]>::to_vec),
            types,
            records: None,
            open: None,
            packer: Packer::default(),
            done: false,
        }
    }

    fn pull(&mut self) -> Result<Option<Block>> {
        while !self.packer.is_full() {
            let Some((shard, record)) = self.next_record()? else {
                self.done = true;
                self.close();
                break;
            };
            let next = Change::decode(&record.change)
                .map_err(|error| Error::damaged(log_label(&shard), error))?;
            match self.open.take() {
                Some((key, change)) if key == record.key => {
                    let folded = change
                        .then(next, &self.types)
                        .map_err(|error| Error::damaged(log_label(&shard), error))?;
                    self.open = Some((key, folded));
                }
                before => {
                    self.open = before;
                    self.close();
                    self.open = Some((record.key, next));
                }
            }
        }
        Ok(self.packer.finish())
    }

    fn close(&mut self) {
        if let Some((key, change)) = self.open.take() {
            self.packer.push(&key, &change.encode());
        }
    }

    fn next_record(&mut self) -> Result<Option<(Arc<Shard>, Record)>> {
        loop {
            if let Some((shard, records)) = &mut self.records {
                while let Some(record) = records.next()? {
                    let wanted = record.version > self.after_version
                        && self
                            .after_key
                            .as_ref()
                            .is_none_or(|after| record.key > *after);
                    if wanted {
                        return Ok(Some((shard.clone(), record)));
                    }
                }
            }
            let Some(shard) = self.shards.pop_front() else {
                self.records = None;
                return Ok(None);
            };
            let mut range = self.range.intersect(&shard.range);
            if let Some(after) = &self.after_key
                && *after > range.start
            {
                range.start.clone_from(after);
            }
            let records = Records::new(&self.view, shard.clone(), range)?;
            self.records = Some((shard, records));
        }
    }
}

impl Iterator for FoldedChanges {
    type Item = Result<Block>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let pulled = self.pull();
        self.done |= pulled.is_err();
        pulled.transpose()
    }
}

fn log_label(shard: &Shard) -> String {
    format!("the change log of {}", shard.label())
}

/// So many bytes of records are removed at a time.
const TRIM_BYTES: u64 = 4 << 20;

/// Removes the records of a shard that no stream needs, if that is worth it. The caller holds the `work` of
/// the shard; others go on writing it, but for a moment.
///
/// *Crash*: what is removed is counted out in the same commit; the next trim goes on.
pub(crate) fn trim(inner: &Inner, shard: &Arc<Shard>) -> Result<()> {
    let view = inner.view()?;
    if view.catalogue().shard(shard.id).is_none() {
        return Ok(());
    }
    let floor = streams::floor(view.table(&shard.path.table)?, view.version());
    let stats = view.stats(shard.id)?;
    if stats.log_bytes <= inner.options.trim_bytes || stats.log_floor >= floor {
        return Ok(());
    }
    let log = Section::of_shard(Tree::Log, shard.id);
    let mut records = Records::new(&view, shard.clone(), shard.range.clone())?;
    let mut is_done = false;
    while !is_done {
        let mut removed = Vec::new();
        let mut bytes = 0;
        while bytes < TRIM_BYTES && !is_done {
            match records.next()? {
                Some(record) if record.version <= floor => {
                    bytes += (record.record.len() + record.change.len()) as u64;
                    removed.push((record.record, record.change));
                }
                Some(_) => {}
                None => is_done = true,
            }
        }
        let mut transaction = Transaction::begin(inner);
        if transaction.catalogue().shard(shard.id).is_none() {
            return Ok(());
        }
        // No reader can tell the difference, so this is no version of its own.
        transaction.version = transaction.view.version();
        let stats = transaction.stats(shard)?;
        stats.log_bytes = stats.log_bytes.saturating_sub(bytes);
        for (record, change) in &removed {
            stats.log.remove(record, change);
        }
        if is_done {
            stats.log_floor = floor;
        }
        for (record, _) in removed {
            transaction.batch.remove(&log, &record);
        }
        transaction.commit()?;
    }
    Ok(())
}
