//! Keys that may differ from the wanted rows, of targets whose rows tell by their versions when they were written.
//!
//! ```text
//! the backups after the wanted one   keys that they changed, with the rows that these had in the last of them
//! versions of rows                   live rows that may have been written since that
//! all others                         are as they are wanted, unless rows are gone that nobody told of
//! ```
//!
//! Rows that were not written since the last backup are among those that it has. So if there are as many rows as it had,
//! with those that were written counted in, none is gone; and the digest of the live rows is that of the wanted ones, with
//! the candidates counted out and in. *Memory*: the rows of some keys. *Crash*: nothing is kept.

use std::ops::ControlFlow;
use std::sync::Arc;

use mendb_engines::{BesideWriters, RowsSince};
use mendb_model::change::ChangeRef;
use mendb_model::key::KeyRange;
use mendb_model::manifest::Manifest;
use mendb_model::name::TablePath;
use mendb_model::operation::{FindBy, MendedRows, RowMendRequest};
use mendb_model::{ChangeKind, Digest, Version};
use mendb_repo::ChainReader;

use super::wanted::WantedRows;
use super::{Fetched, beside_writers_of, wanted_chain};
use crate::attempt::Attempt;
use crate::diff::Pulled;
use crate::sizes::rows_within;
use crate::task_error::{TaskError, TaskResult};

/// Where more than one of so many keys of a range may differ, all of its rows are read: that costs no more.
const ONE_OF: u64 = 4;

/// The keys of a range that may differ.
pub(super) struct Candidates<'a, 'b> {
    attempt: &'a Attempt<'b>,
    beside: &'a dyn BesideWriters,
    path: &'a TablePath,
    range: &'a KeyRange,
    /// Of the wanted rows.
    wanted: Digest,
    /// Up to the wanted backup, oldest first.
    chain: Vec<Arc<Manifest>>,
    /// The increments after that, in order.
    later: Vec<Arc<Manifest>>,
    /// The version of the last of them.
    since: Version,
    /// So many live rows may have been written since, and no more.
    most_written: u64,
}

/// A key that may differ.
pub(super) struct Candidate<'a> {
    pub(super) key: &'a [u8],
    /// Its live row, if there is one.
    pub(super) live: Option<&'a [u8]>,
    /// The row that it is to have, if it is to have one.
    pub(super) wanted: Option<&'a [u8]>,
}

impl<'a, 'b> Candidates<'a, 'b> {
    /// Those of a range whose wanted rows have this digest; `None` where they are not known, or are so many that all rows
    /// are read instead.
    pub(super) fn of(
        attempt: &'a Attempt<'b>,
        request: &RowMendRequest,
        (path, range): (&'a TablePath, &'a KeyRange),
        wanted: Option<Digest>,
    ) -> TaskResult<Option<Self>> {
        let (Some(wanted), FindBy::Versions { later, since }) = (wanted, &request.find_by) else {
            return Ok(None);
        };
        let later = later.iter();
        let later = later.map(|link| attempt.manifest(&request.before.collection, link));
        let later: Vec<Arc<Manifest>> = later.collect::<TaskResult<_>>()?;
        let mut changed = 0;
        for manifest in &later {
            let table = manifest.table(&path.table);
            if table.is_none_or(|table| table.only.is_some()) {
                return Ok(None);
            }
            let repository = &attempt.tools.repository;
            changed += attempt.wait(rows_within(repository, manifest, path, range))?;
        }
        let Some(most_written) = (wanted.rows / ONE_OF).checked_sub(changed) else {
            return Ok(None);
        };
        Ok(Some(Self {
            attempt,
            beside: beside_writers_of(attempt)?,
            path,
            range,
            wanted,
            chain: wanted_chain(attempt, request)?,
            later,
            since: *since,
            most_written,
        }))
    }

    /// Hands them over in the order of their keys, with what was read for each of some of them, and gives the digest of
    /// the live rows. `None` where not all that differ are among them: then nothing of what was handed over counts.
    pub(super) fn each(
        self,
        each: &mut dyn FnMut(&[Candidate<'_>], MendedRows) -> TaskResult<()>,
    ) -> TaskResult<Option<Digest>> {
        let (attempt, repository) = (self.attempt, &self.attempt.tools.repository);
        let changed = match self.later.as_slice() {
            [] => None,
            later => Some(attempt.wait(repository.read_chain(later, self.path, self.range, None))?),
        };
        let mut merge = Merge {
            attempt,
            path: self.path,
            changed: Pulled::new(changed, |changed: &mut Option<ChainReader>| {
                let Some(changed) = changed else {
                    return Ok(None);
                };
                attempt.wait(changed.next())
            }),
            fetched: Fetched::default(),
            wanted: WantedRows::new(attempt, &self.chain, self.path, self.range)?,
            found: self.wanted,
            keys: Vec::new(),
            each,
        };
        let mut outcome = Ok(());
        let (table, most) = (&self.path.table, self.most_written);
        let told =
            self.beside
                .read_written_since(table, self.range, self.since, most, &mut |block| {
                    let mut rows = block.iter();
                    match rows.try_for_each(|(key, row)| merge.written(key, row)) {
                        Ok(()) => ControlFlow::Continue(()),
                        Err(error) => {
                            outcome = Err(error);
                            ControlFlow::Break(())
                        }
                    }
                })?;
        outcome?;
        let RowsSince::Told { rows } = told else {
            return Ok(None);
        };
        let found = merge.finish()?;
        Ok((found.rows == rows).then_some(found))
    }
}

/// A key on its way, with its live row.
type Live = (Vec<u8>, Option<Vec<u8>>);

/// Keys of increments and live rows that were written since, side by side.
struct Merge<'a, 'b, 'c> {
    attempt: &'a Attempt<'b>,
    path: &'a TablePath,
    changed: Pulled<'a, Option<ChainReader>>,
    fetched: Fetched,
    wanted: WantedRows<'a, 'b>,
    /// The digest of the live rows, as far as it is known.
    found: Digest,
    keys: Vec<Live>,
    each: &'c mut dyn FnMut(&[Candidate<'_>], MendedRows) -> TaskResult<()>,
}

impl Merge<'_, '_, '_> {
    /// Takes the next live row that may have been written.
    fn written(&mut self, key: &[u8], row: &[u8]) -> TaskResult<()> {
        self.bring(Some(key))?;
        // What an increment has of it is older.
        self.changed.next_at(key)?;
        self.push((key.to_vec(), Some(row.to_vec())))
    }

    /// Takes the keys of increments before a key, or all that are left.
    fn bring(&mut self, before: Option<&[u8]>) -> TaskResult<()> {
        while let Some((key, change)) = self.changed.next_before(before)? {
            let change = ChangeRef::decode(change).map_err(|error| {
                TaskError::Proof(format!(
                    "a change of {} is not as it was kept: {error}; check the repository: mendb verify",
                    self.path
                ))
            })?;
            let row = match change.kind {
                ChangeKind::Erase => None,
                ChangeKind::Reset => Some(change.row.to_vec()),
                ChangeKind::Upsert => {
                    return Err(TaskError::Proof(format!(
                        "an increment has a part of a row of {}, which those of this kind of target never have; check the \
                         repository: mendb verify",
                        self.path
                    )));
                }
            };
            let live = (key.to_vec(), row);
            self.push(live)?;
        }
        Ok(())
    }

    fn push(&mut self, live: Live) -> TaskResult<()> {
        self.keys.push(live);
        match self.keys.len() < self.wanted.keys_at_once() {
            true => Ok(()),
            false => self.hand_over(),
        }
    }

    fn hand_over(&mut self) -> TaskResult<()> {
        self.attempt.check_stopped()?;
        let some = std::mem::take(&mut self.keys);
        let keys: Vec<&[u8]> = some.iter().map(|(key, _)| key.as_slice()).collect();
        let wanted = self.wanted.rows(&keys)?;
        let pairs = some.iter().zip(&wanted);
        let candidates = pairs.map(|((key, live), wanted)| Candidate {
            key,
            live: live.as_deref(),
            wanted: wanted.as_deref(),
        });
        let candidates: Vec<Candidate<'_>> = candidates.collect();
        for candidate in &candidates {
            if let Some(wanted) = candidate.wanted {
                self.found.remove(candidate.key, wanted);
            }
            if let Some(live) = candidate.live {
                self.found.add(candidate.key, live);
            }
        }
        let mut read = self.wanted.fetched();
        if let Some(changed) = self.changed.source() {
            read += self.fetched.since(changed.counts());
        }
        read.read = keys.len() as u64;
        (self.each)(&candidates, read)
    }

    /// Hands over what is left, and gives the digest.
    fn finish(mut self) -> TaskResult<Digest> {
        self.bring(None)?;
        if !self.keys.is_empty() {
            self.hand_over()?;
        }
        Ok(self.found)
    }
}
