//! The change log of a shard.
//!
//! Key: the key of the row, then the version as 8 bytes big-endian. Row keys of one table are
//! prefix-free, so that the records of a key lie together in the order of their versions, and those of
//! different keys in key order. Value: an encoded [`Change`] that says what it replaced: the row that its writer
//! had looked up, not what statistics say.
//!
//! What clients write is logged record by record. What is written in bulk is logged by its run ([`super::run`]),
//! and what a rewrite copies is a run of records.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use mendb_model::change::ChangeRef;
use mendb_model::key::KeyRange;
use mendb_model::{Change, ChangeKind, ColumnType, Digest, Malformed, Replaced};

use crate::catalogue::{self, Shard};
use crate::error::{Error, Result};
use crate::kernel::{Cursor, Direction, Entry, Section, ShardId, Tree};
use crate::shard::entry::decode_logged;
use crate::shard::pack::{Block, Packer};
use crate::shard::point::PointReader;
use crate::shard::stored_rows::StoredRows;
use crate::shard::view::View;

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

pub(crate) fn split_key<'a>(shard: &Shard, record: &'a [u8]) -> Result<(&'a [u8], u64)> {
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

/// Where some of the records are, in the order of their keys.
enum Part {
    /// Records for themselves.
    Single(Cursor),
    /// A run of rows, which all changed at a version.
    Rows {
        rows: StoredRows,
        version: u64,
        tells_replaced: bool,
    },
    /// A run of records.
    Records(StoredRows),
}

impl Part {
    /// The next record; what lies there is counted in `read`.
    fn next(&mut self, shard: &Shard, read: &mut Digest) -> Result<Option<Entry>> {
        match self {
            Self::Single(entries) => {
                let next = entries.next().transpose()?;
                if let Some((record, change)) = &next {
                    read.add(record, change);
                }
                Ok(next)
            }
            Self::Records(records) => {
                let next = records.peek();
                let next = next.map(|(record, change)| {
                    read.add(record, change);
                    (record.to_vec(), change.to_vec())
                });
                records.take()?;
                Ok(next)
            }
            Self::Rows {
                rows,
                version,
                tells_replaced,
            } => {
                let Some((key, value)) = rows.peek() else {
                    return Ok(None);
                };
                read.add(key, value);
                let (replaced, row) = decode_logged(shard, value)?;
                let change = ChangeRef {
                    version: *version,
                    kind: row.map_or(ChangeKind::Erase, |_| ChangeKind::Reset),
                    replaced: if *tells_replaced {
                        replaced
                    } else {
                        Replaced::Unknown
                    },
                    bitmap: &[],
                    row: row.unwrap_or_default(),
                };
                let next = (record_key(key, *version), change.encode());
                rows.take()?;
                Ok(Some(next))
            }
        }
    }
}

/// A part with its next record, and what proves at its end that none is gone.
struct ProvedPart {
    part: Part,
    next: Option<Entry>,
    read: Digest,
    /// The digest that is kept of the part, if all of it is read.
    kept: Option<Digest>,
}

impl ProvedPart {
    fn record(&self) -> Option<&[u8]> {
        self.next.as_ref().map(|(record, _)| record.as_slice())
    }

    /// Takes the next record of a key in the range, and finds the one behind it.
    fn take(&mut self, shard: &Shard, range: &KeyRange) -> Result<Option<Entry>> {
        let taken = self.next.take();
        while let Some((record, change)) = self.part.next(shard, &mut self.read)? {
            let (key, _) = split_key(shard, &record)?;
            match range.locate(key) {
                Ordering::Less => {}
                // A range may end inside what is a key and its version, so its end is checked per key.
                Ordering::Greater => return Ok(taken),
                Ordering::Equal => {
                    self.next = Some((record, change));
                    return Ok(taken);
                }
            }
        }
        match self.kept.take() {
            Some(kept) if kept != self.read => Err(Error::damaged(
                log_label(shard),
                Malformed {
                    what: "change log",
                    detail: format!("its digest is {}, recorded is {kept}", self.read),
                },
            )),
            _ => Ok(taken),
        }
    }
}

/// Records of one shard, in the order of their keys. That none is gone is proved at the end of those of
/// all its keys.
pub(crate) struct Records {
    shard: Arc<Shard>,
    range: KeyRange,
    above: u64,
    parts: Vec<ProvedPart>,
}

impl Records {
    /// The records of the keys of `range` with versions greater than `above`.
    pub(crate) fn new(
        view: &Arc<View>,
        shard: Arc<Shard>,
        range: KeyRange,
        above: u64,
    ) -> Result<Self> {
        let stats = view.stats(shard.id)?;
        let is_whole = range.intersect(&shard.range) == shard.range;
        let from = KeyRange {
            start: range.start.clone(),
            end: None,
        };
        let log = Section::of_shard(Tree::Log, shard.id);
        let ascending = Direction::Ascending;
        let single = Cursor::new(&view.reader, &log, &from, ascending);
        let mut parts = vec![(Part::Single(single), stats.log)];
        for run in &stats.runs {
            if !run.is_logged || run.version <= above {
                continue;
            }
            let stored = Some(run.stored(shard.id));
            let rows = StoredRows::new(view, stored, &from, ascending)?;
            let part = match run.is_of_records {
                true => Part::Records(rows),
                false => Part::Rows {
                    rows,
                    version: run.version,
                    tells_replaced: run.tells_replaced,
                },
            };
            parts.push((part, run.entries));
        }
        let mut records = Self {
            shard,
            range,
            above,
            parts: Vec::with_capacity(parts.len()),
        };
        for (part, kept) in parts {
            let mut part = ProvedPart {
                part,
                next: None,
                read: Digest::default(),
                kept: is_whole.then_some(kept),
            };
            part.take(&records.shard, &records.range)?;
            records.parts.push(part);
        }
        Ok(records)
    }

    pub(crate) fn next(&mut self) -> Result<Option<Record>> {
        loop {
            let parts = self.parts.iter().enumerate();
            let ahead = parts.filter_map(|(at, part)| Some((part.record()?, at)));
            let first =
                ahead.min_by(|(one, at), (other, behind)| one.cmp(other).then(behind.cmp(at)));
            let Some((_, last)) = first else {
                return Ok(None);
            };
            let Some((record, mut change)) = self.parts[last].take(&self.shard, &self.range)?
            else {
                return Ok(None);
            };
            // Several runs of a mend are of one version. What the last of them says of a key counts; what was
            // there before all of them the first one says.
            let mut first = None;
            for part in &mut self.parts[..last] {
                if part.record() == Some(&record) {
                    let taken = part.take(&self.shard, &self.range)?;
                    first = first.or(taken);
                }
            }
            if let Some((_, first)) = first {
                let damaged = |error| Error::damaged(log_label(&self.shard), error);
                let replaced = ChangeRef::decode(&first).map_err(damaged)?.replaced;
                let last = ChangeRef::decode(&change).map_err(damaged)?;
                change = ChangeRef { replaced, ..last }.encode();
            }
            let (key, version) = split_key(&self.shard, &record)?;
            if version > self.above {
                return Ok(Some(Record {
                    key: key.to_vec(),
                    version,
                    change,
                    record,
                }));
            }
        }
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

/// One folded change per key, packed in blocks, over adjacent shards; ends after the first error. Each is a reset
/// or an erase: of upserts the row as it is comes instead, so that a change says all that it leaves.
pub(crate) struct FoldedChanges {
    view: Arc<View>,
    shards: VecDeque<Arc<Shard>>,
    range: KeyRange,
    after_version: u64,
    after_key: Option<Vec<u8>>,
    types: Vec<ColumnType>,
    records: Option<(Arc<Shard>, Records)>,
    /// The key being folded, and its shard.
    open: Option<(Arc<Shard>, Vec<u8>, Change)>,
    /// Looks up the rows of a shard.
    rows: Option<(ShardId, PointReader)>,
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
        let shards = catalogue::within(shards, &range);
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
            rows: None,
            packer: Packer::default(),
            done: false,
        }
    }

    fn pull(&mut self) -> Result<Option<Block>> {
        while !self.packer.is_full() {
            let Some((shard, record)) = self.next_record()? else {
                self.done = true;
                self.close()?;
                break;
            };
            let next = Change::decode(&record.change)
                .map_err(|error| Error::damaged(log_label(&shard), error))?;
            match self.open.take() {
                Some((shard, key, change)) if key == record.key => {
                    let folded = change
                        .then(next, &self.types)
                        .map_err(|error| Error::damaged(log_label(&shard), error))?;
                    self.open = Some((shard, key, folded));
                }
                before => {
                    self.open = before;
                    self.close()?;
                    self.open = Some((shard, record.key, next));
                }
            }
        }
        Ok(self.packer.finish())
    }

    fn close(&mut self) -> Result<()> {
        let Some((shard, key, mut change)) = self.open.take() else {
            return Ok(());
        };
        if change.kind == ChangeKind::Upsert {
            change = Change {
                replaced: change.replaced,
                ..Change::reset(self.row(&shard, &key)?, change.version)
            };
        }
        self.packer.push(&key, &change.encode());
        Ok(())
    }

    /// The row of a key that was changed and not erased.
    fn row(&mut self, shard: &Arc<Shard>, key: &[u8]) -> Result<Vec<u8>> {
        let reader = match &mut self.rows {
            Some((id, reader)) if *id == shard.id => reader,
            rows => {
                let stats = self.view.stats(shard.id)?;
                let reader = PointReader::new(self.view.clone(), shard.clone(), &stats);
                &mut rows.insert((shard.id, reader)).1
            }
        };
        reader.get(key)?.ok_or_else(|| {
            let (what, detail) = ("change", "it sets columns of a row that is not there");
            let detail = detail.to_owned();
            Error::damaged(log_label(shard), Malformed { what, detail })
        })
    }

    fn next_record(&mut self) -> Result<Option<(Arc<Shard>, Record)>> {
        loop {
            if let Some((shard, records)) = &mut self.records {
                while let Some(record) = records.next()? {
                    let after_key = self.after_key.as_ref();
                    if after_key.is_none_or(|after| record.key > *after) {
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
            let records = Records::new(&self.view, shard.clone(), range, self.after_version)?;
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
